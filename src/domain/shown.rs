//! What may be shown of a value that came with a hit: in a violation, a list, a group or a report.
//! All of these may be sent on, so they rather hide one value too many.

use super::printable::printable;
use super::validate::{names_person, visible};

/// How many characters of a value are shown.
const MAX_CHARACTERS: usize = 60;

/// What stands in the place of a value that is not shown.
pub const HIDDEN: &str = "…";

/// From how many bytes on a word can be an identifier.
const MIN_IDENTIFIER: usize = 16;

/// From how many bytes on a visitor is recognised within a value.
const MIN_WITHIN: usize = 8;

/// Returns what may be shown of a value: its beginning, printable, with the code points of what
/// cannot be seen; and nothing of what [may be
/// somebody's](is_personal).
pub fn shown(value: &str, visitors: &[&str]) -> String {
    if is_personal(value, visitors) {
        return HIDDEN.to_owned();
    }
    let shown = |text: &str| printable(&visible(text.chars())).into_owned();
    match value.char_indices().nth(MAX_CHARACTERS) {
        Some((end, _)) => shown(value.get(..end).unwrap_or_default()) + "…",
        None => shown(value),
    }
}

/// Whether a value may be somebody's: it names a person, or is an address, a browser or an
/// identifier that came into the wrong field. `visitors` are the texts that are known to be the
/// hit's own visitor, as its `uid` and its routing key are.
pub fn is_personal(value: &str, visitors: &[&str]) -> bool {
    visitors.iter().any(|visitor| is_of(value, visitor))
        || has_identifier(value)
        || names_person(value)
        || value.contains("://")
        || value.contains("Mozilla/")
        || (value.contains('?') && value.contains('='))
}

/// Whether a value is the visitor, or has the visitor in it. A short one may be within a word by
/// chance.
pub fn is_of(value: &str, visitor: &str) -> bool {
    let (value, visitor) = (value.trim().as_bytes(), visitor.trim().as_bytes());
    match visitor.len() {
        0 => false,
        1..MIN_WITHIN => value.eq_ignore_ascii_case(visitor),
        length => value.windows(length).any(|part| part.eq_ignore_ascii_case(visitor)),
    }
}

/// Whether a word of the value looks like an identifier: it is long, and digits and letters
/// alternate in it, or most of it are digits.
pub fn has_identifier(value: &str) -> bool {
    let is_between = |c: char| c.is_whitespace() || ",;/|&?()[]{}<>\"'".contains(c);
    value.len() >= MIN_IDENTIFIER && value.split(is_between).any(is_identifier)
}

/// Whether a word looks like an identifier.
fn is_identifier(word: &str) -> bool {
    let bytes = word.as_bytes();
    let digits = bytes.iter().filter(|byte| byte.is_ascii_digit()).count();
    let changes = bytes
        .windows(2)
        .filter(|pair| pair.iter().filter(|byte| byte.is_ascii_digit()).count() == 1)
        .count();
    word.len() >= MIN_IDENTIFIER && (changes >= 4 || digits >= 12)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_be_somebodys_is_not_shown() {
        for value in [
            "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b",
            "7c9e6679-f4b4-4e1f-8e0c-5b6f0a3d2c1b",
            "1234567890123456",
            "QmFzZTY0LXBzZXVkb255bQ==",
            "Message de 7c9e6679f4b44e1f8e0c5b6f0a3d2c1b",
            "https://ent.example.fr/eleve",
            "Mozilla/5.0 (X11; Linux x86_64)",
            "jean.dupont@ecole.fr",
            "/page?id=5",
        ] {
            assert_eq!(shown(value, &[]), "…", "{value}");
        }
        for value in [
            "PRONOTE",
            "0750655E",
            "0750655E,0350029S,9720003W",
            "RESSOURCE_ACCOMPAGNEMENT_ENTRAINEMENT",
            "ENT_IDF_2024",
            "National_elv",
            "WEB PWA 2",
        ] {
            assert_eq!(shown(value, &["", "u"]), value);
        }
        assert_eq!(shown(&"é".repeat(61), &[]), format!("{}…", "é".repeat(60)));
        assert_eq!(shown(&"é".repeat(60), &[]), "é".repeat(60));
        assert_eq!(shown("a\u{7}b\u{202e}", &[]), "a\u{fffd}b<U+202E>");
    }

    #[test]
    fn the_visitor_of_the_hit_is_not_shown_wherever_it_stands() {
        assert_eq!(shown(" ELEVE-42 ", &["eleve-42"]), "…");
        assert_eq!(shown("VAA60001", &["x", "VAA60001"]), "…");
        assert_eq!(shown("page de VAA60001", &["VAA60001"]), "…");
        assert_eq!(shown("PRONOTE", &["NOTE"]), "PRONOTE");
    }
}
