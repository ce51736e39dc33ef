//! Lists of legal values: the closed lists, which the plan prints, and the DNMA's reference lists,
//! which are loaded from files.

use std::collections::BTreeMap;

use rustc_hash::FxHashSet;
use serde::Deserialize;
use thiserror::Error;

use super::spellings::Spellings;
use crate::domain::unicode;

/// A list of legal values.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    /// The name, which is also that of its file among the reference lists (`outils.txt`).
    pub name: String,
    /// The section of the RFTI that gives the list.
    pub section: String,
    /// The values in their order.
    #[serde(default)]
    pub(super) values: Vec<String>,
    /// What the plan says about a value, in French.
    #[serde(default)]
    pub(super) descriptions: BTreeMap<String, String>,
    /// The same values as a set.
    #[serde(skip)]
    pub(super) known: FxHashSet<String>,
    /// The same values by how they are written.
    #[serde(skip)]
    spellings: Spellings,
}

impl List {
    /// Returns the values in their order. There are none while the list is not loaded.
    pub fn values(&self) -> &[String] {
        &self.values
    }

    /// Whether the list has values. A field whose list is not loaded is not checked, which does not
    /// make it valid.
    pub fn is_loaded(&self) -> bool {
        !self.values.is_empty()
    }

    /// Whether this is a value of the list.
    pub fn contains(&self, value: &str) -> bool {
        self.known.contains(value)
    }

    /// Returns what the plan says about a value, in French.
    pub fn description(&self, value: &str) -> Option<&str> {
        self.descriptions.get(value).map(String::as_str)
    }

    /// Finds the value that was probably meant by a wrong one, if one is similar enough. It costs
    /// about the same however long the list is.
    pub fn nearest(&self, wrong: &str) -> Option<&str> {
        self.values.get(self.spellings.nearest(wrong)?).map(String::as_str)
    }

    /// Replaces the values. They are kept composed (NFC), as those of hits are compared.
    pub(super) fn load(&mut self, mut values: Vec<String>) {
        for value in &mut values {
            *value = unicode::compose(value).into_owned();
        }
        self.known = values.iter().cloned().collect();
        self.spellings = Spellings::of(&values);
        self.values = values;
    }
}

/// How many bytes a reference list may have: those of some ten thousand values.
pub const MAX_BYTES: usize = 1024 * 1024;

/// How many characters a value may have: no dimension of the plan takes more (RFTI §3.2).
const MAX_CHARACTERS: usize = 255;

/// Why the text of a reference list was refused.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum ListError {
    /// The list has more than [`MAX_BYTES`] bytes.
    #[error("over {MAX_BYTES} bytes")]
    TooLarge,
    /// The list is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The list has no value: it would reject every hit, or be taken for one that is not loaded.
    #[error("holds no value")]
    Empty,
    /// The value on this line is longer than any dimension can hold.
    #[error("line {0}: over {MAX_CHARACTERS} characters")]
    TooLong(usize),
    /// The value on this line has a tab or another control character.
    #[error("line {0}: a control character")]
    ControlCharacter(usize),
}

/// Reads a reference list, which has one value a line. Blank lines and lines that begin with `#`
/// are left out.
///
/// # Errors
/// Returns a [`ListError`] for the first mistake.
pub fn parse(bytes: &[u8]) -> Result<Vec<String>, ListError> {
    if bytes.len() > MAX_BYTES {
        return Err(ListError::TooLarge);
    }
    let text = std::str::from_utf8(bytes).map_err(|_| ListError::NotUtf8)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    let (mut values, mut seen) = (Vec::new(), FxHashSet::default());
    for (index, line) in text.lines().enumerate() {
        let value = line.trim();
        if value.is_empty() || value.starts_with('#') {
            continue;
        }
        if value.chars().count() > MAX_CHARACTERS {
            return Err(ListError::TooLong(index + 1));
        }
        if value.chars().any(char::is_control) {
            return Err(ListError::ControlCharacter(index + 1));
        }
        if seen.insert(value) {
            values.push(value.to_owned());
        }
    }
    if values.is_empty() { Err(ListError::Empty) } else { Ok(values) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_value_a_line() {
        let text = "\u{feff}# the tools\n\nPRONOTE\r\n  Mon outil #2  \nPRONOTE\n";
        assert_eq!(
            parse(text.as_bytes()),
            Ok(vec!["PRONOTE".to_owned(), "Mon outil #2".to_owned()])
        );
    }

    #[test]
    fn a_broken_list_says_where() {
        assert_eq!(parse(b"# nothing yet\n"), Err(ListError::Empty));
        assert_eq!(parse(b"A\nB\tC\n"), Err(ListError::ControlCharacter(2)));
        assert_eq!(
            parse(format!("A\n\n{}", "é".repeat(256)).as_bytes()),
            Err(ListError::TooLong(3))
        );
        assert!(parse("é".repeat(255).as_bytes()).is_ok());
        assert_eq!(parse(&[0xff]), Err(ListError::NotUtf8));
        assert_eq!(parse(&vec![b'A'; MAX_BYTES + 1]), Err(ListError::TooLarge));
    }
}
