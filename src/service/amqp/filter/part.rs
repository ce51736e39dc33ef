//! What the filter changed in a message, as the mark in its headers tells it.

use std::fmt;
use std::str::FromStr;

/// One thing of a message that could not be handed on as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Part {
    /// The routing key has bytes that are not UTF-8.
    RoutingKey,
    /// The exchange's name has bytes that are not UTF-8.
    Exchange,
    /// The property of this name has bytes that are not UTF-8, as have the next nine.
    ContentType,
    /// See [`Part::ContentType`].
    ContentEncoding,
    /// See [`Part::ContentType`].
    CorrelationId,
    /// See [`Part::ContentType`].
    ReplyTo,
    /// See [`Part::ContentType`].
    Expiration,
    /// See [`Part::ContentType`].
    MessageId,
    /// See [`Part::ContentType`].
    Type,
    /// See [`Part::ContentType`].
    UserId,
    /// See [`Part::ContentType`].
    AppId,
    /// See [`Part::ContentType`].
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
pub struct Parts {
    /// A bit for each [`Part`].
    bits: u32,
    /// Bytes of the body that was left out.
    body: u64,
}

const ALL: [(Part, &str); 17] = [
    (Part::RoutingKey, "routing-key"),
    (Part::Exchange, "exchange"),
    (Part::ContentType, "content-type"),
    (Part::ContentEncoding, "content-encoding"),
    (Part::CorrelationId, "correlation-id"),
    (Part::ReplyTo, "reply-to"),
    (Part::Expiration, "expiration"),
    (Part::MessageId, "message-id"),
    (Part::Type, "type"),
    (Part::UserId, "user-id"),
    (Part::AppId, "app-id"),
    (Part::ClusterId, "cluster-id"),
    (Part::HeaderNames, "header-names"),
    (Part::HeaderDepth, "header-depth"),
    (Part::Headers, "headers"),
    (Part::Properties, "properties"),
    (Part::Body, "body"),
];

impl Parts {
    /// Whether the message is as its sender wrote it.
    pub fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// Whether this was changed.
    pub fn has(self, part: Part) -> bool {
        self.bits & (1 << part as u8) != 0
    }

    /// Bytes of the body, if it was left out.
    pub fn body_left_out(self) -> Option<u64> {
        self.has(Part::Body).then_some(self.body)
    }

    pub(super) fn add(&mut self, part: Part) {
        self.bits |= 1 << part as u8;
    }

    pub(super) fn leave_body_out(&mut self, bytes: u64) {
        self.add(Part::Body);
        self.body = bytes;
    }

    pub(super) fn with(self, other: Self) -> Self {
        Self { bits: self.bits | other.bits, body: self.body.max(other.body) }
    }
}

impl fmt::Display for Parts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut comma = "";
        for (part, name) in ALL {
            if !self.has(part) {
                continue;
            }
            write!(f, "{comma}{name}")?;
            if part == Part::Body {
                write!(f, "={}", self.body)?;
            }
            comma = ",";
        }
        Ok(())
    }
}

impl FromStr for Parts {
    type Err = std::convert::Infallible;

    /// A name that a later version writes is left out.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let mut parts = Self::default();
        for item in text.split(',') {
            let (name, value) = item.split_once('=').unwrap_or((item, ""));
            let Some((part, _)) = ALL.iter().find(|(_, known)| *known == name) else { continue };
            match part {
                Part::Body => parts.leave_body_out(value.parse().unwrap_or_default()),
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
                let mut parts = Parts::default();
                parts.add(first);
                parts.add(second);
                if parts.has(Part::Body) {
                    parts.leave_body_out(16 << 20);
                }
                assert_eq!(parts.to_string().parse(), Ok(parts));
            }
        }
        let mut parts = Parts::default();
        parts.add(Part::RoutingKey);
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
