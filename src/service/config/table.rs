//! The table of the settings: each is one entry, with its name, its default, its meaning, and how
//! it is read and shown. The documentation's table is held against it.

use std::ops::RangeInclusive;
use std::time::Duration;

use secrecy::SecretString;

use super::address::{BrokerUrl, matomo_url};
use super::parse::{
    choice, duration, file, filter, host_name, keep, listen, number, optional, path, prefix, set,
    set_list, site_id,
};
use super::settings::{LogFormat, TopologyMode};
use super::show::{show_duration, show_option, show_path, show_seq, show_word};
use super::variable::{Fallback, Part, Variable};
use crate::domain::max_age::MaxAge;
use crate::domain::request::Api;
use crate::domain::validate::Validation;

/// Each shard is a quorum queue, which costs the broker a Raft group.
const MAX_SHARDS: u16 = 256;

/// Waits longer than the 24 h, beyond which Matomo refuses a hit without a token, would
/// only park it later.
const MAX_RETRY_DELAY: Duration = Duration::from_secs(86_400);

/// Under 10 s no hit would get through without the token, and over 30 days a hit belongs to a
/// report that nobody opens again.
const MAX_AGES: RangeInclusive<Duration> =
    Duration::from_secs(10)..=Duration::from_secs(30 * 86_400);

/// Every variable that the relay reads, in the order of the documentation.
pub const VARIABLES: &[Variable] = &[
    Variable {
        name: "AMQP_URL",
        default: Fallback::Text("amqp://guest:guest@127.0.0.1:5672/%2f"),
        secret: true,
        meaning: "address of the broker with user and password; several addresses separated by \
                  commas are tried in turn; off this machine it must be `amqps://` unless \
                  `ALLOW_PLAINTEXT`",
        part: Part::Broker,
        parse: |text, draft| set_list(&mut draft.settings.broker.urls, text, BrokerUrl::parse),
        show: |settings| show_seq(&settings.broker.urls, ToString::to_string),
    },
    Variable {
        name: "AMQP_CA_FILE",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "PEM of a private CA, trusted beside the system's",
        part: Part::Broker,
        parse: |text, draft| set(&mut draft.settings.broker.ca_file, optional(text, file)),
        show: |settings| show_path(settings.broker.ca_file.as_ref()),
    },
    Variable {
        name: "AMQP_CLIENT_CERT_FILE",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "PEM of the client certificate, for mutual TLS",
        part: Part::Broker,
        parse: |text, draft| keep(&mut draft.pieces.client_certificate, optional(text, file)),
        show: |settings| show_path(settings.broker.client_identity.as_ref().map(|(cert, _)| cert)),
    },
    Variable {
        name: "AMQP_CLIENT_KEY_FILE",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "PEM of the key of that certificate",
        part: Part::Broker,
        parse: |text, draft| keep(&mut draft.pieces.client_key, optional(text, file)),
        show: |settings| show_path(settings.broker.client_identity.as_ref().map(|(_, key)| key)),
    },
    Variable {
        name: "ALLOW_PLAINTEXT",
        default: Fallback::Text("false"),
        secret: false,
        meaning: "`true`: connections that leave this machine need not be encrypted",
        part: Part::Broker,
        parse: |text, draft| {
            let choices = [("true", true), ("false", false)];
            set(&mut draft.settings.allow_plaintext, choice(text, &choices))
        },
        show: |settings| settings.allow_plaintext.to_string(),
    },
    Variable {
        name: "QUEUE_PREFIX",
        default: Fallback::Text("dnma.hits"),
        secret: false,
        meaning: "prefix of every exchange and queue",
        part: Part::Broker,
        parse: |text, draft| set(&mut draft.settings.broker.prefix, prefix(text)),
        show: |settings| settings.broker.prefix.clone(),
    },
    Variable {
        name: "QUEUE_SHARDS",
        default: Fallback::Text("8"),
        secret: false,
        meaning: "number of shards, which is the largest number of workers that can work at once; \
                  `1` needs no plugin",
        part: Part::Broker,
        parse: |text, draft| set(&mut draft.settings.broker.shards, number(text, 1..=MAX_SHARDS)),
        show: |settings| settings.broker.shards.to_string(),
    },
    Variable {
        name: "QUEUE_PREFETCH",
        default: Fallback::Unset("concurrency × bulk size × 4"),
        secret: false,
        meaning: "largest number of unacked hits per worker, shared evenly by the shards",
        part: Part::Broker,
        // The largest prefetch that AMQP can express is that of 16 bits.
        parse: |text, draft| {
            keep(&mut draft.pieces.prefetch, optional(text, |text| number(text, 1..=u16::MAX)))
        },
        show: |settings| settings.broker.prefetch.to_string(),
    },
    Variable {
        name: "TOPOLOGY",
        default: Fallback::Text("declare"),
        secret: false,
        meaning: "`declare`: declare what is missing · `verify`: declare nothing, list what is \
                  missing",
        part: Part::Broker,
        parse: |text, draft| {
            let choices = [("declare", TopologyMode::Declare), ("verify", TopologyMode::Verify)];
            set(&mut draft.settings.broker.topology, choice(text, &choices))
        },
        show: |settings| show_word(settings.broker.topology),
    },
    Variable {
        name: "MATOMO_URL",
        default: Fallback::Required(
            "missing: set it to the address of Matomo, like https://matomo.example.fr/",
        ),
        secret: false,
        meaning: "address of Matomo, or the full address of `matomo.php`; off this \
                  machine it must be `https` unless `ALLOW_PLAINTEXT`",
        part: Part::Worker,
        parse: |text, draft| set(&mut draft.settings.matomo.url, matomo_url(text)),
        show: |settings| settings.matomo.url.to_string(),
    },
    Variable {
        name: "MATOMO_SITE_ID",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "`idsite` of hits that carry none",
        part: Part::Judgement,
        parse: |text, draft| set(&mut draft.settings.matomo.site_id, optional(text, site_id)),
        show: |settings| settings.matomo.site_id.clone().unwrap_or_default(),
    },
    Variable {
        name: "MATOMO_TOKEN_AUTH",
        default: Fallback::Unset(""),
        secret: true,
        meaning: "token with write access, for hits over `MATOMO_MAX_AGE` old; sent in a POST \
                  body only",
        part: Part::Judgement,
        parse: |text, draft| {
            let token = optional(text, |text| Ok(SecretString::from(text)));
            set(&mut draft.settings.matomo.token, token)
        },
        show: |settings| show_option(settings.matomo.token.as_ref(), |_| "********".to_owned()),
    },
    Variable {
        name: "MATOMO_MAX_AGE",
        default: Fallback::Text("24h"),
        secret: false,
        meaning: "age from which Matomo wants the token; that of its `[Tracker] \
                  tracking_requests_require_authentication_when_custom_timestamp_newer_than`",
        part: Part::Judgement,
        parse: |text, draft| {
            let max_age = duration(text, MAX_AGES).map(MaxAge::new);
            set(&mut draft.settings.matomo.max_age, max_age)
        },
        show: |settings| settings.matomo.max_age.to_string().replace(' ', ""),
    },
    Variable {
        name: "MATOMO_API",
        default: Fallback::Text("bulk"),
        secret: false,
        meaning: "`bulk`: several hits per request · `single`: one GET per hit, for gateways that \
                  pass nothing else",
        part: Part::Worker,
        parse: |text, draft| {
            let choices = [("bulk", Api::Bulk), ("single", Api::Single)];
            set(&mut draft.settings.matomo.api, choice(text, &choices))
        },
        show: |settings| show_word(settings.matomo.api),
    },
    Variable {
        name: "MATOMO_CONCURRENCY",
        default: Fallback::Text("8"),
        secret: false,
        meaning: "most requests in flight per worker; while Matomo is slow it has fewer",
        part: Part::Worker,
        parse: |text, draft| set(&mut draft.settings.matomo.concurrency, number(text, 1..=256)),
        show: |settings| settings.matomo.concurrency.to_string(),
    },
    Variable {
        name: "MATOMO_BULK_SIZE",
        // 50 hits cost a Matomo about as much as 12 sent singly; beyond 100 little is
        // gained.
        default: Fallback::Text("50"),
        secret: false,
        meaning: "most hits per request; while Matomo is slow it has fewer",
        part: Part::Worker,
        parse: |text, draft| set(&mut draft.settings.matomo.bulk_size, number(text, 1..=1_000)),
        show: |settings| settings.matomo.bulk_size.to_string(),
    },
    Variable {
        name: "MATOMO_TIMEOUT",
        default: Fallback::Text("65s"),
        secret: false,
        meaning: "time for one request, connecting included; keep it longer than the server's \
                  proxy waits (60 s)",
        part: Part::Worker,
        parse: |text, draft| {
            let range = Duration::from_millis(100)..=Duration::from_secs(600);
            set(&mut draft.settings.matomo.timeout, duration(text, range))
        },
        show: |settings| show_duration(&settings.matomo.timeout),
    },
    Variable {
        name: "MATOMO_MAX_RATE",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "largest number of hits per second of this worker",
        part: Part::Worker,
        parse: |text, draft| {
            let rate = optional(text, |text| number(text, 1..=1_000_000));
            set(&mut draft.settings.matomo.max_rate, rate)
        },
        show: |settings| show_option(settings.matomo.max_rate, |rate| rate.to_string()),
    },
    Variable {
        name: "RETRY_DELAYS",
        default: Fallback::Text("10m,20m"),
        secret: false,
        meaning: "the dead-letter schedule, one queue per step",
        part: Part::Broker,
        parse: |text, draft| {
            let range = Duration::from_millis(100)..=MAX_RETRY_DELAY;
            let delays = &mut draft.settings.broker.retry_delays;
            set_list(delays, text, |delay| duration(delay, range.clone()))
        },
        show: |settings| show_seq(&settings.broker.retry_delays, show_duration),
    },
    Variable {
        name: "VALIDATION",
        default: Fallback::Text("filter"),
        secret: false,
        meaning: "`observe`: deliver and count · `filter`: reject errors · `strict`: reject \
                  warnings too",
        part: Part::Judgement,
        parse: |text, draft| {
            let choices = [
                ("observe", Validation::Observe),
                ("filter", Validation::Filter),
                ("strict", Validation::Strict),
            ];
            set(&mut draft.settings.validation, choice(text, &choices))
        },
        show: |settings| show_word(settings.validation),
    },
    Variable {
        name: "REFERENCE_LISTS",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "directory with the DNMA's lists (`exploitants.txt`, `plateformes.txt`, \
                  `outils.txt`, `exceptions.txt`, …); read again when it changes",
        part: Part::Judgement,
        parse: |text, draft| keep(&mut draft.pieces.lists, optional(text, path)),
        show: |settings| show_path(settings.rules.lists.as_ref()),
    },
    Variable {
        name: "TENANTS",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "TOML file: which AMQP user may send for which exploitants, platforms and sites; \
                  read again when it changes",
        part: Part::Judgement,
        parse: |text, draft| keep(&mut draft.pieces.tenants, optional(text, path)),
        show: |settings| show_path(settings.rules.tenants.as_ref()),
    },
    Variable {
        name: "HTTP_LISTEN",
        default: Fallback::Text("0.0.0.0:8080"),
        secret: false,
        meaning: "address of the status page, `/livez`, `/readyz`, `/metrics` (Prometheus), \
                  `/status.json` and `/books.json`",
        part: Part::Http,
        parse: |text, draft| set(&mut draft.settings.http_listen, listen(text)),
        show: |settings| settings.http_listen.to_string(),
    },
    Variable {
        name: "HTTP_HOSTS",
        default: Fallback::Unset(""),
        secret: false,
        meaning: "names by which these pages may be asked for, separated by commas, beside \
                  addresses, `localhost` and the name of the machine",
        part: Part::Worker,
        parse: |text, draft| {
            let names = text.split(',').filter(|_| !text.is_empty()).map(host_name);
            set(&mut draft.settings.http_hosts, names.collect())
        },
        show: |settings| settings.http_hosts.join(","),
    },
    Variable {
        name: "LOG_FORMAT",
        default: Fallback::Unset("json, text on a terminal"),
        secret: false,
        meaning: "form of log lines, `json` or `text`; they go to stderr",
        part: Part::Worker,
        parse: |text, draft| {
            let choices = [("json", LogFormat::Json), ("text", LogFormat::Text)];
            set(&mut draft.settings.log.format, optional(text, |text| choice(text, &choices)))
        },
        show: |settings| show_option(settings.log.format, show_word),
    },
    Variable {
        name: "RUST_LOG",
        default: Fallback::Text("info"),
        secret: false,
        meaning: "log level, or a filter; `info` writes a line when something changes, `debug` \
                  also lines about single hits",
        part: Part::Worker,
        parse: |text, draft| set(&mut draft.settings.log.filter, filter(text)),
        show: |settings| settings.log.filter.clone(),
    },
];
