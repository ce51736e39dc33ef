//! Labels, all of closed sets: codes, names of queues and of lists, and exploitants that the list
//! of exploitants names. A label of any other origin could be personal data, or without end.

use std::fmt;

use prometheus_client::encoding::{EncodeLabelSet, EncodeLabelValue, LabelValueEncoder};

use crate::domain::answer::{Interpretation, Reason};
use crate::domain::breaker::State;
use crate::domain::rule::Rule;
use crate::domain::settle::Delivered;

/// `{how}`: in which way a hit got into Matomo.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct HowLabel {
    /// The way.
    pub(super) how: Delivered,
}

/// `{attempt, reason}`: the retries that a hit has spent, and why it is sent to the next.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RetryLabels {
    /// From 0 to the number of `RETRY_DELAYS`.
    pub(super) attempt: u32,
    /// Why the last attempt failed.
    pub(super) reason: Reason,
}

/// `{reason}`: why a hit was not delivered.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ReasonLabel {
    /// The reason, which `x-dnma-reason` carries too.
    pub(super) reason: Reason,
}

/// `{rule}`: which rule of the plan a hit broke.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RuleLabel {
    /// The rule, which `x-dnma-violations` carries too.
    pub(super) rule: Rule,
}

/// `{outcome}`: what an answer of Matomo's meant for the request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct OutcomeLabel {
    /// The outcome.
    pub(super) outcome: RequestOutcome,
}

/// `{state}`: a state that the breaker can be in.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct StateLabel {
    /// The state.
    pub(super) state: State,
}

/// `{queue}`: a queue without its prefix.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct QueueLabel {
    /// The name without its prefix, or `main` for all shards together.
    pub(super) queue: String,
}

/// `{list}`: a list of the plan.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ListLabel {
    /// The name that the plan gives it.
    pub(super) list: String,
}

/// `{exploitant}`: a value of the list of exploitants, or `other`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct ExploitantLabel {
    /// The value of dimension3.
    pub(super) exploitant: String,
}

impl QueueLabel {
    pub(super) fn of(queue: &str) -> Self {
        Self { queue: queue.to_owned() }
    }
}

impl ExploitantLabel {
    pub(super) fn of(exploitant: &str) -> Self {
        Self { exploitant: exploitant.to_owned() }
    }
}

/// `{waits_for}`: what a lane waits for.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct WaitLabel {
    /// The one thing.
    pub(super) waits_for: WaitsFor,
}

/// What a lane waits for. It always waits for one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum WaitsFor {
    /// Hits from the broker.
    Hits,
    /// `MATOMO_MAX_RATE`.
    MaxRate,
    /// Room at Matomo: the limiter, the breaker or the token lets no request through.
    Room,
    /// Matomo's answer.
    Answer,
}

/// What an answer meant for its request, coarser than [`Interpretation`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum RequestOutcome {
    /// All hits are stored.
    Stored,
    /// Some hits were counted as invalid.
    Refused,
    /// The request failed, and one hit may be the cause.
    Suspect,
    /// Matomo is away.
    Down,
    /// The count does not add up.
    Ambiguous,
}

/// All that a lane may wait for.
pub(super) const WAITS: [WaitsFor; 4] =
    [WaitsFor::Hits, WaitsFor::MaxRate, WaitsFor::Room, WaitsFor::Answer];

/// All ways of delivery.
pub(super) const DELIVERED: [Delivered; 3] =
    [Delivered::Stored, Delivered::Queued, Delivered::Duplicate];

/// All outcomes.
pub(super) const OUTCOMES: [RequestOutcome; 5] = [
    RequestOutcome::Stored,
    RequestOutcome::Refused,
    RequestOutcome::Suspect,
    RequestOutcome::Down,
    RequestOutcome::Ambiguous,
];

/// All states of the breaker.
pub(super) const STATES: [State; 3] = [State::Closed, State::Open, State::HalfOpen];

/// The reasons that [`Interpretation::doubt`] can give.
pub(super) const DOUBTS: [Reason; 7] = [
    Reason::Timeout,
    Reason::ConnectionLost,
    Reason::GatewayTimeout,
    Reason::BadGateway,
    Reason::ServerError,
    Reason::CountMismatch,
    Reason::Refused,
];

impl From<&Interpretation> for RequestOutcome {
    fn from(interpretation: &Interpretation) -> Self {
        match interpretation {
            Interpretation::Stored { .. } => Self::Stored,
            Interpretation::Refused { .. } => Self::Refused,
            Interpretation::Suspect(_) | Interpretation::SuspectAmbiguous(_) => Self::Suspect,
            Interpretation::Down(_) | Interpretation::DownAmbiguous(_) => Self::Down,
            Interpretation::Ambiguous(_) => Self::Ambiguous,
        }
    }
}

/// Writes values of a type by their codes.
macro_rules! encode_by {
    ($type:ty, $code:expr) => {
        impl EncodeLabelValue for $type {
            fn encode(&self, encoder: &mut LabelValueEncoder) -> fmt::Result {
                let code: fn($type) -> &'static str = $code;
                EncodeLabelValue::encode(&code(*self), encoder)
            }
        }
    };
}

encode_by!(Reason, Reason::code);
encode_by!(Rule, Rule::code);
encode_by!(Delivered, |how| match how {
    Delivered::Stored => "stored",
    Delivered::Queued => "queued",
    Delivered::Duplicate => "duplicate",
});
encode_by!(RequestOutcome, |outcome| match outcome {
    RequestOutcome::Stored => "stored",
    RequestOutcome::Refused => "refused",
    RequestOutcome::Suspect => "suspect",
    RequestOutcome::Down => "down",
    RequestOutcome::Ambiguous => "ambiguous",
});
encode_by!(State, |state| match state {
    State::Closed => "closed",
    State::Open => "open",
    State::HalfOpen => "half_open",
});
encode_by!(WaitsFor, |waits_for| match waits_for {
    WaitsFor::Hits => "hits",
    WaitsFor::MaxRate => "max_rate",
    WaitsFor::Room => "room",
    WaitsFor::Answer => "answer",
});
