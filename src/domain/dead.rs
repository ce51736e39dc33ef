//! Dead hits: what is known of the messages in *parked* and *rejected*.
//!
//! The queues are the only store, so everything that is known of a dead hit is read from its body
//! and from the headers that the relay wrote when it moved the hit ([`envelope`]).

use jiff::Timestamp;
use serde::Deserialize;

use super::answer::Reason;
use super::envelope::{self, Header};
use super::hit::{self, DecodeError, RawHit};
use super::plan::{FieldRole, Plan};
use super::rule::Severity;
use super::shown::shown;

pub mod broker_move;
pub mod filter;
pub mod fix;
pub mod group;
pub mod mask;
pub mod outlook;

pub use super::envelope::DeadQueue;
pub use broker_move::{BrokerMove, BrokerReason, DeathEntry};

/// The reason of a message that does not say how it came into its queue.
pub const UNKNOWN: &str = "unknown";

/// A message as it lies in its queue.
pub struct DeadMessage<'m, 'h> {
    /// The queue in which it lies.
    pub dead_queue: DeadQueue,
    /// The body, byte for byte as the ENT wrote it.
    pub body: &'m [u8],
    /// The routing key, with which it would be sent again.
    pub routing_key: &'m str,
    /// The AMQP property `content_type`.
    pub content_type: Option<&'m str>,
    /// The AMQP property `timestamp`.
    pub sent_at: Option<Timestamp>,
    /// Looks up a header by its name.
    pub header: &'h dyn Fn(&str) -> Option<Header>,
    /// What the broker wrote of its own moves, the latest first.
    pub deaths: &'h [DeathEntry<'m>],
}

/// What is known of a dead hit.
#[derive(Debug)]
pub struct Dead<'m> {
    /// The queue in which it lies.
    pub dead_queue: DeadQueue,
    /// Why it is there: one cause for a parked hit, and one for each rule that rejected a hit.
    pub causes: Vec<DeathCause>,
    /// How the broker moved it here by itself; `None` if a relay did.
    pub broker_move: Option<BrokerMove>,
    /// The HTTP status of the latest failure; `None` if the broker moved it since.
    pub status: Option<u16>,
    /// How often it was sent.
    pub attempts: u32,
    /// When it first failed, if that is known.
    pub first_failed_at: Option<Timestamp>,
    /// When it last failed, or was rejected.
    pub failed_at: Option<Timestamp>,
    /// The AMQP property `timestamp`.
    pub sent_at: Option<Timestamp>,
    /// The routing key, with which it would be sent again.
    pub routing_key: &'m str,
    /// The AMQP user who sent it, as a relay wrote it down.
    pub tenant: Option<String>,
    /// The replay that sent it before, if one did.
    pub replay: Option<String>,
    /// The hit itself, or why the body is none.
    pub hit: Result<RawHit<'m>, DecodeError>,
}

/// Why a hit is dead.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeathCause {
    /// The code of the failure, or of the rule.
    pub code: String,
    /// The field at fault, by the RFTI's name.
    #[serde(default)]
    pub field: Option<String>,
    /// How severe the violation was when the hit was rejected.
    #[serde(default = "error")]
    severity: Severity,
    /// The sentence that the relay wrote for people.
    #[serde(default)]
    pub message: Option<String>,
}

/// The severity of violations whose header does not name one.
fn error() -> Severity {
    Severity::Error
}

impl<'m> Dead<'m> {
    /// Reads a message. A header that is missing or cannot be read counts as absent.
    pub fn read(message: &DeadMessage<'m, '_>) -> Self {
        let text = |name: &str| match (message.header)(name) {
            Some(Header::Text(text)) => Some(text),
            _ => None,
        };
        let number = |name: &str| match (message.header)(name) {
            Some(Header::Number(number)) => Some(number),
            _ => None,
        };
        let history = envelope::retry_history(number, text);
        let broker_move = BrokerMove::latest(message.deaths);
        let status = number(envelope::STATUS).and_then(|status| u16::try_from(status).ok());
        let failed_at = text(envelope::FAILED_AT).and_then(|time| time.parse().ok());
        Self {
            dead_queue: message.dead_queue,
            causes: causes(broker_move.as_ref(), text),
            status: status.filter(|_| broker_move.is_none()),
            attempts: history.attempts,
            first_failed_at: history.first_failed_at,
            failed_at: broker_move.as_ref().and_then(|moved| moved.at).or(failed_at),
            broker_move,
            sent_at: message.sent_at,
            routing_key: message.routing_key,
            tenant: text(envelope::TENANT),
            replay: text(envelope::REPLAY),
            hit: hit::decode(message.body, message.content_type),
        }
    }

    /// Returns the value of the field of this role; `None` if the hit has none or cannot be read.
    pub fn value(&self, role: FieldRole) -> Option<&str> {
        self.hit.as_ref().ok()?.text(role.code())
    }

    /// Returns the texts that are known to be the visitor: the `uid` and the routing key.
    pub fn visitors(&self) -> [&str; 2] {
        [self.value(FieldRole::User).unwrap_or_default(), self.routing_key]
    }

    /// Returns what lists and groups may show of a value that came with the hit.
    pub fn shown(&self, value: &str) -> String {
        shown(value, &self.visitors())
    }

    /// Returns the value of a field that has a list, which a rejected hit has in place of a legal
    /// one. It returns nothing of what people write freely.
    pub fn listed(&self, plan: &Plan, field: Option<&str>) -> Option<&str> {
        let field = plan
            .index(field?)
            .and_then(|index| plan.fields().get(index))
            .filter(|field| field.list.is_some())?;
        self.hit.as_ref().ok()?.text(&field.name)
    }
}

/// Reads why a hit is dead. What the broker says of its own move is the latest, since a relay
/// leaves it behind whenever it moves a hit; headers of ours beside it are of an earlier failure. A
/// rejected hit carries every violation; of these, the errors are what rejected it, or else, under
/// strict validation, the warnings.
fn causes(
    broker_move: Option<&BrokerMove>,
    text: impl Fn(&str) -> Option<String>,
) -> Vec<DeathCause> {
    let alone = |code: String| {
        vec![DeathCause { code, field: None, severity: Severity::Error, message: None }]
    };
    if let Some(moved) = broker_move {
        return alone(moved.reason.code().to_owned());
    }
    // Of such a message the filter may have left out all headers, those of the broker too.
    if text(envelope::UNREADABLE).is_some() {
        return alone(Reason::Unreadable.code().to_owned());
    }
    match text(envelope::REASON) {
        Some(reason) if reason == envelope::REASON_PLAN => {
            let violations: Vec<DeathCause> = text(envelope::VIOLATIONS)
                .and_then(|list| serde_json::from_str(&list).ok())
                .unwrap_or_default();
            let most_severe = violations.iter().map(|cause| cause.severity).max();
            let causes: Vec<DeathCause> = violations
                .into_iter()
                .filter(|cause| Some(cause.severity) == most_severe)
                .collect();
            if causes.is_empty() { alone(reason) } else { causes }
        }
        Some(reason) => alone(reason),
        None => alone(UNKNOWN.to_owned()),
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::domain) const BODY: &str = r#"{
        "idsite":"7","uid":"u-1","dimension1":"0750655E,0350029S","dimension3":"ALPHA",
        "dimension4":"PA","dimension8":"CANTINE","cdt":1732549235
    }"#;

    pub(in crate::domain) fn rejected(violations: &str) -> Dead<'static> {
        let violations = violations.to_owned();
        let header = move |name: &str| match name {
            envelope::REASON => Some(Header::Text("plan".into())),
            envelope::VIOLATIONS => Some(Header::Text(violations.clone())),
            envelope::FAILED_AT => Some(Header::Text("2026-11-24T08:00:00.000Z".into())),
            envelope::ATTEMPT => Some(Header::Number(0)),
            _ => None,
        };
        Dead::read(&DeadMessage {
            dead_queue: DeadQueue::Rejected,
            body: BODY.as_bytes(),
            routing_key: "u-1",
            content_type: None,
            sent_at: None,
            header: &header,
            deaths: &[],
        })
    }

    pub(in crate::domain) fn parked(reason: &'static str, status: i64) -> Dead<'static> {
        let header = move |name: &str| match name {
            envelope::REASON => Some(Header::Text(reason.into())),
            envelope::STATUS => Some(Header::Number(status)),
            envelope::ATTEMPT => Some(Header::Number(3)),
            envelope::FIRST_FAILED_AT => Some(Header::Text("2026-11-24T07:00:00.000Z".into())),
            envelope::FAILED_AT => Some(Header::Text("2026-11-24T07:30:00.000Z".into())),
            _ => None,
        };
        Dead::read(&DeadMessage {
            dead_queue: DeadQueue::Parked,
            body: BODY.as_bytes(),
            routing_key: "u-1",
            content_type: None,
            sent_at: None,
            header: &header,
            deaths: &[],
        })
    }

    #[test]
    fn what_rejected_a_hit_is_its_errors_or_else_its_warnings() {
        let dead = rejected(
            r#"[
                {"code":"long-value","severity":"warning","field":"dimension9","message":"m"},
                {"code":"not-in-list","severity":"error","field":"dimension8","message":"m"}
            ]"#,
        );
        assert_eq!(
            dead.causes.iter().map(|cause| cause.code.as_str()).collect::<Vec<_>>(),
            ["not-in-list"]
        );
        let strict = rejected(
            r#"[{"code":"long-value","severity":"warning","field":"dimension9","message":"m"}]"#,
        );
        assert_eq!(strict.causes[0].code, "long-value");
        assert_eq!(rejected("no JSON").causes[0].code, "plan");
        assert_eq!(dead.value(FieldRole::Exploitant), Some("ALPHA"));
    }

    /// A message in *parked* with these headers and this history.
    fn moved(headers: &[(&str, &str)], deaths: &[DeathEntry<'static>]) -> Dead<'static> {
        let header = |name: &str| {
            let found = headers.iter().find(|(header, _)| *header == name);
            found.map(|(_, text)| Header::Text((*text).to_owned()))
        };
        Dead::read(&DeadMessage {
            dead_queue: DeadQueue::Parked,
            body: b"\xff",
            routing_key: "",
            content_type: None,
            sent_at: None,
            header: &header,
            deaths,
        })
    }

    #[test]
    fn a_message_without_our_headers_has_a_reason_too() {
        let at = |reason| DeathEntry { reason, queue: "dnma.hits.3", at: None };
        for (reason, code) in [
            ("delivery_limit", "delivery-limit"),
            ("expired", "expired"),
            ("maxlen", "maxlen"),
            ("rejected", "unreadable"),
        ] {
            let dead = moved(&[], &[at(reason)]);
            assert_eq!(dead.causes[0].code, code);
            assert!(dead.hit.is_err() && dead.value(FieldRole::Site).is_none());
        }
        assert_eq!(moved(&[], &[]).causes[0].code, UNKNOWN);
        assert_eq!(moved(&[], &[at("dnma")]).causes[0].code, UNKNOWN);
        let left_out = [(envelope::UNREADABLE, "headers")];
        assert_eq!(moved(&left_out, &[]).causes[0].code, "unreadable");
    }

    #[test]
    fn what_the_broker_did_last_counts_and_not_the_failure_before() {
        let headers = [
            (envelope::REASON, "timeout"),
            (envelope::FAILED_AT, "2026-11-24T07:30:00.000Z"),
            (envelope::FIRST_FAILED_AT, "2026-11-24T07:00:00.000Z"),
        ];
        let time = |text: &str| text.parse::<Timestamp>().ok();
        let retry = DeathEntry {
            reason: "expired",
            queue: "dnma.hits.retry.600s",
            at: time("2026-11-24T07:40:00Z"),
        };
        let shard = DeathEntry {
            reason: "delivery_limit",
            queue: "dnma.hits.0",
            at: time("2026-11-24T08:00:00Z"),
        };
        let by_broker = moved(&headers, &[shard, retry]);
        assert_eq!(by_broker.causes[0].code, "delivery-limit");
        assert_eq!(by_broker.failed_at, shard.at);
        assert_eq!(by_broker.first_failed_at, time("2026-11-24T07:00:00Z"));
        // That it came out of a retry queue is no reason to lie in this one.
        let by_relay = moved(&headers, &[retry]);
        assert_eq!(by_relay.causes[0].code, "timeout");
        assert_eq!(by_relay.failed_at, time("2026-11-24T07:30:00Z"));
        assert!(by_relay.broker_move.is_none());
    }
}
