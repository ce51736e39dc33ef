//! How the page writes values. Numbers and sentences are written as everywhere.

pub(super) use crate::domain::prose::{number, share, spaced};
use crate::domain::validate::names_person;

/// How many characters of a value are shown.
const MAX_CHARACTERS: usize = 60;

/// Returns what may be shown of a value that is not in a list.
pub(super) fn shown(value: &str) -> String {
    if private(value) {
        return "…".to_owned();
    }
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = value.chars().take(MAX_CHARACTERS).map(visible).collect();
    if value.chars().nth(MAX_CHARACTERS).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a value may be somebody's: whether it names a person, or is an address, a browser or an
/// identifier that came into the wrong field. The page may be sent on, so it rather hides one value
/// too many.
pub(super) fn private(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let changes = value
        .as_bytes()
        .windows(2)
        .filter(|pair| pair.iter().filter(|byte| byte.is_ascii_digit()).count() == 1)
        .count();
    let identifier = value.len() >= 16 && !value.contains(' ') && (changes >= 4 || digits >= 12);
    identifier
        || names_person(value)
        || value.contains("://")
        || value.contains("Mozilla/")
        || (value.contains('?') && value.contains('='))
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
            "https://ent.example.fr/eleve",
            "Mozilla/5.0 (X11; Linux x86_64)",
            "jean.dupont@ecole.fr",
            "/page?id=5",
        ] {
            assert_eq!(shown(value), "…", "{value}");
        }
        for value in [
            "PRONOTE",
            "0750655E",
            "RESSOURCE_ACCOMPAGNEMENT_ENTRAINEMENT",
            "ENT_IDF_2024",
            "National_elv",
            "WEB PWA 2",
        ] {
            assert_eq!(shown(value), value);
        }
        assert_eq!(shown(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(shown("a\u{7}b"), "a\u{fffd}b");
    }
}
