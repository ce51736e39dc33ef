//! Frames: their heads, and how one is written.

use super::MAX_HELD;
use super::properties::FIXED;
use super::reader::Reader;

/// Type, channel and size.
pub(super) const HEAD: usize = 7;

pub(super) const METHOD: u8 = 1;
pub(super) const HEADER: u8 = 2;
pub(super) const BODY: u8 = 3;

pub(super) const HEARTBEAT: [u8; 8] = [8, 0, 0, 0, 0, 0, 0, FRAME_END];
pub(super) const FRAME_END: u8 = 0xce;

/// Type, channel and size of a frame.
#[derive(Debug, Clone, Copy)]
pub(super) struct Head {
    pub(super) kind: u8,
    pub(super) channel: u16,
    pub(super) size: u32,
}

impl Head {
    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut reader = Reader(bytes);
        Some(Self { kind: reader.u8()?, channel: reader.u16()?, size: reader.u32()? })
    }

    /// Bytes of the whole frame, its end included.
    pub(super) fn whole(self) -> u64 {
        u64::from(self.size) + HEAD as u64 + 1
    }

    /// How much of the frame must be at hand before it can go on; none if it needs no look.
    pub(super) fn wanted(self) -> Option<usize> {
        let is_small = self.size as usize <= MAX_HELD;
        match self.kind {
            METHOD | HEADER if is_small => usize::try_from(self.whole()).ok(),
            HEADER => Some(HEAD + FIXED),
            _ => None,
        }
    }
}

/// Writes a frame around a payload, in place of what was written before.
pub(super) fn write(
    out: &mut Vec<u8>,
    head: Head,
    payload: impl FnOnce(&mut Vec<u8>) -> Option<()>,
) -> Option<()> {
    out.clear();
    out.push(head.kind);
    out.extend_from_slice(&head.channel.to_be_bytes());
    out.extend_from_slice(&[0; 4]);
    payload(out)?;
    let size = u32::try_from(out.len().checked_sub(HEAD)?).ok()?;
    *out.get_mut(3..)?.first_chunk_mut()? = size.to_be_bytes();
    out.push(FRAME_END);
    Some(())
}

/// The largest frame that the broker takes, if this is the method that says so (connection.tune);
/// none for a broker that has no limit.
pub(super) fn tuned_frame_max(payload: &[u8]) -> Option<u32> {
    let mut reader = Reader(payload);
    if (reader.u16()?, reader.u16()?) != (10, 30) {
        return None;
    }
    let _channel_max = reader.u16()?;
    reader.u32().filter(|limit| *limit > 0)
}
