//! What an entry of the [table](super::table) is.

use super::draft::Draft;
use super::error::Mistakes;
use super::settings::Settings;

/// A variable of the environment, which is one setting.
#[derive(Debug)]
pub struct Variable {
    /// Its name, in capitals; it is read in either case.
    pub name: &'static str,
    /// What applies while it is not set.
    pub default: Fallback,
    /// Whether its value can also be read from the file that `NAME_FILE` names, and is never
    /// shown.
    pub secret: bool,
    /// What it sets, in the documentation's words (Markdown).
    pub meaning: &'static str,
    /// Which commands read it.
    pub(super) part: Part,
    /// Reads a text, as it was set, into the draft.
    pub(super) parse: fn(&str, &mut Draft) -> Result<(), Mistakes>,
    /// The value in force as text, with secrets masked; empty for none.
    pub(super) show: fn(&Settings) -> String,
}

/// What applies while a variable is not set. An empty value is as good as none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fallback {
    /// This text, which is read like any other value.
    Text(&'static str),
    /// No text: the empty one is read. Where the relay finds a value by other means, these words
    /// say how.
    Unset(&'static str),
    /// Nothing: that it is missing is a mistake, and this is its remedy.
    Required(&'static str),
}

impl Fallback {
    /// The default in the words of the documentation; empty for none.
    pub fn documented(self) -> &'static str {
        match self {
            Self::Text(text) | Self::Unset(text) => text,
            Self::Required(_) => "required",
        }
    }
}

/// Parts of the settings. A command reads, and complains about, those that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Part {
    /// What every command that talks to the broker needs.
    Broker,
    /// What a hit is judged by.
    Judgement,
    /// What else a worker needs.
    Worker,
    /// Where a worker answers.
    Http,
}

impl Part {
    /// The whole of the settings.
    pub(super) const ALL: &[Self] = &[Self::Broker, Self::Judgement, Self::Worker, Self::Http];
}
