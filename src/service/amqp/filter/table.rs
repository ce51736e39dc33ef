//! The table of a message's headers: looked through, and written anew where it cannot be read.
//!
//! The client library reads tables and arrays by recursion. Here they are walked with a list of
//! levels of fixed length.

use super::part::{MessagePart, MessageParts};
use super::reader::{Reader, is_readable, push_readable};
use super::{MARK, NOT_THE_MARK};

/// Tables and arrays within each other, the headers themselves included. The broker's own
/// `x-death` has three, and each costs the client library more than 2 KiB of a stack of 2 MiB.
pub const MAX_DEPTH: usize = 16;

/// Values in the headers, at any depth. A value of one byte takes 32 bytes and more once it is
/// read, so the bytes alone do not bound the memory.
pub const MAX_VALUES: usize = 512;

/// The table as a whole makes no sense, or has too many values.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct UnusableTable;

/// What is to be done about a table.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct TableFound {
    /// What the message must be marked with.
    pub(super) parts: MessageParts,
    /// The sender set a header that has the name of the mark.
    pub(super) has_mark: bool,
}

/// A table or array that is being walked through.
#[derive(Debug, Clone, Copy, Default)]
struct Level {
    /// How many bytes of the whole are left when it ends.
    rest: usize,
    /// A table names its values.
    is_table: bool,
    /// Where its length stands in the output.
    length_at: usize,
}

/// Where a walk writes to.
trait TableOutput {
    fn bytes(&mut self, bytes: &[u8]);
    fn readable(&mut self, text: &[u8]);
    /// Leaves room for a length, and tells where.
    fn open(&mut self) -> usize;
    /// Fills in the length of what was written since.
    fn close(&mut self, length_at: usize);
}

/// Looks only.
struct Nowhere;

impl TableOutput for Nowhere {
    fn bytes(&mut self, _: &[u8]) {}
    fn readable(&mut self, _: &[u8]) {}
    fn open(&mut self) -> usize {
        0
    }
    fn close(&mut self, _: usize) {}
}

impl TableOutput for Vec<u8> {
    fn bytes(&mut self, bytes: &[u8]) {
        self.extend_from_slice(bytes);
    }

    fn readable(&mut self, text: &[u8]) {
        push_readable(text, self);
    }

    fn open(&mut self) -> usize {
        let length_at = self.len();
        self.extend_from_slice(&[0; 4]);
        length_at
    }

    fn close(&mut self, length_at: usize) {
        let length = self.len().saturating_sub(length_at.saturating_add(4));
        let length = u32::try_from(length).unwrap_or_default();
        if let Some(place) = self.get_mut(length_at..).and_then(|tail| tail.first_chunk_mut()) {
            *place = length.to_be_bytes();
        }
    }
}

/// Looks through a table, which is given without its length.
pub(super) fn look(table: &[u8]) -> Result<TableFound, UnusableTable> {
    walk(table, &mut Nowhere)
}

/// Appends what can be read of a table, without its length.
pub(super) fn write_readable(table: &[u8], out: &mut Vec<u8>) -> Result<TableFound, UnusableTable> {
    walk(table, out)
}

fn walk(table: &[u8], out: &mut impl TableOutput) -> Result<TableFound, UnusableTable> {
    let mut found = TableFound::default();
    let mut values = 0_usize;
    let mut reader = Reader(table);
    // The levels that the current one lies in.
    let mut outer = [Level::default(); MAX_DEPTH - 1];
    let mut depth = 0_usize;
    let mut level = Level { rest: 0, is_table: true, length_at: 0 };
    loop {
        while reader.0.len() <= level.rest {
            if reader.0.len() < level.rest {
                return Err(UnusableTable);
            }
            let Some(above) = depth.checked_sub(1) else { return Ok(found) };
            out.close(level.length_at);
            depth = above;
            level = outer.get(depth).copied().unwrap_or_default();
        }
        if level.is_table {
            let name = reader.short().ok_or(UnusableTable)?;
            let length = u8::try_from(name.len()).unwrap_or_default();
            out.bytes(&[length]);
            if depth == 0 && name == MARK.as_bytes() {
                found.has_mark = true;
                out.bytes(NOT_THE_MARK.as_bytes());
            } else if is_readable(name) {
                out.bytes(name);
            } else {
                found.parts.add(MessagePart::HeaderNames);
                out.readable(name);
            }
        }
        values += 1;
        if values > MAX_VALUES {
            return Err(UnusableTable);
        }
        // The types that the client library knows, with the length that it reads of each.
        let kind = reader.u8().ok_or(UnusableTable)?;
        let length = match kind {
            b'V' => 0,
            b't' | b'b' | b'B' => 1,
            b's' | b'U' | b'u' => 2,
            b'I' | b'i' | b'f' => 4,
            b'D' => 5,
            b'L' | b'l' | b'd' | b'T' => 8,
            b'S' | b'x' | b'A' | b'F' => {
                let mut ahead = reader;
                let length = usize::try_from(ahead.u32().ok_or(UnusableTable)?);
                length.map_err(|_| UnusableTable)?.saturating_add(4)
            }
            _ => return Err(UnusableTable),
        };
        if !matches!(kind, b'A' | b'F') {
            out.bytes(&[kind]);
            out.bytes(reader.take(length).ok_or(UnusableTable)?);
            continue;
        }
        let mut whole = reader;
        whole.take(length).ok_or(UnusableTable)?;
        match outer.get_mut(depth) {
            Some(place) => {
                *place = level;
                depth += 1;
                out.bytes(&[kind]);
                let length_at = out.open();
                level = Level { rest: whole.0.len(), is_table: kind == b'F', length_at };
                reader.take(4).ok_or(UnusableTable)?;
            }
            None => {
                found.parts.add(MessagePart::HeaderDepth);
                out.bytes(b"V");
                reader = whole;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(kind: u8, depth: usize) -> Vec<u8> {
        let mut value = vec![b'V'];
        for _ in 0..depth {
            let mut inner = Vec::new();
            if kind == b'F' {
                inner.extend_from_slice(b"\x01n");
            }
            inner.extend_from_slice(&value);
            value = vec![kind];
            value.extend_from_slice(&u32::try_from(inner.len()).expect("small").to_be_bytes());
            value.extend_from_slice(&inner);
        }
        [b"\x01h".to_vec(), value].concat()
    }

    #[test]
    fn what_is_nested_too_deep_becomes_void() {
        for kind in [b'A', b'F'] {
            let fine = nested(kind, MAX_DEPTH - 1);
            assert_eq!(look(&fine), Ok(TableFound::default()));
            let mut out = Vec::new();
            assert_eq!(write_readable(&fine, &mut out), Ok(TableFound::default()));
            assert_eq!(out, fine);
            for depth in [MAX_DEPTH, 900, 5_000] {
                let mut out = Vec::new();
                let found = write_readable(&nested(kind, depth), &mut out).expect("usable");
                assert!(found.parts.has(MessagePart::HeaderDepth));
                assert_eq!(look(&out), Ok(TableFound::default()), "what is written is fine");
                assert_eq!(out.len(), fine.len(), "as deep as may be, with void in it");
            }
        }
    }

    #[test]
    fn what_makes_no_sense_is_unusable() {
        let cases: [&[u8]; 9] = [
            b"\x05name",
            b"\x01n",
            b"\x01n?",
            b"\x01nI\0\0",
            b"\x01nS\0\0\0\x05abc",
            b"\x01nS\xff\xff\xff\xffabc",
            b"\x01nF\0\0\0\x02\x05a",
            // An inner value that ends beyond the table that it lies in, but within the outer one.
            b"\x01nF\0\0\0\x04\x01nI\0\0\0\0\0\0\0",
            b"\x01nA\0\0\0\x05S\0\0\0\x04abcd",
        ];
        for table in cases {
            assert_eq!(look(table), Err(UnusableTable), "{table:?}");
        }
        let many = b"\x01nt\x01".repeat(MAX_VALUES);
        assert_eq!(look(&many), Ok(TableFound::default()));
        assert_eq!(look(&[many, b"\x01nt\x01".to_vec()].concat()), Err(UnusableTable));
        let array = [b"\x01nA\0\0\x10\0".to_vec(), vec![b'V'; 4096]].concat();
        assert_eq!(look(&array), Err(UnusableTable), "values in an array count");
    }

    #[test]
    fn the_mark_of_a_sender_is_renamed_and_no_other() {
        let table = [&b"\x11x-dnma-unreadableS\0\0\0\x04body"[..], b"\x01nt\x01"].concat();
        let mut out = Vec::new();
        assert_eq!(
            write_readable(&table, &mut out),
            Ok(TableFound { parts: MessageParts::default(), has_mark: true })
        );
        assert_eq!(out, [&b"\x11X-dnma-unreadableS\0\0\0\x04body"[..], b"\x01nt\x01"].concat());
        assert_eq!(look(&out), Ok(TableFound::default()));
    }
}
