//! From the bytes of an AMQP message to a [`RawHit`]: both message forms, with bounds on size and
//! keys.
//!
//! A message is a JSON object of Matomo parameters, or a Matomo query string or URL. Nothing is
//! judged here but the form: a field that is neither text nor number is kept as such, so that
//! validation can name it beside all other faults.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::percent_decode;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use smallvec::SmallVec;
use thiserror::Error;

mod plain;

/// Largest message in bytes. A hit of the plan with every field at its limit stays under 20 KiB.
pub const MAX_BYTES: usize = 64 * 1024;
/// Most parameters in one hit. The plan has 22.
pub const MAX_FIELDS: usize = 200;
/// Parameters of a hit that need no memory of their own: all of the plan's, and room for two.
pub(super) const USUAL_FIELDS: usize = 24;
/// Longest parameter name, in bytes.
pub const MAX_NAME: usize = 100;

/// A hit as it was written: parameter names and values in their order, borrowed from the message
/// where possible.
#[derive(Debug, Clone, PartialEq)]
pub struct RawHit<'a> {
    fields: SmallVec<[(Cow<'a, str>, Value<'a>); USUAL_FIELDS]>,
}

/// The value of one parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A string, or a number in its decimal form.
    Text(Cow<'a, str>),
    /// Something a Matomo parameter cannot be, by the name JSON has for it.
    Wrong(&'static str),
}

/// Why a message is not a hit at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// Over [`MAX_BYTES`].
    #[error("{0} bytes, the limit is {MAX_BYTES}")]
    TooLarge(usize),
    /// No bytes, or white space only.
    #[error("empty")]
    Empty,
    /// Not UTF-8, or an escape that does not decode to UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// JSON that does not parse. Line and column, never the text: it may hold personal data.
    #[error("JSON error at line {line}, column {column}")]
    Json {
        /// Line of the fault, from 1.
        line: usize,
        /// Column of the fault, from 1.
        column: usize,
    },
    /// JSON, but an array, a string, a number…
    #[error("JSON, but not an object")]
    NotAnObject,
    /// Neither `{`, `?` nor a URL.
    #[error("neither a JSON object nor a query string")]
    UnknownForm,
    /// More than [`MAX_FIELDS`] parameters.
    #[error("more than {MAX_FIELDS} parameters")]
    TooManyFields,
    /// A parameter name over [`MAX_NAME`] bytes.
    #[error("a parameter name over {MAX_NAME} bytes")]
    NameTooLong,
}

/// Reads one message. `content_type` is the AMQP property; where it says nothing, the first byte
/// decides.
///
/// # Errors
/// [`DecodeError`] when the message has no readable form. Values are never part of the error.
pub fn decode<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<RawHit<'a>, DecodeError> {
    if body.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge(body.len()));
    }
    let first = *body.iter().find(|b| !b.is_ascii_whitespace()).ok_or(DecodeError::Empty)?;
    match form(first, content_type.unwrap_or_default()) {
        MessageForm::Json => decode_json(body),
        MessageForm::Query => decode_query(body),
        MessageForm::Unknown => Err(if std::str::from_utf8(body).is_err() {
            DecodeError::NotUtf8
        } else {
            DecodeError::UnknownForm
        }),
    }
}

enum MessageForm {
    Json,
    Query,
    Unknown,
}

fn form(first: u8, content_type: &str) -> MessageForm {
    let content_type = content_type.split(';').next().unwrap_or_default().trim();
    if content_type.eq_ignore_ascii_case("application/json") {
        return MessageForm::Json;
    }
    if content_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") {
        return MessageForm::Query;
    }
    match first {
        b'{' | b'[' | b'"' => MessageForm::Json,
        b'?' | b'/' | b'h' | b'H' => MessageForm::Query,
        _ => MessageForm::Unknown,
    }
}

impl<'a> RawHit<'a> {
    /// Every parameter in the order of the message.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// The text of the first parameter of that name, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields().find(|(n, _)| *n == name).and_then(|(_, value)| match value {
            Value::Text(text) => Some(text.as_ref()),
            Value::Wrong(_) => None,
        })
    }

    /// The visitor whose hits must stay in order: `uid`, which is also the routing key of the
    /// message.
    pub fn visitor(&self) -> Option<&str> {
        self.text("uid").filter(|uid| !uid.is_empty())
    }

    fn new() -> Self {
        Self { fields: SmallVec::new() }
    }

    fn push(&mut self, name: Cow<'a, str>, value: Value<'a>) -> Result<(), DecodeError> {
        if self.fields.len() >= MAX_FIELDS {
            return Err(DecodeError::TooManyFields);
        }
        if name.len() > MAX_NAME {
            return Err(DecodeError::NameTooLong);
        }
        self.fields.push((name, value));
        Ok(())
    }
}

// === JSON ===

fn decode_json(body: &[u8]) -> Result<RawHit<'_>, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::NotUtf8)?;
    plain::read(text).map_or_else(|| decode_any_json(text), Ok)
}

fn decode_any_json(text: &str) -> Result<RawHit<'_>, DecodeError> {
    let mut json = serde_json::Deserializer::from_str(text);
    let read = json.deserialize_any(HitVisitor).map_err(|e| (e.is_data(), e))?;
    json.end().map_err(|e| (false, e))?;
    read
}

impl From<(bool, serde_json::Error)> for DecodeError {
    fn from((wrong_shape, error): (bool, serde_json::Error)) -> Self {
        if wrong_shape {
            Self::NotAnObject
        } else {
            Self::Json { line: error.line(), column: error.column() }
        }
    }
}

/// Reads an object; the bounds are checked while reading, so a hostile message cannot make us
/// allocate more than it is long.
struct HitVisitor;

impl<'de> Visitor<'de> for HitVisitor {
    type Value = Result<RawHit<'de>, DecodeError>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of Matomo parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut hit = RawHit::new();
        let mut outcome = Ok(());
        // After a bound is passed the rest is still read, and dropped: what follows must be JSON
        // all the same.
        while let Some(TextSeed(name)) = map.next_key()? {
            let value: Value = map.next_value()?;
            if outcome.is_ok() {
                outcome = hit.push(name, value);
            }
        }
        Ok(outcome.map(|()| hit))
    }
}

/// A string borrowed from the message, or owned where it had escapes.
struct TextSeed<'a>(Cow<'a, str>);

impl<'de> serde::Deserialize<'de> for TextSeed<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor;
        impl<'de> Visitor<'de> for TextVisitor {
            type Value = TextSeed<'de>;
            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
                Ok(TextSeed(Cow::Borrowed(text)))
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextSeed(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(TextVisitor)
    }
}

impl<'de> serde::Deserialize<'de> for Value<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

/// Above this a JSON number that went through a float is no longer the number that was written.
const EXACT: f64 = 9_007_199_254_740_992.0;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value<'de>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("a value")
    }
    fn visit_borrowed_str<E: de::Error>(self, text: &'de str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Borrowed(text)))
    }
    fn visit_str<E: de::Error>(self, text: &str) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(text.to_owned())))
    }
    fn visit_u64<E: de::Error>(self, number: u64) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }
    fn visit_i64<E: de::Error>(self, number: i64) -> Result<Self::Value, E> {
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }
    fn visit_f64<E: de::Error>(self, number: f64) -> Result<Self::Value, E> {
        // A `uid` of 20 digits read as a float would merge visitors in silence.
        if number.abs() >= EXACT {
            return Ok(Value::Wrong("a number too large to be exact (write it as a string)"));
        }
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Wrong("a boolean"))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Wrong("null"))
    }
    fn visit_seq<A: de::SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
        while seq.next_element::<de::IgnoredAny>()?.is_some() {}
        Ok(Value::Wrong("an array"))
    }
    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        while map.next_entry::<de::IgnoredAny, de::IgnoredAny>()?.is_some() {}
        Ok(Value::Wrong("an object"))
    }
}

// === Query string ===

fn decode_query(body: &[u8]) -> Result<RawHit<'_>, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| DecodeError::NotUtf8)?.trim();
    let query = match text.split_once('?') {
        Some((_, query)) => query,
        None if text.contains('=') && !text.starts_with('/') && !text.contains("://") => text,
        None => return Err(DecodeError::UnknownForm),
    };
    let query = query.split('#').next().unwrap_or_default();
    let mut hit = RawHit::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        hit.push(unescape(name)?, Value::Text(unescape(value)?))?;
    }
    if hit.fields.is_empty() { Err(DecodeError::UnknownForm) } else { Ok(hit) }
}

/// `application/x-www-form-urlencoded`, except that bytes which are not UTF-8 are an error rather
/// than a `�`.
fn unescape(text: &str) -> Result<Cow<'_, str>, DecodeError> {
    if !text.contains(['%', '+']) {
        return Ok(Cow::Borrowed(text));
    }
    let spaced = text.replace('+', " ");
    let decoded =
        percent_decode(spaced.as_bytes()).decode_utf8().map_err(|_| DecodeError::NotUtf8)?;
    Ok(Cow::Owned(decoded.into_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(body: &str) -> Vec<(String, String)> {
        let hit = decode(body.as_bytes(), None).expect("decodes");
        hit.fields().map(|(n, v)| (n.to_owned(), format!("{v:?}"))).collect()
    }

    #[test]
    fn a_json_object_and_a_query_string_read_the_same() {
        let json =
            decode(br#"{"idsite":1,"uid":"a\u00e9 b","cdt":"1732549235"}"#, None).expect("json");
        let query =
            decode("?idsite=1&uid=a%C3%A9+b&cdt=1732549235#frag".as_bytes(), None).expect("query");
        let url = decode(
            "https://matomo.example/matomo.php?idsite=1&uid=a%C3%A9%20b&cdt=1732549235".as_bytes(),
            None,
        )
        .expect("url");
        assert_eq!(json, query);
        assert_eq!(json, url);
        assert_eq!(json.visitor(), Some("aé b"));
    }

    #[test]
    fn the_content_type_decides_before_the_first_byte() {
        let body = b"idsite=1&uid=x";
        assert_eq!(decode(body, None), Err(DecodeError::UnknownForm));
        let hit =
            decode(body, Some("application/x-www-form-urlencoded; charset=utf-8")).expect("form");
        assert_eq!(hit.text("uid"), Some("x"));
        assert!(matches!(
            decode(b"?a=1", Some("application/json")),
            Err(DecodeError::Json { line: 1, column: 1 })
        ));
    }

    #[test]
    fn numbers_keep_the_form_they_were_written_in_or_are_refused() {
        assert_eq!(
            texts(r#"{"a":18446744073709551615,"b":-3,"c":1732549235.5}"#)[0].1,
            r#"Text("18446744073709551615")"#
        );
        let hit = decode(br#"{"uid":123456789012345678901}"#, None).expect("decodes");
        assert!(matches!(hit.fields().next(), Some(("uid", Value::Wrong(_)))));
    }

    #[test]
    fn what_is_not_a_hit_says_why_without_quoting_it() {
        let big = vec![b'x'; MAX_BYTES + 1];
        let keys: String = (0..MAX_FIELDS + 1).map(|i| format!("\"k{i}\":1,")).collect();
        let cases: Vec<(Vec<u8>, DecodeError)> = vec![
            (vec![], DecodeError::Empty),
            (b" \n\t".to_vec(), DecodeError::Empty),
            (big, DecodeError::TooLarge(MAX_BYTES + 1)),
            (vec![0xff, 0xfe], DecodeError::NotUtf8),
            (b"{\"a\":\"\xff\"}".to_vec(), DecodeError::NotUtf8),
            (b"?a=%ff".to_vec(), DecodeError::NotUtf8),
            (vec![0; 20], DecodeError::UnknownForm),
            (b"[1,2]".to_vec(), DecodeError::NotAnObject),
            (b"\"text\"".to_vec(), DecodeError::NotAnObject),
            (b"{\"a\":1".to_vec(), DecodeError::Json { line: 1, column: 6 }),
            (b"{\"a\":1} x".to_vec(), DecodeError::Json { line: 1, column: 9 }),
            (b"hello".to_vec(), DecodeError::UnknownForm),
            (b"https://example.org/".to_vec(), DecodeError::UnknownForm),
            (format!("{{{}\"z\":1}}", keys).into_bytes(), DecodeError::TooManyFields),
            (
                format!("{{\"{}\":1}}", "n".repeat(MAX_NAME + 1)).into_bytes(),
                DecodeError::NameTooLong,
            ),
        ];
        for (body, expected) in cases {
            assert_eq!(
                decode(&body, None),
                Err(expected),
                "{:?}",
                String::from_utf8_lossy(&body).get(..20)
            );
        }
    }

    #[test]
    fn nested_values_are_kept_as_wrong_at_any_depth() {
        let hit = decode(br#"{"a":[1,{"b":2}],"c":{"d":[]},"e":true,"f":null,"g":"ok"}"#, None)
            .expect("decodes");
        let wrong: Vec<_> =
            hit.fields().filter(|(_, v)| matches!(v, Value::Wrong(_))).map(|(n, _)| n).collect();
        assert_eq!(wrong, ["a", "c", "e", "f"]);
        let deep = format!("{{\"a\":{}{}}}", "[".repeat(20_000), "]".repeat(20_000));
        let hit = decode(deep.as_bytes(), None).expect("skipped without recursion");
        assert!(matches!(hit.fields().next(), Some(("a", Value::Wrong("an array")))));
    }

    proptest::proptest! {
        #[test]
        fn nothing_panics_on_any_bytes(body in proptest::collection::vec(proptest::num::u8::ANY, 0..300), json in proptest::bool::ANY) {
            let content_type = json.then_some("application/json");
            let _outcome = decode(&body, content_type);
        }
    }
}
