//! The settings, typed and consistent. What each variable is called, how it is read and shown, and
//! what it is by default stands in the [table](super::table).

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::BrokerUrl;
use super::draft::settings;
use crate::domain::max_age::MaxAge;
use crate::domain::request::Api;
use crate::domain::validate::Validation;
use crate::service::rules::source::Source;

settings! {
    /// What the operator asked for, complete and consistent.
    pub struct Settings, drafted as SettingsDraft {
        /// Which violations of the plan reject a hit.
        pub validation: Validation,
        /// The files of the reference lists and of the tenants.
        pub rules: Source,
        /// Whether connections off this machine may be unencrypted.
        pub allow_plaintext: bool,
        /// The address on which health, metrics and the status page are served.
        pub http_listen: SocketAddr,
        /// Names by which the HTTP pages may be asked for, beside addresses, `localhost` and the
        /// name of the machine.
        pub http_hosts: Vec<String>,
    } with {
        /// The broker, its topology and the dead-letter schedule.
        pub broker: BrokerSettings, drafted as BrokerDraft;
        /// Where hits go, and how.
        pub matomo: MatomoSettings, drafted as MatomoDraft;
        /// What is logged, and how log lines look.
        pub log: LogSettings, drafted as LogDraft;
    }
}

settings! {
    /// The AMQP side.
    pub struct BrokerSettings, drafted as BrokerDraft {
        /// The broker's addresses, tried in turn; never empty.
        pub urls: Vec<BrokerUrl>,
        /// A PEM file with the certificate of a private CA, trusted beside the system's.
        pub ca_file: Option<PathBuf>,
        /// The PEM files of the client's certificate chain and of its key, for mutual TLS.
        pub client_identity: Option<(PathBuf, PathBuf)>,
        /// The prefix of every exchange and queue.
        pub prefix: String,
        /// Number of shards, 1 to 256: the most workers that can work at once.
        pub shards: u16,
        /// Number of unacked hits per worker, shared evenly by the shards; at least one for each.
        pub prefetch: u16,
        /// Whether the relay declares what the broker lacks, or only verifies.
        pub topology: TopologyMode,
        /// The dead-letter schedule: one wait, and so one queue, per step.
        pub retry_delays: Vec<Duration>,
    }
}

settings! {
    /// The Matomo side.
    pub struct MatomoSettings, drafted as MatomoDraft {
        /// The full address of the tracking endpoint.
        pub url: Url,
        /// The `idsite` of hits that carry none; hits keep their own.
        pub site_id: Option<String>,
        /// A token with write access, without which Matomo refuses hits over its age limit.
        pub token: Option<SecretString>,
        /// The age limit of hits, from which on Matomo wants the token.
        pub max_age: MaxAge,
        /// Whether hits are sent many to a request, or one by one.
        pub api: Api,
        /// Number of lanes, which is the number of requests in flight.
        pub concurrency: u16,
        /// The most hits in one request.
        pub bulk_size: u16,
        /// How long one request may take, connect included.
        pub timeout: Duration,
        /// The most hits that this worker sends in a second.
        pub max_rate: Option<u32>,
        /// How long prefetched hits wait in memory for Matomo to come back, before they are given
        /// back to the broker. No variable sets it: it must stay well inside the broker's consumer
        /// timeout of 30 min.
        pub hold: Duration,
    }
}

settings! {
    /// Log output.
    pub struct LogSettings, drafted as LogDraft {
        /// How log lines look; `None` leaves it to whether stderr is a terminal.
        pub format: Option<LogFormat>,
        /// `RUST_LOG`: a filter of `tracing-subscriber`.
        pub filter: String,
    }
}

/// What the relay may do to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TopologyMode {
    /// The relay declares the exchanges and queues that it needs.
    Declare,
    /// The relay changes nothing; it lists what is missing.
    Verify,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// Each line is one JSON object, for machines.
    Json,
    /// Each line is text, for people.
    Text,
}
