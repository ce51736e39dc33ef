//! Reads data that people write (TOML) into typed values. An error never quotes the data: a file of
//! hits that is given by mistake would show its visitors.

use serde::de::DeserializeOwned;
use thiserror::Error;

/// The data is not TOML, or has a key or value that is not known.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("line {line}: {message}")]
pub struct DataError {
    /// The line of the mistake, from 1.
    pub line: usize,
    /// What is wrong there.
    pub message: String,
}

/// Reads data.
pub(super) fn read<T: DeserializeOwned>(text: &str) -> Result<T, DataError> {
    toml::from_str(text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        DataError { line: before.matches('\n').count() + 1, message: error.message().to_owned() }
    })
}
