//! Counts that somebody else wrote: what answers in a worker's place may write any.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::de::Error;
use serde::{Deserialize, Deserializer};

/// More hits than this nobody has counted: it is the whole country's for a year and a half, at two
/// thousand million a day. Eight million of these together still are a number.
const MOST: u64 = 1 << 40;

/// Reads a count of hits.
///
/// # Errors
/// Fails for a count that nobody can have reached.
pub(super) fn hits<'de, D: Deserializer<'de>>(from: D) -> Result<u64, D::Error> {
    within_bounds(u64::deserialize(from)?)
}

/// Reads counts of hits by the code of a rule.
///
/// # Errors
/// Fails for a count that nobody can have reached.
pub(super) fn hits_by_rule<'de, D: Deserializer<'de>>(
    from: D,
) -> Result<BTreeMap<Cow<'static, str>, u64>, D::Error> {
    let counts = BTreeMap::deserialize(from)?;
    counts.values().try_for_each(|count| within_bounds(*count).map(drop))?;
    Ok(counts)
}

fn within_bounds<E: Error>(count: u64) -> Result<u64, E> {
    if count <= MOST {
        Ok(count)
    } else {
        Err(E::custom(format_args!("{count} hits are more than anybody can have counted")))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::statement::Queues;
    use super::super::{Account, Figures};
    use super::*;

    fn account(field: &str, value: u64) -> Result<Account, serde_json::Error> {
        let mut account = json!({"exploitant": "e", "plateforme": "p", "idsite": "1"});
        account[field] =
            if field == "rejected" { json!({ "required": value }) } else { json!(value) };
        serde_json::from_value(account)
    }

    #[test]
    fn a_count_that_nobody_reaches_is_refused_in_every_field() {
        let fields = serde_json::to_value(Figures::default()).expect("writes");
        for field in fields.as_object().expect("an object").keys() {
            assert!(account(field, MOST).is_ok(), "{field}");
            for count in [MOST + 1, u64::MAX] {
                let refused = account(field, count).expect_err(field).to_string();
                assert!(refused.contains("more than anybody can have counted"), "{refused}");
            }
        }
        let depths = serde_json::to_value(Queues::default()).expect("writes");
        for field in depths.as_object().expect("an object").keys() {
            let mut depths = depths.clone();
            depths[field] = json!(u64::MAX);
            assert!(serde_json::from_value::<Queues>(depths).is_err(), "{field}");
        }
    }
}
