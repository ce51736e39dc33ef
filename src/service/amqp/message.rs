//! One message as the broker gave it: bytes, properties and headers.

use jiff::Timestamp;
use lapin::message::Delivery;
use lapin::types::AMQPValue;
use lapin::{Acker, BasicProperties};

use super::filter::MessageParts;
use super::mark::unreadable;
use crate::domain::dead::DeathEntry;
use crate::domain::envelope::{self, Header};

/// The header in which the broker writes down how it moved a message by itself.
const DEATHS: &str = "x-death";

/// A message that the broker has given to us and that is not acked.
#[derive(Debug)]
pub struct Message {
    delivery: Delivery,
}

impl Message {
    pub(super) fn new(delivery: Delivery) -> Self {
        Self { delivery }
    }

    /// The body, byte for byte as the ENT wrote it.
    pub fn body(&self) -> &[u8] {
        &self.delivery.data
    }

    /// The routing key, which is the hit's visitor.
    pub fn routing_key(&self) -> &str {
        self.delivery.routing_key.as_str()
    }

    /// The AMQP property `content_type`.
    pub fn content_type(&self) -> Option<&str> {
        self.properties().content_type().as_ref().map(|text| text.as_str())
    }

    /// The AMQP property `message_id`.
    pub fn id(&self) -> Option<&str> {
        self.properties().message_id().as_ref().map(|id| id.as_str())
    }

    /// The AMQP property `user_id`: the user who published the message here, as the broker has
    /// verified.
    pub fn user(&self) -> Option<&str> {
        self.properties().user_id().as_ref().map(|user| user.as_str())
    }

    /// The AMQP property `timestamp`, in UNIX seconds.
    pub fn timestamp(&self) -> Option<u64> {
        *self.properties().timestamp()
    }

    /// The AMQP property `timestamp`, if it is a time that can be.
    pub fn sent_at(&self) -> Option<Timestamp> {
        Timestamp::from_second(i64::try_from(self.timestamp()?).ok()?).ok()
    }

    /// Whether the broker gave this message to somebody before.
    pub fn is_redelivered(&self) -> bool {
        self.delivery.redelivered
    }

    /// How often the message was given to somebody and came back without an ack, as its quorum
    /// queue counts. A sender can write the same header; the broker writes over it once the message
    /// has come back.
    pub fn returns(&self) -> u64 {
        if !self.is_redelivered() {
            return 0;
        }
        let count = self.number("x-delivery-count").unwrap_or_default();
        u64::try_from(count).unwrap_or_default()
    }

    /// The number of the delivery on its channel.
    pub fn tag(&self) -> u64 {
        self.delivery.delivery_tag
    }

    /// The header of that name, if it is a text or a number.
    pub fn header(&self, name: &str) -> Option<Header> {
        let headers = self.properties().headers().as_ref()?;
        headers.inner().get(name).and_then(readable)
    }

    /// The header of that name, if it is a text.
    pub fn text(&self, name: &str) -> Option<String> {
        match self.header(name)? {
            Header::Text(text) => Some(text),
            Header::Number(_) => None,
        }
    }

    /// The header of that name, if it is a long text, without a copy.
    pub fn text_ref(&self, name: &str) -> Option<&str> {
        match self.properties().headers().as_ref()?.inner().get(name)? {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        }
    }

    /// The header of that name, if it is a number.
    pub fn number(&self, name: &str) -> Option<i64> {
        match self.header(name)? {
            Header::Number(number) => Some(number),
            Header::Text(_) => None,
        }
    }

    /// Every header that is a text or a number, but for what the broker counts: a second look would
    /// find another number.
    pub fn headers(&self) -> impl Iterator<Item = (&str, Header)> {
        let headers = self.properties().headers().iter().flat_map(|table| table.inner());
        let own = headers.filter(|(name, _)| !envelope::is_brokers_count(name.as_str()));
        own.filter_map(|(name, value)| Some((name.as_str(), readable(value)?)))
    }

    /// What the broker wrote of its own moves of the message, the latest first. A sender can have
    /// written it too.
    pub fn deaths(&self) -> impl Iterator<Item = DeathEntry<'_>> {
        deaths(self.properties())
    }

    /// What of the message could not be handed on as its sender wrote it; `None` of a message that
    /// is what it seems. An unreadable message must not be taken for a hit.
    pub fn unreadable(&self) -> Option<MessageParts> {
        unreadable(self.properties())
    }

    pub(super) fn properties(&self) -> &BasicProperties {
        &self.delivery.properties
    }

    pub(super) fn acker(&self) -> Acker {
        self.delivery.acker.clone()
    }
}

/// The entries of `x-death` that can be read. RabbitMQ has written the same form since 3.10.
fn deaths(properties: &BasicProperties) -> impl Iterator<Item = DeathEntry<'_>> {
    let header = properties.headers().as_ref().and_then(|table| table.inner().get(DEATHS));
    let entries = match header {
        Some(AMQPValue::FieldArray(entries)) => entries.as_slice(),
        _ => &[],
    };
    entries.iter().filter_map(|entry| {
        let AMQPValue::FieldTable(entry) = entry else { return None };
        let text = |name: &str| match entry.inner().get(name)? {
            AMQPValue::LongString(text) => str::from_utf8(text.as_bytes()).ok(),
            _ => None,
        };
        let at = match entry.inner().get("time") {
            Some(AMQPValue::Timestamp(seconds)) => {
                i64::try_from(*seconds).ok().and_then(|at| Timestamp::from_second(at).ok())
            }
            _ => None,
        };
        Some(DeathEntry { reason: text("reason")?, queue: text("queue")?, at })
    })
}

/// A header's value, if it is a text or a whole number of any width.
fn readable(value: &AMQPValue) -> Option<Header> {
    Some(match value {
        AMQPValue::ShortShortInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortShortUInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortInt(number) => Header::Number((*number).into()),
        AMQPValue::ShortUInt(number) => Header::Number((*number).into()),
        AMQPValue::LongInt(number) => Header::Number((*number).into()),
        AMQPValue::LongUInt(number) => Header::Number((*number).into()),
        AMQPValue::LongLongInt(number) => Header::Number(*number),
        AMQPValue::LongString(text) => {
            Header::Text(str::from_utf8(text.as_bytes()).ok()?.to_owned())
        }
        AMQPValue::ShortString(text) => Header::Text(text.as_str().to_owned()),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use lapin::types::{FieldArray, FieldTable};

    use super::*;

    fn table(values: Vec<(&str, AMQPValue)>) -> FieldTable {
        let mut table = FieldTable::default();
        for (name, value) in values {
            table.insert(name.into(), value);
        }
        table
    }

    #[test]
    fn what_is_no_entry_of_a_history_is_passed_over() {
        let text = |text: &str| AMQPValue::LongString(text.into());
        let entry = |reason, at| {
            let values = vec![("reason", reason), ("queue", text("dnma.hits.0")), ("time", at)];
            AMQPValue::FieldTable(table(values))
        };
        let mut entries = FieldArray::default();
        let latin_1: &[u8] = &[0xe9];
        for value in [
            text("expired"),
            AMQPValue::FieldTable(table(vec![("reason", text("expired"))])),
            entry(AMQPValue::LongString(latin_1.into()), AMQPValue::Timestamp(0)),
            entry(text("delivery_limit"), AMQPValue::Timestamp(1_732_549_235)),
            entry(text("expired"), AMQPValue::Timestamp(u64::MAX)),
        ] {
            entries.push(value);
        }
        let history = AMQPValue::FieldArray(entries);
        let with = |value| BasicProperties::default().with_headers(table(vec![(DEATHS, value)]));
        let properties = with(history);
        let found: Vec<_> =
            deaths(&properties).map(|d| (d.reason, d.queue, d.at.map(|t| t.as_second()))).collect();
        let required = [
            ("delivery_limit", "dnma.hits.0", Some(1_732_549_235)),
            ("expired", "dnma.hits.0", None),
        ];
        assert_eq!(found, required);
        assert_eq!(deaths(&with(text("delivery_limit"))).count(), 0);
        assert_eq!(deaths(&BasicProperties::default()).count(), 0);
    }

    #[test]
    fn texts_and_numbers_are_readable_and_nothing_else_is() {
        assert_eq!(readable(&AMQPValue::ShortShortInt(-3)), Some(Header::Number(-3)));
        assert_eq!(readable(&AMQPValue::LongUInt(7)), Some(Header::Number(7)));
        assert_eq!(readable(&AMQPValue::LongString("é".into())), Some(Header::Text("é".into())));
        let latin_1: &[u8] = &[0xe9];
        assert_eq!(readable(&AMQPValue::LongString(latin_1.into())), None);
        assert_eq!(readable(&AMQPValue::Boolean(true)), None);
    }
}
