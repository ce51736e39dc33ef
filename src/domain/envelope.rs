//! The headers in which everything that the relay knows about a hit travels with it, while its body
//! stays as the ENT wrote it.

use jiff::Timestamp;

use super::code::codes;

codes! {
    /// A queue in which hits stay until somebody decides about them.
    DeadQueue {
        /// Holds the hits that could not be delivered.
        Parked = "parked",
        /// Holds the hits that break the plan.
        Rejected = "rejected",
    }
}

/// The header that says how often the hit has been sent to Matomo.
pub const ATTEMPT: &str = "x-dnma-attempt";
/// The header with the code of the latest failure, or `plan` for a rejected hit.
pub const REASON: &str = "x-dnma-reason";
/// The header with the HTTP status of the latest failure.
pub const STATUS: &str = "x-dnma-status";
/// The header that says when the hit first failed, RFC 3339 in UTC.
pub const FIRST_FAILED_AT: &str = "x-dnma-first-failed-at";
/// The header that says when the hit last failed, RFC 3339 in UTC.
pub const FAILED_AT: &str = "x-dnma-failed-at";
/// The header with the violations of a rejected hit: a JSON list of
/// `{code, severity, field, message}`.
pub const VIOLATIONS: &str = "x-dnma-violations";
/// The header with the version of the plan that was applied.
pub const PLAN: &str = "x-dnma-plan";
/// The header with the name of the worker that wrote these headers.
pub const WORKER: &str = "x-dnma-worker";
/// The header with the AMQP user who sent the hit, as the broker had verified it before the relay
/// moved the hit.
pub const TENANT: &str = "x-dnma-tenant";

/// The header of a message that was rewritten on its way from the broker because the client library
/// cannot read it. The relay's own filter writes it for the process that reads the message, and the
/// broker never sees it.
pub const UNREADABLE: &str = "x-dnma-unreadable";

/// The header with the queue that a replay took the hit out of, and the name of the replay:
/// `parked/20261124T080000Z-1a2b`. The relay hands it on with the hit from then on.
pub const REPLAY: &str = "x-dnma-replay";

/// The headers that are written anew whenever the relay moves a hit.
const OURS: [&str; 10] =
    [ATTEMPT, REASON, STATUS, FIRST_FAILED_AT, FAILED_AT, VIOLATIONS, PLAN, WORKER, TENANT, REPLAY];

/// The value of [`REASON`] for a rejected hit. Its violations say the rest.
pub const REASON_PLAN: &str = "plan";

/// What the headers of a message say about its history.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RetryHistory {
    /// How often the hit was sent before.
    pub attempts: u32,
    /// When it first failed, if it has failed.
    pub first_failed_at: Option<Timestamp>,
    /// The queue in which it lay, if an operator has sent it again and it has not failed since.
    pub replayed: Option<DeadQueue>,
}

/// The value of a header. In JSON it is a plain string or number.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(untagged)]
pub enum Header {
    /// The value is text.
    Text(String),
    /// The value is a whole number.
    Number(i64),
}

/// What the headers of a hit say that is moved to a dead-letter queue.
#[derive(Debug)]
pub struct DeadLetterHeaders<'l> {
    /// The code of the failure, or [`REASON_PLAN`].
    pub reason: &'l str,
    /// How often the hit has been sent, this attempt included.
    pub attempts: u32,
    /// The HTTP status of the failure, if there was an answer.
    pub status: Option<u16>,
    /// When the hit first failed, if this is not the first time.
    pub first_failed_at: Option<Timestamp>,
    /// When it failed this time: now.
    pub failed_at: Timestamp,
    /// The violations as JSON, if the hit is rejected.
    pub violations: Option<String>,
    /// The version of the plan.
    pub plan: &'l str,
    /// The name of this worker.
    pub worker: &'l str,
    /// The AMQP user who sent the hit, if it is known.
    pub tenant: Option<&'l str>,
    /// The mark of the latest replay, if there was one.
    pub replay: Option<&'l str>,
}

/// Reads a message's history from its headers, which must be those that a relay wrote. A header
/// that cannot be read counts as absent: a mistake in a header must not stop the hits behind it.
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

/// Whether a header of the incoming message is kept when the hit is moved. Ours are written anew;
/// the broker would take its own death history for a client's claim; and `CC` and `BCC` would
/// multiply the hit when it comes back from a retry queue.
pub fn keeps(name: &str) -> bool {
    let death = name == "x-death"
        || name.starts_with("x-first-death-")
        || name.starts_with("x-last-death-");
    let mark = name == UNREADABLE;
    !death
        && !is_brokers_count(name)
        && !mark
        && name != "CC"
        && name != "BCC"
        && !OURS.contains(&name)
}

/// Whether this is a header in which a quorum queue counts how often it gave a message to somebody.
/// A mere look raises it, so it says nothing of the message itself.
pub fn is_brokers_count(name: &str) -> bool {
    name == "x-delivery-count" || name == "x-acquired-count"
}

/// Whether this is a header that relays write.
pub fn is_ours(name: &str) -> bool {
    OURS.contains(&name)
}

impl DeadLetterHeaders<'_> {
    /// Returns the headers by name.
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
        headers.extend(self.replay.map(|mark| (REPLAY, Header::Text(mark.to_owned()))));
        headers.extend(
            self.violations.clone().map(|violations| (VIOLATIONS, Header::Text(violations))),
        );
        headers
    }
}

/// Writes a time to the millisecond, which is enough for people and for sorting.
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
            replay: None,
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
        assert_eq!(of(None, "rejected").replayed, Some(DeadQueue::Rejected));
        assert_eq!(of(None, "yesterday").replayed, None);
        assert_eq!(of(None, "/parked").replayed, None);
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
    fn a_number_of_attempts_is_believed_if_it_can_be_one() {
        for (header, expected) in [
            (None, 0),
            (Some(i64::MIN), 0),
            (Some(-1), 0),
            (Some(0), 0),
            (Some(3), 3),
            (Some(i64::from(u32::MAX)), u32::MAX),
            (Some(i64::from(u32::MAX) + 1), 0),
        ] {
            let number = |name: &str| if name == ATTEMPT { header } else { Some(9) };
            let history = RetryHistory { attempts: expected, ..RetryHistory::default() };
            assert_eq!(retry_history(number, |_| None), history, "{header:?}");
        }
    }

    #[test]
    fn a_hit_that_failed_says_why_when_and_where() {
        let time = |text: &str| text.parse::<Timestamp>().expect("a time");
        let text = |text: &str| Header::Text(text.to_owned());
        let headers = DeadLetterHeaders {
            reason: REASON_PLAN,
            attempts: u32::MAX,
            status: Some(503),
            first_failed_at: Some(time("2024-11-25T16:11:42Z")),
            failed_at: time("2024-11-25T17:11:42.9999+01:00"),
            violations: Some("[]".to_owned()),
            plan: "2.01",
            worker: "w-1",
            tenant: Some("ent-alpha"),
            replay: Some("parked/20261124T080000Z-1a2b"),
        };
        let required = [
            ("x-dnma-attempt", Header::Number(4_294_967_295)),
            ("x-dnma-reason", text("plan")),
            ("x-dnma-first-failed-at", text("2024-11-25T16:11:42.000Z")),
            ("x-dnma-failed-at", text("2024-11-25T16:11:42.999Z")),
            ("x-dnma-plan", text("2.01")),
            ("x-dnma-worker", text("w-1")),
        ];
        let optional = [
            ("x-dnma-status", Header::Number(503)),
            ("x-dnma-tenant", text("ent-alpha")),
            ("x-dnma-replay", text("parked/20261124T080000Z-1a2b")),
            ("x-dnma-violations", text("[]")),
        ];
        assert_eq!(headers.list(), [&required[..], &optional].concat());
        let without = DeadLetterHeaders {
            status: None,
            violations: None,
            tenant: None,
            replay: None,
            ..headers
        };
        assert_eq!(without.list(), required);
    }

    #[test]
    fn what_relays_write_is_theirs_and_written_anew() {
        for name in OURS {
            assert!(is_ours(name) && !keeps(name), "{name}");
        }
        for name in ["", "x-dnma", "x-dnma-attempts", "X-DNMA-ATTEMPT", "x-death", "CC"] {
            assert!(!is_ours(name), "{name}");
        }
    }

    #[test]
    fn what_the_broker_counts_is_not_the_messages_own() {
        for name in ["x-delivery-count", "x-acquired-count"] {
            assert!(is_brokers_count(name), "{name}");
        }
        for name in ["", "x-death", "x-delivery", "X-Delivery-Count", ATTEMPT] {
            assert!(!is_brokers_count(name), "{name}");
        }
    }

    #[test]
    fn death_history_and_carbon_copies_stay_behind() {
        for name in [
            "x-death",
            "x-first-death-queue",
            "x-last-death-reason",
            "x-delivery-count",
            "x-acquired-count",
            "CC",
            "BCC",
        ] {
            assert!(!keeps(name), "{name}");
        }
        for name in ["x-ent-version", "x-deaths", "x-death-first-", "x-first-death", "cc", ""] {
            assert!(keeps(name), "{name}");
        }
    }
}
