//! One variable after the other: text → value, or a mistake with its remedy.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use url::{Host, Url};

use super::{
    Broker, BrokerUrl, ConfigError, Log, LogFormat, Matomo, ReplaySettings, Settings, Topology,
};
use crate::domain::request::Api;
use crate::domain::validate::Validation;

mod rules;

/// The environment as it stands: all text, so that reading it cannot fail at the first mistake.
#[derive(Deserialize, Default, Clone)]
#[serde(default)]
struct Raw {
    amqp_url: Option<String>,
    amqp_url_file: Option<String>,
    amqp_ca_file: Option<String>,
    amqp_client_cert_file: Option<String>,
    amqp_client_key_file: Option<String>,
    allow_plaintext: Option<String>,
    queue_prefix: Option<String>,
    queue_shards: Option<String>,
    queue_prefetch: Option<String>,
    topology: Option<String>,
    matomo_url: Option<String>,
    matomo_site_id: Option<String>,
    matomo_token_auth: Option<String>,
    matomo_token_auth_file: Option<String>,
    matomo_api: Option<String>,
    matomo_concurrency: Option<String>,
    matomo_bulk_size: Option<String>,
    matomo_timeout: Option<String>,
    matomo_max_rate: Option<String>,
    retry_delays: Option<String>,
    validation: Option<String>,
    reference_lists: Option<String>,
    tenants: Option<String>,
    http_listen: Option<String>,
    log_format: Option<String>,
    rust_log: Option<String>,
}

pub(super) fn settings(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<Settings, ConfigError> {
    let mut check = Check::default();
    let settings = check.settings(raw(vars)?);
    check.finish(settings)
}

pub(super) fn broker(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<Broker, ConfigError> {
    let mut check = Check::default();
    let raw = raw(vars)?;
    let plaintext = check.plaintext(&raw);
    let broker = check.broker(&raw, plaintext);
    check.finish(broker)
}

pub(super) fn replay_settings(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<ReplaySettings, ConfigError> {
    let mut check = Check::default();
    let settings = check.replay_settings(raw(vars)?);
    check.finish(settings)
}

pub(super) fn http_listen(
    vars: impl IntoIterator<Item = (String, String)>,
) -> Result<SocketAddr, ConfigError> {
    let mut check = Check::default();
    let listen = check.listen(raw(vars)?.http_listen);
    check.finish(listen)
}

fn raw(vars: impl IntoIterator<Item = (String, String)>) -> Result<Raw, ConfigError> {
    // An empty value means "not set": a chart or a compose file cannot leave a variable out.
    let vars = vars.into_iter().filter(|(_, value)| !value.trim().is_empty());
    envy::from_iter(vars).map_err(|error| ConfigError(vec![("environment", error.to_string())]))
}

/// A short outage costs no redelivery, and a long one does not run into the broker's consumer
/// timeout.
const HOLD: Duration = Duration::from_secs(300);
/// Matomo saturates at about one request in flight per core of its own.
const CONCURRENCY: u32 = 8;
/// 50 hits cost a Matomo about as much as 12 sent singly; beyond 100 little is gained.
const BULK_SIZE: u32 = 50;
/// The largest prefetch that AMQP can express.
const MAX_PREFETCH: u32 = 65_535;
/// Each shard is a quorum queue, which costs the broker a Raft group.
const MAX_SHARDS: u16 = 256;

#[derive(Default)]
struct Check {
    problems: Vec<(&'static str, String)>,
}

impl Check {
    fn finish<T>(self, value: Option<T>) -> Result<T, ConfigError> {
        value
            .filter(|_| self.problems.is_empty())
            .ok_or_else(|| ConfigError(self.problems).in_order())
    }

    // Each of these goes through all its variables even after a mistake, and only then gives up.

    fn settings(&mut self, raw: Raw) -> Option<Settings> {
        let allow_plaintext = self.plaintext(&raw);
        let broker = self.broker(&raw, allow_plaintext);
        let matomo = self.matomo(&raw, allow_plaintext);
        let validation = self.validation(raw.validation);
        let rules = self.rules(raw.reference_lists, raw.tenants, broker.as_ref());
        let http_listen = self.listen(raw.http_listen);
        let format = match raw.log_format {
            None => Some(None),
            format => self
                .choice(
                    "LOG_FORMAT",
                    format,
                    &[("json", LogFormat::Json), ("text", LogFormat::Text)],
                    LogFormat::Json,
                )
                .map(Some),
        };
        let filter = self.filter(raw.rust_log);
        Some(Settings {
            broker: broker?,
            matomo: matomo?,
            validation: validation?,
            rules,
            allow_plaintext,
            http_listen: http_listen?,
            log: Log { format: format?, filter: filter? },
        })
    }

    fn replay_settings(&mut self, raw: Raw) -> Option<ReplaySettings> {
        let plaintext = self.plaintext(&raw);
        let broker = self.broker(&raw, plaintext);
        let validation = self.validation(raw.validation);
        let site_id = self.site_id(raw.matomo_site_id);
        let has_token = self
            .secret("MATOMO_TOKEN_AUTH", raw.matomo_token_auth, raw.matomo_token_auth_file)
            .is_some();
        let rules = self.rules(raw.reference_lists, raw.tenants, broker.as_ref());
        Some(ReplaySettings { broker: broker?, rules, validation: validation?, site_id, has_token })
    }

    fn validation(&mut self, value: Option<String>) -> Option<Validation> {
        let choices = [
            ("observe", Validation::Observe),
            ("filter", Validation::Filter),
            ("strict", Validation::Strict),
        ];
        self.choice("VALIDATION", value, &choices, Validation::Filter)
    }

    fn plaintext(&mut self, raw: &Raw) -> bool {
        let choices = [("true", true), ("false", false)];
        self.choice("ALLOW_PLAINTEXT", raw.allow_plaintext.clone(), &choices, false)
            .unwrap_or(false)
    }

    fn broker(&mut self, raw: &Raw, plaintext: bool) -> Option<Broker> {
        let raw = raw.clone();
        let url = self.secret("AMQP_URL", raw.amqp_url, raw.amqp_url_file);
        let urls = self.broker_urls(url, plaintext);
        let ca_file = self.file("AMQP_CA_FILE", raw.amqp_ca_file);
        let certificate = self.file("AMQP_CLIENT_CERT_FILE", raw.amqp_client_cert_file);
        let key = self.file("AMQP_CLIENT_KEY_FILE", raw.amqp_client_key_file);
        let client_identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some((certificate, key)),
            (None, None) => None,
            (Some(_), None) => self.problem(
                "AMQP_CLIENT_KEY_FILE",
                "missing: AMQP_CLIENT_CERT_FILE is set and needs its key",
            ),
            (None, Some(_)) => self.problem(
                "AMQP_CLIENT_CERT_FILE",
                "missing: AMQP_CLIENT_KEY_FILE is set and needs its certificate",
            ),
        };
        let prefix = self.prefix(raw.queue_prefix);
        let shards = self.number("QUEUE_SHARDS", raw.queue_shards, 1..=u32::from(MAX_SHARDS), 8);
        let concurrency = lenient(raw.matomo_concurrency.as_deref(), CONCURRENCY);
        let bulk_size = lenient(raw.matomo_bulk_size.as_deref(), BULK_SIZE);
        let default_prefetch = concurrency.saturating_mul(bulk_size).saturating_mul(2);
        let prefetch = self.number(
            "QUEUE_PREFETCH",
            raw.queue_prefetch,
            1..=MAX_PREFETCH,
            default_prefetch.clamp(shards.unwrap_or(1), MAX_PREFETCH),
        );
        if let (Some(prefetch), Some(shards)) = (prefetch, shards)
            && prefetch < shards
        {
            self.report(
                "QUEUE_PREFETCH",
                format!(
                    "{prefetch} is less than QUEUE_SHARDS ({shards}): each shard needs at least \
                     one"
                ),
            );
        }
        let topology = self.choice(
            "TOPOLOGY",
            raw.topology,
            &[("declare", Topology::Declare), ("verify", Topology::Verify)],
            Topology::Declare,
        );
        let retry_delays = self.delays(raw.retry_delays);
        Some(Broker {
            urls,
            ca_file,
            client_identity,
            prefix: prefix?,
            shards: narrow(shards?)?,
            prefetch: narrow(prefetch?)?,
            topology: topology?,
            retry_delays: retry_delays?,
        })
    }

    fn matomo(&mut self, raw: &Raw, plaintext: bool) -> Option<Matomo> {
        let raw = raw.clone();
        let url = self.matomo_url(raw.matomo_url, plaintext);
        let site_id = self.site_id(raw.matomo_site_id);
        let token =
            self.secret("MATOMO_TOKEN_AUTH", raw.matomo_token_auth, raw.matomo_token_auth_file);
        let api = self.choice(
            "MATOMO_API",
            raw.matomo_api,
            &[("bulk", Api::Bulk), ("single", Api::Single)],
            Api::Bulk,
        );
        let concurrency =
            self.number("MATOMO_CONCURRENCY", raw.matomo_concurrency, 1..=256, CONCURRENCY);
        let bulk_size = self.number("MATOMO_BULK_SIZE", raw.matomo_bulk_size, 1..=1_000, BULK_SIZE);
        let range = Duration::from_millis(100)..=Duration::from_secs(600);
        let timeout =
            self.duration("MATOMO_TIMEOUT", raw.matomo_timeout.as_deref().unwrap_or("65s"), range);
        let max_rate = match raw.matomo_max_rate {
            None => Some(None),
            rate => self.number("MATOMO_MAX_RATE", rate, 1..=1_000_000, 1).map(Some),
        };
        Some(Matomo {
            url: url?,
            site_id,
            token,
            api: api?,
            concurrency: narrow(concurrency?)?,
            bulk_size: narrow(bulk_size?)?,
            timeout: timeout?,
            max_rate: max_rate?,
            hold: HOLD,
        })
    }

    fn report(&mut self, name: &'static str, problem: impl Into<String>) {
        self.problems.push((name, problem.into()));
    }

    fn problem<T>(&mut self, name: &'static str, problem: impl Into<String>) -> Option<T> {
        self.report(name, problem);
        None
    }

    fn choice<T: Copy>(
        &mut self,
        name: &'static str,
        value: Option<String>,
        choices: &[(&str, T)],
        default: T,
    ) -> Option<T> {
        let Some(value) = value else { return Some(default) };
        if let Some((_, choice)) =
            choices.iter().find(|(text, _)| value.trim().eq_ignore_ascii_case(text))
        {
            return Some(*choice);
        }
        let names: Vec<_> = choices.iter().map(|(text, _)| *text).collect();
        self.problem(name, format!("\"{value}\" is not one of {}", names.join(", ")))
    }

    fn number(
        &mut self,
        name: &'static str,
        value: Option<String>,
        range: std::ops::RangeInclusive<u32>,
        default: u32,
    ) -> Option<u32> {
        let Some(value) = value else { return Some(default) };
        match value.trim().parse() {
            Ok(number) if range.contains(&number) => Some(number),
            _ => self.problem(
                name,
                format!(
                    "\"{value}\" is not a whole number from {} to {}",
                    range.start(),
                    range.end()
                ),
            ),
        }
    }

    fn duration(
        &mut self,
        name: &'static str,
        value: &str,
        range: std::ops::RangeInclusive<Duration>,
    ) -> Option<Duration> {
        match humantime::parse_duration(value.trim()) {
            Ok(duration) if range.contains(&duration) => Some(duration),
            Ok(_) => {
                let (least, most) = (
                    humantime::format_duration(*range.start()),
                    humantime::format_duration(*range.end()),
                );
                self.problem(name, format!("\"{value}\" is not between {least} and {most}"))
            }
            Err(_) => self.problem(
                name,
                format!(
                    "\"{value}\" is not a duration; write it with its unit, like 500ms, 10s or 20m"
                ),
            ),
        }
    }

    fn delays(&mut self, value: Option<String>) -> Option<Vec<Duration>> {
        // Beyond 24 h Matomo refuses a hit without a token, so a longer wait only parks it later.
        let range = Duration::from_millis(100)..=Duration::from_secs(86_400);
        let value = value.unwrap_or_else(|| "10m,20m".to_owned());
        let delays: Vec<_> = value
            .split(',')
            .map(|delay| self.duration("RETRY_DELAYS", delay, range.clone()))
            .collect();
        delays.into_iter().collect()
    }

    /// A secret, given directly or by a file. Its text is in no message.
    fn secret(
        &mut self,
        name: &'static str,
        value: Option<String>,
        file: Option<String>,
    ) -> Option<SecretString> {
        match (value, file) {
            (Some(_), Some(_)) => {
                self.problem(name, format!("set together with {name}_FILE; keep one of the two"))
            }
            (Some(value), None) => Some(value.trim().into()),
            (None, Some(path)) => match std::fs::read_to_string(&path) {
                Ok(text) if !text.trim().is_empty() => Some(text.trim().into()),
                Ok(_) => self.problem(name, format!("{name}_FILE names {path}, which is empty")),
                Err(error) => self.problem(
                    name,
                    format!("{name}_FILE names {path}, which cannot be read: {error}"),
                ),
            },
            (None, None) => None,
        }
    }

    fn file(&mut self, name: &'static str, path: Option<String>) -> Option<PathBuf> {
        let path = PathBuf::from(path?);
        match std::fs::File::open(&path) {
            Ok(_) => Some(path),
            Err(error) => self.problem(name, format!("{} cannot be read: {error}", path.display())),
        }
    }

    fn broker_urls(&mut self, value: Option<SecretString>, plaintext: bool) -> Vec<BrokerUrl> {
        let value = value.unwrap_or_else(|| "amqp://guest:guest@127.0.0.1:5672/%2f".into());
        value
            .expose_secret()
            .split(',')
            .filter_map(|text| self.broker_url(text.trim(), plaintext))
            .collect()
    }

    fn broker_url(&mut self, text: &str, plaintext: bool) -> Option<BrokerUrl> {
        let name = "AMQP_URL";
        // The text itself may hold a password, so no message shows it.
        let Ok(url) = Url::parse(text) else {
            return self.problem(
                name,
                "not amqps://user:password@host:5671/vhost (in a password # is %23, / is %2F, @ \
                 is %40)",
            );
        };
        let default_port = match url.scheme() {
            "amqp" => 5672,
            "amqps" => 5671,
            _ => return self.problem(name, "the scheme must be amqp or amqps"),
        };
        let Some(host) = url.host_str().filter(|host| !host.is_empty()) else {
            return self.problem(name, "the host is missing");
        };
        let port = url.port().unwrap_or(default_port);
        if url.scheme() == "amqp" && !plaintext && !is_loopback(&url) {
            // The host is not shown: with an @ in the password, it is a piece of that.
            return self.problem(
                name,
                "the broker is not on this machine, so the connection must be encrypted: use \
                 amqps://, or set ALLOW_PLAINTEXT=true (an @, : or / in the password must be \
                 percent-encoded)",
            );
        }
        if url.path() == "/" {
            return self.problem(
                name,
                "a lone / at the end names a virtual host without a name: write /%2f for the \
                 default one",
            );
        }
        let shown = format!("{}://{host}:{port}{}", url.scheme(), url.path());
        let user =
            percent_encoding::percent_decode_str(url.username()).decode_utf8_lossy().into_owned();
        // As the client library has it.
        let user = if user.is_empty() { "guest".to_owned() } else { user };
        Some(BrokerUrl { url: text.into(), shown, user })
    }

    fn matomo_url(&mut self, value: Option<String>, plaintext: bool) -> Option<Url> {
        let name = "MATOMO_URL";
        let Some(value) = value else {
            return self.problem(
                name,
                "missing: set it to the address of Matomo, like https://matomo.example.fr/",
            );
        };
        let Ok(mut url) = Url::parse(value.trim()) else {
            return self.problem(name, "not a URL of the form https://matomo.example.fr/");
        };
        if !matches!(url.scheme(), "http" | "https") {
            return self.problem(name, "the scheme must be https or http");
        }
        if !url.username().is_empty() || url.password().is_some() {
            return self.problem(name, "must not hold a user or password");
        }
        if url.query().is_some() || url.fragment().is_some() {
            return self.problem(name, "must end before any ? or #");
        }
        if url.scheme() == "http" && !plaintext && !is_loopback(&url) {
            let host = url.host_str().unwrap_or_default();
            return self.problem(name, format!("{host} is not this machine, so the connection must be encrypted (RFTI §3.1.2): use https://, or set ALLOW_PLAINTEXT=true"));
        }
        if !url.path().ends_with(".php") {
            let path = format!("{}/matomo.php", url.path().trim_end_matches('/'));
            url.set_path(&path);
        }
        Some(url)
    }

    fn site_id(&mut self, value: Option<String>) -> Option<String> {
        let value = value?;
        match value.trim().parse::<u32>() {
            Ok(id) if id > 0 => Some(id.to_string()),
            _ => self.problem("MATOMO_SITE_ID", format!("\"{value}\" is not the number of a site")),
        }
    }

    fn prefix(&mut self, value: Option<String>) -> Option<String> {
        let value = value.unwrap_or_else(|| "dnma.hits".to_owned());
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_' | ':');
        // AMQP names end at 255 bytes, the broker keeps `amq.` for itself, and suffixes need room.
        if value.len() > 200 || !value.chars().all(legal) || value.starts_with("amq.") {
            return self.problem(
                "QUEUE_PREFIX",
                "at most 200 letters, digits, '.', '-', '_' or ':', and not starting with \"amq.\"",
            );
        }
        Some(value)
    }

    fn listen(&mut self, value: Option<String>) -> Option<SocketAddr> {
        let value = value.unwrap_or_else(|| "0.0.0.0:8080".to_owned());
        match value.trim().parse() {
            Ok(address) => Some(address),
            Err(_) => self.problem(
                "HTTP_LISTEN",
                format!("\"{value}\" is not an address and port, like 0.0.0.0:8080"),
            ),
        }
    }

    fn filter(&mut self, value: Option<String>) -> Option<String> {
        let value = value.unwrap_or_else(|| "info".to_owned());
        match tracing_subscriber::EnvFilter::try_new(&value) {
            Ok(_) => Some(value),
            Err(error) => {
                self.problem("RUST_LOG", format!("\"{value}\" is not a log filter: {error}"))
            }
        }
    }
}

fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        // A scheme that is not the web's keeps its host as text.
        Some(Host::Domain(name)) => {
            name.eq_ignore_ascii_case("localhost")
                || name.parse().is_ok_and(|ip: IpAddr| ip.is_loopback())
        }
        None => false,
    }
}

fn narrow(number: u32) -> Option<u16> {
    u16::try_from(number).ok()
}

/// For a default that depends on another variable, whose own mistakes are reported elsewhere.
fn lenient(value: Option<&str>, default: u32) -> u32 {
    value.and_then(|text| text.trim().parse().ok()).unwrap_or(default)
}
