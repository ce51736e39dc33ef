//! Names of messages, and of sets of them: by content, so that a receipt can be held against an
//! export.

use sha2::{Digest as _, Sha256};

/// The SHA-256 of a body, which is the name of a message. Messages that are the same to the letter
/// share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct Digest([u8; 32]);

/// How many digits of the name lists show: enough to tell millions of hits apart.
const SHORT_DIGITS: usize = 12;

impl Digest {
    /// Computes the digest of a body.
    pub(super) fn of(body: &[u8]) -> Self {
        Self(Sha256::digest(body).into())
    }

    /// Writes the digest in hexadecimal digits.
    pub(super) fn hex(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Writes the digits that lists show.
    pub(super) fn short(self) -> String {
        let mut hex = self.hex();
        hex.truncate(SHORT_DIGITS);
        hex
    }
}

/// Computes the name of a set of messages, whatever their order: the SHA-256 of their names,
/// sorted, one a line. The same comes of an export by `jq -r .id FILE | sort | sha256sum`.
pub(super) fn of_set(mut digests: Vec<Digest>) -> String {
    digests.sort_unstable();
    let mut whole = Sha256::new();
    for digest in digests {
        whole.update(digest.hex());
        whole.update("\n");
    }
    Digest(whole.finalize().into()).hex()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_is_what_sort_and_sha256sum_make_of_it() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        assert_eq!(a.hex(), "ca978112ca1bbdcafac231b39a23dc4da786eff8147c4e72b9807785afee48bb");
        assert_eq!(b.short(), "3e23e8160039");
        assert_eq!(of_set(vec![a, b]), of_set(vec![b, a]));
        // printf '%s\n' "$(printf a | sha256sum | cut -c-64)" "$(printf b | sha256sum | cut -c-64)"
        // | sort | sha256sum
        assert_eq!(
            of_set(vec![a, b]),
            "e31b611bfa25cad7df113c6721feec788606f694069ced6d3d3f738a89d14e2a"
        );
    }
}
