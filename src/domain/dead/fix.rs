//! Fixes for dead hits before they are sent again. The vocabulary is small and closed, and no fix
//! ever changes the visitor.
//!
//! | fix | what it does |
//! |---|---|
//! | `rename:FIELD:OLD=NEW` | a value that is exactly OLD becomes NEW |
//! | `upper:FIELD` | upper case |
//! | `trim:FIELD` | white space at both ends goes |
//! | `default:FIELD=VALUE` | an exploitant (`dimension3`) or plateforme (`dimension4`) for none |
//! | `seconds` | a `cdt` in milliseconds becomes seconds |
//! | `utc:ZONE` | a `cdt` in the local time of ZONE (`Europe/Paris`) becomes UTC |
//!
//! `utc:` knows every zone of the IANA's database with the feature `service`, which bundles it.
//! Without, the library carries no time zones: there is `utc:UTC` alone, unless the program that
//! uses it turns on a feature of `jiff` that brings a database (`tzdb-bundle-always`,
//! `tzdb-zoneinfo`).

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
use crate::domain::printable::printable;

/// A change that is made to hits.
#[derive(Debug, Clone, PartialEq)]
pub enum Fix {
    /// Replaces a value by another.
    Rename {
        /// The field, by the RFTI's name or by Matomo's.
        field: String,
        /// The value to replace, to the letter.
        from: String,
        /// The new value.
        to: String,
    },
    /// Puts a value in upper case.
    Upper {
        /// The field.
        field: String,
    },
    /// Removes the white space at both ends of a value.
    Trim {
        /// The field.
        field: String,
    },
    /// Gives a field a value if it has none.
    Default {
        /// `dimension3` or `dimension4`.
        field: String,
        /// The value.
        value: String,
    },
    /// Converts `cdt` from milliseconds to seconds.
    Seconds,
    /// Converts `cdt` from local time to UTC.
    Utc {
        /// The name of the time zone, as in the IANA's database.
        zone: String,
        /// The rules of the zone.
        tz: TimeZone,
    },
}

/// Why a fix is refused, before anything is moved.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum FixError {
    /// The text begins with none of the known words.
    #[error(
        "{0}: no such fix; there are rename:FIELD:OLD=NEW, upper:FIELD, trim:FIELD, \
         default:FIELD=VALUE, seconds, utc:ZONE"
    )]
    Unknown(String),
    /// A word lacks what it needs.
    #[error("{0}: incomplete; it is written {1}")]
    Incomplete(String, &'static str),
    /// The field is none of the plan's.
    #[error("{0}: the plan has no such field")]
    NoField(String),
    /// The field identifies the visitor, who must never become another.
    #[error("{0} is never changed: it is the visitor's identity")]
    Visitor(String),
    /// The relay supplies the field anyway.
    #[error("{0} is supplied by the relay, whatever the hit holds")]
    Relays(String),
    /// The field is none of the two that can have a default.
    #[error(
        "{0} cannot be given a default: only exploitant (dimension3) and plateforme (dimension4) \
         can"
    )]
    NoDefault(String),
    /// The new value is not in the plan's list for the field.
    #[error("{value} is not in the plan's list for {field}{}", nearest(.suggestion))]
    NotInList {
        /// The field.
        field: String,
        /// The new value.
        value: String,
        /// The legal value that may have been meant.
        suggestion: Option<String>,
    },
    /// A value of the field may name or follow people, and a receipt would keep it.
    #[error("rename:{0}: these values may tell of a person, and a receipt would keep them")]
    Personal(String),
    /// The new value has control characters, or nothing in it.
    #[error("{0}: the new value is empty, or has control characters")]
    BadValue(String),
    /// The zone is not in the database of time zones, or there is no database (see [`fix`](self)).
    #[error("{0}: no such time zone; an example is Europe/Paris")]
    NoZone(String),
}

/// Writes the suggestion of an error message.
fn nearest(suggestion: &Option<String>) -> String {
    suggestion.as_ref().map(|value| format!("; is {value} meant?")).unwrap_or_default()
}

/// How similar a legal value must be to be suggested.
const MIN_SIMILARITY: f64 = 0.8;

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

/// Returns the name of a field; two are also known by a plain word.
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

/// Writes the fix as it is given on the command line.
impl Serialize for Fix {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Fix {
    /// Checks whether the fix may be applied to hits of this plan.
    ///
    /// # Errors
    /// Returns a [`FixError`] if the field is not the plan's or must not be changed, and if the new
    /// value would break the plan.
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
        // A receipt keeps the fixes, and must not name anybody.
        let is_unmasked = |value: &str| masked(plan, field, value, &[]) == printable(value);
        if let Self::Rename { from, to, .. } = self
            && !(is_unmasked(from) && is_unmasked(to))
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
                let suggestion = best.filter(|best| similarity(best) > MIN_SIMILARITY).cloned();
                Err(FixError::NotInList { field: field.clone(), value: value.clone(), suggestion })
            }
            _ => Ok(()),
        }
    }

    /// Returns what the fix makes of a value; `None` if it stays as it is.
    fn apply(
        &self,
        plan: &Plan,
        name: &str,
        value: &str,
        first_seen: Option<Timestamp>,
    ) -> Option<String> {
        let meant =
            |field: &String| plan.index(name).is_some_and(|index| plan.index(field) == Some(index));
        let is_time = || {
            plan.index(name).is_some_and(|index| plan.role_index(FieldRole::Time) == Some(index))
        };
        let fixed = match self {
            Self::Rename { field, from, to } if meant(field) && value == from => to.clone(),
            Self::Upper { field } if meant(field) => value.to_uppercase(),
            Self::Trim { field } if meant(field) => value.trim().to_owned(),
            Self::Seconds if is_time() => match cdt::parse(value) {
                Err(CdtError::Milliseconds(seconds)) => seconds.to_string(),
                _ => return None,
            },
            Self::Utc { tz, .. } if is_time() => utc(value, tz, first_seen)?,
            _ => return None,
        };
        (fixed != value).then_some(fixed)
    }
}

/// Converts a time without an offset from the local time of a zone. It is written with an offset,
/// so that it is not converted twice. A UNIX time does not say which clock it was made from: it is
/// converted only if it lies after the hit was first seen.
fn utc(value: &str, tz: &TimeZone, first_seen: Option<Timestamp>) -> Option<String> {
    let text = value.trim();
    let wall = match text.parse::<Timestamp>() {
        // The time has an offset of its own.
        Ok(_) => return None,
        Err(_) => match text.parse::<DateTime>() {
            Ok(wall) => wall,
            Err(_) => Offset::UTC.to_datetime(
                cdt::parse(text)
                    .ok()
                    .filter(|cdt| first_seen.is_some_and(|first_seen| *cdt > first_seen))?,
            ),
        },
    };
    let time = tz.to_ambiguous_timestamp(wall).compatible().ok()?;
    Some(format!("{time:.0}"))
}

/// Applies the fixes to a hit in their order. Returns it as a JSON object, or `None` if nothing
/// changes. `first_seen` is when the hit was first seen. A hit with an array, an object or a
/// boolean stays as it is, because what is meant by that would be a guess.
pub fn apply_fixes(
    plan: &Plan,
    fixes: &[Fix],
    hit: &RawHit<'_>,
    first_seen: Option<Timestamp>,
) -> Option<Vec<u8>> {
    if fixes.is_empty() {
        return None;
    }
    let mut changed = false;
    // A field without a value is null.
    let mut fields: Vec<(&str, Option<Cow<'_, str>>)> = Vec::new();
    for (name, value) in hit.fields() {
        match value {
            Value::Text(text) => fields.push((name, Some(Cow::Borrowed(text)))),
            Value::Null => fields.push((name, None)),
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
            if let Some(fixed) =
                value.as_deref().and_then(|value| fix.apply(plan, name, value, first_seen))
            {
                *value = Some(Cow::Owned(fixed));
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
mod tests;
