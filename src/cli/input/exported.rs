//! A line of `dead export`: a message with what lay beside its body in the queue.

use std::borrow::Cow;
use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{JSON, QUERY};
use crate::domain::envelope::{FIRST_FAILED_AT, Header};
use crate::domain::hit;

/// How every line of an export begins.
const MARK: &[u8] = b"{\"dnma_relay_dead\":";

/// The version of the form of these lines.
pub(crate) const VERSION: u32 = 1;

/// How many bytes a line may have: those of a body with every byte escaped, and as much again for
/// headers.
pub(super) const MAX_LINE_BYTES: usize = 8 * hit::MAX_BYTES;

/// One line: a message of a dead-letter queue.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ExportedLine<'l> {
    /// The version of the form.
    #[serde(rename = "dnma_relay_dead")]
    pub(crate) version: u32,
    /// The queue: *parked* or *rejected*.
    #[serde(borrow)]
    pub(crate) queue: Cow<'l, str>,
    /// The SHA-256 of the body.
    #[serde(borrow)]
    pub(crate) id: Cow<'l, str>,
    /// Why the broker moved the message here by itself, if it did.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) broker_reason: Option<Cow<'l, str>>,
    /// The routing key of the message.
    #[serde(borrow)]
    pub(crate) routing_key: Cow<'l, str>,
    /// The AMQP property `content_type`.
    #[serde(borrow, default, skip_serializing_if = "Option::is_none")]
    pub(crate) content_type: Option<Cow<'l, str>>,
    /// The AMQP property `timestamp`, in UNIX seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) timestamp: Option<u64>,
    /// The headers of the message.
    pub(crate) headers: BTreeMap<String, Header>,
    /// The body of the message.
    #[serde(borrow, flatten)]
    pub(crate) body: ExportedBody<'l>,
}

/// The body, byte for byte, under a name that says how it is written.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) enum ExportedBody<'l> {
    /// A body that is UTF-8.
    #[serde(rename = "body", borrow)]
    Text(Cow<'l, str>),
    /// A body that is not UTF-8, as base64.
    #[serde(rename = "body_base64", borrow)]
    Bytes(Cow<'l, str>),
}

impl<'l> ExportedBody<'l> {
    /// Writes a body.
    pub(crate) fn of(bytes: &'l [u8]) -> Self {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::Text(text.into()),
            Err(_) => Self::Bytes(STANDARD.encode(bytes).into()),
        }
    }

    /// Reads the body back.
    fn bytes(self) -> Result<Vec<u8>, String> {
        match self {
            Self::Text(text) => Ok(text.into_owned().into_bytes()),
            Self::Bytes(text) => {
                STANDARD.decode(text.as_bytes()).map_err(|_| "body_base64 is not base64".to_owned())
            }
        }
    }
}

/// The message that a line holds.
pub(super) struct ExportedMessage {
    /// The body, byte for byte.
    pub(super) body: Vec<u8>,
    /// The content type, if it is one that hits have.
    pub(super) content_type: Option<&'static str>,
    /// When the hit first failed.
    pub(super) received_at: Option<Timestamp>,
}

/// Whether a line may be one of an export, by its beginning.
pub(super) fn begins(line: &[u8]) -> bool {
    line.starts_with(MARK)
}

/// Reads the message of a line.
pub(super) fn read(line: &[u8]) -> Result<ExportedMessage, String> {
    let line: ExportedLine<'_> = serde_json::from_slice(line)
        .map_err(|error| format!("a broken line of an export, at column {}", error.column()))?;
    if line.version != VERSION {
        return Err(format!(
            "a line of an export of version {}; this program reads version {VERSION}",
            line.version
        ));
    }
    let content_type = line
        .content_type
        .as_deref()
        .and_then(|kind| [JSON, QUERY].into_iter().find(|known| kind.starts_with(known)));
    let received_at = match line.headers.get(FIRST_FAILED_AT) {
        Some(Header::Text(time)) => time.parse().ok(),
        _ => None,
    };
    Ok(ExportedMessage { body: line.body.bytes()?, content_type, received_at })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_exported_is_read_again_byte_for_byte() {
        for body in [br#"{"uid":"a\"b"}"#.as_slice(), b"\xff\x00", b""] {
            let line = ExportedLine {
                version: VERSION,
                queue: "parked".into(),
                id: "00".into(),
                broker_reason: Some("delivery-limit".into()),
                routing_key: "a\"b".into(),
                content_type: Some("application/json; charset=utf-8".into()),
                timestamp: None,
                headers: BTreeMap::from([(
                    FIRST_FAILED_AT.to_owned(),
                    Header::Text("2026-11-24T08:00:00.000Z".into()),
                )]),
                body: ExportedBody::of(body),
            };
            let line = serde_json::to_vec(&line).expect("writes");
            assert!(begins(&line));
            let read = read(&line).expect("reads");
            assert_eq!((read.body.as_slice(), read.content_type), (body, Some(JSON)));
            assert_eq!(read.received_at, "2026-11-24T08:00:00Z".parse().ok());
        }
        let other_version = br#"{
            "dnma_relay_dead":2,"queue":"","id":"","routing_key":"","headers":{},"body":""
        }"#;
        assert!(read(other_version).is_err());
        assert!(read(br#"{"dnma_relay_dead":1"#).is_err());
    }
}
