//! Mistakes of the environment, all in one message.

use std::fmt;

use super::table::VARIABLES;

/// Everything that is wrong with the environment, in the order of the table.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<(&'static str, String)>);

/// What is wrong with the value of one variable: one text per mistake, without the variable's name
/// and without any part of a secret.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Mistakes(pub(super) Vec<String>);

impl ConfigError {
    /// Sorts mistakes, each with the name of its variable, into the order of the table. Those of
    /// one variable keep the order in which they were found.
    pub(super) fn new(mut mistakes: Vec<(&'static str, String)>) -> Self {
        mistakes
            .sort_by_key(|(name, _)| VARIABLES.iter().position(|variable| variable.name == *name));
        Self(mistakes)
    }

    /// The same mistakes, and these.
    pub(super) fn and(mut self, more: impl IntoIterator<Item = (&'static str, String)>) -> Self {
        self.0.extend(more);
        Self::new(self.0)
    }

    /// The variables at fault, in the order of the table.
    pub fn variables(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} mistake{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|(name, problem)| write!(f, "\n  {name}: {problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl From<String> for Mistakes {
    fn from(mistake: String) -> Self {
        Self(vec![mistake])
    }
}

impl From<&str> for Mistakes {
    fn from(mistake: &str) -> Self {
        Self(vec![mistake.to_owned()])
    }
}
