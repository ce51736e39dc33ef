//! Values of settings → the texts that `check` and the status page show; empty for none.

use std::fmt::Debug;
use std::path::PathBuf;
use std::time::Duration;

/// A duration with its unit, like `1m30s`.
pub(super) fn show_duration(duration: &Duration) -> String {
    humantime::format_duration(*duration).to_string().replace(' ', "")
}

/// A value that need not be there.
pub(super) fn show_option<T>(value: Option<T>, show: impl FnOnce(T) -> String) -> String {
    value.map(show).unwrap_or_default()
}

/// The path of a file that need not be there.
pub(super) fn show_path(path: Option<&PathBuf>) -> String {
    show_option(path, |path| path.display().to_string())
}

/// Several values, separated by commas.
pub(super) fn show_seq<T>(values: &[T], show: impl Fn(&T) -> String) -> String {
    values.iter().map(show).collect::<Vec<_>>().join(",")
}

/// A variant of an enum, whose words are the variants' names in small letters.
pub(super) fn show_word(word: impl Debug) -> String {
    format!("{word:?}").to_lowercase()
}
