//! What can go wrong with RabbitMQ, in words that name the remedy.

use thiserror::Error;

use super::session_end::SessionClosed;
use super::topology::TopologyError;

/// Why there is no session, or why the broker did not do as asked.
#[derive(Debug, Error)]
pub enum BrokerError {
    /// No address of `AMQP_URL` works; the last one's reason.
    #[error("cannot connect to {shown}: {reason}")]
    Connect {
        /// Address without user and password.
        shown: String,
        /// From the client library.
        reason: String,
    },
    /// A certificate or key of `AMQP_*_FILE`.
    #[error("{path} cannot be read: {source}")]
    File {
        /// Its path.
        path: String,
        /// From the system.
        source: std::io::Error,
    },
    /// The broker lacks what the relay needs.
    #[error(transparent)]
    Topology(#[from] TopologyError),
    /// Nothing to publish to.
    #[error(
        "exchange {0} does not exist: start a relay, which declares it, or load what `dnma-relay \
         topology` prints"
    )]
    NoExchange(String),
    /// No hits, and nothing to look for.
    #[error(
        "queue {0} does not exist: start a relay, which declares it, or load what `dnma-relay \
         topology` prints; is QUEUE_PREFIX right?"
    )]
    NoQueue(String),
    /// Two that read at once would each see a part.
    #[error(
        "somebody else reads {0} at this moment: its hits can be looked at by one at a time; try \
         again when they are done"
    )]
    Busy(String),
    /// Listing counts as a delivery, and the broker drops what was delivered too often.
    #[error(
        "{queue} was declared without x-delivery-limit={limit}: RabbitMQ 4 drops a hit of it \
         after 20 listings. Nothing was touched. Set the limit by policy (rabbitmqctl set_policy \
         -p '{vhost}' --apply-to queues --priority 100 dnma-dead '^{pattern}$' \
         '{{\"delivery-limit\":{limit}}}'), see that it is in force (rabbitmqctl list_queues -p \
         '{vhost}' name policy effective_policy_definition), and add --trust-limit"
    )]
    Unlimited {
        /// The queue.
        queue: String,
        /// The same as a regular expression.
        pattern: String,
        /// Where it is.
        vhost: String,
        /// What it should have.
        limit: i64,
    },
    /// The same, with a limit of its own, which wins over a policy.
    #[error(
        "{queue} was declared with another x-delivery-limit than {limit} ({detail}): the broker \
         drops a hit of it after so many listings, and no policy can raise that. Nothing was \
         touched. Start a relay with another QUEUE_PREFIX, and move the hits to its queue with a \
         shovel"
    )]
    Limited {
        /// The queue.
        queue: String,
        /// The broker's words.
        detail: String,
        /// What it should have.
        limit: i64,
    },
    /// The broker does not tell arguments to those who may not declare.
    #[error(
        "whether {queue} has a delivery limit cannot be asked ({reason}). Nothing was touched. A \
         queue without x-delivery-limit={limit} loses hits by being listed: see `rabbitmqctl \
         list_queues name arguments`, and add --trust-limit where it is there"
    )]
    LimitUnknown {
        /// The queue.
        queue: String,
        /// The broker's words.
        reason: String,
        /// What it should have.
        limit: i64,
    },
    /// Its body is not here to be sent again.
    #[error(
        "a message of {0} bytes is too large to be sent again by this program; take it out with \
         the management console"
    )]
    TooLarge(u64),
    /// The session ended before the broker answered.
    #[error(transparent)]
    Session(#[from] SessionClosed),
    /// The broker refused a step, or the connection broke.
    #[error("the broker did not do as asked: {0}")]
    Lib(lapin::Error),
}

/// Not as its source: it tells its own source's words already.
impl From<lapin::Error> for BrokerError {
    fn from(error: lapin::Error) -> Self {
        Self::Lib(error)
    }
}
