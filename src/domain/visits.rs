//! Watches for visit dimensions that change within a visit (RFTI §3.2.2: "doivent porter la même
//! valeur du début à la fin de la visite").
//!
//! What is kept of a visitor is a keyed hash, and the memory is bounded: when it is full, those not
//! seen for longest go.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::plan::Plan;
use super::rule::Rule;
use super::validate::{CheckedHit, Violation};

/// Matomo ends a visit after so many seconds without a hit.
const VISIT: i64 = 1_800;

/// The visits of late.
#[derive(Debug)]
pub struct Visits {
    key: RandomState,
    most: usize,
    recent: FxHashMap<u64, Visit>,
    before: FxHashMap<u64, Visit>,
}

/// A hit as far as it says something of a visit.
#[derive(Debug)]
pub struct VisitSnapshot {
    visitor: u64,
    visit: Visit,
}

#[derive(Debug)]
struct Visit {
    /// Time of the latest hit, UNIX seconds.
    at: i64,
    /// Hash of each visit dimension, in the plan's order. The plan has four.
    values: SmallVec<[u32; 4]>,
}

impl Visits {
    /// Remembers at least `most` visitors, and at most twice as many; one takes about 100 bytes.
    /// `key` makes the hashes useless outside.
    pub fn new(most: usize, key: RandomState) -> Self {
        Self { key, most: most.max(1), recent: FxHashMap::default(), before: FxHashMap::default() }
    }

    /// What a hit says of its visit.
    pub fn snapshot(&self, plan: &Plan, hit: &CheckedHit<'_>) -> VisitSnapshot {
        let values = plan.fields().iter().zip(&hit.values).filter(|(field, _)| field.visit);
        let values = values
            .map(|(_, value)| (self.key.hash_one(value.as_deref()) & u64::from(u32::MAX)) as u32)
            .collect();
        VisitSnapshot {
            visitor: self.key.hash_one((&hit.idsite, &hit.uid)),
            visit: Visit { at: hit.cdt.as_second(), values },
        }
    }

    /// The visit dimensions of this hit that had another value less than 30 minutes of event time
    /// ago.
    pub fn changed(&self, plan: &Plan, snapshot: &VisitSnapshot) -> Vec<Violation> {
        let VisitSnapshot { visitor, visit: Visit { at, values } } = snapshot;
        let known = self.recent.get(visitor).or_else(|| self.before.get(visitor));
        let Some(visit) = known.filter(|visit| (visit.at - at).abs() < VISIT) else {
            return Vec::new();
        };
        // Another plan may have come since, with other fields.
        if values.len() != visit.values.len() {
            return Vec::new();
        }
        let fields = plan.fields().iter().filter(|field| field.visit);
        let changed =
            fields.zip(visit.values.iter().zip(values)).filter(|(_, (before, now))| before != now);
        changed.map(|(field, _)| Violation::of(Rule::VisitDimensionChanged, &field.name)).collect()
    }

    /// This hit is the visit's latest: what comes next is held against it. For hits that are sent;
    /// what is rejected says nothing of a visit.
    pub fn keep(&mut self, snapshot: VisitSnapshot) {
        let VisitSnapshot { visitor, visit } = snapshot;
        let known = self.recent.remove(&visitor).or_else(|| self.before.remove(&visitor));
        let visit = match known {
            // A hit that comes late from an earlier visit.
            Some(known) if visit.at <= known.at - VISIT => known,
            Some(known) => Visit { at: known.at.max(visit.at), ..visit },
            None => visit,
        };
        if self.recent.len() >= self.most {
            self.before = std::mem::take(&mut self.recent);
        }
        self.recent.insert(visitor, visit);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::hit::decode;
    use crate::domain::validate::{Context, validate};

    fn watch(visits: &mut Visits, plan: &Plan, uid: &str, profile: &str, cdt: i64) -> Vec<String> {
        let message = format!(
            r#"{{"idsite":1,"uid":"{uid}","dimension2":"{profile}","dimension11":"WEB-PWA","cdt":{cdt}}}"#
        );
        let hit = decode(message.as_bytes(), None).expect("decodes");
        let first_seen = jiff::Timestamp::from_second(cdt).expect("in range");
        let verdict = validate(plan, &hit, Context::at(first_seen));
        let hit = verdict.hit.expect("can be sent");
        let snapshot = visits.snapshot(plan, &hit);
        let violations = visits.changed(plan, &snapshot);
        visits.keep(snapshot);
        violations.into_iter().filter_map(|violation| violation.field).collect()
    }

    #[test]
    fn a_value_may_change_between_visits_and_not_within_one() {
        let plan = Plan::built_in().expect("plan");
        let mut visits = Visits::new(10, RandomState::new());
        let t = 1_732_549_235;
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t).is_empty());
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t + 60).is_empty());
        assert!(watch(&mut visits, &plan, "b", "PARENT", t + 60).is_empty(), "another visitor");
        assert_eq!(watch(&mut visits, &plan, "a", "PARENT", t + 120), ["dimension2"]);
        assert!(watch(&mut visits, &plan, "a", "PARENT", t + 180).is_empty(), "told once");
        assert!(
            watch(&mut visits, &plan, "a", "ELEVE", t + 180 + VISIT).is_empty(),
            "the next visit"
        );
    }

    #[test]
    fn a_late_hit_of_an_earlier_visit_says_nothing_of_this_one() {
        let plan = Plan::built_in().expect("plan");
        let mut visits = Visits::new(10, RandomState::new());
        let t = 1_732_549_235;
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t).is_empty());
        assert!(watch(&mut visits, &plan, "a", "PARENT", t - 3 * VISIT).is_empty());
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t + 60).is_empty());
    }

    #[test]
    fn the_memory_is_bounded_and_keeps_the_recent() {
        let plan = Plan::built_in().expect("plan");
        let mut visits = Visits::new(10, RandomState::new());
        let t = 1_732_549_235;
        for visitor in 0..100 {
            watch(&mut visits, &plan, &format!("visitor-{visitor}"), "ELEVE", t);
        }
        assert!(visits.recent.len() + visits.before.len() <= 20);
        assert_eq!(watch(&mut visits, &plan, "visitor-95", "PARENT", t + 1), ["dimension2"]);
        assert!(watch(&mut visits, &plan, "visitor-3", "PARENT", t + 1).is_empty(), "forgotten");
    }
}
