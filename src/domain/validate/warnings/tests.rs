//! Known cases, and the same answers as by the book.

use proptest::prelude::*;

use super::*;

#[test]
fn the_check_letter_of_a_uai() {
    assert_eq!(check_letter("0750655E"), Some('E'));
    assert_eq!(check_letter("0350029S"), Some('S'));
    assert_eq!(check_letter("9720003W"), Some('W'));
    for form in ["", "750655E", "0750655e", "07506555", "0750655EE", "éééé0655E", "COLL_35"] {
        assert_eq!(check_letter(form), None, "{form}");
    }
}

#[test]
fn pseudonyms_and_people() {
    for uid in [
        "7c9e6679f4b44e1f8e0c5b6f0a3d2c1b",
        "VAA60001",
        "7c9e6679-f4b4-4e1f-8e0c-5b6f0a3d2c1b",
        "123456789",
        "deadbeef",
        "QmFzZTY0LXBzZXVkb255bQ==",
    ] {
        assert_eq!(not_a_pseudonym(uid), None, "{uid}");
    }
    for (uid, kind) in [
        ("jean.dupont", "a name"),
        ("jdupont2", "a login"),
        ("a@b.fr", "an e-mail address"),
        ("Émile Zola", "a name"),
    ] {
        assert_eq!(not_a_pseudonym(uid), Some(kind), "{uid}");
    }
}

#[test]
fn robots_are_known_in_any_case() {
    assert!(is_bot("Mozilla/5.0 (compatible; Googlebot/2.1)") && is_bot("BINGBOT"));
    assert!(!is_bot("Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"));
}

#[test]
fn personal_data_in_values_and_urls() {
    for (value, kind) in [
        ("Message de jean.dupont@ecole.fr", "an e-mail address"),
        ("https://e.fr/?u=jean%40ecole.fr", "an e-mail address"),
        ("https://e.fr/annuaire?nom=Dupont&p=1", "a name in the query"),
        ("Appel 06 12 34 56 78", "a phone number"),
        ("0612345678", "a phone number"),
        ("Élève 0123456789A", "an INE"),
        ("123456789AB", "an INE"),
    ] {
        assert_eq!(personal_data(value), Some(kind), "{value}");
    }
    for value in [
        "Semaine 48",
        "https://e.fr/service/1234567890123?onglet=agenda",
        "2024-11-25 16:11:42",
        "12 34 56 78 90",
        "@ecole",
        "",
    ] {
        assert_eq!(personal_data(value), None, "{value}");
    }
}

/// The same rules one by one, each looking at everything: what the checks must agree with.
mod by_the_book {
    use super::super::*;

    fn has_email(value: &str) -> bool {
        value.split(|c: char| !(c.is_ascii_alphanumeric() || "@._-+%".contains(c))).any(|word| {
            let word = word.replace("%40", "@");
            let Some((name, host)) = word.split_once('@') else { return false };
            !name.is_empty()
                && host
                    .split_once('.')
                    .is_some_and(|(host, top)| !host.is_empty() && top.len() >= 2)
        })
    }

    fn has_name_parameter(url: &str) -> bool {
        let Some((_, query)) = url.split_once('?') else { return false };
        let mut pairs = query.split(['&', '#']).filter_map(|pair| pair.split_once('='));
        pairs.any(|(name, value)| {
            !value.is_empty() && PERSON_PARAMETERS.contains(&name.to_ascii_lowercase().as_str())
        })
    }

    pub(super) fn personal_data(value: &str) -> Option<&'static str> {
        if has_email(value) {
            return Some("an e-mail address");
        }
        if has_name_parameter(value) {
            return Some("a name in the query");
        }
        if value.split(|c: char| !c.is_ascii_alphanumeric()).any(is_ine) {
            return Some("an INE");
        }
        (has_phone(value) || value.contains("+33")).then_some("a phone number")
    }

    pub(super) fn not_a_pseudonym(uid: &str) -> Option<&'static str> {
        if has_email(uid) {
            return Some("an e-mail address");
        }
        let letters = uid.chars().filter(|c| c.is_alphabetic()).count();
        let digits = uid.chars().filter(char::is_ascii_digit).count();
        let is_word =
            |word: &&str| word.chars().count() > 1 && word.chars().all(char::is_alphabetic);
        if uid.split([' ', '.', '_', '-']).filter(is_word).count() >= 2 && digits <= 3 {
            return Some("a name");
        }
        let is_hex = uid.bytes().all(|b| b.is_ascii_hexdigit());
        let short = letters + digits < 16 && letters + digits == uid.chars().count();
        (short && !is_hex && letters >= 4 && digits <= 3).then_some("a login")
    }

    pub(super) fn is_bot(ua: &str) -> bool {
        let ua = ua.to_ascii_lowercase();
        BOTS.iter().any(|bot| ua.contains(bot))
    }
}

/// Pieces of what names a person, and of what nearly does.
const PIECES: [&str; 26] = [
    "a",
    "jean",
    ".",
    "dupont",
    "@",
    "%40",
    "ecole.fr",
    "f",
    "?",
    "&",
    "=",
    "#",
    "NOM=x",
    "ine=",
    "+",
    "33",
    "+33",
    "06",
    "12 34",
    "123456789",
    "0",
    "AB",
    "É",
    "-",
    " ",
    "login=1",
];

proptest! {
    #[test]
    fn every_value_is_checked_as_by_the_book(
        pieces in proptest::collection::vec(proptest::sample::select(&PIECES[..]), 0..12),
        other: String,
    ) {
        for value in [pieces.concat(), other] {
            prop_assert_eq!(personal_data(&value), by_the_book::personal_data(&value), "{}", value);
            let expected = by_the_book::not_a_pseudonym(&value);
            prop_assert_eq!(not_a_pseudonym(&value), expected, "{}", value);
        }
    }

    #[test]
    fn every_robot_is_found_as_by_the_book(
        before in ".{0,300}",
        bot in proptest::sample::select(&BOTS[..]),
        cut in 0..12_usize,
        upper: bool,
        after in "[ -~]{0,40}",
    ) {
        let bot = bot.get(..cut).unwrap_or(bot);
        let bot = if upper { bot.to_ascii_uppercase() } else { bot.to_owned() };
        let ua = format!("{before}{bot}{after}");
        prop_assert_eq!(is_bot(&ua), by_the_book::is_bot(&ua), "{}", ua);
    }
}
