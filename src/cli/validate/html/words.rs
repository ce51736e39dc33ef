//! How the page writes values, numbers and sentences.

use crate::domain::rule::Language;
use crate::domain::validate::hides;

/// Characters that are shown of a value.
const WIDEST: usize = 60;

/// A value from outside a list as it may be told.
pub(super) fn shown(value: &str) -> String {
    if private(value) {
        return "…".to_owned();
    }
    let visible = |c: char| if c.is_control() { '\u{fffd}' } else { c };
    let mut shown: String = value.chars().take(WIDEST).map(visible).collect();
    if value.chars().nth(WIDEST).is_some() {
        shown.push('…');
    }
    shown
}

/// Whether a value may be somebody's: it names a person, or is an address, a browser or an identifier that came into the
/// wrong field. A page that is sent on had better hide one value too many.
pub(super) fn private(value: &str) -> bool {
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    let changes = value.as_bytes().windows(2).filter(|pair| pair.iter().filter(|byte| byte.is_ascii_digit()).count() == 1).count();
    let identifier = value.len() >= 16 && !value.contains(' ') && (changes >= 4 || digits >= 12);
    identifier || hides(value) || value.contains("://") || value.contains("Mozilla/") || (value.contains('?') && value.contains('='))
}

/// Groups of three digits.
pub(super) fn number(number: u64, language: Language) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            grouped.push_str(language.of(",", "\u{202f}"));
        }
        grouped.push(digit);
    }
    grouped
}

/// A share in percent that is 0 or 100 only where it is.
pub(super) fn share(part: u64, whole: u64, language: Language) -> String {
    let thousandths = (u128::from(part) * 1_000 + u128::from(whole) / 2) / u128::from(whole.max(1));
    let text = match thousandths {
        0 if part > 0 => "< 0.1".to_owned(),
        1_000.. if part < whole => "> 99.9".to_owned(),
        0 => "0".to_owned(),
        1_000.. => "100".to_owned(),
        100..990 => ((thousandths + 5) / 10).to_string(),
        _ => format!("{}.{}", thousandths / 10, thousandths % 10),
    };
    match language {
        Language::English => format!("{text}\u{a0}%"),
        Language::French => format!("{}\u{202f}%", text.replace('.', ",")),
    }
}

/// French sets a space that does not break before `:`, `;`, `!`, `?`, `%` and within guillemets.
pub(super) fn spaced(text: &str, language: Language) -> String {
    let mut spaced = text.to_owned();
    if language == Language::French {
        for (plain, set) in [
            (" :", "\u{a0}:"),
            (" ;", "\u{202f};"),
            (" !", "\u{202f}!"),
            (" ?", "\u{202f}?"),
            (" %", "\u{202f}%"),
            ("« ", "«\u{a0}"),
            (" »", "\u{a0}»"),
        ] {
            spaced = spaced.replace(plain, set);
        }
    }
    spaced
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_each_language_does() {
        assert_eq!(number(0, Language::English), "0");
        assert_eq!(number(1_234_567, Language::English), "1,234,567");
        assert_eq!(number(123_456, Language::French), "123\u{202f}456");
        assert_eq!(share(123, 1_000, Language::English), "12\u{a0}%");
        assert_eq!(share(34, 1_000, Language::French), "3,4\u{202f}%");
        assert_eq!(share(0, 0, Language::English), "0\u{a0}%");
        assert_eq!(share(7, 7, Language::English), "100\u{a0}%");
    }

    #[test]
    fn a_share_is_nothing_or_all_only_where_it_is() {
        assert_eq!(share(1, 1_000_000, Language::French), "< 0,1\u{202f}%");
        assert_eq!(share(999_999, 1_000_000, Language::English), "> 99.9\u{a0}%");
        assert_eq!(share(997, 1_000, Language::English), "99.7\u{a0}%");
    }

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
        for value in ["PRONOTE", "0750655E", "RESSOURCE_ACCOMPAGNEMENT_ENTRAINEMENT", "ENT_IDF_2024", "National_elv", "WEB PWA 2"] {
            assert_eq!(shown(value), value);
        }
        assert_eq!(shown(&"é".repeat(61)), format!("{}…", "é".repeat(60)));
        assert_eq!(shown("a\u{7}b"), "a\u{fffd}b");
    }
}
