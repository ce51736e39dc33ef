//! Many bytes at once: where every value is looked at, it counts.

/// Bytes that are looked at together.
const BLOCK: usize = 16;

/// A C0 control character or DEL; as comparisons, of which many can be made at once.
pub(super) fn is_control(byte: u8) -> bool {
    (byte < b' ') | (byte == 0x7f)
}

/// Whether any byte is of a kind.
pub(super) fn any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    survey(bytes, |byte| u8::from(is(byte)), |_| false).0 != 0
}

/// The kinds of all bytes, as bits, and at least how many of them count (up to 255): some may do so more than once.
/// Every block is laid over the ones before it, and looked at in the end: without a way out the compiler makes a handful of
/// instructions of a block.
pub(super) fn survey(bytes: &[u8], kinds: impl Fn(u8) -> u8, counts: impl Fn(u8) -> bool) -> (u8, usize) {
    let Some(first) = bytes.first() else { return (0, 0) };
    let mut short = [*first; BLOCK];
    let (blocks, last) = match bytes.last_chunk() {
        // It may share bytes with the block before it.
        Some(last) => (bytes.as_chunks().0, last),
        None => {
            short.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
            ([].as_slice(), &short)
        }
    };
    let (mut found, mut counted) = ([0_u8; BLOCK], [0_u8; BLOCK]);
    for block in blocks.iter().chain([last]) {
        for ((found, counted), byte) in found.iter_mut().zip(&mut counted).zip(block) {
            *found |= kinds(*byte);
            *counted = counted.saturating_add(u8::from(counts(*byte)));
        }
    }
    let count = counted.iter().fold(0_u16, |all, counted| all + u16::from(*counted));
    (found.iter().fold(0, |all, found| all | found), count.into())
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

    #[test]
    fn no_fewer_are_counted_than_there_are() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            for place in 0..length {
                assert_eq!(survey(&bytes[..place], |_| 0, |byte| byte == b'x').1 == 0, place == 0, "{place} of {length}");
                bytes[place] = b'x';
                assert!(survey(&bytes, |_| 0, |byte| byte == b'x').1 > place, "{place} of {length}");
            }
        }
        assert!(survey(&[b'x'; 64 * 1024], |_| 0, |byte| byte == b'x').1 >= 255);
    }
}
