//! Many bytes at once: where every value is looked at, it counts.

/// Bytes that are looked at together.
const BLOCK: usize = 16;

/// A C0 control character or DEL; as comparisons, of which many can be made at once.
pub(super) fn is_control(byte: u8) -> bool {
    (byte < b' ') | (byte == 0x7f)
}

/// Whether any byte is of a kind. Every block is laid over the ones before it, and looked at in the
/// end: without a way out the compiler makes a handful of instructions of a block.
pub(super) fn any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let mut short = [0; BLOCK];
    let (blocks, last) = match bytes.last_chunk() {
        // It may share bytes with the block before it.
        Some(last) => (bytes.as_chunks().0, last),
        None => {
            short.fill(bytes.first().copied().unwrap_or_default());
            short.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
            ([].as_slice(), &short)
        }
    };
    let mut found = [0_u8; BLOCK];
    for block in blocks.iter().chain([last]) {
        for (found, byte) in found.iter_mut().zip(block) {
            *found |= u8::from(is(*byte));
        }
    }
    found.iter().fold(0, |all, found| all | found) != 0 && !bytes.is_empty()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_found_wherever_it_is() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            assert!(!any(&bytes, |byte| byte == b'x'));
            for place in 0..length {
                bytes[place] = b'x';
                assert!(any(&bytes, |byte| byte == b'x'), "{place} of {length}");
                bytes[place] = b'a';
            }
        }
    }
}
