//! The JSON that most ENTs write, read in a third of the time: one flat object of texts without
//! escapes and whole numbers. Whatever else a message holds, the general reader is asked from the
//! start, and its answer counts.

use std::borrow::Cow;

use super::{MAX_FIELDS, MAX_NAME, RawHit, Value};
use crate::domain::scan;

/// What a number may have for the form that it has in the message to be the only one; 19 digits fit
/// a `u64`.
const MOST_DIGITS: usize = 19;

/// The hit, if all of the message is of that form.
pub(super) fn read(text: &str) -> Option<RawHit<'_>> {
    // Without them every quote begins or ends a string, and the only white space outside is the
    // space.
    if scan::any(text.as_bytes(), |byte| scan::is_control(byte) | (byte == b'\\')) {
        return None;
    }
    let mut cursor = Cursor { text, rest: text.as_bytes().iter() };
    let mut hit = RawHit::new();
    cursor.expect(b'{')?;
    loop {
        cursor.expect(b'"')?;
        let name = cursor.string()?;
        cursor.expect(b':')?;
        let value = match cursor.next()? {
            b'"' => cursor.string()?,
            first => cursor.number(first)?,
        };
        // A bound that is passed has an error of its own.
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

struct Cursor<'a> {
    text: &'a str,
    rest: std::slice::Iter<'a, u8>,
}

impl<'a> Cursor<'a> {
    /// Takes the next byte that is not a space.
    fn next(&mut self) -> Option<u8> {
        self.rest.find(|byte| **byte != b' ').copied()
    }

    fn expect(&mut self, byte: u8) -> Option<()> {
        (self.next()? == byte).then_some(())
    }

    /// The rest of a string whose quote was taken.
    fn string(&mut self) -> Option<&'a str> {
        let rest = self.rest.as_slice();
        let length = memchr::memchr(b'"', rest)?;
        self.rest = rest.get(length + 1..)?.iter();
        let start = self.text.len() - rest.len();
        self.text.get(start..start + length)
    }

    /// A whole number whose first digit was taken: as JSON writes it, and as it is written again.
    fn number(&mut self, first: u8) -> Option<&'a str> {
        let rest = self.rest.as_slice();
        let more = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
        self.rest = rest.get(more..)?.iter();
        let is_canonical =
            first.is_ascii_digit() && more < MOST_DIGITS && (first != b'0' || more == 0);
        let end = self.text.len() - rest.len() + more;
        self.text.get(end - more - 1..end).filter(|_| is_canonical)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{DecodeError, decode_any_json};
    use super::*;

    #[test]
    fn the_usual_message_is_plain_and_others_are_left_alone() {
        let plain = r#" { "idsite" : "1","uid":"é b" , "cdt":1732549235, "n":0 } "#;
        assert!(read(plain).is_some_and(|hit| hit.text("uid") == Some("é b")
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
        assert_eq!(decode_any_json(&format!("{{{many}\"z\":1}}")), Err(DecodeError::TooManyFields));
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
        fn what_is_read_is_what_the_general_reader_reads(pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..24)) {
            for text in [pieces.concat(), format!("{{{}}}", pieces.concat()), format!("{{\"a\":{}}}", pieces.concat())] {
                if let Some(hit) = read(&text) {
                    prop_assert!(hit.fields().all(|(_, value)| matches!(value, Value::Text(text) if !text.contains(|c: char| c.is_ascii_control() || c == '"' || c == '\\'))));
                    prop_assert_eq!(Ok(hit), decode_any_json(&text), "{}", text);
                }
            }
        }

        #[test]
        fn any_texts_and_numbers_are_read_alike(fields in proptest::collection::vec((".{0,12}", ".{0,80}", proptest::option::of(0..=u64::MAX)), 1..30)) {
            let values = fields.iter().map(|(name, text, number)| (name, number.map_or_else(|| text.as_str().into(), serde_json::Value::from)));
            let members: Vec<String> = values.map(|(name, value)| format!("{}:{value}", serde_json::Value::from(name.as_str()))).collect();
            let text = format!("{{{}}}", members.join(","));
            if let Some(hit) = read(&text) {
                prop_assert_eq!(Ok(hit), decode_any_json(&text), "{}", text);
            }
        }
    }
}
