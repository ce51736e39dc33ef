//! The short texts in the methods that a broker sends on behalf of others.

use super::part::{MessagePart, MessageParts};
use super::reader::{Reader, is_readable, push_readable};

/// One field of a method, or several that need no look.
enum MethodField {
    Bytes(usize),
    /// A short text; the message behind the method is marked with the part.
    Text(Option<MessagePart>),
}

use MethodField::{Bytes, Text};

/// What stands behind the class and number of a method. Some are here because a sentence of the
/// broker's is cut after 255 bytes, in the middle of a letter if need be.
fn fields(class: u16, method: u16) -> Option<&'static [MethodField]> {
    const EXCHANGE: MethodField = Text(Some(MessagePart::Exchange));
    const ROUTING_KEY: MethodField = Text(Some(MessagePart::RoutingKey));
    Some(match (class, method) {
        // connection.close and channel.close: code, sentence, class, method.
        (10, 50) | (20, 40) => &[Bytes(2), Text(None), Bytes(4)],
        // connection.blocked: reason.
        (10, 60) => &[Text(None)],
        // basic.return: code, sentence, exchange, routing key.
        (60, 50) => &[Bytes(2), Text(None), EXCHANGE, ROUTING_KEY],
        // basic.deliver: consumer tag, delivery tag, redelivered, exchange, routing key.
        (60, 60) => &[Text(None), Bytes(9), EXCHANGE, ROUTING_KEY],
        // basic.get-ok: delivery tag, redelivered, exchange, routing key, messages left.
        (60, 71) => &[Bytes(9), EXCHANGE, ROUTING_KEY, Bytes(4)],
        _ => return None,
    })
}

/// What of a method cannot be read. None if all of it can, or if it makes no sense, which no
/// message can cause.
pub(super) fn look(payload: &[u8]) -> Option<MessageParts> {
    let mut reader = Reader(payload);
    let fields = fields(reader.u16()?, reader.u16()?)?;
    let mut parts = MessageParts::default();
    let mut is_fine = true;
    for field in fields {
        match field {
            Bytes(count) => _ = reader.take(*count)?,
            Text(part) => {
                if !is_readable(reader.short()?) {
                    is_fine = false;
                    part.iter().for_each(|part| parts.add(*part));
                }
            }
        }
    }
    (!is_fine).then_some(parts)
}

/// Appends the method with what can be read of its texts. Its length stays.
pub(super) fn write_readable(payload: &[u8], out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(payload);
    let fields = fields(reader.u16()?, reader.u16()?)?;
    out.extend_from_slice(payload.get(..4)?);
    for field in fields {
        match field {
            Bytes(count) => out.extend_from_slice(reader.take(*count)?),
            Text(_) => {
                let text = reader.short()?;
                out.push(u8::try_from(text.len()).ok()?);
                push_readable(text, out);
            }
        }
    }
    out.extend_from_slice(reader.0);
    Some(())
}
