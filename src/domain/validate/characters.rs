//! Values that look like others and are not: decomposed letters, characters that cannot be seen,
//! and text that was encoded twice. To Matomo each is a value of its own.

use std::borrow::Cow;

use super::Violation;
use super::check::HitCheck;
use crate::domain::plan::{Field, Plan};
use crate::domain::rule::Rule;
#[cfg(test)]
use crate::domain::scan;
use crate::domain::unicode::compose;

/// The characters of Windows-1252 at 0x80 to 0x9F; a zero stands where there is none.
const WINDOWS_1252: [char; 32] = [
    '€', '\0', '‚', 'ƒ', '„', '…', '†', '‡', 'ˆ', '‰', 'Š', '‹', 'Œ', '\0', 'Ž', '\0', '\0', '‘',
    '’', '“', '”', '•', '–', '—', '˜', '™', 'š', '›', 'œ', '\0', 'ž', 'Ÿ',
];

/// The character references of HTML that French texts have, with what they stand for.
const REFERENCES: [(&str, &str); 34] = [
    ("amp", "&"),
    ("quot", "\""),
    ("apos", "'"),
    ("#39", "'"),
    ("#039", "'"),
    ("lt", "<"),
    ("gt", ">"),
    ("nbsp", " "),
    ("agrave", "à"),
    ("acirc", "â"),
    ("ccedil", "ç"),
    ("eacute", "é"),
    ("egrave", "è"),
    ("ecirc", "ê"),
    ("euml", "ë"),
    ("icirc", "î"),
    ("iuml", "ï"),
    ("ocirc", "ô"),
    ("ugrave", "ù"),
    ("ucirc", "û"),
    ("uuml", "ü"),
    ("oelig", "œ"),
    ("Agrave", "À"),
    ("Ccedil", "Ç"),
    ("Eacute", "É"),
    ("Egrave", "È"),
    ("Ecirc", "Ê"),
    ("Ocirc", "Ô"),
    ("OElig", "Œ"),
    ("laquo", "«"),
    ("raquo", "»"),
    ("rsquo", "’"),
    ("hellip", "…"),
    ("deg", "°"),
];

/// Whether a byte may belong to what this module looks for. The letters of French are none: in
/// UTF-8 they begin with 0xC3 or 0xC5. A reference of HTML ends with a semicolon, `Ã` has the byte
/// 0x83.
pub(super) fn is_suspect(byte: u8) -> bool {
    // Of 0xC0 to 0xC7 the even ones.
    (byte == b';') | (byte == 0x83) | (byte & 0xf9 == 0xc0) | (byte >= 0xc6)
}

/// Whether a value is to be looked at. The values of a list that is loaded are held against it.
pub(super) fn is_looked_at(plan: &Plan, field: &Field) -> bool {
    field.short && plan.list_of(field).is_none_or(|list| !list.is_loaded())
}

impl HitCheck<'_, '_> {
    /// Checks the characters of these fields, by their index. Decomposed text is composed.
    pub(super) fn check_characters(&mut self, indexes: &[usize], found: &mut Vec<Violation>) {
        for index in indexes {
            let (Some(field), Some(place)) =
                (self.plan.fields().get(*index), self.values.get_mut(*index))
            else {
                continue;
            };
            let Some(value) = place.as_deref() else { continue };
            if let Some((value, meant)) = double_encoded(value) {
                found.push(Violation {
                    value: Some(value),
                    suggestion: Some(meant),
                    ..Violation::of(Rule::DoubleEncoding, &field.name)
                });
            }
            if let Some(invisible) = invisible(value) {
                found.push(Violation {
                    value: Some(named(invisible)),
                    ..Violation::of(Rule::InvisibleCharacter, &field.name)
                });
            }
            if let Cow::Owned(composed) = compose(value) {
                *place = Some(Cow::Owned(composed));
                found.push(Violation::of(Rule::DecomposedText, &field.name));
            }
        }
    }
}

/// Returns what a value probably was before it was encoded twice, decomposed, or given characters
/// that cannot be seen.
pub(super) fn plain(value: &str) -> String {
    let mut text: String = value.chars().filter(|c| !is_without_width(*c)).collect();
    // Each round takes out one kind of what was encoded twice.
    for _ in 0..MAX_ROUNDS {
        let Some((found, meant)) = double_encoded(&text) else { break };
        text = text.replace(&found, &meant);
    }
    let spaced: String = text.chars().map(|c| if c.is_whitespace() { ' ' } else { c }).collect();
    compose(spaced.trim()).into_owned()
}

/// How many kinds of characters are taken out of a value by [`plain`].
const MAX_ROUNDS: usize = 16;

/// Writes a value so that every character can be seen: `NOTES<U+00A0>`.
pub fn visible(value: impl Iterator<Item = char>) -> String {
    let mut text = String::new();
    for c in value {
        if is_without_width(c) || (c.is_whitespace() && !c.is_ascii()) {
            text.push_str(&format!("<{}>", code_point(c)));
        } else {
            text.push(c);
        }
    }
    text
}

/// Finds a character without width, or a space at the beginning or end that is none of ASCII.
/// Within a text, French sets such a space before a colon.
fn invisible(value: &str) -> Option<char> {
    let is_foreign_space = |c: &char| c.is_whitespace() && !c.is_ascii();
    let ends = [value.chars().next(), value.chars().next_back()];
    value
        .chars()
        .find(|c| is_without_width(*c))
        .or_else(|| ends.into_iter().flatten().find(is_foreign_space))
}

/// Whether nothing is seen of a character. The joiner of emoji is not among them.
fn is_without_width(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}' | '\u{200c}' | '\u{200e}' | '\u{200f}' | '\u{feff}')
        || matches!(c, '\u{202a}'..='\u{202e}' | '\u{2060}' | '\u{2066}'..='\u{2069}')
}

/// Writes the code point of a character as Unicode does.
fn code_point(c: char) -> String {
    format!("U+{:04X}", u32::from(c))
}

/// Names a character that cannot be seen. The plan's data has the French words.
fn named(c: char) -> String {
    let name = match c {
        '\u{a0}' => " (a no-break space)",
        '\u{202f}' => " (a narrow no-break space)",
        '\u{ad}' => " (a soft hyphen)",
        '\u{200b}' => " (a zero-width space)",
        '\u{feff}' => " (a byte order mark)",
        _ => "",
    };
    format!("{}{name}", code_point(c))
}

/// Finds characters that were encoded twice. Returns them with what they stand for.
fn double_encoded(value: &str) -> Option<(String, String)> {
    value.char_indices().find_map(|(at, c)| {
        let rest = value.get(at..)?;
        match c {
            '&' => reference(rest),
            'Â' | 'Ã' | 'Å' | 'â' => misread(rest),
            _ => None,
        }
    })
}

/// Reads a character reference of HTML.
fn reference(text: &str) -> Option<(String, String)> {
    let (name, _) = text.strip_prefix('&')?.split_once(';')?;
    let (_, meant) = REFERENCES.iter().find(|(known, _)| *known == name)?;
    Some((format!("&{name};"), (*meant).to_owned()))
}

/// Reads characters that are the bytes of one character in UTF-8, read as Windows-1252: `Ã©`.
fn misread(text: &str) -> Option<(String, String)> {
    let length = if text.starts_with('â') { 3 } else { 2 };
    let characters: String = text.chars().take(length).collect();
    // A no-break space after `Ã`, which is the end of an `à`, is often made an ordinary one.
    if characters == "Ã " {
        return Some((characters, "à".to_owned()));
    }
    let bytes: Vec<u8> = characters.chars().map(windows_1252).collect::<Option<_>>()?;
    // Of three bytes only the marks of general punctuation are believed.
    if length == 3 && bytes.get(1) != Some(&0x80) {
        return None;
    }
    let meant = String::from_utf8(bytes).ok().filter(|meant| meant.chars().count() == 1)?;
    Some((characters, meant))
}

/// Returns the byte that a character has in Windows-1252.
fn windows_1252(c: char) -> Option<u8> {
    let special = WINDOWS_1252.iter().position(|known| *known == c && c != '\0');
    special.map_or_else(
        || u8::try_from(u32::from(c)).ok(),
        |place| u8::try_from(place).ok().map(|place| 0x80 | place),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_encoded_twice_is_found_with_what_it_stands_for() {
        for (value, expected) in [
            ("Relev\u{c3}\u{a9} de notes", Some(("Ã©", "é"))),
            ("\u{c3}\u{2030}l\u{c3}\u{a8}ves", Some(("Ã‰", "É"))),
            ("Travail \u{c3}\u{a0} faire", Some(("Ã\u{a0}", "à"))),
            ("Travail Ã faire", Some(("Ã ", "à"))),
            ("ENT_C\u{c5}\u{2019}UR", Some(("Å’", "Œ"))),
            ("l\u{e2}\u{20ac}\u{2122}agenda", Some(("â€™", "’"))),
            ("n\u{c2}\u{b0} 3", Some(("Â°", "°"))),
            ("Cahier &agrave; lire", Some(("&agrave;", "à"))),
            ("\u{c9}l\u{e8}ves &amp; familles", Some(("&amp;", "&"))),
            ("l&#39;agenda", Some(("&#39;", "'"))),
            ("Élèves & familles ; notes", None),
            ("CHÂTEAU, Âge, pâte, SÃO PAULO, Ålesund", None),
            ("Travail à faire : « œuvre » n° 3…", None),
            ("&unknown;", None),
            ("€ â", None),
        ] {
            let expected = expected.map(|(found, meant)| (found.to_owned(), meant.to_owned()));
            assert_eq!(double_encoded(value), expected, "{value}");
            let is_marked = scan::any(value.as_bytes(), is_suspect);
            assert!(expected.is_none() || is_marked, "{value} would not be looked at");
        }
    }

    #[test]
    fn what_cannot_be_seen_is_found_and_shown() {
        for (value, expected) in [
            ("PRO\u{200b}NOTE", Some('\u{200b}')),
            ("\u{feff}PRONOTE", Some('\u{feff}')),
            ("PRONOTE\u{a0}", Some('\u{a0}')),
            ("\u{202f}PRONOTE", Some('\u{202f}')),
            ("À faire\u{a0}: maths\u{202f}!", None),
            ("PRONOTE ", None),
            ("\u{1f468}\u{200d}\u{1f469}", None),
        ] {
            assert_eq!(invisible(value), expected, "{value:?}");
            let is_marked = scan::any(value.as_bytes(), is_suspect);
            assert!(expected.is_none() || is_marked, "{value:?} would not be looked at");
        }
        assert_eq!(visible("N\u{a0}O\u{200b}".chars()), "N<U+00A0>O<U+200B>");
        assert_eq!(named('\u{a0}'), "U+00A0 (a no-break space)");
        assert_eq!(named('\u{2060}'), "U+2060");
    }

    #[test]
    fn a_value_is_plain_when_nothing_hides_in_it() {
        for (value, expected) in [
            ("NOTES\u{a0}", "NOTES"),
            ("NO\u{200b}TES", "NOTES"),
            ("E\u{301}COLE", "ÉCOLE"),
            ("\u{c3}\u{2030}cole &amp; coll\u{c3}\u{a8}ge", "École & collège"),
            ("VIE\u{a0}SCOLAIRE", "VIE SCOLAIRE"),
        ] {
            assert_eq!(plain(value), expected, "{value:?}");
        }
    }
}
