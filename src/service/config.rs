//! Environment → [`Settings`]: every mistake in one message, secrets masked.
//!
//! Strings come in through one seam (any iterator of pairs), so a test never touches the process
//! environment.

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::rules::source::Source;
use crate::domain::request::Api;
use crate::domain::validate::Validation;

mod read;
mod replay;
mod variables;

pub use replay::ReplaySettings;
pub use variables::{VARIABLES, Variable};

/// What the operator asked for, complete and consistent.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Broker, topology, schedule.
    pub broker: Broker,
    /// Where hits go, and how.
    pub matomo: Matomo,
    /// Which violations reject a hit.
    pub validation: Validation,
    /// Reference lists and tenants.
    pub rules: Source,
    /// Plaintext connections may leave this machine.
    pub allow_plaintext: bool,
    /// Health, metrics and status.
    pub http_listen: SocketAddr,
    /// How log lines look.
    pub log: Log,
}

/// The AMQP side.
#[derive(Debug, Clone)]
pub struct Broker {
    /// Tried in turn.
    pub urls: Vec<BrokerUrl>,
    /// PEM of a private CA.
    pub ca_file: Option<PathBuf>,
    /// PEM of the client's certificate chain and key, for mutual TLS.
    pub client_identity: Option<(PathBuf, PathBuf)>,
    /// Prefix of every exchange and queue.
    pub prefix: String,
    /// Number of shards: most replicas that can work at once.
    pub shards: u16,
    /// Unacked hits per worker.
    pub prefetch: u16,
    /// Declare what is missing, or only verify.
    pub topology: Topology,
    /// The dead-letter schedule.
    pub retry_delays: Vec<Duration>,
}

/// One broker address.
#[derive(Clone)]
pub struct BrokerUrl {
    url: SecretString,
    shown: String,
    user: String,
}

/// What the relay may do to the broker.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Topology {
    /// Declare exchanges and queues.
    Declare,
    /// Touch nothing; list what is missing.
    Verify,
}

/// The Matomo side.
#[derive(Debug, Clone)]
pub struct Matomo {
    /// Full address of the tracking endpoint.
    pub url: Url,
    /// `idsite` of hits that carry none.
    pub site_id: Option<String>,
    /// For hits older than 24 h.
    pub token: Option<SecretString>,
    /// Bulk or single.
    pub api: Api,
    /// Lanes, which is requests in flight.
    pub concurrency: u16,
    /// Most hits per request.
    pub bulk_size: u16,
    /// One request, connect included.
    pub timeout: Duration,
    /// Most hits per second.
    pub max_rate: Option<u32>,
    /// How long prefetched hits wait in memory for Matomo to come back, before they are given back
    /// to the broker. No variable: it must stay well inside the broker's consumer timeout of
    /// 30 min.
    pub hold: Duration,
}

/// Log output.
#[derive(Debug, Clone)]
pub struct Log {
    /// JSON, text, or by terminal.
    pub format: Option<LogFormat>,
    /// `RUST_LOG`.
    pub filter: String,
}

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// For people.
    Text,
}

/// Everything that is wrong with the environment.
#[derive(Debug, PartialEq, Eq)]
pub struct ConfigError(Vec<(&'static str, String)>);

impl ConfigError {
    /// The variables at fault, in the order of the table.
    pub fn variables(&self) -> Vec<&'static str> {
        self.0.iter().map(|(name, _)| *name).collect()
    }

    fn in_order(mut self) -> Self {
        self.0
            .sort_by_key(|(name, _)| VARIABLES.iter().position(|variable| variable.name == *name));
        self
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        let count = self.0.len();
        write!(f, "the configuration has {count} mistake{}:", if count == 1 { "" } else { "s" })?;
        self.0.iter().try_for_each(|(name, problem)| write!(f, "\n  {name}: {problem}"))
    }
}

impl std::error::Error for ConfigError {}

impl BrokerUrl {
    /// The address with its password, for the client library alone.
    pub fn expose(&self) -> &str {
        self.url.expose_secret()
    }

    /// The user that the relay signs in as.
    pub fn user(&self) -> &str {
        &self.user
    }
}

/// Scheme, host, port and vhost: no user, no password.
impl fmt::Display for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl fmt::Debug for BrokerUrl {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(&self.shown)
    }
}

impl Settings {
    /// Reads the process environment.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn from_env() -> Result<Self, ConfigError> {
        read::settings(process_environment()).map_err(|mut error| {
            for (name, meant) in Self::misspelt_in_env() {
                error.0.push((
                    meant,
                    format!(
                        "is {name}, which is set, meant for it? The relay does not read that one"
                    ),
                ));
            }
            error.in_order()
        })
    }

    /// Where a relay with this environment answers. Nothing else is read: a relay works on with a
    /// file that has been broken since it started, and must not be taken for dead.
    ///
    /// # Errors
    /// [`ConfigError`] when `HTTP_LISTEN` is no address.
    pub fn http_listen_from_env() -> Result<SocketAddr, ConfigError> {
        read::http_listen(process_environment())
    }

    /// Reads any set of variables.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        read::settings(vars)
    }

    /// Variables of the process environment that are none of the relay's, but look like one: each
    /// with the one that was probably meant. An environment is full of others' names, so this
    /// is a hint and no error.
    pub fn misspelt_in_env() -> Vec<(String, &'static str)> {
        process_environment()
            .filter_map(|(name, _)| variables::meant(&name).map(|meant| (name, meant)))
            .collect()
    }

    /// What is in force, by variable, secrets masked.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        let Self { broker, matomo, validation, rules, allow_plaintext, http_listen, log } = self;
        let path =
            |path: Option<&PathBuf>| path.map(|p| p.display().to_string()).unwrap_or_default();
        let duration = |duration: &Duration| {
            humantime::format_duration(*duration).to_string().replace(' ', "")
        };
        let join = |items: Vec<String>| items.join(",");
        let identity = broker.client_identity.as_ref();
        vec![
            ("AMQP_URL", join(broker.urls.iter().map(ToString::to_string).collect())),
            ("AMQP_CA_FILE", path(broker.ca_file.as_ref())),
            ("AMQP_CLIENT_CERT_FILE", path(identity.map(|(certificate, _)| certificate))),
            ("AMQP_CLIENT_KEY_FILE", path(identity.map(|(_, key)| key))),
            ("ALLOW_PLAINTEXT", allow_plaintext.to_string()),
            ("QUEUE_PREFIX", broker.prefix.clone()),
            ("QUEUE_SHARDS", broker.shards.to_string()),
            ("QUEUE_PREFETCH", broker.prefetch.to_string()),
            (
                "TOPOLOGY",
                if broker.topology == Topology::Declare { "declare" } else { "verify" }.to_owned(),
            ),
            ("MATOMO_URL", matomo.url.to_string()),
            ("MATOMO_SITE_ID", matomo.site_id.clone().unwrap_or_default()),
            (
                "MATOMO_TOKEN_AUTH",
                matomo.token.as_ref().map(|_| "********".to_owned()).unwrap_or_default(),
            ),
            ("MATOMO_API", if matomo.api == Api::Bulk { "bulk" } else { "single" }.to_owned()),
            ("MATOMO_CONCURRENCY", matomo.concurrency.to_string()),
            ("MATOMO_BULK_SIZE", matomo.bulk_size.to_string()),
            ("MATOMO_TIMEOUT", duration(&matomo.timeout)),
            ("MATOMO_MAX_RATE", matomo.max_rate.map(|rate| rate.to_string()).unwrap_or_default()),
            ("RETRY_DELAYS", join(broker.retry_delays.iter().map(duration).collect())),
            ("VALIDATION", format!("{validation:?}").to_lowercase()),
            ("REFERENCE_LISTS", path(rules.lists.as_ref())),
            ("TENANTS", path(rules.tenants.as_ref())),
            ("HTTP_LISTEN", http_listen.to_string()),
            (
                "LOG_FORMAT",
                log.format.map(|format| format!("{format:?}").to_lowercase()).unwrap_or_default(),
            ),
            ("RUST_LOG", log.filter.clone()),
        ]
    }
}

impl Broker {
    /// The AMQP side alone, for commands that never talk to Matomo.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake on this side.
    pub fn from_env() -> Result<Self, ConfigError> {
        read::broker(process_environment())
    }
}

fn process_environment() -> impl Iterator<Item = (String, String)> {
    // A variable that is not UTF-8 is none of ours, or is reported as missing.
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        Settings::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn only_the_address_of_matomo_is_required() {
        let settings = read(&[("MATOMO_URL", "https://matomo.example.fr")]).expect("complete");
        assert_eq!(settings.matomo.url.as_str(), "https://matomo.example.fr/matomo.php");
        assert_eq!(settings.broker.prefetch, 800);
        assert_eq!(
            settings.broker.retry_delays,
            [Duration::from_secs(600), Duration::from_secs(1_200)]
        );
        assert_eq!(settings.broker.urls[0].to_string(), "amqp://127.0.0.1:5672/%2f");
        assert_eq!(settings.matomo.timeout, Duration::from_secs(65));
        assert_eq!(read(&[]).expect_err("nothing").variables(), ["MATOMO_URL"]);
    }

    #[test]
    fn every_mistake_is_reported_at_once_and_no_secret_with_it() {
        let error = read(&[
            ("AMQP_URL", "amqp://user:hunter2@rabbit.example:5672/,http://x:hunter2@y"),
            ("AMQP_CLIENT_CERT_FILE", "/nowhere/cert.pem"),
            ("QUEUE_SHARDS", "0"),
            ("QUEUE_PREFETCH", "many"),
            ("TOPOLOGY", "guess"),
            ("MATOMO_URL", "http://matomo.example.fr/"),
            ("MATOMO_SITE_ID", "one"),
            ("MATOMO_TOKEN_AUTH", "hunter2"),
            ("MATOMO_TOKEN_AUTH_FILE", "/nowhere/token"),
            ("MATOMO_TIMEOUT", "65"),
            ("MATOMO_MAX_RATE", "0"),
            ("RETRY_DELAYS", "10m,soon,0s"),
            ("VALIDATION", "maybe"),
            ("REFERENCE_LISTS", "/nowhere"),
            ("TENANTS", "/nowhere/tenants.toml"),
            ("HTTP_LISTEN", "8080"),
            ("LOG_FORMAT", "xml"),
            ("RUST_LOG", "info,=="),
        ])
        .expect_err("full of mistakes");
        let text = error.to_string();
        assert_eq!(
            error.variables(),
            [
                "AMQP_URL",
                "AMQP_URL",
                "AMQP_CLIENT_CERT_FILE",
                "QUEUE_SHARDS",
                "QUEUE_PREFETCH",
                "TOPOLOGY",
                "MATOMO_URL",
                "MATOMO_SITE_ID",
                "MATOMO_TOKEN_AUTH",
                "MATOMO_TIMEOUT",
                "MATOMO_MAX_RATE",
                "RETRY_DELAYS",
                "RETRY_DELAYS",
                "VALIDATION",
                "REFERENCE_LISTS",
                "TENANTS",
                "HTTP_LISTEN",
                "LOG_FORMAT",
                "RUST_LOG"
            ],
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("ALLOW_PLAINTEXT=true"), "{text}");
    }

    #[test]
    fn every_variable_of_the_table_is_shown_and_only_those() {
        let settings = read(&[("MATOMO_URL", "https://m/")]).expect("complete");
        let shown: Vec<_> = settings.rows().into_iter().map(|(name, _)| name).collect();
        let table: Vec<_> = VARIABLES.iter().map(|variable| variable.name).collect();
        assert_eq!(shown, table);
    }

    #[test]
    fn plaintext_is_for_loopback_or_on_request() {
        for url in ["amqp://127.0.0.1", "amqp://localhost:1", "amqp://[::1]/x"] {
            assert!(
                read(&[("MATOMO_URL", "http://localhost/"), ("AMQP_URL", url)]).is_ok(),
                "{url}"
            );
        }
        assert!(
            read(&[
                ("MATOMO_URL", "http://m/"),
                ("AMQP_URL", "amqp://r"),
                ("ALLOW_PLAINTEXT", "true")
            ])
            .is_ok()
        );
        assert!(read(&[("MATOMO_URL", "https://m/"), ("AMQP_URL", "amqps://r")]).is_ok());
    }

    #[test]
    fn a_virtual_host_without_a_name_is_a_trap() {
        let error = read(&[("MATOMO_URL", "https://m/"), ("AMQP_URL", "amqp://localhost/")])
            .expect_err("a trap");
        assert!(error.to_string().contains("/%2f"), "{error}");
    }

    #[test]
    fn a_full_tracker_address_stays_as_it_is() {
        for (given, expected) in [
            ("https://m/matomo.php", "https://m/matomo.php"),
            ("https://m/sub/", "https://m/sub/matomo.php"),
            ("https://m/piwik.php", "https://m/piwik.php"),
        ] {
            assert_eq!(
                read(&[("MATOMO_URL", given)]).expect("complete").matomo.url.as_str(),
                expected
            );
        }
    }

    #[test]
    fn secrets_can_come_from_files_and_never_show() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), "s3cret-token\n").expect("written");
        let path = file.path().to_string_lossy().into_owned();
        let settings = read(&[
            ("MATOMO_URL", "https://m/"),
            ("MATOMO_TOKEN_AUTH_FILE", &path),
            ("AMQP_URL", "amqps://u:pa55@h"),
        ])
        .expect("complete");
        assert_eq!(
            settings.matomo.token.as_ref().map(|t| t.expose_secret().to_owned()).as_deref(),
            Some("s3cret-token")
        );
        let shown = format!("{settings:?}");
        assert!(!shown.contains("s3cret") && !shown.contains("pa55"), "{shown}");
    }
}
