//! Writes numbers, shares and durations as each language does.

use super::rule::Language;

/// Writes a number in groups of three digits.
pub fn number(number: u64, language: Language) -> String {
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

/// Writes how many hits there are, which is the same in both languages.
pub fn hits(count: u64) -> String {
    if count == 1 { "1 hit".to_owned() } else { format!("{count} hits") }
}

/// Writes a share in percent. It is 0 or 100 only if the part is nothing or the whole.
pub fn share(part: u64, whole: u64, language: Language) -> String {
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

/// Sets the spaces of a text as its language does. French has one that does not break before `:`,
/// `;`, `!`, `?`, `%` and within guillemets.
pub fn spaced(text: &str, language: Language) -> String {
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

/// Writes a duration in its two largest units: `12 min`, `2 h 05 min`, `3 d 4 h`.
pub fn duration(seconds: u64, language: Language) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}\u{a0}s"),
        (0, 0, _) => format!("{minutes}\u{a0}min"),
        (0, _, _) => format!("{hours}\u{a0}h\u{a0}{:02}\u{a0}min", minutes % 60),
        _ => format!("{days}\u{a0}{}\u{a0}{}\u{a0}h", language.of("d", "j"), hours % 24),
    }
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
    fn a_duration_has_two_units() {
        for (seconds, english) in [
            (0, "0 s"),
            (59, "59 s"),
            (60, "1 min"),
            (725, "12 min"),
            (7_500, "2 h 05 min"),
            (273_600, "3 d 4 h"),
        ] {
            assert_eq!(duration(seconds, Language::English).replace('\u{a0}', " "), english);
        }
        assert_eq!(duration(90_000, Language::French), "1\u{a0}j\u{a0}1\u{a0}h");
    }
}
