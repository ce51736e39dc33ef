//! Looks for bytes in many places at once. Every value of every hit is looked through, so it
//! counts.

/// How many bytes are looked at together.
const BLOCK: usize = 16;

/// Whether this is a C0 control character or DEL. The comparisons have no branch, so that many can
/// be made at once.
pub(super) fn is_control(byte: u8) -> bool {
    (byte < b' ') | (byte == 0x7f)
}

/// Whether any byte is of a kind. What is found in a block is kept for the end: a loop without an
/// early exit lets the compiler handle a block in a few instructions.
pub(super) fn any(bytes: &[u8], is: impl Fn(u8) -> bool) -> bool {
    let mut short = [0; BLOCK];
    let (blocks, last) = match bytes.last_chunk() {
        // The last block may share bytes with the one before it, which changes nothing.
        Some(last) => (bytes.as_chunks().0, last),
        None => {
            if let (Some(first), Some(last)) = (bytes.first_chunk(), bytes.last_chunk()) {
                // So may these halves.
                short = halves(*first, *last);
            } else {
                short.fill(bytes.first().copied().unwrap_or_default());
                short.iter_mut().zip(bytes).for_each(|(place, byte)| *place = *byte);
            }
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

/// Makes a block of its two halves.
fn halves(first: [u8; BLOCK / 2], last: [u8; BLOCK / 2]) -> [u8; BLOCK] {
    let both = u128::from(u64::from_ne_bytes(first)) << 64 | u128::from(u64::from_ne_bytes(last));
    both.to_ne_bytes()
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
