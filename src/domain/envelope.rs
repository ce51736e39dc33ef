//! Our headers ↔ attempt, reason, first failure: all that the relay knows of a hit travels with it,
//! and its body stays as the ENT wrote it.

use jiff::Timestamp;

use super::code::codes;

codes! {
    /// A queue that hits stay in until somebody decides.
    DeadQueue {
        /// Holds the hits that could not be delivered.
        Parked = "parked",
        /// Holds the hits that break the plan.
        Rejected = "rejected",
    }
}

/// How often the hit has been sent to Matomo.
pub const ATTEMPT: &str = "x-dnma-attempt";
/// Code of the latest failure, or `plan` for a rejected hit.
pub const REASON: &str = "x-dnma-reason";
/// HTTP status of the latest failure.
pub const STATUS: &str = "x-dnma-status";
/// When the hit first failed, RFC 3339 in UTC.
pub const FIRST_FAILED_AT: &str = "x-dnma-first-failed-at";
/// When the hit last failed, RFC 3339 in UTC.
pub const FAILED_AT: &str = "x-dnma-failed-at";
/// JSON list of `{code, field, message}`.
pub const VIOLATIONS: &str = "x-dnma-violations";
/// Version of the plan that was applied.
pub const PLAN: &str = "x-dnma-plan";
/// The worker that wrote these headers.
pub const WORKER: &str = "x-dnma-worker";
/// The AMQP user who sent the hit, as the broker had verified it before the relay moved the hit.
pub const TENANT: &str = "x-dnma-tenant";

/// The replay that took the hit out of its queue, and the name of that:
/// `parked/20261124T080000Z-1a2b`. It stays with the hit from then on.
pub const REPLAY: &str = "x-dnma-replay";

const OURS: [&str; 9] =
    [ATTEMPT, REASON, STATUS, FIRST_FAILED_AT, FAILED_AT, VIOLATIONS, PLAN, WORKER, TENANT];

/// `x-dnma-reason` of a rejected hit; its violations say the rest.
pub const REASON_PLAN: &str = "plan";

/// What a message tells of its history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryHistory {
    /// How often it was sent before.
    pub attempts: u32,
    /// When it first failed.
    pub first_failed_at: Option<Timestamp>,
    /// Where it lay, if an operator has just sent it again: it has not failed since.
    pub replayed: Option<DeadQueue>,
}

/// One header value. In JSON it is just that.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Header {
    /// A text.
    Text(String),
    /// A whole number.
    Number(i64),
}

/// What the next queue is told.
#[derive(Debug)]
pub struct DeadLetterHeaders<'l> {
    /// Code of the failure, or [`REASON_PLAN`].
    pub reason: &'l str,
    /// How often the hit has been sent, this attempt included.
    pub attempts: u32,
    /// HTTP status of the failure.
    pub status: Option<u16>,
    /// When it first failed, if this is not the first time.
    pub first_failed_at: Option<Timestamp>,
    /// Now.
    pub failed_at: Timestamp,
    /// JSON of the violations, for rejected hits.
    pub violations: Option<String>,
    /// Version of the plan.
    pub plan: &'l str,
    /// Name of this worker.
    pub worker: &'l str,
    /// The AMQP user who sent the hit.
    pub tenant: Option<&'l str>,
}

/// Reads a message's past from its headers. What cannot be read counts as not there: a sender's
/// mistake in a header of ours must not stop the line.
pub fn retry_history(
    number: impl Fn(&str) -> Option<i64>,
    text: impl Fn(&str) -> Option<String>,
) -> RetryHistory {
    RetryHistory {
        attempts: number(ATTEMPT).and_then(|n| u32::try_from(n).ok()).unwrap_or(0),
        first_failed_at: text(FIRST_FAILED_AT).and_then(|t| t.parse().ok()),
        replayed: text(REPLAY).filter(|_| text(REASON).is_none()).and_then(|mark| {
            let dead_queue = mark.split('/').next()?;
            DeadQueue::ALL.iter().copied().find(|known| known.code() == dead_queue)
        }),
    }
}

/// Whether a header of the incoming message may go on to the next queue. Ours are written anew; the
/// broker's death history would be taken for a client's claim; and `CC`/`BCC` would multiply the
/// hit when it comes back from a retry queue.
pub fn keeps(name: &str) -> bool {
    let death = name == "x-death"
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-");
    let count = name == "x-delivery-count" || name == "x-acquired-count";
    !death && !count && name != "CC" && name != "BCC" && !OURS.contains(&name)
}

/// Whether a header is one that relays write.
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name) || name == REPLAY
}

impl DeadLetterHeaders<'_> {
    /// The headers, in the order of the design.
    pub fn list(&self) -> Vec<(&'static str, Header)> {
        let first = self.first_failed_at.unwrap_or(self.failed_at);
        let mut headers = vec![
            (ATTEMPT, Header::Number(i64::from(self.attempts))),
            (REASON, Header::Text(self.reason.to_owned())),
            (FIRST_FAILED_AT, Header::Text(rfc3339(first))),
            (FAILED_AT, Header::Text(rfc3339(self.failed_at))),
            (PLAN, Header::Text(self.plan.to_owned())),
            (WORKER, Header::Text(self.worker.to_owned())),
        ];
        headers.extend(self.status.map(|status| (STATUS, Header::Number(i64::from(status)))));
        headers.extend(self.tenant.map(|tenant| (TENANT, Header::Text(tenant.to_owned()))));
        headers.extend(
            self.violations.clone().map(|violations| (VIOLATIONS, Header::Text(violations))),
        );
        headers
    }
}

/// Milliseconds are enough for people and for sorting.
fn rfc3339(time: Timestamp) -> String {
    let millis = Timestamp::from_millisecond(time.as_millisecond()).unwrap_or(time);
    format!("{millis:.3}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_again() {
        let at: Timestamp = "2024-11-25T16:11:42.123456Z".parse().expect("a time");
        let headers = DeadLetterHeaders {
            reason: "timeout",
            attempts: 2,
            status: None,
            first_failed_at: None,
            failed_at: at,
            violations: None,
            plan: "2.01",
            worker: "w",
            tenant: None,
        };
        let headers = headers.list();
        assert!(
            headers.contains(&(FIRST_FAILED_AT, Header::Text("2024-11-25T16:11:42.123Z".into()))),
            "{headers:?}"
        );
        let find = |name: &str| headers.iter().find(|(n, _)| *n == name).map(|(_, h)| h.clone());
        let history = retry_history(
            |name| match find(name) {
                Some(Header::Number(n)) => Some(n),
                _ => None,
            },
            |name| match find(name) {
                Some(Header::Text(t)) => Some(t),
                _ => None,
            },
        );
        assert_eq!(history.attempts, 2);
        assert_eq!(history.first_failed_at.map(|t| t.as_millisecond()), Some(at.as_millisecond()));
    }

    #[test]
    fn a_replay_counts_until_the_hit_fails_again() {
        let of = |reason: Option<&'static str>, mark: &'static str| {
            retry_history(
                |_| None,
                |name| match name {
                    REPLAY => Some(mark.to_owned()),
                    REASON => reason.map(str::to_owned),
                    _ => None,
                },
            )
        };
        assert_eq!(of(None, "parked/20261124T080000Z-1a2b").replayed, Some(DeadQueue::Parked));
        assert_eq!(of(Some("timeout"), "parked/20261124T080000Z-1a2b").replayed, None);
        assert_eq!(of(None, "yesterday").replayed, None);
    }

    #[test]
    fn nonsense_in_our_headers_counts_as_absent() {
        assert_eq!(
            retry_history(|_| Some(-1), |_| Some("yesterday".into())),
            RetryHistory::default()
        );
        assert_eq!(retry_history(|_| Some(i64::MAX), |_| None), RetryHistory::default());
    }

    #[test]
    fn death_history_and_carbon_copies_stay_behind() {
        for name in [
            "x-death",
            "x-first-death-queue",
            "x-last-death-reason",
            "x-delivery-count",
            "CC",
            "BCC",
            ATTEMPT,
            WORKER,
        ] {
            assert!(!keeps(name), "{name}");
        }
        assert!(keeps("x-ent-version"));
    }
}
