//! What the filter changed in a message, as the mark in its headers tells it.

use std::fmt;
use std::str::FromStr;

/// One thing of a message that could not be handed on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum MessagePart {
    /// The routing key has bytes that are not UTF-8.
    RoutingKey,
    /// The exchange's name has bytes that are not UTF-8.
    Exchange,
    /// The property of this name has bytes that are not UTF-8, as have the next nine.
    ContentType,
    /// See [`MessagePart::ContentType`].
    ContentEncoding,
    /// See [`MessagePart::ContentType`].
    CorrelationId,
    /// See [`MessagePart::ContentType`].
    ReplyTo,
    /// See [`MessagePart::ContentType`].
    Expiration,
    /// See [`MessagePart::ContentType`].
    MessageId,
    /// See [`MessagePart::ContentType`].
    Type,
    /// See [`MessagePart::ContentType`].
    UserId,
    /// See [`MessagePart::ContentType`].
    AppId,
    /// See [`MessagePart::ContentType`].
    ClusterId,
    /// The name of a header, or a name in a table within, has bytes that are not UTF-8.
    HeaderNames,
    /// A header's value is nested too deep, and left out.
    HeaderDepth,
    /// The headers are too large, too many, or make no sense: all of them are left out.
    Headers,
    /// The properties make no sense: all of them are left out.
    Properties,
    /// The body is too large, and left out.
    Body,
}

/// Everything that was changed in one message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct MessageParts {
    /// A bit for each [`MessagePart`].
    bits: u32,
    /// Bytes of the body that was left out.
    body: u64,
}

const ALL: [(MessagePart, &str); 17] = [
    (MessagePart::RoutingKey, "routing-key"),
    (MessagePart::Exchange, "exchange"),
    (MessagePart::ContentType, "content-type"),
    (MessagePart::ContentEncoding, "content-encoding"),
    (MessagePart::CorrelationId, "correlation-id"),
    (MessagePart::ReplyTo, "reply-to"),
    (MessagePart::Expiration, "expiration"),
    (MessagePart::MessageId, "message-id"),
    (MessagePart::Type, "type"),
    (MessagePart::UserId, "user-id"),
    (MessagePart::AppId, "app-id"),
    (MessagePart::ClusterId, "cluster-id"),
    (MessagePart::HeaderNames, "header-names"),
    (MessagePart::HeaderDepth, "header-depth"),
    (MessagePart::Headers, "headers"),
    (MessagePart::Properties, "properties"),
    (MessagePart::Body, "body"),
];

impl MessageParts {
    /// Whether the message is as its sender wrote it.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether this was changed.
    pub fn has(self, part: MessagePart) -> bool {
        self.bits & (1 << part as u8) != 0
    }

    /// Bytes of the body, if it was left out.
    pub fn body_left_out(self) -> Option<u64> {
        self.has(MessagePart::Body).then_some(self.body)
    }

    pub(super) fn add(&mut self, part: MessagePart) {
        self.bits |= 1 << part as u8;
    }

    pub(super) fn leave_body_out(&mut self, bytes: u64) {
        self.add(MessagePart::Body);
        self.body = bytes;
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, body: self.body.max(other.body) }
    }
}

impl fmt::Display for MessageParts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (part, name) in ALL {
            if !self.has(part) {
                continue;
            }
            write!(f, "{comma}{name}")?;
            if part == MessagePart::Body {
                write!(f, "={}", self.body)?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for MessageParts {
    type Err = std::convert::Infallible;

    /// A name that a later version writes is left out.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = Self::default();
        for item in text.split(',') {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let Some((part, _)) = ALL.iter().find(|(_, known)| *known == name) else { continue };
            match part {
                MessagePart::Body => parts.leave_body_out(value.parse().unwrap_or_default()),
                part => parts.add(*part),
            }
        }
        Ok(parts)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        for (first, _) in ALL {
            for (second, _) in ALL {
                let mut parts = MessageParts::default();
                parts.add(first);
                parts.add(second);
                if parts.has(MessagePart::Body) {
                    parts.leave_body_out(16 << 20);
                }
                assert_eq!(parts.to_string().parse(), Ok(parts));
            }
        }
        let mut parts = MessageParts::default();
        parts.add(MessagePart::RoutingKey);
        parts.leave_body_out(100_000);
        assert_eq!(parts.to_string(), "routing-key,body=100000");
        assert_eq!("routing-key,novelty=3,body=100000".parse(), Ok(parts));
    }

    #[test]
    fn every_part_has_its_own_name_and_bit() {
        for (place, (part, _)) in ALL.iter().enumerate() {
            assert_eq!(*part as usize, place);
        }
    }
}
