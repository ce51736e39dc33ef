//! Environment → [`Settings`]: every mistake in one message, secrets masked.
//!
//! Each variable is one entry of the table in `config/table.rs`, which fills one field of a struct
//! in `config/settings.rs`. Strings come in through one seam (any iterator of pairs), so a test
//! never touches the process environment.

use std::net::SocketAddr;

mod address;
mod draft;
mod error;
mod misspelt;
mod parse;
mod read;
mod replay;
mod settings;
mod show;
mod table;
mod together;
mod variable;

pub use address::{BrokerUrl, MAX_USER_BYTES, is_loopback};
pub use error::ConfigError;
pub use replay::ReplaySettings;
pub use settings::{
    BrokerSettings, LogFormat, LogSettings, MatomoSettings, Settings, TopologyMode,
};
pub use table::VARIABLES;
pub use variable::{Fallback, Variable};

use read::{complete, read};
use variable::Part;

impl Settings {
    /// Reads the process environment.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake, and with names that may be misspelt ones of the relay's.
    pub fn from_env() -> Result<Self, ConfigError> {
        Self::from_vars(process_environment()).map_err(|error| {
            error.and(Self::misspelt_in_env().into_iter().map(|(name, meant)| {
                let hint = format!(
                    "is {name}, which is set, meant for it? The relay does not read that one"
                );
                (meant, hint)
            }))
        })
    }

    /// Reads any set of variables.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake.
    pub fn from_vars(
        vars: impl IntoIterator<Item = (String, String)>,
    ) -> Result<Self, ConfigError> {
        complete(read(vars, Part::ALL)?.settings.complete())
    }

    /// Reads from the process environment where a relay with this environment answers. Nothing else
    /// is read: a relay works on with a file that has been broken since it started, and must not be
    /// taken for dead.
    ///
    /// # Errors
    /// [`ConfigError`] when `HTTP_LISTEN` is no address.
    pub fn http_listen_from_env() -> Result<SocketAddr, ConfigError> {
        complete(read(process_environment(), &[Part::Http])?.settings.http_listen)
    }

    /// Variables of the process environment that are none of the relay's, but look like one: each
    /// with the one that was probably meant. An environment is full of other programs' names, so
    /// this is a hint and no error.
    pub fn misspelt_in_env() -> Vec<(String, &'static str)> {
        process_environment()
            .filter_map(|(name, _)| misspelt::meant(&name).map(|meant| (name, meant)))
            .collect()
    }

    /// What is in force, by variable, with secrets masked.
    pub fn rows(&self) -> Vec<(&'static str, String)> {
        VARIABLES.iter().map(|variable| (variable.name, (variable.show)(self))).collect()
    }
}

impl BrokerSettings {
    /// Reads the AMQP side alone from the process environment, for commands that never talk to
    /// Matomo.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake on this side.
    pub fn from_env() -> Result<Self, ConfigError> {
        complete(read(process_environment(), &[Part::Broker])?.settings.broker.complete())
    }
}

fn process_environment() -> impl Iterator<Item = (String, String)> {
    // A variable that is not UTF-8 is none of ours, or is reported as missing.
    std::env::vars_os().filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use secrecy::ExposeSecret;

    use super::*;
    use crate::domain::max_age::MaxAge;

    fn read(vars: &[(&str, &str)]) -> Result<Settings, ConfigError> {
        Settings::from_vars(vars.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())))
    }

    #[test]
    fn only_the_address_of_matomo_is_required() {
        let settings = read(&[("MATOMO_URL", "https://matomo.example.fr")]).expect("complete");
        assert_eq!(settings.matomo.url.as_str(), "https://matomo.example.fr/matomo.php");
        assert_eq!(settings.broker.prefetch, 1_600);
        assert_eq!(
            settings.broker.retry_delays,
            [Duration::from_secs(600), Duration::from_secs(1_200)]
        );
        assert_eq!(settings.broker.urls[0].to_string(), "amqp://127.0.0.1:5672/%2f");
        assert_eq!(settings.matomo.timeout, Duration::from_secs(65));
        assert_eq!(settings.matomo.max_age, MaxAge::OF_MATOMO);
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
            ("MATOMO_MAX_AGE", "1s"),
            ("MATOMO_TIMEOUT", "65"),
            ("MATOMO_MAX_RATE", "0"),
            ("RETRY_DELAYS", "10m,soon,0s"),
            ("VALIDATION", "maybe"),
            ("REFERENCE_LISTS", "/nowhere"),
            ("TENANTS", "/nowhere/tenants.toml"),
            ("HTTP_LISTEN", "8080"),
            ("HTTP_HOSTS", "relay,http://relay:8080/"),
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
                "MATOMO_MAX_AGE",
                "MATOMO_TIMEOUT",
                "MATOMO_MAX_RATE",
                "RETRY_DELAYS",
                "RETRY_DELAYS",
                "VALIDATION",
                "REFERENCE_LISTS",
                "TENANTS",
                "HTTP_LISTEN",
                "HTTP_HOSTS",
                "LOG_FORMAT",
                "RUST_LOG"
            ],
            "{text}"
        );
        assert!(!text.contains("hunter2"), "{text}");
        assert!(text.contains("ALLOW_PLAINTEXT=true"), "{text}");
        assert!(text.contains("not between 10s and 30days"), "{text}");
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
