//! The header frame of a message: the size of its body, and its properties.

use super::part::{MessagePart, MessageParts};
use super::reader::{Reader, is_readable, push_readable};
use super::{MARK, table};

/// Bytes of a message's headers. The relay writes less than 48 KiB of them.
pub const MAX_HEADERS: usize = 60 * 1024;

/// Class, weight, size of the body, and which properties are there.
pub(super) const FIXED: usize = 14;

/// The bit of the headers among the properties, which come in the order of their bits from the
/// highest.
const HEADERS: u16 = 1 << 13;

/// One property.
enum Property {
    Text(MessagePart),
    Headers,
    Bytes(usize),
}

const PROPERTIES: [Property; 14] = [
    Property::Text(MessagePart::ContentType),
    Property::Text(MessagePart::ContentEncoding),
    Property::Headers,
    // Delivery mode and priority.
    Property::Bytes(1),
    Property::Bytes(1),
    Property::Text(MessagePart::CorrelationId),
    Property::Text(MessagePart::ReplyTo),
    Property::Text(MessagePart::Expiration),
    Property::Text(MessagePart::MessageId),
    // The timestamp.
    Property::Bytes(8),
    Property::Text(MessagePart::Type),
    Property::Text(MessagePart::UserId),
    Property::Text(MessagePart::AppId),
    Property::Text(MessagePart::ClusterId),
];

/// The fixed fields of a header frame.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    class_and_weight: u32,
    body: u64,
    flags: u16,
}

impl Fixed {
    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self { class_and_weight: reader.u32()?, body: reader.u64()?, flags: reader.u16()? })
    }

    fn properties(self) -> impl Iterator<Item = &'static Property> {
        let is_there = move |place: usize| self.flags & (0x8000 >> place) != 0;
        PROPERTIES.iter().enumerate().filter_map(move |(place, p)| is_there(place).then_some(p))
    }
}

/// What is to be done about a header frame.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct PropertiesFound {
    /// What the message must be marked with.
    pub(super) parts: MessageParts,
    /// The frame is not to go on as it is, if only for a header with the name of the mark.
    pub(super) is_to_be_written: bool,
}

/// Looks through the payload of a header frame. None if not even its fixed fields are there, which
/// no message can cause.
pub(super) fn look(payload: &[u8], max_body: u64) -> Option<PropertiesFound> {
    let mut reader = Reader(payload);
    let fixed = Fixed::read(&mut reader)?;
    let mut found = PropertiesFound::default();
    let makes_sense = look_at_properties(fixed, &mut reader, &mut found).is_some();
    if !makes_sense || !reader.0.is_empty() {
        found.parts = MessageParts::default();
        found.parts.add(MessagePart::Properties);
    }
    if fixed.body > max_body {
        found.parts.leave_body_out(fixed.body);
    }
    found.is_to_be_written |= !found.parts.is_empty();
    Some(found)
}

fn look_at_properties(
    fixed: Fixed,
    reader: &mut Reader<'_>,
    found: &mut PropertiesFound,
) -> Option<()> {
    for property in fixed.properties() {
        match property {
            Property::Bytes(count) => _ = reader.take(*count)?,
            Property::Text(part) => {
                if !is_readable(reader.short()?) {
                    found.parts.add(*part);
                }
            }
            Property::Headers => {
                let headers = reader.long()?;
                match table::look(headers) {
                    Ok(table) if headers.len() <= MAX_HEADERS => {
                        found.parts = found.parts.with(table.parts);
                        found.is_to_be_written |= table.has_mark;
                    }
                    _ => found.parts.add(MessagePart::Headers),
                }
            }
        }
    }
    Some(())
}

/// Appends the payload of the header frame as the library can read it, with the mark if `parts` are
/// any. What `parts` tell to be left out is left out.
pub(super) fn write_readable(payload: &[u8], parts: MessageParts, out: &mut Vec<u8>) -> Option<()> {
    let mut reader = Reader(payload);
    let mut fixed = Fixed::read(&mut reader)?;
    if parts.has(MessagePart::Body) {
        fixed.body = 0;
    }
    if parts.has(MessagePart::Properties) {
        fixed.flags = 0;
    }
    let marked = Fixed { flags: fixed.flags | if parts.is_empty() { 0 } else { HEADERS }, ..fixed };
    out.extend_from_slice(&fixed.class_and_weight.to_be_bytes());
    out.extend_from_slice(&fixed.body.to_be_bytes());
    out.extend_from_slice(&marked.flags.to_be_bytes());
    for property in marked.properties() {
        match property {
            Property::Bytes(count) => out.extend_from_slice(reader.take(*count)?),
            Property::Text(_) => {
                let text = reader.short()?;
                out.push(u8::try_from(text.len()).ok()?);
                push_readable(text, out);
            }
            Property::Headers => {
                let had_any = fixed.flags & HEADERS != 0;
                let headers = if had_any { reader.long()? } else { &[] };
                let left_out = parts.has(MessagePart::Headers);
                write_headers(if left_out { &[] } else { headers }, parts, out)?;
            }
        }
    }
    Some(())
}

fn write_headers(headers: &[u8], parts: MessageParts, out: &mut Vec<u8>) -> Option<()> {
    let length_at = out.len();
    out.extend_from_slice(&[0; 4]);
    table::write_readable(headers, out).ok()?;
    if !parts.is_empty() {
        let text = parts.to_string();
        out.push(u8::try_from(MARK.len()).ok()?);
        out.extend_from_slice(MARK.as_bytes());
        out.push(b'S');
        out.extend_from_slice(&u32::try_from(text.len()).ok()?.to_be_bytes());
        out.extend_from_slice(text.as_bytes());
    }
    let length = u32::try_from(out.len().checked_sub(length_at + 4)?).ok()?;
    *out.get_mut(length_at..)?.first_chunk_mut()? = length.to_be_bytes();
    Some(())
}
