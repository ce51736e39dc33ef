//! Decodes the bytes of an AMQP message into a [`RawHit`], in both message forms, with bounds on
//! size and keys.
//!
//! A message is a JSON object of Matomo parameters, or a Matomo query string or URL. Only the form
//! is checked here: a field that is neither text nor number is kept as such, so that
//! validation can name it beside all other faults.

use std::borrow::Cow;

use percent_encoding::percent_decode;
use smallvec::SmallVec;
use thiserror::Error;

mod foreign;
mod json;
mod plain;

pub use foreign::ForeignForm;

/// How many bytes a message may have. A hit of the plan with every field at its limit stays under
/// 20 KiB.
pub const MAX_BYTES: usize = 64 * 1024;
/// How many parameters a hit may have. The plan has 22.
pub const MAX_FIELDS: usize = 200;
/// How many parameters of a hit need no memory of their own: all of the plan's, and two more.
pub(super) const USUAL_FIELDS: usize = 24;
/// How many bytes a parameter name may have.
pub const MAX_NAME: usize = 100;
/// How many bytes the routing key of an AMQP message may have.
const MAX_ROUTING_KEY: usize = 255;

/// A hit as it was written: parameter names and values in their order, borrowed from the message
/// where that is possible.
#[derive(Debug, Clone)]
pub struct RawHit<'a> {
    /// Names and values in the order of the message.
    fields: SmallVec<[(Cow<'a, str>, Value<'a>); USUAL_FIELDS]>,
    /// Whether the reader has seen that no value holds a control character, a quote or a
    /// backslash. If not, nobody has looked.
    is_plain: bool,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Value<'a> {
    /// A string, or a number in its decimal form.
    Text(Cow<'a, str>),
    /// JSON's `null`, with which serialisers of Java, .NET and PHP write that a field has no value.
    /// The field counts as absent.
    Null,
    /// A value that a Matomo parameter cannot have, by the name that JSON has for it.
    Wrong(&'static str),
}

/// Why a message is not a hit at all.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The message has more than [`MAX_BYTES`] bytes.
    #[error("{0} bytes, the limit is {MAX_BYTES}")]
    TooLarge(usize),
    /// The message has no bytes, or white space only.
    #[error("empty")]
    Empty,
    /// The message, or what an escape stands for, is not UTF-8.
    #[error("not UTF-8")]
    NotUtf8,
    /// The JSON does not parse. The error has line and column, and never the text, which may hold
    /// personal data.
    #[error("JSON error at line {line}, column {column}")]
    Json {
        /// The line of the fault, from 1.
        line: usize,
        /// The column of the fault, from 1.
        column: usize,
    },
    /// The message is JSON, but an array, a string, a number…
    #[error("JSON, but not an object")]
    NotAnObject,
    /// The message begins neither as a JSON object nor as a query string or URL.
    #[error("neither a JSON object nor a query string")]
    UnknownForm,
    /// The message has more than [`MAX_FIELDS`] parameters.
    #[error("more than {MAX_FIELDS} parameters")]
    TooManyFields,
    /// A parameter name has more than [`MAX_NAME`] bytes.
    #[error("a parameter name over {MAX_NAME} bytes")]
    NameTooLong,
    /// The message is of a form that is known, and that is no hit's.
    #[error("{}", .0.name())]
    Foreign(ForeignForm),
}

/// The byte order mark, with which some editors and frameworks begin a text.
const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Reads a message. `content_type` is the AMQP property; where it says nothing, the first byte
/// decides about the form. A byte order mark at the beginning is passed over.
///
/// # Errors
/// Returns a [`DecodeError`] if the message has no readable form. The error never holds a value.
pub fn decode<'a>(body: &'a [u8], content_type: Option<&str>) -> Result<RawHit<'a>, DecodeError> {
    if body.len() > MAX_BYTES {
        return Err(DecodeError::TooLarge(body.len()));
    }
    let body = body.strip_prefix(BYTE_ORDER_MARK).unwrap_or(body);
    let first = *body.iter().find(|b| !b.is_ascii_whitespace()).ok_or(DecodeError::Empty)?;
    match form(first, content_type.unwrap_or_default()) {
        MessageForm::Json => decode_json(body),
        MessageForm::Query => decode_query(body),
        MessageForm::Unknown if std::str::from_utf8(body).is_err() => Err(not_utf8(body)),
        MessageForm::Unknown => Err(foreign::unless_known(body, DecodeError::UnknownForm)),
    }
}

/// Says what a message is that is not UTF-8.
fn not_utf8(body: &[u8]) -> DecodeError {
    foreign::unless_known(body, DecodeError::NotUtf8)
}

/// The form of a message.
enum MessageForm {
    Json,
    Query,
    Unknown,
}

/// Recognises the form by the content type, or else by the first byte that is not white space.
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
    /// Iterates over the parameters in the order of the message.
    pub fn fields(&self) -> impl Iterator<Item = (&str, &Value<'a>)> {
        self.fields.iter().map(|(name, value)| (name.as_ref(), value))
    }

    /// Returns the text of the first parameter of that name that has a value, if it is text.
    pub fn text(&self, name: &str) -> Option<&str> {
        let mut named = self.fields().filter(|(n, _)| *n == name).map(|(_, value)| value);
        match named.find(|value| **value != Value::Null)? {
            Value::Text(text) => Some(text.as_ref()),
            Value::Null | Value::Wrong(_) => None,
        }
    }

    /// Returns the visitor whose hits must stay in order: the `uid`, which is also the routing key
    /// of the message.
    pub fn visitor(&self) -> Option<&str> {
        self.text("uid").filter(|uid| !uid.is_empty())
    }

    /// Makes a hit without parameters.
    fn new() -> Self {
        Self { fields: SmallVec::new(), is_plain: false }
    }

    /// Whether it is known that no value holds a control character, a quote or a backslash.
    pub(super) fn is_plain(&self) -> bool {
        self.is_plain
    }

    /// Adds a parameter, unless a bound is passed.
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

/// Returns the routing key of this visitor's hits: the `uid`, or as much of it as a routing key can
/// hold, which any stable part of it serves as well. A `uid` of 200 accented characters is longer.
pub fn routing_key(uid: &str) -> &str {
    let most = uid.len().min(MAX_ROUTING_KEY);
    (0..=most).rev().find_map(|end| uid.get(..end)).unwrap_or_default()
}

/// Two hits are the same if they say the same, whoever has looked at their values.
impl PartialEq for RawHit<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.fields == other.fields
    }
}

/// Reads a JSON object. The usual one is tried first, because that takes a third of the time.
fn decode_json(body: &[u8]) -> Result<RawHit<'_>, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| not_utf8(body))?;
    plain::read(text).map_or_else(|| decode_other_json(text), Ok)
}

/// Reads JSON that is not written as most ENTs do, or says what it is.
fn decode_other_json(text: &str) -> Result<RawHit<'_>, DecodeError> {
    json::read(text)
        .and_then(|hit| foreign::refuse(text, hit))
        .map_err(|error| foreign::unless_known(text.as_bytes(), error))
}

/// Reads a query string, or that of a URL.
fn decode_query(body: &[u8]) -> Result<RawHit<'_>, DecodeError> {
    let text = std::str::from_utf8(body).map_err(|_| not_utf8(body))?.trim();
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

/// Decodes `application/x-www-form-urlencoded` text, except that bytes which are not UTF-8 are an
/// error rather than a `�`.
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
mod tests;
