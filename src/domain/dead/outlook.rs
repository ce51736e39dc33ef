//! What would become of a dead hit if it were sent again now, by the plan in force and by Matomo's
//! age limit.

use jiff::Timestamp;

use super::Dead;
use super::fix::{self, Fix};
use crate::domain::hit;
use crate::domain::max_age::{Age, MaxAge};
use crate::domain::plan::Plan;
use crate::domain::tenant::Sender;
use crate::domain::validate::{Context, Validation, Violation, validate};

/// What a relay would check the hit by.
#[derive(Debug, Clone, Copy)]
pub struct ReplayTerms<'t> {
    /// The plan in force.
    pub plan: &'t Plan,
    /// Which violations let a hit pass.
    pub validation: Validation,
    /// The site of hits that carry none.
    pub default_site: Option<&'t str>,
    /// Whether there is a token, with which hits over the age limit can be delivered.
    pub has_token: bool,
    /// The age from which on Matomo wants it.
    pub max_age: MaxAge,
    /// The current time.
    pub now: Timestamp,
    /// What is changed in the hits before they are sent.
    pub fixes: &'t [Fix],
}

/// What would become of a hit.
#[derive(Debug)]
pub enum Outlook {
    /// It would be delivered.
    Deliverable(Sendable),
    /// It would be rejected, again or now.
    Rejected(Vec<Violation>),
    /// It would be parked again, because it is over the age limit and there is no token.
    TooOld,
}

/// A hit that can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sendable {
    /// Its body, if a fix changed it.
    pub fixed: Option<Vec<u8>>,
    /// How urgent it is.
    pub urgency: Urgency,
}

/// The order in which hits are sent: first the oldest of those that Matomo still takes from
/// everybody, and last those that need a token anyhow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// Whether Matomo takes the hit with a token only.
    needs_token: bool,
    /// The time of the hit.
    cdt: Timestamp,
}

impl Urgency {
    /// Returns the urgency of a hit of this time.
    pub fn of(cdt: Timestamp, max_age: MaxAge, now: Timestamp) -> Self {
        Self { needs_token: max_age.of(cdt, now) == Age::NeedsToken, cdt }
    }

    /// Whether Matomo takes the hit now, and would refuse it in so many seconds.
    pub fn crosses_within(self, seconds: i64, max_age: MaxAge, now: Timestamp) -> bool {
        let then = Timestamp::from_second(now.as_second().saturating_add(seconds)).unwrap_or(now);
        !self.needs_token && max_age.of(self.cdt, then) == Age::NeedsToken
    }
}

/// Decides about one hit, as a relay would that takes it from its shard now.
pub fn outlook(terms: &ReplayTerms<'_>, dead: &Dead<'_>, sender: Sender<'_>) -> Outlook {
    let hit = match &dead.hit {
        Ok(hit) => hit,
        Err(error) => return Outlook::Rejected(vec![Violation::from(error.clone())]),
    };
    let context = Context {
        first_seen: dead.first_failed_at.unwrap_or(terms.now),
        default_site: terms.default_site,
        sent_at: dead.sent_at,
        has_token: terms.has_token,
        max_age: terms.max_age,
        sender,
        routing_key: Some(dead.routing_key),
    };
    match fix::apply_fixes(terms.plan, terms.fixes, hit, dead.first_failed_at.or(dead.sent_at)) {
        None => evaluate(terms, hit, context, None),
        Some(body) => match hit::decode(&body, None) {
            Ok(hit) => evaluate(terms, &hit, context, Some(&body)),
            Err(error) => Outlook::Rejected(vec![Violation::from(error)]),
        },
    }
}

/// Decides about a hit that can be read. `fixed` is its body, if a fix changed it.
fn evaluate(
    terms: &ReplayTerms<'_>,
    hit: &hit::RawHit<'_>,
    context: Context<'_>,
    fixed: Option<&Vec<u8>>,
) -> Outlook {
    let verdict = validate(terms.plan, hit, context);
    match verdict.hit {
        Some(checked) if terms.validation.passes(terms.plan, &verdict.violations) => {
            let urgency = Urgency::of(checked.cdt, terms.max_age, terms.now);
            if urgency.needs_token && !terms.has_token {
                return Outlook::TooOld;
            }
            Outlook::Deliverable(Sendable { fixed: fixed.cloned(), urgency })
        }
        _ => Outlook::Rejected(verdict.violations),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::dead::tests::rejected;
    use crate::domain::rule::Rule;

    fn at(text: &str) -> Timestamp {
        text.parse().expect("a time")
    }

    #[test]
    fn a_hit_is_checked_by_the_plan_of_now_and_as_it_is_fixed() {
        let plan = Plan::built_in().expect("plan");
        let dead = rejected(r#"[{"code":"not-in-list","field":"dimension8"}]"#);
        let fixes = ["rename:dimension8:CANTINE=SERVICE_COLLECTIVITE".parse().expect("a fix")];
        let terms = ReplayTerms {
            plan: &plan,
            validation: Validation::Observe,
            default_site: None,
            has_token: false,
            max_age: MaxAge::default(),
            now: at("2024-11-25T16:00:00Z"),
            fixes: &[],
        };
        let Outlook::Deliverable(sendable) = outlook(&terms, &dead, Sender::Unchecked) else {
            panic!("observed only")
        };
        assert_eq!(sendable.fixed, None);
        let strict = ReplayTerms { validation: Validation::Filter, ..terms };
        let Outlook::Rejected(violations) = outlook(&strict, &dead, Sender::Unchecked) else {
            panic!("breaks the plan")
        };
        assert!(violations.iter().any(|violation| violation.rule == Rule::NotInList));
        let fixed = ReplayTerms { fixes: &fixes, ..terms };
        let Outlook::Deliverable(sendable) = outlook(&fixed, &dead, Sender::Unchecked) else {
            panic!("fixed")
        };
        assert!(
            String::from_utf8(sendable.fixed.expect("changed"))
                .expect("UTF-8")
                .contains("SERVICE_COLLECTIVITE")
        );
        let late = ReplayTerms { now: at("2024-11-27T16:00:00Z"), ..terms };
        assert!(matches!(outlook(&late, &dead, Sender::Unchecked), Outlook::TooOld));
        let hour = MaxAge::new(std::time::Duration::from_secs(3_600));
        let soon = ReplayTerms { now: at("2024-11-25T17:00:00Z"), max_age: hour, ..terms };
        assert!(matches!(outlook(&soon, &dead, Sender::Unchecked), Outlook::TooOld));
        assert!(matches!(
            outlook(&ReplayTerms { has_token: true, ..late }, &dead, Sender::Unchecked),
            Outlook::Deliverable(_)
        ));
    }

    #[test]
    fn those_about_to_cross_the_line_go_first_and_those_behind_it_last() {
        let now = at("2024-11-26T16:00:00Z");
        let of = |text: &str| Urgency::of(at(text), MaxAge::default(), now);
        let (behind, close, young) =
            (of("2024-11-25T10:00:00Z"), of("2024-11-25T16:05:00Z"), of("2024-11-26T15:00:00Z"));
        let mut order = [young, behind, close];
        order.sort();
        assert_eq!(order, [close, young, behind]);
        let crosses =
            |urgency: Urgency, seconds| urgency.crosses_within(seconds, MaxAge::default(), now);
        assert!(crosses(close, 600) && !crosses(close, 60));
        assert!(!crosses(behind, 600) && !crosses(young, 600));
    }
}
