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

/// The kinds of all bytes, as bits, and how many of them count: never fewer than there are (of more than 255 never fewer than
/// 255), and maybe more, because some are looked at twice. Good for saying no quickly.
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
    (found.iter().fold(0, |all, found| all | found), usize::from(count).min(bytes.len()))
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
    fn all_are_counted_and_none_that_is_not_there() {
        for length in 0..70 {
            let mut bytes = vec![b'a'; length];
            let counted = |bytes: &[u8]| survey(bytes, |_| 0, |byte| byte == b'x').1;
            assert_eq!(counted(&bytes), 0);
            for place in 0..length {
                bytes[place] = b'x';
                let there = place + 1;
                assert!((there..=length.min(there + BLOCK)).contains(&counted(&bytes)), "{place} of {length}");
            }
        }
        assert!(survey(&[b'x'; 64 * 1024], |_| 0, |byte| byte == b'x').1 >= 255);
    }
}
