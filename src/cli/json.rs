//! JSON that may be looked at on a terminal.

use std::fmt::Write;

use serde::Serialize;

use crate::domain::printable::is_hidden;

/// Writes a value as JSON on one line.
///
/// # Errors
/// Fails for a value that JSON cannot hold.
pub(super) fn compact(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(escaped(serde_json::to_string(value)?))
}

/// Writes a value as JSON on several lines.
///
/// # Errors
/// As [`compact`].
pub(super) fn pretty(value: &impl Serialize) -> serde_json::Result<String> {
    Ok(escaped(serde_json::to_string_pretty(value)?))
}

/// Escapes what is not for reading. JSON itself demands that of C0 control characters alone, and a
/// terminal obeys others too. Such a character can only be within a string, where its escape means
/// the same; the line breaks are between the strings.
fn escaped(json: String) -> String {
    let is_escaped = |c: char| is_hidden(c) && c != '\n';
    if !json.contains(is_escaped) {
        return json;
    }
    let mut text = String::with_capacity(json.len() + 64);
    for c in json.chars() {
        if !is_escaped(c) {
            text.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut [0; 2]) {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "\\u{unit:04x}");
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_finds_no_command_and_a_program_the_same_text() {
        let text = "a\u{1b}[2J\u{9b}2J\u{7f}\u{202e}\u{e0041}\n\u{202f}é🎓";
        for json in [compact(&[text]), pretty(&[text])] {
            let json = json.expect("writes");
            assert!(!json.contains(|c| is_hidden(c) && c != '\n'), "{json:?}");
            assert!(json.contains("\\u009b2J\\u007f\\u202e\\udb40\\udc41\\n\u{202f}é🎓"), "{json}");
            assert_eq!(serde_json::from_str::<[String; 1]>(&json).expect("reads"), [text]);
        }
    }
}
