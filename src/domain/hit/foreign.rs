//! Recognises messages that are no hit but something that is known: an envelope around a hit, many
//! hits at once, or a hit that was packed or encoded once more.
//!
//! Such a message would break nearly every rule of the plan, and none of these violations would say
//! what to do. It is looked at only where it cannot be read, or where it has the fields of no hit.

use serde_json::Value as Json;

use super::{DecodeError, RawHit, Value};

/// The form of a message that is known not to be a hit's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ForeignForm {
    /// The body of a bulk request to Matomo: `{"requests": […]}`.
    Bulk,
    /// A JSON array whose one element is an object.
    ArrayOfOne,
    /// A JSON array of several objects.
    ArrayOfMany,
    /// A JSON string that holds an object or a query string.
    JsonInString,
    /// The envelope of MassTransit, with the hit in `message`.
    MassTransit,
    /// The envelope of a CloudEvent in structured mode, with the hit in `data`.
    CloudEvent,
    /// An object that holds a hit in one of its members.
    Envelope,
    /// Data that gzip packed.
    Gzip,
    /// Text in UTF-16.
    Utf16,
    /// XML or HTML.
    Xml,
    /// A serialised Java object, as Spring AMQP sends it unless told otherwise.
    JavaObject,
    /// A value that PHP's `serialize` wrote.
    PhpSerialized,
}

impl ForeignForm {
    /// Returns what the message is, in English. The plan's data has the French words.
    pub fn name(self) -> &'static str {
        match self {
            Self::Bulk => "the body of a bulk request to Matomo",
            Self::ArrayOfOne => "a JSON array with one hit in it",
            Self::ArrayOfMany => "a JSON array of several hits",
            Self::JsonInString => "a JSON string with a hit in it, encoded twice",
            Self::MassTransit => "an envelope of MassTransit",
            Self::CloudEvent => "a CloudEvent in structured mode",
            Self::Envelope => "an object around a hit",
            Self::Gzip => "data packed with gzip",
            Self::Utf16 => "text in UTF-16",
            Self::Xml => "XML or HTML",
            Self::JavaObject => "a serialised Java object",
            Self::PhpSerialized => "a value that PHP's serialize wrote",
        }
    }

    /// Returns what the sender has to do, in English. The plan's data has the French words.
    pub fn remedy(self) -> &'static str {
        match self {
            Self::Bulk => "publish each element of requests as a message of its own",
            Self::ArrayOfOne => "publish the object without the brackets",
            Self::ArrayOfMany => "publish each object as a message of its own",
            Self::JsonInString => "publish the text of the string, without encoding it again",
            Self::MassTransit => "publish what is in message, with the raw JSON serializer",
            Self::CloudEvent => "publish what is in data as the whole body (binary mode)",
            Self::Envelope => "publish the inner object as the whole body",
            Self::Gzip => "publish the body unpacked",
            Self::Utf16 => "publish it in UTF-8",
            Self::Xml | Self::PhpSerialized => "publish a JSON object",
            Self::JavaObject => "publish a JSON object, in Spring with a JSON message converter",
        }
    }
}

/// The parameters of which every hit has one, whatever else is wrong with it.
const OF_EVERY_HIT: [&str; 4] = ["uid", "idsite", "dimension1", "dimension8"];

/// Refuses an object that has none of a hit's parameters, and holds a hit or several.
pub(super) fn refuse<'a>(text: &'a str, hit: RawHit<'a>) -> Result<RawHit<'a>, DecodeError> {
    let is_nested = hit.fields().any(|(_, value)| matches!(value, Value::Wrong(_)));
    if !is_nested || hit.fields().any(|(name, _)| OF_EVERY_HIT.contains(&name)) {
        return Ok(hit);
    }
    let json = serde_json::from_str(text).ok();
    match json.as_ref().and_then(envelope) {
        Some(form) => Err(DecodeError::Foreign(form)),
        None => Ok(hit),
    }
}

/// Recognises the envelope that an object is.
fn envelope(json: &Json) -> Option<ForeignForm> {
    let members = json.as_object()?;
    if members.get("requests").is_some_and(Json::is_array) {
        return Some(ForeignForm::Bulk);
    }
    if members.contains_key("messageType") && members.get("message").is_some_and(Json::is_object) {
        return Some(ForeignForm::MassTransit);
    }
    if members.contains_key("specversion") && members.contains_key("data") {
        return Some(ForeignForm::CloudEvent);
    }
    members.values().any(is_hit).then_some(ForeignForm::Envelope)
}

/// Whether a value is an object with a parameter of a hit, or an array of such.
fn is_hit(json: &Json) -> bool {
    match json {
        Json::Array(elements) => elements.first().is_some_and(is_hit),
        Json::Object(members) => OF_EVERY_HIT.iter().any(|name| members.contains_key(*name)),
        _ => false,
    }
}

/// Returns the error of a message that could not be read: what it is, if that is known, or else the
/// one that was found.
pub(super) fn unless_known(body: &[u8], error: DecodeError) -> DecodeError {
    of_unreadable(body).map_or(error, DecodeError::Foreign)
}

/// Recognises what a message is that could not be read.
fn of_unreadable(body: &[u8]) -> Option<ForeignForm> {
    let visible = body.trim_ascii_start();
    match *visible {
        [0x1f, 0x8b, ..] => Some(ForeignForm::Gzip),
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => Some(ForeignForm::Utf16),
        // The first character of JSON and of a query is ASCII, which has a zero byte in UTF-16.
        [0, b'{' | b'[' | b'"' | b'?', ..] | [b'{' | b'[' | b'"' | b'?', 0, ..] => {
            Some(ForeignForm::Utf16)
        }
        [0xac, 0xed, 0, 5, ..] => Some(ForeignForm::JavaObject),
        [b'a' | b'O' | b's', b':', b'0'..=b'9', ..] => Some(ForeignForm::PhpSerialized),
        [b'<', ..] => Some(ForeignForm::Xml),
        [b'[' | b'"', ..] => match serde_json::from_slice(visible).ok()? {
            Json::Array(elements) if !elements.iter().all(Json::is_object) => None,
            Json::Array(elements) => match elements.len() {
                0 => None,
                1 => Some(ForeignForm::ArrayOfOne),
                _ => Some(ForeignForm::ArrayOfMany),
            },
            Json::String(text) => {
                let is_hit = text.trim_start().starts_with(['{', '?']) || text.contains("uid=");
                is_hit.then_some(ForeignForm::JsonInString)
            }
            _ => None,
        },
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hit::decode;

    #[test]
    fn what_is_known_is_named() {
        let hit = r#"{"idsite":"1","uid":"u"}"#;
        let utf16 = |swap: bool| -> Vec<u8> {
            let bytes = |unit: u16| if swap { unit.to_be_bytes() } else { unit.to_le_bytes() };
            hit.encode_utf16().flat_map(bytes).collect()
        };
        let marked = [vec![0xff, 0xfe], utf16(false)].concat();
        let gzip = [0x1f, 0x8b, 8, 0, 0, 0, 0, 0];
        let quoted = serde_json::to_string(hit).expect("JSON");
        for (body, form) in [
            (format!(r#"{{"requests":[{hit}],"token_auth":"x"}}"#).into_bytes(), ForeignForm::Bulk),
            (br#"{"requests":["?idsite=1&uid=u"]}"#.to_vec(), ForeignForm::Bulk),
            (format!("[{hit}]").into_bytes(), ForeignForm::ArrayOfOne),
            (format!(" [{hit},\n{hit}]").into_bytes(), ForeignForm::ArrayOfMany),
            (quoted.into_bytes(), ForeignForm::JsonInString),
            (br#""?idsite=1&uid=u""#.to_vec(), ForeignForm::JsonInString),
            (br#""idsite=1&uid=u""#.to_vec(), ForeignForm::JsonInString),
            (
                format!(r#"{{"messageId":"1","messageType":["urn:a"],"message":{hit}}}"#).into(),
                ForeignForm::MassTransit,
            ),
            (
                format!(r#"{{"specversion":"1.0","type":"hit","data":{hit}}}"#).into_bytes(),
                ForeignForm::CloudEvent,
            ),
            (format!(r#"{{"event":"hit","payload":{hit}}}"#).into_bytes(), ForeignForm::Envelope),
            (format!(r#"{{"hits":[{hit},{hit}]}}"#).into_bytes(), ForeignForm::Envelope),
            (gzip.to_vec(), ForeignForm::Gzip),
            (marked, ForeignForm::Utf16),
            (utf16(false), ForeignForm::Utf16),
            (utf16(true), ForeignForm::Utf16),
            (b"<?xml version=\"1.0\"?><hit/>".to_vec(), ForeignForm::Xml),
            (vec![0xac, 0xed, 0, 5, b's', b'r'], ForeignForm::JavaObject),
            (br#"a:2:{s:3:"uid";s:1:"u";}"#.to_vec(), ForeignForm::PhpSerialized),
        ] {
            let shown = String::from_utf8_lossy(&body);
            assert_eq!(decode(&body, None), Err(DecodeError::Foreign(form)), "{shown}");
            let json = decode(&body, Some("application/json"));
            assert_eq!(json, Err(DecodeError::Foreign(form)), "{shown}");
        }
    }

    #[test]
    fn what_has_a_hits_fields_is_a_hit_whatever_is_nested_in_it() {
        for body in [
            r#"{"uid":"u","data":{"uid":"v"}}"#,
            r#"{"dimension1":["0750655E"],"x":{"idsite":1}}"#,
            r#"{"other":{"a":1},"date":"2024-11-25"}"#,
            r#"{"requests":3}"#,
            "{}",
        ] {
            assert!(decode(body.as_bytes(), None).is_ok(), "{body}");
        }
        for (body, error) in [
            ("[]", DecodeError::NotAnObject),
            ("[1,{}]", DecodeError::NotAnObject),
            ("\"hello\"", DecodeError::NotAnObject),
            ("a:b", DecodeError::UnknownForm),
        ] {
            assert_eq!(decode(body.as_bytes(), None), Err(error), "{body}");
        }
    }
}
