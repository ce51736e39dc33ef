//! The warnings: what Matomo accepts, and what is wrong or unwise all the same.

use std::sync::LazyLock;

use aho_corasick::packed::Searcher;
use aho_corasick::{AhoCorasick, AhoCorasickKind};

use smallvec::SmallVec;

use super::Violation;
use super::characters::{is_looked_at, is_suspect};
use super::check::HitCheck;
use super::effects::escaped_length;
use crate::domain::plan::FieldRole;
use crate::domain::rule::Rule;
use crate::domain::scan;

/// The check letters of a UAI, by its number modulo 23.
const KEY_LETTERS: &[u8; 23] = b"ABCDEFGHJKLMNPRSTUVWXYZ";

/// Parts of the user agents of robots, in lower case. Matomo's device detector knows these, and
/// Matomo answers such a hit without storing anything.
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

/// Finds any of [`BOTS`] in one pass, in upper and lower case. Building it from constants cannot
/// fail, which a unit test checks.
static BOT: LazyLock<Option<AhoCorasick>> = LazyLock::new(|| {
    AhoCorasick::builder()
        .ascii_case_insensitive(true)
        .kind(Some(AhoCorasickKind::DFA))
        .build(BOTS)
        .ok()
});

/// Finds any of [`BOTS`] in lower case, many bytes at once; `None` if the processor cannot do that.
static LOWER_BOT: LazyLock<Option<Searcher>> = LazyLock::new(|| Searcher::new(BOTS));

/// How many bytes a user agent may have to be put in lower case on the stack. Nearly every one is
/// shorter.
const MAX_STACK_UA: usize = 256;

/// The names of query parameters that identify a person.
const PERSON_PARAMETERS: [&str; 14] = [
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
    /// Adds every warning.
    pub(super) fn add_warnings(&mut self) {
        let mut found = Vec::new();
        self.constants(&mut found);
        self.identity(&mut found);
        self.uai(&mut found);
        self.lengths(&mut found);
        self.check_page(&mut found);
        self.texts(&mut found);
        if self.value(FieldRole::UserAgent).is_some_and(is_bot) {
            found.push(Violation::of(Rule::UaBot, "ua"));
        }
        self.violations.append(&mut found);
    }

    /// Checks the fields that Matomo wants in a certain form.
    fn constants(&self, found: &mut Vec<Violation>) {
        for role in [FieldRole::Record, FieldRole::ApiVersion] {
            if self.value(role).is_some_and(|value| value != "1") {
                found.push(Violation::of(Rule::WrongConstant, role.code()));
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

    /// Checks the fields that identify the visitor and the page view. With a `uid`, Matomo ignores
    /// `_id`; but a `pv_id` that never changes makes one page view of all.
    fn identity(&self, found: &mut Vec<Violation>) {
        let uid = self.value(FieldRole::User).filter(|uid| !uid.is_empty());
        for role in [FieldRole::VisitorId, FieldRole::PageView] {
            if self.value(role).is_some() && self.value(role) == uid {
                found.push(Violation::of(Rule::IdIsUid, role.code()));
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

    /// Checks the form and the check letter of each school.
    fn uai(&self, found: &mut Vec<Violation>) {
        let uais = self.value(FieldRole::Uai).unwrap_or_default().split(',');
        for uai in
            uais.map(|uai| uai.strip_prefix(' ').unwrap_or(uai)).filter(|uai| !uai.is_empty())
        {
            // A value without a digit may be anything, even a person's name in the wrong field.
            let value = || {
                let has_digit = uai.bytes().any(|byte| byte.is_ascii_digit());
                Some(if has_digit { uai.to_owned() } else { "…".to_owned() })
            };
            match check_letter(uai) {
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

    /// Checks the lengths that the plan recommends and that Matomo keeps.
    fn lengths(&self, found: &mut Vec<Violation>) {
        for (field, value) in self.plan.fields().iter().zip(&self.values) {
            let Some(value) =
                value.as_deref().filter(|value| value.len() > self.plan.recommended_length)
            else {
                continue;
            };
            let is_dimension = field.name.starts_with("dimension");
            let stored = self.plan.stored_length;
            if is_dimension && let Some(length) = escaped_length(value, stored) {
                found.push(Violation {
                    max: Some(stored),
                    length: i64::try_from(length).ok(),
                    ..Violation::of(Rule::CutAfterEscaping, &field.name)
                });
            }
            // No other field has such a length, and counting characters takes time.
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

    /// Checks that free texts name nobody: they "ne doivent pas contenir de données à caractères
    /// personnelles" (RFTI §3.2.3); and that no text looks like another one.
    fn texts(&mut self, found: &mut Vec<Violation>) {
        let mut suspects = SmallVec::<[usize; 4]>::new();
        for (index, (field, value)) in self.plan.fields().iter().zip(&self.values).enumerate() {
            if !field.free && !field.short {
                continue;
            }
            let Some(value) = value.as_deref() else { continue };
            if field.short {
                // One look tells of nearly every text that nothing is in it.
                if !scan::any(value.as_bytes(), is_marked) {
                    continue;
                }
                if is_looked_at(self.plan, field) && scan::any(value.as_bytes(), is_suspect) {
                    suspects.push(index);
                }
            }
            if let Some(kind) = Some(value).filter(|_| field.free).and_then(personal_data) {
                found.push(Violation {
                    suggestion: Some(kind.to_owned()),
                    ..Violation::of(Rule::PersonalData, &field.name)
                });
            }
        }
        self.check_characters(&suspects, found);
    }
}

/// Returns the check letter that a UAI should have; `None` if the value has not the form of a UAI.
fn check_letter(uai: &str) -> Option<char> {
    let (digits, letter) = uai.split_at_checked(7)?;
    let is_uai = digits.bytes().all(|b| b.is_ascii_digit())
        && letter.len() == 1
        && letter.bytes().all(|b| b.is_ascii_uppercase());
    let number: usize = digits.parse().ok().filter(|_| is_uai)?;
    KEY_LETTERS.get(number % 23).map(|letter| char::from(*letter))
}

/// Says what a `uid` looks like if it seems to be no pseudonym. A pseudonym is long, or
/// hexadecimal, or has many digits.
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

/// Says what kind of personal data a value seems to hold, if any.
pub(super) fn personal_data(value: &str) -> Option<&'static str> {
    // Nearly every value has none of these signs and is too short for a number, so nothing else has
    // to be looked for.
    let has_signs = scan::any(value.as_bytes(), is_sign);
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
    // An INE is a run of digits and letters. A phone number may be written in pairs of digits.
    if digits >= 9 && value.split(|c: char| !c.is_ascii_alphanumeric()).any(is_ine) {
        return Some("an INE");
    }
    ((digits >= 10 && has_phone(value)) || (has_signs && has_country_code(value)))
        .then_some("a phone number")
}

/// Whether a byte may be a sign of personal data other than a number.
fn is_sign(byte: u8) -> bool {
    (byte == b'@') | (byte == b'%') | (byte == b'?') | (byte == b'+')
}

/// Whether a byte [is a sign](is_sign) of personal data, a digit, or
/// [suspect](is_suspect). So are the few that stand between the digits and `@`: one
/// range takes less time than its parts.
fn is_marked(byte: u8) -> bool {
    is_suspect(byte) | (byte == b'%') | (byte == b'+') | (byte.wrapping_sub(b'0') <= b'@' - b'0')
}

/// Whether Matomo takes the user agent for a robot's.
fn is_bot(ua: &str) -> bool {
    let mut lower = [0; MAX_STACK_UA];
    if let (Some(lower), Some(bot)) = (lower.get_mut(..ua.len()), LOWER_BOT.as_ref()) {
        lower.copy_from_slice(ua.as_bytes());
        lower.make_ascii_lowercase();
        return bot.find(lower).is_some();
    }
    BOT.as_ref().is_some_and(|bot| bot.is_match(ua))
}

/// Whether a value has an e-mail address in it, which may be percent-encoded.
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

/// Whether a query in the value has a parameter that identifies a person.
fn has_name_parameter(url: &str) -> bool {
    let Some((_, query)) = url.split_once('?') else { return false };
    let mut pairs = query.split(['&', '#']).filter_map(|pair| pair.split_once('='));
    pairs.any(|(name, value)| {
        !value.is_empty() && PERSON_PARAMETERS.iter().any(|known| known.eq_ignore_ascii_case(name))
    })
}

/// Whether a word is an INE: ten digits and a letter, or nine and two (INE-BEA, INE-RNIE).
fn is_ine(word: &str) -> bool {
    let digits = word.bytes().take_while(u8::is_ascii_digit).count();
    word.len() == 11
        && (9..=10).contains(&digits)
        && word.bytes().skip(digits).all(|b| b.is_ascii_uppercase())
}

/// Whether a value has the beginning that a number of France has abroad.
fn has_country_code(value: &str) -> bool {
    memchr::memchr(b'+', value.as_bytes()).is_some() && value.contains("+33")
}

/// Whether a value has a French phone number in it: 0X and eight more digits, together or in pairs.
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
            // Pairs of digits may be separated.
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
