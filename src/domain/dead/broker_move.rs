//! How the broker moved a message by itself, as it writes it into the header `x-death`.

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::code::codes;

codes! {
    /// Why the broker moved a message out of a shard by itself.
    BrokerReason {
        /// The message was given back too often. It may have crashed workers.
        DeliveryLimit = "delivery-limit",
        /// The message had waited for longer than it or its queue may keep it.
        Expired = "expired",
        /// The queue was over its limit of length.
        MaxLength = "maxlen",
        /// A worker refused the message and left it to the broker to move it, which workers do
        /// only with a message that the client library cannot read.
        Refused = "unreadable",
    }
}

/// How many entries of a history are looked at. Those of a hit are two for each step of the
/// schedule at most, since a relay leaves the history behind when it moves a hit.
const MAX_ENTRIES: usize = 16;

/// One entry of `x-death`.
#[derive(Debug, Clone, Copy)]
pub struct DeathEntry<'d> {
    /// The broker's word for the reason.
    pub reason: &'d str,
    /// The queue that the message was in.
    pub queue: &'d str,
    /// When it left that queue.
    pub at: Option<Timestamp>,
}

/// The broker's own move of a message from a shard to *parked*.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BrokerMove {
    /// Why it was moved.
    pub reason: BrokerReason,
    /// The shard that it was in.
    pub queue: String,
    /// When it was moved.
    pub at: Option<Timestamp>,
}

impl BrokerReason {
    /// Finds the reason that the broker calls so.
    fn of(word: &str) -> Option<Self> {
        match word {
            "delivery_limit" => Some(Self::DeliveryLimit),
            "expired" => Some(Self::Expired),
            "maxlen" => Some(Self::MaxLength),
            "rejected" => Some(Self::Refused),
            _ => None,
        }
    }
}

impl BrokerMove {
    /// Finds the latest move out of a shard in a history whose latest entry comes first, as every
    /// version of RabbitMQ writes it. A retry queue gives hits to the main exchange, so its
    /// entries say nothing of how a message came into a queue of dead hits. Before 4.0.1 the
    /// broker takes over what a sender wrote, but it puts its own entry before that.
    pub(super) fn latest(entries: &[DeathEntry<'_>]) -> Option<Self> {
        entries.iter().take(MAX_ENTRIES).find_map(|entry| {
            let reason = BrokerReason::of(entry.reason).filter(|_| is_shard(entry.queue))?;
            Some(Self { reason, queue: entry.queue.to_owned(), at: entry.at })
        })
    }
}

/// Whether a queue has the name of a shard, which ends in its number.
fn is_shard(queue: &str) -> bool {
    queue.rsplit_once('.').is_some_and(|(_, number)| number.parse::<u16>().is_ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_ends_in_its_number() {
        for (queue, expected) in [
            ("dnma.hits.0", true),
            ("dnma.retry.hits.15", true),
            ("dnma.hits.retry.600s", false),
            ("dnma.hits.parked", false),
            ("dnma.hits.65536", false),
            ("dnma.hits.-1", false),
            ("dnma.hits.", false),
            ("0", false),
        ] {
            assert_eq!(is_shard(queue), expected, "{queue}");
        }
    }

    #[test]
    fn a_long_history_is_not_read_to_its_end() {
        let retry = DeathEntry { reason: "expired", queue: "dnma.hits.retry.1s", at: None };
        let shard = DeathEntry { reason: "maxlen", queue: "dnma.hits.1", at: None };
        let behind = |others: usize| {
            let mut entries = vec![retry; others];
            entries.push(shard);
            BrokerMove::latest(&entries).map(|moved| moved.reason)
        };
        assert_eq!(behind(MAX_ENTRIES - 1), Some(BrokerReason::MaxLength));
        assert_eq!(behind(MAX_ENTRIES), None);
    }
}
