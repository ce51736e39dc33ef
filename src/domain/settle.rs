//! The fate of each hit: a [`Settlement`]. Every fate is decided in this file: before a request is
//! sent, and by the [`Interpretation`] of its answer, the attempts that the hit has spent, and the
//! schedule.

use super::answer::{Failure, Interpretation, Reason};
use super::validate::Violation;

/// How a hit was delivered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Delivered {
    /// Matomo counted it as tracked (in single mode: answered 204, or 200 with its GIF).
    Stored,
    /// The QueuedTracking plugin took it.
    Queued,
    /// It had been stored before; only the ack had been lost with its connection.
    Duplicate,
}

/// What becomes of a hit. Whoever carries it out consumes it, so that no hit has two fates. A hit
/// that is dropped without one (a task that failed) counts as released, since its channel gives it
/// back to the broker.
#[derive(Debug, PartialEq)]
#[must_use = "a settlement that nobody carries out leaves its hit unacked"]
pub enum Settlement {
    /// In Matomo: ack.
    Delivered(Delivered),
    /// To the retry queue of that step, counted from 0: publish, confirm, ack.
    Retry {
        /// Index into the schedule.
        step: usize,
        /// Attempts spent so far: what the hit's header will say.
        attempts: u32,
        /// Why.
        failure: Failure,
    },
    /// To *parked*: publish, confirm, ack.
    Park {
        /// Attempts spent.
        attempts: u32,
        /// Why.
        failure: Failure,
    },
    /// To *rejected*, with every violation: publish, confirm, ack.
    Reject {
        /// All of them.
        violations: Vec<Violation>,
    },
    /// Back to its shard, unsent: by closing the channel.
    Release,
}

/// What to do with the hits of an answered request.
#[derive(Debug, PartialEq)]
#[must_use]
pub enum Decision {
    /// Each hit has its fate, in the order sent.
    Settle(Vec<Settlement>),
    /// Send the request again as it is. That spends nothing.
    Again,
    /// Send both halves again: one hit in them may be the cause.
    Halve,
    /// Send one by one: some were refused, and only single requests tell which. The others are
    /// stored twice.
    Singly,
}

/// What the decision needs to know of a request beside its answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RequestFacts {
    /// Number of `RETRY_DELAYS`.
    pub steps: usize,
    /// The request was a probe of a Matomo that was known to be away.
    pub probe: bool,
    /// Matomo has too much to do and surely stored nothing: the request may go again as it is.
    pub busy: bool,
}

/// The fate of a hit that Matomo stored before: only its ack was lost, with its connection.
pub const fn duplicate() -> Settlement {
    Settlement::Delivered(Delivered::Duplicate)
}

/// The fate of a hit that breaks the plan.
pub const fn rejected(violations: Vec<Violation>) -> Settlement {
    Settlement::Reject { violations }
}

/// The fate of a message that the client library cannot read: the broker moves it, untouched.
pub const fn unreadable() -> Settlement {
    Settlement::Park { attempts: 0, failure: Failure { reason: Reason::Unreadable, status: None } }
}

/// The fate of a hit that was not sent, when its round ends.
pub const fn unsent() -> Settlement {
    Settlement::Release
}

/// The fate of a hit over the age limit where there is no token: no retry could deliver it.
pub const fn too_old(attempts: u32) -> Settlement {
    Settlement::Park { attempts, failure: Failure { reason: Reason::TooOld, status: None } }
}

/// The fate of a hit that needs the token while the token rests.
pub fn token_refused(attempts: u32, steps: usize) -> Settlement {
    failed(Failure { reason: Reason::TokenRefused, status: None }, attempts, steps)
}

/// Decides for the hits of one request. `attempts` has one entry per hit: how many it had spent
/// before this request.
pub fn decide(interpretation: &Interpretation, attempts: &[u32], facts: RequestFacts) -> Decision {
    let each =
        |fate: &dyn Fn(u32) -> Settlement| attempts.iter().map(|spent| fate(*spent)).collect();
    Decision::Settle(match interpretation {
        Interpretation::Stored { queued } => {
            let how = if *queued { Delivered::Queued } else { Delivered::Stored };
            each(&|_| Settlement::Delivered(how))
        }
        Interpretation::Refused { places: None, .. } => return Decision::Singly,
        Interpretation::Refused { places: Some(places), status } => {
            let failure = Failure { reason: Reason::Refused, status: Some(*status) };
            let fate = |(place, spent): (usize, &u32)| {
                if places.contains(&place) {
                    failed(failure, *spent, facts.steps)
                } else {
                    Settlement::Delivered(Delivered::Stored)
                }
            };
            attempts.iter().enumerate().map(fate).collect()
        }
        Interpretation::Suspect(_) | Interpretation::Down(_) if facts.busy => {
            return Decision::Again;
        }
        Interpretation::Suspect(_) | Interpretation::SuspectAmbiguous(_) if attempts.len() > 1 => {
            return Decision::Halve;
        }
        Interpretation::Suspect(failure)
        | Interpretation::SuspectAmbiguous(failure)
        | Interpretation::Down(failure)
            if facts.probe =>
        {
            each(&|spent| postponed(*failure, spent))
        }
        Interpretation::Suspect(failure)
        | Interpretation::SuspectAmbiguous(failure)
        | Interpretation::Down(failure)
        | Interpretation::DownAmbiguous(failure)
        | Interpretation::Ambiguous(failure) => each(&|spent| failed(*failure, spent, facts.steps)),
    })
}

/// The dead-letter side: the next step of the schedule, or *parked* when the schedule is spent
/// (RFTI §4.2). `spent` is how many attempts the hit had spent before the one that failed.
fn failed(failure: Failure, spent: u32, steps: usize) -> Settlement {
    let attempts = spent.saturating_add(1);
    match usize::try_from(spent) {
        Ok(step) if step < steps => Settlement::Retry { step, attempts, failure },
        _ => Settlement::Park { attempts, failure },
    }
}

/// A probe that failed, and was hardly stored, says nothing of its hit: it waits out the first
/// delay, and an outage of any length parks nothing.
fn postponed(failure: Failure, spent: u32) -> Settlement {
    Settlement::Retry { step: 0, attempts: spent, failure }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FACTS: RequestFacts = RequestFacts { steps: 2, probe: false, busy: false };

    #[test]
    fn fates_follow_the_schedule() {
        let failure = Failure { reason: Reason::Timeout, status: None };
        let Decision::Settle(fates) =
            decide(&Interpretation::DownAmbiguous(failure), &[0, 1, 2, u32::MAX], FACTS)
        else {
            panic!("settled")
        };
        assert_eq!(
            fates,
            [
                Settlement::Retry { step: 0, attempts: 1, failure },
                Settlement::Retry { step: 1, attempts: 2, failure },
                Settlement::Park { attempts: 3, failure },
                Settlement::Park { attempts: u32::MAX, failure },
            ]
        );
    }

    #[test]
    fn a_failed_probe_costs_no_retry_unless_matomo_names_the_hit_or_may_have_stored_it() {
        let failure = Failure { reason: Reason::Unavailable, status: Some(503) };
        let probe = RequestFacts { probe: true, ..FACTS };
        for interpretation in [Interpretation::Suspect(failure), Interpretation::Down(failure)] {
            assert_eq!(
                decide(&interpretation, &[2], probe),
                Decision::Settle(vec![Settlement::Retry { step: 0, attempts: 2, failure }])
            );
        }
        let in_doubt = decide(&Interpretation::DownAmbiguous(failure), &[2], probe);
        assert_eq!(
            in_doubt,
            Decision::Settle(vec![Settlement::Park { attempts: 3, failure }]),
            "no hit is stored without bound"
        );
        let Decision::Settle(fates) =
            decide(&Interpretation::Refused { places: Some(vec![0]), status: 200 }, &[2], probe)
        else {
            panic!("settled")
        };
        assert!(matches!(fates[..], [Settlement::Park { attempts: 3, .. }]));
    }

    #[test]
    fn what_was_surely_not_stored_goes_again_while_matomo_is_busy() {
        let failure = Failure { reason: Reason::BadGateway, status: Some(502) };
        let busy = RequestFacts { busy: true, ..FACTS };
        for hits in [&[0][..], &[0, 2]] {
            for interpretation in [Interpretation::Suspect(failure), Interpretation::Down(failure)]
            {
                assert_eq!(decide(&interpretation, hits, busy), Decision::Again);
            }
            for interpretation in
                [Interpretation::DownAmbiguous(failure), Interpretation::Ambiguous(failure)]
            {
                assert!(matches!(decide(&interpretation, hits, busy), Decision::Settle(_)));
            }
        }
    }

    #[test]
    fn a_500_is_halved_until_one_hit_stands_alone() {
        let failure = Failure { reason: Reason::ServerError, status: Some(500) };
        assert_eq!(decide(&Interpretation::Suspect(failure), &[0, 0], FACTS), Decision::Halve);
        let alone = Settlement::Retry { step: 0, attempts: 1, failure };
        assert_eq!(
            decide(&Interpretation::Suspect(failure), &[0], FACTS),
            Decision::Settle(vec![alone])
        );
        assert_eq!(
            decide(&Interpretation::Refused { places: None, status: 200 }, &[0, 0], FACTS),
            Decision::Singly
        );
    }
}
