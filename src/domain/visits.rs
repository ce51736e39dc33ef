//! Detects visit dimensions that change within a visit (RFTI §3.2.2: "doivent porter la même
//! valeur du début à la fin de la visite").
//!
//! A visitor is kept as a keyed hash. The memory is bounded: when it is full, the visitors that
//! were not seen for the longest time are forgotten.

use std::hash::{BuildHasher, RandomState};

use rustc_hash::FxHashMap;
use smallvec::SmallVec;

use super::plan::Plan;
use super::rule::Rule;
use super::validate::{CheckedHit, Violation};

/// After how many seconds without a hit Matomo ends a visit.
const VISIT_TIMEOUT: i64 = 1_800;

/// The latest visits.
#[derive(Debug)]
pub struct Visits {
    /// The key of the hashes.
    key: RandomState,
    /// How many visitors `recent` may have.
    capacity: usize,
    /// The visits that were seen last, by the hash of the visitor.
    recent: FxHashMap<u64, Visit>,
    /// The visits that were seen before those: what `recent` held when it was last full.
    before: FxHashMap<u64, Visit>,
}

/// What a hit says about its visit.
#[derive(Debug)]
pub struct VisitSnapshot {
    /// The hash of the visitor.
    visitor: u64,
    /// The visit, if this hit were its first.
    visit: Visit,
}

/// A visit, as far as it is remembered.
#[derive(Debug)]
struct Visit {
    /// The time of the latest hit, in UNIX seconds.
    at: i64,
    /// The hash of each visit dimension, in the plan's order. The plan has four.
    values: SmallVec<[u32; 4]>,
}

impl Visits {
    /// Remembers at least `capacity` visitors, and at most twice as many; each takes about 100
    /// bytes. `key` makes the hashes useless outside of this process.
    pub fn new(capacity: usize, key: RandomState) -> Self {
        Self {
            key,
            capacity: capacity.max(1),
            recent: FxHashMap::default(),
            before: FxHashMap::default(),
        }
    }

    /// Takes from a hit what it says about its visit.
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

    /// Returns a violation for each visit dimension of this hit that had another value less than 30
    /// minutes of event time ago.
    pub fn changed(&self, plan: &Plan, snapshot: &VisitSnapshot) -> Vec<Violation> {
        let VisitSnapshot { visitor, visit: Visit { at, values } } = snapshot;
        let known = self.recent.get(visitor).or_else(|| self.before.get(visitor));
        let Some(visit) = known.filter(|visit| (visit.at - at).abs() < VISIT_TIMEOUT) else {
            return Vec::new();
        };
        // Another plan may have come into force since, with other fields.
        if values.len() != visit.values.len() {
            return Vec::new();
        }
        let fields = plan.fields().iter().filter(|field| field.visit);
        let changed =
            fields.zip(visit.values.iter().zip(values)).filter(|(_, (before, now))| before != now);
        changed.map(|(field, _)| Violation::of(Rule::VisitDimensionChanged, &field.name)).collect()
    }

    /// Remembers this hit as the visit's latest, with which the next is compared. It is called for
    /// hits that are sent: those that are rejected say nothing about a visit.
    pub fn keep(&mut self, snapshot: VisitSnapshot) {
        let VisitSnapshot { visitor, visit } = snapshot;
        let known = self.recent.remove(&visitor).or_else(|| self.before.remove(&visitor));
        let visit = match known {
            // The hit comes late, from an earlier visit.
            Some(known) if visit.at <= known.at - VISIT_TIMEOUT => known,
            Some(known) => Visit { at: known.at.max(visit.at), ..visit },
            None => visit,
        };
        if self.recent.len() >= self.capacity {
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
            "{{\"idsite\":1,\"uid\":\"{uid}\",\"dimension2\":\"{profile}\",\"dimension11\":\"\
             WEB-PWA\",\"cdt\":{cdt}}}"
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
        assert!(watch(&mut visits, &plan, "a", "PARENT", t + 180).is_empty(), "reported once");
        assert!(
            watch(&mut visits, &plan, "a", "ELEVE", t + 180 + VISIT_TIMEOUT).is_empty(),
            "the next visit"
        );
    }

    #[test]
    fn a_late_hit_of_an_earlier_visit_says_nothing_of_this_one() {
        let plan = Plan::built_in().expect("plan");
        let mut visits = Visits::new(10, RandomState::new());
        let t = 1_732_549_235;
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t).is_empty());
        assert!(watch(&mut visits, &plan, "a", "PARENT", t - 3 * VISIT_TIMEOUT).is_empty());
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t + 60).is_empty());
    }

    #[test]
    fn a_visit_lasts_until_half_an_hour_after_its_latest_hit() {
        let plan = Plan::built_in().expect("plan");
        let (t, timeout) = (1_732_549_235, VISIT_TIMEOUT);
        // The times of an earlier hit and of one with another profile, and whether they are of one
        // visit, both ways round in time.
        for (earlier, later, one_visit) in
            [(t, t + timeout - 1, true), (t, t + timeout, false), (t, t, true)]
        {
            for (first, second) in [(earlier, later), (later, earlier)] {
                let mut visits = Visits::new(10, RandomState::new());
                assert!(watch(&mut visits, &plan, "a", "ELEVE", first).is_empty());
                let changed = watch(&mut visits, &plan, "a", "PARENT", second);
                assert_eq!(!changed.is_empty(), one_visit, "{first} {second}");
                // What is remembered is the later visit, or of one visit the hit that came last.
                let last = if one_visit || second > first { "PARENT" } else { "ELEVE" };
                assert!(watch(&mut visits, &plan, "a", last, later).is_empty(), "{first} {second}");
            }
        }
    }

    #[test]
    fn a_hit_that_was_overtaken_does_not_shorten_its_visit() {
        let plan = Plan::built_in().expect("plan");
        let mut visits = Visits::new(10, RandomState::new());
        let t = 1_732_549_235;
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t + 1_000).is_empty());
        assert!(watch(&mut visits, &plan, "a", "ELEVE", t).is_empty());
        let end = t + 1_000 + VISIT_TIMEOUT;
        assert_eq!(watch(&mut visits, &plan, "a", "PARENT", end - 1), ["dimension2"]);
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
