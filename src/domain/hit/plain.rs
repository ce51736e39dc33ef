//! A reader for the JSON that most ENTs write, which takes a third of the time: one flat object of
//! texts without escapes and whole numbers. If a message holds anything else, the general reader
//! reads it from the start, and its answer counts.

use std::borrow::Cow;

use super::{MAX_FIELDS, MAX_NAME, RawHit, Value};
use crate::domain::scan;

/// How many digits a number may have. Up to here, in 19 digits, it fits a `u64`, so the general
/// reader writes it as the message does.
const MAX_DIGITS: usize = 19;

/// Reads the hit, if the whole message is of that form.
pub(super) fn read(text: &str) -> Option<RawHit<'_>> {
    // Without control characters and backslashes every quote begins or ends a string, and the only
    // white space outside of strings is the space.
    if scan::any(text.as_bytes(), |byte| scan::is_control(byte) | (byte == b'\\')) {
        return None;
    }
    let mut cursor = Cursor { text, rest: text.as_bytes().iter() };
    let mut hit = RawHit { is_plain: true, ..RawHit::new() };
    cursor.expect(b'{')?;
    loop {
        cursor.expect(b'"')?;
        let name = cursor.string()?;
        cursor.expect(b':')?;
        let value = match cursor.next()? {
            b'"' => cursor.string()?,
            first => cursor.number(first)?,
        };
        // The general reader says which bound was passed.
        if name.len() > MAX_NAME || hit.fields.len() >= MAX_FIELDS {
            return None;
        }
        hit.fields.push((Cow::Borrowed(name), Value::Text(Cow::Borrowed(value))));
        match cursor.next()? {
            b',' => {}
            b'}' => break,
            _ => return None,
        }
    }
    cursor.next().is_none().then_some(hit)
}

/// Where in the message the reader stands.
struct Cursor<'a> {
    /// The whole message.
    text: &'a str,
    /// What has not been read yet.
    rest: std::slice::Iter<'a, u8>,
}

impl<'a> Cursor<'a> {
    /// Takes the next byte that is not a space.
    fn next(&mut self) -> Option<u8> {
        self.rest.find(|byte| **byte != b' ').copied()
    }

    /// Takes the next byte that is not a space, if it is this one.
    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// Takes the rest of a string whose opening quote was taken.
    fn string(&mut self) -> Option<&'a str> {
        let rest = self.rest.as_slice();
        let length = memchr::memchr(b'"', rest)?;
        self.rest = rest.get(length + 1..)?.iter();
        let start = self.text.len() - rest.len();
        self.text.get(start..start + length)
    }

    /// Takes the rest of a whole number whose first digit was taken, if the general reader would
    /// write it in the same way.
    fn number(&mut self, first: u8) -> Option<&'a str> {
        let rest = self.rest.as_slice();
        let more = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = rest.get(more..)?.iter();
        let is_canonical =
            first.is_ascii_digit() && more < MAX_DIGITS && (first != b'0' || more == 0);
        let end = self.text.len() - rest.len() + more;
        self.text.get(end - more - 1..end).filter(|_| is_canonical)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{DecodeError, json};
    use super::*;

    #[test]
    fn the_usual_message_is_plain_and_others_are_left_alone() {
        let plain = r#" { "idsite" : "1","uid":"é b" , "cdt":1732549235, "n":0 } "#;
        assert!(read(plain).is_some_and(|hit| hit.is_plain()
            && hit.text("cdt") == Some("1732549235")
            && hit.text("n") == Some("0")));
        for other in [
            "",
            "{}",
            "{",
            "[1]",
            r#"{"a":"b\\c"}"#,
            r#"{"a":"b\u0041"}"#,
            "{\"a\":\"b\tc\"}",
            "{\n\"a\":1}",
            r#"{"a":-1}"#,
            r#"{"a":01}"#,
            r#"{"a":1.5}"#,
            r#"{"a":1e3}"#,
            r#"{"a":12345678901234567890}"#,
            r#"{"a":true}"#,
            r#"{"a":{}}"#,
            r#"{"a":1,}"#,
            r#"{"a":1} x"#,
            r#"{"a" 1}"#,
            r#"{"a":"b"#,
            r#"{a:1}"#,
        ] {
            assert_eq!(read(other), None, "{other}");
        }
        let many: String = (0..MAX_FIELDS).map(|i| format!("\"k{i}\":1,")).collect();
        assert_eq!(read(&format!("{{{many}\"z\":1}}")), None);
        assert_eq!(json::read(&format!("{{{many}\"z\":1}}")), Err(DecodeError::TooManyFields));
    }

    /// Pieces of which JSON, and what is nearly JSON, is made.
    const PIECES: [&str; 24] = [
        "{",
        "}",
        "\"",
        "\"a\"",
        "\"b\":",
        ":",
        ",",
        " ",
        "1",
        "0",
        "-",
        ".",
        "e",
        "é",
        "\\",
        "\\\"",
        "\n",
        "\u{7f}",
        "null",
        "[",
        "]",
        "\"uid\":\"x y\"",
        "\"n\":12,",
        "\"\":\"\"",
    ];

    proptest! {
        #[test]
        fn what_is_read_is_what_the_general_reader_reads(
            pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24),
        ) {
            let pieces = pieces.concat();
            let is_escaped = |c: char| c.is_ascii_control() || c == '"' || c == '\\';
            for text in [pieces.clone(), format!("{{{pieces}}}"), format!("{{\"a\":{pieces}}}")] {
                if let Some(hit) = read(&text) {
                    let is_plain = |value: &Value<'_>| {
                        matches!(value, Value::Text(text) if !text.contains(is_escaped))
                    };
                    prop_assert!(hit.fields().all(|(_, value)| is_plain(value)));
                    prop_assert_eq!(Ok(hit), json::read(&text), "{}", text);
                }
            }
        }

        #[test]
        fn any_texts_and_numbers_are_read_alike(
            fields in proptest::collection::vec(
                (".{0,12}", ".{0,80}", proptest::option::of(0..=u64::MAX)),
                1..30,
            ),
        ) {
            let member = |(name, text, number): &(String, String, Option<u64>)| {
                let name = serde_json::Value::from(name.as_str());
                let text = || serde_json::Value::from(text.as_str());
                format!("{name}:{}", number.map_or_else(text, serde_json::Value::from))
            };
            let members: Vec<String> = fields.iter().map(member).collect();
            let text = format!("{{{}}}", members.join(","));
            if let Some(hit) = read(&text) {
                prop_assert_eq!(Ok(hit), json::read(&text), "{}", text);
            }
        }
    }
}
