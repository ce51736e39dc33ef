//! Mending dead hits before they are sent again: a small closed vocabulary, and never the visitor.
//!
//! | fix | what it does |
//! |---|---|
//! | `rename:FIELD:OLD=NEW` | a value that is exactly OLD becomes NEW |
//! | `upper:FIELD` | upper case |
//! | `trim:FIELD` | white space at both ends goes |
//! | `default:FIELD=VALUE` | an exploitant (`dimension3`) or plateforme (`dimension4`) where there is none |
//! | `seconds` | a `cdt` in milliseconds becomes seconds |
//! | `utc:ZONE` | a `cdt` in the local time of ZONE (`Europe/Paris`) becomes UTC |

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use jiff::civil::DateTime;
use jiff::tz::{Offset, TimeZone};
use jiff::{Timestamp, tz};
use serde::{Serialize, Serializer};
use thiserror::Error;

use super::mask::masked;
use crate::domain::cdt::{self, CdtError};
use crate::domain::hit::{RawHit, Value};
use crate::domain::plan::{FieldRole, Plan};

/// One way of mending.
#[derive(Debug, Clone, PartialEq)]
pub enum Fix {
    /// A value for another.
    Rename {
        /// The field, by either of its names.
        field: String,
        /// What it holds, to the letter.
        from: String,
        /// What it shall hold.
        to: String,
    },
    /// Upper case.
    Upper {
        /// The field.
        field: String,
    },
    /// No white space at the ends.
    Trim {
        /// The field.
        field: String,
    },
    /// A value for none.
    Default {
        /// `dimension3` or `dimension4`.
        field: String,
        /// The value.
        value: String,
    },
    /// `cdt` from milliseconds to seconds.
    Seconds,
    /// `cdt` from local time to UTC.
    Utc {
        /// Name of the time zone, as in the IANA's database.
        zone: String,
        /// The zone.
        tz: TimeZone,
    },
}

/// Why a fix is refused, before anything is moved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FixError {
    /// None of the words.
    #[error(
        "{0}: no such fix; there are rename:FIELD:OLD=NEW, upper:FIELD, trim:FIELD, \
         default:FIELD=VALUE, seconds, utc:ZONE"
    )]
    Unknown(String),
    /// A word without what it needs.
    #[error("{0}: incomplete; it is written {1}")]
    Incomplete(String, &'static str),
    /// No field of the plan.
    #[error("{0}: the plan has no such field")]
    NoField(String),
    /// The visitor's identity decides who is counted.
    #[error("{0} is never changed: it is the visitor's identity")]
    Visitor(String),
    /// The relay supplies it anyway.
    #[error("{0} is supplied by the relay, whatever the hit holds")]
    Relays(String),
    /// `default:` is for two fields only.
    #[error(
        "{0} cannot be given a default: only exploitant (dimension3) and plateforme (dimension4) \
         can"
    )]
    NoDefault(String),
    /// Not what the plan's list has.
    #[error("{value} is not in the plan's list for {field}{}", nearest(.suggestion))]
    NotInList {
        /// The field.
        field: String,
        /// What was asked for.
        value: String,
        /// What may have been meant.
        suggestion: Option<String>,
    },
    /// What names or follows people has no place in a command or a receipt.
    #[error("rename:{0}: these values may tell of a person, and a receipt would keep them")]
    Personal(String),
    /// Control characters, or nothing at all.
    #[error("{0}: the new value is empty, or has control characters")]
    BadValue(String),
    /// Not in the database of time zones.
    #[error("{0}: no such time zone; an example is Europe/Paris")]
    NoZone(String),
}

fn nearest(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|value| format!("; is {value} meant?")).unwrap_or_default()
}

/// Lists are compared with a mistyped value only when it comes this near.
const NEAR: f64 = 0.8;

impl FromStr for Fix {
    type Err = FixError;

    fn from_str(text: &str) -> Result<Self, FixError> {
        let (word, rest) = text.split_once(':').unwrap_or((text, ""));
        let field = |form| {
            if rest.is_empty() {
                Err(FixError::Incomplete(text.to_owned(), form))
            } else {
                Ok(plain(rest))
            }
        };
        let incomplete = |form| FixError::Incomplete(text.to_owned(), form);
        match word {
            "rename" => {
                let parts = rest
                    .split_once(':')
                    .and_then(|(field, change)| Some((field, change.split_once('=')?)));
                let (field, (from, to)) = parts
                    .filter(|(field, _)| !field.is_empty())
                    .ok_or(incomplete("rename:FIELD:OLD=NEW"))?;
                Ok(Self::Rename { field: plain(field), from: from.to_owned(), to: to.to_owned() })
            }
            "upper" => Ok(Self::Upper { field: field("upper:FIELD")? }),
            "trim" => Ok(Self::Trim { field: field("trim:FIELD")? }),
            "default" => {
                let parts = rest.split_once('=').filter(|(field, _)| !field.is_empty());
                let (field, value) = parts.ok_or(incomplete("default:FIELD=VALUE"))?;
                Ok(Self::Default { field: plain(field), value: value.to_owned() })
            }
            "seconds" if rest.is_empty() => Ok(Self::Seconds),
            "utc" if rest.is_empty() => Err(incomplete("utc:ZONE")),
            "utc" => {
                let tz = tz::TimeZone::get(rest).map_err(|_| FixError::NoZone(rest.to_owned()))?;
                Ok(Self::Utc { zone: rest.to_owned(), tz })
            }
            _ => Err(FixError::Unknown(text.to_owned())),
        }
    }
}

/// The two fields that people know by a name.
fn plain(field: &str) -> String {
    match field {
        "exploitant" => FieldRole::Exploitant.code(),
        "plateforme" => FieldRole::Plateforme.code(),
        other => other,
    }
    .to_owned()
}

impl fmt::Display for Fix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rename { field, from, to } => write!(f, "rename:{field}:{from}={to}"),
            Self::Upper { field } => write!(f, "upper:{field}"),
            Self::Trim { field } => write!(f, "trim:{field}"),
            Self::Default { field, value } => write!(f, "default:{field}={value}"),
            Self::Seconds => f.write_str("seconds"),
            Self::Utc { zone, .. } => write!(f, "utc:{zone}"),
        }
    }
}

/// As it was asked for.
impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fix {
    /// Whether this may be done to hits of this plan.
    ///
    /// # Errors
    /// [`FixError`]: a field that is not the plan's or not to be changed, or a value that would break the plan.
    pub fn check(&self, plan: &Plan) -> Result<(), FixError> {
        let (field, new) = match self {
            Self::Seconds | Self::Utc { .. } => return Ok(()),
            Self::Upper { field } | Self::Trim { field } => (field, None),
            Self::Rename { field, to, .. } => (field, Some(to)),
            Self::Default { field, value } => (field, Some(value)),
        };
        let index = plan.index(field).ok_or_else(|| FixError::NoField(field.clone()))?;
        let is = |role: FieldRole| plan.role_index(role) == Some(index);
        if [FieldRole::User, FieldRole::VisitorId, FieldRole::PageView].into_iter().any(is) {
            return Err(FixError::Visitor(field.clone()));
        }
        if matches!(self, Self::Default { .. })
            && !is(FieldRole::Exploitant)
            && !is(FieldRole::Plateforme)
        {
            return Err(FixError::NoDefault(field.clone()));
        }
        let Some(known) = plan.fields().get(index) else { return Ok(()) };
        if known.relay {
            return Err(FixError::Relays(field.clone()));
        }
        // Receipts tell fixes, and nothing of anybody.
        let told = |value: &str| masked(plan, field, value) == value;
        if let Self::Rename { from, to, .. } = self
            && !(told(from) && told(to))
        {
            return Err(FixError::Personal(field.clone()));
        }
        let Some(value) = new else { return Ok(()) };
        if value.trim().is_empty() || value.chars().any(char::is_control) {
            return Err(FixError::BadValue(self.to_string()));
        }
        match plan.list_of(known) {
            Some(list) if list.is_loaded() && !list.contains(value) => {
                let similarity = |legal: &&String| {
                    strsim::jaro_winkler(&value.to_uppercase(), &legal.to_uppercase())
                };
                let best =
                    list.values().iter().max_by(|a, b| similarity(a).total_cmp(&similarity(b)));
                let suggestion = best.filter(|best| similarity(best) > NEAR).cloned();
                Err(FixError::NotInList { field: field.clone(), value: value.clone(), suggestion })
            }
            _ => Ok(()),
        }
    }

    /// What this makes of a value; none if it stays as it is.
    fn mend(
        &self,
        plan: &Plan,
        name: &str,
        value: &str,
        seen: Option<Timestamp>,
    ) -> Option<String> {
        let meant =
            |field: &String| plan.index(name).is_some_and(|index| plan.index(field) == Some(index));
        let is_time = || {
            plan.index(name).is_some_and(|index| plan.role_index(FieldRole::Time) == Some(index))
        };
        let mended = match self {
            Self::Rename { field, from, to } if meant(field) && value == from => to.clone(),
            Self::Upper { field } if meant(field) => value.to_uppercase(),
            Self::Trim { field } if meant(field) => value.trim().to_owned(),
            Self::Seconds if is_time() => match cdt::parse(value) {
                Err(CdtError::Milliseconds(seconds)) => seconds.to_string(),
                _ => return None,
            },
            Self::Utc { tz, .. } if is_time() => utc(value, tz, seen)?,
            _ => return None,
        };
        (mended != value).then_some(mended)
    }
}

/// A time without an offset, read as the clock on the wall of that zone; written with its offset,
/// so that it is not mended twice. A UNIX time says nothing of the clock that it was made of: it is
/// mended only where it lies after the hit was `seen`.
fn utc(value: &str, tz: &TimeZone, seen: Option<Timestamp>) -> Option<String> {
    let text = value.trim();
    let wall = match text.parse::<Timestamp>() {
        // It says its own offset.
        Ok(_) => return None,
        Err(_) => match text.parse::<DateTime>() {
            Ok(wall) => wall,
            Err(_) => Offset::UTC.to_datetime(
                cdt::parse(text).ok().filter(|cdt| seen.is_some_and(|seen| *cdt > seen))?,
            ),
        },
    };
    let time = tz.to_ambiguous_timestamp(wall).compatible().ok()?;
    Some(format!("{time:.0}"))
}

/// The hit with all fixes applied, as a JSON object; none where nothing changes. `seen` is when the
/// hit was first seen. A hit with an array, an object or a boolean stays as it is: what is meant by
/// it is a guess.
pub fn mend(
    plan: &Plan,
    fixes: &[Fix],
    hit: &RawHit<'_>,
    seen: Option<Timestamp>,
) -> Option<Vec<u8>> {
    if fixes.is_empty() {
        return None;
    }
    let mut changed = false;
    // Without a value: null.
    let mut fields: Vec<(&str, Option<Cow<'_, str>>)> = Vec::new();
    for (name, value) in hit.fields() {
        match value {
            Value::Text(text) => fields.push((name, Some(Cow::Borrowed(text)))),
            Value::Wrong("null") => fields.push((name, None)),
            Value::Wrong(_) => return None,
        }
    }
    for fix in fixes {
        if let Fix::Default { field, value: default } = fix {
            let is_meant =
                |name: &str| plan.index(name).is_some_and(|index| plan.index(field) == Some(index));
            let is_empty = |value: &Option<Cow<'_, str>>| {
                value.as_deref().is_none_or(|value| value.trim().is_empty())
            };
            if fields.iter().all(|(name, value)| !is_meant(name) || is_empty(value)) {
                fields.retain(|(name, _)| !is_meant(name));
                fields.push((field, Some(Cow::Borrowed(default))));
                changed = true;
            }
            continue;
        }
        for (name, value) in &mut fields {
            if let Some(mended) =
                value.as_deref().and_then(|value| fix.mend(plan, name, value, seen))
            {
                *value = Some(Cow::Owned(mended));
                changed = true;
            }
        }
    }
    if !changed {
        return None;
    }
    let mut body = Vec::with_capacity(1024);
    for (name, value) in fields {
        body.push(if body.is_empty() { b'{' } else { b',' });
        serde_json::to_writer(&mut body, name).ok()?;
        body.push(b':');
        serde_json::to_writer(&mut body, &value).ok()?;
    }
    body.push(b'}');
    Some(body)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hit::decode;

    fn mended(fixes: &[&str], body: &str) -> Option<String> {
        let plan = Plan::built_in().expect("plan");
        let fixes: Vec<Fix> = fixes.iter().map(|fix| fix.parse().expect("a fix")).collect();
        let seen = Timestamp::from_second(1_732_549_300).ok();
        mend(&plan, &fixes, &decode(body.as_bytes(), None).expect("a hit"), seen)
            .map(|body| String::from_utf8(body).expect("UTF-8"))
    }

    #[test]
    fn each_word_mends_its_own_and_nothing_else() {
        for (fix, before, after) in [
            (
                "rename:dimension8:CANTINE=SERVICE_COLLECTIVITE",
                r#"{"dimension8":"CANTINE","action_name":"CANTINE"}"#,
                r#"{"dimension8":"SERVICE_COLLECTIVITE","action_name":"CANTINE"}"#,
            ),
            ("upper:dimension7", r#"{"dimension7":"natif"}"#, r#"{"dimension7":"NATIF"}"#),
            ("trim:dimension2", r#"{"dimension2":" ELEVE "}"#, r#"{"dimension2":"ELEVE"}"#),
            ("default:exploitant=ALPHA", r#"{"uid":"u"}"#, r#"{"uid":"u","dimension3":"ALPHA"}"#),
            ("default:plateforme=PA", "?uid=u&dimension4=", r#"{"uid":"u","dimension4":"PA"}"#),
            ("seconds", r#"{"cdt":1732549235000}"#, r#"{"cdt":"1732549235"}"#),
            (
                "utc:Europe/Paris",
                r#"{"cdt":"2024-11-25 16:40:35"}"#,
                r#"{"cdt":"2024-11-25T15:40:35Z"}"#,
            ),
            ("utc:Europe/Paris", r#"{"cdt":1732552835}"#, r#"{"cdt":"2024-11-25T15:40:35Z"}"#),
            (
                "utc:Indian/Reunion",
                r#"{"cdt":"2024-11-25T19:40:35"}"#,
                r#"{"cdt":"2024-11-25T15:40:35Z"}"#,
            ),
            (
                "default:exploitant=ALPHA",
                r#"{"dimension3":null,"x":null}"#,
                r#"{"x":null,"dimension3":"ALPHA"}"#,
            ),
        ] {
            assert_eq!(mended(&[fix], before).as_deref(), Some(after), "{fix}");
        }
        for (fix, body) in [
            ("rename:dimension8:CANTINE=NOTES", r#"{"dimension8":"ABSENCES"}"#),
            ("upper:dimension7", r#"{"dimension7":"NATIF"}"#),
            ("default:exploitant=ALPHA", r#"{"dimension3":"BETA"}"#),
            ("seconds", r#"{"cdt":1732549235}"#),
            ("default:exploitant=ALPHA", r#"{"dimension3":"","dimension3":"BETA"}"#),
            ("utc:Europe/Paris", r#"{"cdt":"2024-11-25T16:40:35+01:00"}"#),
            ("utc:Europe/Paris", r#"{"cdt":1732549235}"#),
            ("upper:dimension7", r#"{"dimension7":"natif","x":[1]}"#),
        ] {
            assert_eq!(mended(&[fix], body), None, "{fix}");
        }
    }

    #[test]
    fn several_are_applied_in_their_order() {
        let fixes = [
            "trim:dimension8",
            "upper:dimension8",
            "rename:dimension8:CANTINE=SERVICE_COLLECTIVITE",
        ];
        assert_eq!(
            mended(&fixes, r#"{"dimension8":" cantine"}"#).as_deref(),
            Some(r#"{"dimension8":"SERVICE_COLLECTIVITE"}"#)
        );
    }

    #[test]
    fn a_wrong_one_is_refused_by_its_own_name() {
        let plan = Plan::built_in().expect("plan");
        let refused = |text: &str| {
            text.parse::<Fix>().and_then(|fix| fix.check(&plan)).expect_err(text).to_string()
        };
        for (text, told) in [
            ("lower:dimension8", "no such fix"),
            ("rename:dimension8", "rename:FIELD:OLD=NEW"),
            ("upper:", "upper:FIELD"),
            ("utc:", "utc:ZONE"),
            ("utc:Europe/Pari", "no such time zone"),
            ("upper:dimension5", "no such field"),
            ("rename:uid:a=b", "visitor's identity"),
            ("trim:_id", "visitor's identity"),
            ("rename:ua:Firefox=x", "may tell of a person"),
            ("rename:url:https://e.fr/?login=jean=x", "may tell of a person"),
            ("trim:rand", "supplied by the relay"),
            ("default:dimension8=NOTES", "cannot be given a default"),
            ("default:exploitant= ", "empty"),
            ("rename:dimension8:CANTINE=SERVICE_COLECTIVITE", "is SERVICE_COLLECTIVITE meant?"),
        ] {
            assert!(refused(text).contains(told), "{text}: {}", refused(text));
        }
        assert_eq!("rename:dimension9:a=b".parse::<Fix>().and_then(|fix| fix.check(&plan)), Ok(()));
    }
}
