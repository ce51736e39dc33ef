//! Data of people's making (TOML) → typed values. What is wrong with it is told without quoting it:
//! a file of hits that is given by mistake would show its visitors.

use serde::de::DeserializeOwned;
use thiserror::Error;

/// Not TOML, or a key or value that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct DataError {
    /// Where, from 1.
    pub line: usize,
    /// What.
    pub message: String,
}

pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, DataError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        DataError { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
    })
}
