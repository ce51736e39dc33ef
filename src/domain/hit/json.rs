//! The general reader of JSON messages.

use std::borrow::Cow;
use std::fmt;

use serde::de::{self, Deserializer, MapAccess, Visitor};

use super::{DecodeError, RawHit, Value};

/// Reads an object of Matomo parameters.
pub(super) fn read(text: &str) -> Result<RawHit<'_>, DecodeError> {
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

/// Reads an object. The bounds are checked while reading, so a hostile message cannot make us
/// allocate more memory than it is long.
struct HitVisitor;

impl<'de> Visitor<'de> for HitVisitor {
    type Value = Result<RawHit<'de>, DecodeError>;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an object of Matomo parameters")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut hit = RawHit::new();
        let mut outcome = Ok(());
        // After a bound is passed the rest is still read, and dropped: whether it is JSON decides
        // which error the message has.
        while let Some(TextSeed(name)) = map.next_key()? {
            let value: Value = map.next_value()?;
            if outcome.is_ok() {
                outcome = hit.push(name, value);
            }
        }
        Ok(outcome.map(|()| hit))
    }
}

/// A string that is borrowed from the message, or owned if it has escapes.
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

/// Reads a value, and keeps the name of what is neither text nor number.
struct ValueVisitor;

/// From here on a JSON number that went through a float may not be the number that was written.
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
        // Read as a float, two `uid` of 20 digits could become one visitor.
        if number.abs() >= EXACT {
            return Ok(Value::Wrong("a number too large to be exact (write it as a string)"));
        }
        Ok(Value::Text(Cow::Owned(number.to_string())))
    }
    fn visit_bool<E: de::Error>(self, _: bool) -> Result<Self::Value, E> {
        Ok(Value::Wrong("a boolean"))
    }
    fn visit_unit<E: de::Error>(self) -> Result<Self::Value, E> {
        Ok(Value::Null)
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
