//! Warnings: what is legal for Matomo, and all the same wrong or unwise.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, AhoCorasickKind};

use super::Violation;
use super::check::{HitCheck, shown};
use crate::domain::plan::FieldRole;
use crate::domain::rule::Rule;
use crate::domain::scan;

/// Letters of the UAI's key: the number modulo 23.
const KEY_LETTERS: &[u8; 23] = b"ABCDEFGHJKLMNPRSTUVWXYZ";

/// Robots that Matomo's device detector knows, and answers without storing anything. In lower case.
const BOTS: [&str; 18] = [
    "googlebot",
    "bingbot",
    "yandexbot",
    "baiduspider",
    "duckduckbot",
    "applebot",
    "ahrefsbot",
    "semrushbot",
    "petalbot",
    "mj12bot",
    "gptbot",
    "ccbot",
    "facebookexternalhit",
    "twitterbot",
    "uptimerobot",
    "pingdom",
    "slurp",
    "crawler",
];

/// Finds any of [`BOTS`] in one pass, in any case. Building it from constants cannot fail; a unit
/// test sees to that.
static BOT: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(BOTS)
        .ok()
});

/// Finds any of [`BOTS`] in lower case, many bytes at once. None where the processor cannot.
static LOWER_BOT: LazyLock<Option<Searcher>> = LazyLock::new(|| Searcher::new(BOTS));

/// Nearly every user agent is shorter.
const USUAL_UA: usize = 256;

/// Names of query parameters that hold a person.
const NAMING: [&str; 14] = [
    "nom",
    "prenom",
    "name",
    "firstname",
    "lastname",
    "surname",
    "email",
    "mail",
    "courriel",
    "login",
    "username",
    "tel",
    "telephone",
    "ine",
];

impl HitCheck<'_, '_> {
    pub(super) fn advise(&mut self) {
        let mut found = Vec::new();
        self.constants(&mut found);
        self.identity(&mut found);
        self.uai(&mut found);
        self.lengths(&mut found);
        self.people(&mut found);
        if self.value(FieldRole::UserAgent).is_some_and(is_bot) {
            found.push(Violation::of(Rule::UaBot, "ua"));
        }
        self.violations.append(&mut found);
    }

    fn constants(&self, found: &mut Vec<Violation>) {
        for place in [FieldRole::Record, FieldRole::ApiVersion] {
            if self.value(place).is_some_and(|value| value != "1") {
                found.push(Violation::of(Rule::WrongConstant, place.code()));
            }
        }
        if let Some(length) = self
            .value(FieldRole::Random)
            .map(|rand| rand.chars().count())
            .filter(|length| !(7..=8).contains(length))
        {
            found.push(Violation {
                length: i64::try_from(length).ok(),
                ..Violation::of(Rule::RandLength, "rand")
            });
        }
    }

    /// With a `uid`, Matomo ignores `_id`; but a `pv_id` that never changes makes one page view of
    /// all.
    fn identity(&self, found: &mut Vec<Violation>) {
        let uid = self.value(FieldRole::User).filter(|uid| !uid.is_empty());
        for place in [FieldRole::VisitorId, FieldRole::PageView] {
            if self.value(place).is_some() && self.value(place) == uid {
                found.push(Violation::of(Rule::IdIsUid, place.code()));
            }
        }
        if self.value(FieldRole::VisitorId).is_some_and(|id| {
            !id.is_empty() && (id.len() != 16 || !id.bytes().all(|b| b.is_ascii_hexdigit()))
        }) {
            found.push(Violation::of(Rule::IdNotHex, "_id"));
        }
        if let Some(kind) = uid.and_then(not_a_pseudonym) {
            found.push(Violation {
                suggestion: Some(kind.to_owned()),
                ..Violation::of(Rule::UidNotPseudonymised, "uid")
            });
        }
    }

    fn uai(&self, found: &mut Vec<Violation>) {
        for uai in
            self.value(FieldRole::Uai).unwrap_or_default().split(',').filter(|uai| !uai.is_empty())
        {
            // Without a digit it may be anything, a person's name in the wrong place included.
            let value = || {
                Some(if uai.bytes().any(|byte| byte.is_ascii_digit()) {
                    shown(uai)
                } else {
                    "…".to_owned()
                })
            };
            match key(uai) {
                None => found.push(Violation {
                    value: value(),
                    ..Violation::of(Rule::UaiForm, "dimension1")
                }),
                Some(letter) if !uai.ends_with(letter) => {
                    let suggestion = uai.get(..7).map(|digits| format!("{digits}{letter}"));
                    found.push(Violation {
                        value: value(),
                        suggestion,
                        ..Violation::of(Rule::UaiKey, "dimension1")
                    });
                }
                Some(_) => {}
            }
        }
    }

    fn lengths(&self, found: &mut Vec<Violation>) {
        for (field, value) in self.plan.fields().iter().zip(&self.values) {
            let Some(value) =
                value.as_deref().filter(|value| value.len() > self.plan.recommended_length)
            else {
                continue;
            };
            let is_dimension = field.name.starts_with("dimension");
            // Nothing is said of the others, and counting characters takes its time.
            if !(field.short || is_dimension && value.len() > self.plan.stored_length) {
                continue;
            }
            let length = value.chars().count();
            let warn = |rule, max| Violation {
                max: Some(max),
                length: i64::try_from(length).ok(),
                ..Violation::of(rule, &field.name)
            };
            let stored = is_dimension && length > self.plan.stored_length;
            if stored && field.max.is_none_or(|max| length <= max) {
                found.push(warn(Rule::CutByMatomo, self.plan.stored_length));
            } else if field.short
                && length > self.plan.recommended_length
                && field.max.is_none_or(|max| length <= max)
            {
                found.push(warn(Rule::LongValue, self.plan.recommended_length));
            }
        }
    }

    /// "Ne doivent pas contenir de données à caractères personnelles" (RFTI §3.2.3).
    fn people(&self, found: &mut Vec<Violation>) {
        for (field, value) in self.plan.fields().iter().zip(&self.values) {
            let Some(value) = value.as_deref().filter(|_| field.free) else { continue };
            if let Some(kind) = person(value) {
                found.push(Violation {
                    suggestion: Some(kind.to_owned()),
                    ..Violation::of(Rule::PersonalData, &field.name)
                });
            }
        }
    }
}

/// The check letter that seven digits should have; none where the form is not a UAI's.
fn key(uai: &str) -> Option<char> {
    let (digits, letter) = uai.split_at_checked(7)?;
    let is_uai = digits.bytes().all(|b| b.is_ascii_digit())
        && letter.len() == 1
        && letter.bytes().all(|b| b.is_ascii_uppercase());
    let number: usize = digits.parse().ok().filter(|_| is_uai)?;
    KEY_LETTERS.get(number % 23).map(|letter| char::from(*letter))
}

/// What a `uid` looks like, if it is no pseudonym: a pseudonym is long, or hexadecimal, or has many
/// digits.
fn not_a_pseudonym(uid: &str) -> Option<&'static str> {
    if has_email(uid) {
        return Some("an e-mail address");
    }
    let digits = uid.bytes().filter(u8::is_ascii_digit).count();
    if digits > 3 {
        return None;
    }
    let letters = uid.chars().filter(|c| c.is_alphabetic()).count();
    let words = uid
        .split([' ', '.', '_', '-'])
        .filter(|word| word.chars().count() > 1 && word.chars().all(char::is_alphabetic))
        .count();
    if words >= 2 {
        return Some("a name");
    }
    let is_hex = uid.bytes().all(|b| b.is_ascii_hexdigit());
    let short = letters + digits < 16 && letters + digits == uid.chars().count();
    (short && !is_hex && letters >= 4).then_some("a login")
}

/// What kind of personal data a value seems to hold.
pub(super) fn person(value: &str) -> Option<&'static str> {
    // Nearly every value has none of these, nor so many digits, and is done with here.
    let has_signs = scan::any(value.as_bytes(), |byte| {
        (byte == b'@') | (byte == b'%') | (byte == b'?') | (byte == b'+')
    });
    if !has_signs && value.len() < 9 {
        return None;
    }
    if has_signs && has_email(value) {
        return Some("an e-mail address");
    }
    if has_signs && has_name_parameter(value) {
        return Some("a name in the query");
    }
    let digits = value.bytes().filter(u8::is_ascii_digit).count();
    // A run of digits and letters between other characters; a phone number may be written in pairs.
    if digits >= 9 && value.split(|c: char| !c.is_ascii_alphanumeric()).any(is_ine) {
        return Some("an INE");
    }
    ((digits >= 10 && has_phone(value)) || (has_signs && has_country_code(value)))
        .then_some("a phone number")
}

fn is_bot(ua: &str) -> bool {
    let mut lower = [0; USUAL_UA];
    if let (Some(lower), Some(bot)) = (lower.get_mut(..ua.len()), LOWER_BOT.as_ref()) {
        lower.copy_from_slice(ua.as_bytes());
        lower.make_ascii_lowercase();
        return bot.find(lower).is_some();
    }
    BOT.as_ref().is_some_and(|bot| bot.is_match(ua))
}

fn has_email(value: &str) -> bool {
    // Either an `@` or a `%40`.
    if memchr::memchr2(b'@', b'%', value.as_bytes()).is_none() {
        return false;
    }
    value.split(|c: char| !(c.is_ascii_alphanumeric() || "@._-+%".contains(c))).any(|word| {
        let word = word.replace("%40", "@");
        let Some((name, host)) = word.split_once('@') else { return false };
        !name.is_empty()
            && host.split_once('.').is_some_and(|(host, top)| !host.is_empty() && top.len() >= 2)
    })
}

fn has_name_parameter(url: &str) -> bool {
    let Some((_, query)) = url.split_once('?') else { return false };
    let mut pairs = query.split(['&', '#']).filter_map(|pair| pair.split_once('='));
    pairs.any(|(name, value)| {
        !value.is_empty() && NAMING.iter().any(|naming| naming.eq_ignore_ascii_case(name))
    })
}

/// Ten digits and a letter, or nine and two (INE-BEA, INE-RNIE).
fn is_ine(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    word.len() == 11
        && (9..=10).contains(&digits)
        && word.bytes().skip(digits).all(|b| b.is_ascii_uppercase())
}

/// As the numbers of France begin abroad.
fn has_country_code(value: &str) -> bool {
    memchr::memchr(b'+', value.as_bytes()).is_some() && value.contains("+33")
}

/// A French number: 0X and eight more digits, together or in pairs.
fn has_phone(value: &str) -> bool {
    let mut digits = 0;
    let mut first = [b' '; 2];
    let mut before = b' ';
    let mut inside = false;
    for byte in value.bytes().chain([b'|']) {
        match byte {
            b'0'..=b'9' => {
                if !inside {
                    (digits, inside) = (0, true);
                }
                if let Some(place) = first.get_mut(digits) {
                    *place = byte;
                }
                digits += 1;
            }
            // A separator between pairs.
            b' ' | b'.' | b'-' if inside && digits % 2 == 0 && before.is_ascii_digit() => {}
            _ => {
                if inside && digits == 10 && first[0] == b'0' && first[1] != b'0' {
                    return true;
                }
                inside = false;
            }
        }
        before = byte;
    }
    false
}

#[cfg(test)]
mod tests;
