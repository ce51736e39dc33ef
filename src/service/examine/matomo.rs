//! Matomo: reachable, is it Matomo, does it look at what it is sent, does it store
//! it.

use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::Finding;
use crate::domain::answer::{self, Failure, Interpretation, Reason};
use crate::domain::max_age::MaxAge;
use crate::domain::request::Api;
use crate::domain::rule::Language;
use crate::domain::status::hint_of_reason;
use crate::service::config;
use crate::service::worker::matomo::{Greeting, MatomoClient};

/// A clock that is off by more makes hits of the future, whose time Matomo replaces in
/// silence.
const MOST_SKEW: i64 = 2;

pub(super) async fn examine(
    settings: &config::MatomoSettings,
    test_site: Option<u32>,
) -> Vec<Finding> {
    // Whoever checks waits at the terminal.
    let patience = settings.timeout.min(Duration::from_secs(20));
    let matomo = match MatomoClient::new(&config::MatomoSettings {
        timeout: patience,
        ..settings.clone()
    }) {
        Ok(matomo) => matomo,
        Err(error) => {
            return vec![Finding::wrong("matomo", format!("{error:#}"), "see SSL_CERT_FILE")];
        }
    };
    let greeting = match matomo.greet().await {
        Ok(greeting) => greeting,
        Err(reason) => {
            let text = format!("{} cannot be reached: {reason}", settings.url);
            return vec![Finding::wrong(
                "matomo",
                text,
                "see MATOMO_URL, HTTPS_PROXY and, for certificates, SSL_CERT_FILE",
            )];
        }
    };
    let mut findings = vec![identity(settings, &greeting)];
    findings.extend(clock(&greeting));
    if findings.iter().any(|finding| finding.outcome == super::Outcome::Wrong) {
        return findings;
    }
    let refused = send(&matomo, settings.api, &hit("0", Timestamp::now()), false).await;
    findings.push(judgement(&refused, settings.api));
    match test_site {
        None => findings.push(Finding::note(
            "matomo.stores",
            "not tried",
            "--send-test-hit SITE stores a hit for a site made for tests",
        )),
        Some(site) => {
            let site = site.to_string();
            let stored = send(&matomo, settings.api, &hit(&site, Timestamp::now()), false).await;
            findings.push(storing(settings.api, &stored, &refused, &site));
            if settings.token.is_some()
                && matches!(stored, Interpretation::Stored { queued: false })
            {
                let age = jiff::SignedDuration::from_secs(settings.max_age.seconds() + 3_600);
                let old = &hit(&site, Timestamp::now() - age);
                let answer = send(&matomo, settings.api, old, true).await;
                findings.push(token(&answer, settings.max_age));
            }
        }
    }
    findings
}

fn identity(settings: &config::MatomoSettings, greeting: &Greeting) -> Finding {
    let url = &settings.url;
    match greeting {
        Greeting { status: 300..=399, location, .. } => {
            let location = location.as_deref().unwrap_or("somewhere else");
            Finding::wrong(
                "matomo",
                format!("{url} sends us on to {location}"),
                "set MATOMO_URL to the address that answers itself: a redirect loses the hits",
            )
        }
        Greeting { is_matomo: true, .. } => {
            Finding::fine("matomo", format!("Matomo answers at {url}"))
        }
        Greeting { is_silent: true, .. } => Finding::note(
            "matomo",
            format!("{url} answers with nothing, as Matomo does with the QueuedTracking plugin"),
            "if there is no such plugin, this is not the address of matomo.php",
        ),
        Greeting { status, .. } => Finding::wrong(
            "matomo",
            format!("{url} answers HTTP {status}, but not as Matomo does"),
            "is this the address of matomo.php, and is Matomo installed there?",
        ),
    }
}

fn clock(greeting: &Greeting) -> Option<Finding> {
    let skew = greeting.ahead_of_us?;
    let text = format!(
        "Matomo's clock is {} s {} ours",
        skew.abs(),
        if skew < 0 { "behind" } else { "ahead of" }
    );
    Some(match skew {
        _ if skew < -MOST_SKEW => Finding::note(
            "matomo.clock",
            text,
            "hits of the last seconds lie in Matomo's future, and it replaces their time: \
             synchronise both clocks (NTP)",
        ),
        _ if skew > MOST_SKEW => {
            Finding::note("matomo.clock", text, "synchronise both clocks (NTP)")
        }
        _ => Finding::fine("matomo.clock", "Matomo's clock agrees with ours"),
    })
}

/// A hit for the site 0, which no Matomo has, must be refused.
fn judgement(refused: &Interpretation, api: Api) -> Finding {
    let subject = "matomo.judges";
    match refused {
        Interpretation::Refused { .. } => {
            Finding::fine(subject, "a hit for a site that does not exist is refused")
        }
        Interpretation::Suspect(Failure { reason: Reason::ClientError, .. })
            if api == Api::Single =>
        {
            Finding::note(
                subject,
                "a hit for a site that does not exist is refused, as every hit is while Matomo's \
                 database is away: with MATOMO_API=single both look alike",
                "--send-test-hit SITE tells which it is",
            )
        }
        Interpretation::Stored { queued: true } => Finding::note(
            subject,
            "the QueuedTracking plugin answers: it takes everything, and what becomes of it \
             nobody is told",
            "hits count as delivered{how=\"queued\"}; watch the plugin's queue and its worker in \
             Matomo",
        ),
        Interpretation::Stored { queued: false } => Finding::wrong(
            subject,
            "a hit for a site that does not exist is taken as stored",
            "something between here and Matomo answers in its place: ask who runs the \
             gateway",
        ),
        other => failed(subject, other),
    }
}

fn storing(api: Api, stored: &Interpretation, refused: &Interpretation, site: &str) -> Finding {
    let subject = "matomo.stores";
    match (stored, refused) {
        (Interpretation::Stored { queued: false }, Interpretation::Stored { .. }) => {
            Finding::wrong(
                subject,
                "a valid and an invalid hit get the same answer",
                "something between here and Matomo swallows hits: ask who runs the gateway",
            )
        }
        (Interpretation::Stored { queued: false }, _) => {
            Finding::fine(subject, format!("a hit for site {site} is stored"))
        }
        (Interpretation::Stored { queued: true }, _) => Finding::note(
            subject,
            format!("a hit for site {site} is queued"),
            "see in Matomo whether it arrives",
        ),
        (Interpretation::Refused { .. }, _) => Finding::wrong(
            subject,
            format!("a hit for site {site} is refused"),
            "does this site exist in Matomo?",
        ),
        (Interpretation::Suspect(Failure { reason: Reason::ClientError, .. }), _)
            if api == Api::Single =>
        {
            Finding::wrong(
                subject,
                format!("a hit for site {site} is refused"),
                "does this site exist in Matomo, and is Matomo's database there?",
            )
        }
        (other, _) => failed(subject, other),
    }
}

fn token(old: &Interpretation, max_age: MaxAge) -> Finding {
    let subject = "matomo.token";
    match old {
        Interpretation::Stored { .. } => {
            let text = format!("MATOMO_TOKEN_AUTH is good: a hit over {max_age} old is stored");
            Finding::fine(subject, text)
        }
        Interpretation::Suspect(Failure { reason: Reason::ServerError, .. }) => Finding::wrong(
            subject,
            "Matomo answers 500 to a request with MATOMO_TOKEN_AUTH, and stores one without it: it \
             has locked this address out after over 20 refused tokens within an hour",
            "end whatever sends a bad token from this address, and wait for an hour; the token \
             itself may be good",
        ),
        _ => Finding::wrong(
            subject,
            format!("MATOMO_TOKEN_AUTH is not good: a hit over {max_age} old is refused"),
            "it needs write access to the site, and must not be one \"for secure requests only\" \
             (Matomo 5.2 refuses those in bulk requests)",
        ),
    }
}

fn failed(subject: &'static str, reading: &Interpretation) -> Finding {
    let failure = reading.failure();
    let status = failure
        .and_then(|failure| failure.status)
        .map(|status| format!(" (HTTP {status})"))
        .unwrap_or_default();
    let reason = failure.map_or("unknown", |failure| failure.reason.code());
    let remedy = failure.map_or_else(
        || "see Matomo's log".to_owned(),
        |failure| hint_of_reason(failure.reason, Language::English),
    );
    Finding::wrong(subject, format!("the tracker does not take hits: {reason}{status}"), &remedy)
}

/// A page view that nobody can take for a person's.
fn hit(site: &str, at: Timestamp) -> Value {
    json!({
        "idsite": site, "rec": "1", "apiv": "1", "uid": "dnma-relay-check",
        "url": "https://dnma-relay.invalid/check", "action_name": "dnma-relay check",
        "cdt": at.as_second().to_string(), "ua": "Mozilla/5.0 (dnma-relay check)",
    })
}

async fn send(matomo: &MatomoClient, api: Api, hit: &Value, with_token: bool) -> Interpretation {
    let encoded = match api {
        // Complete but for `rand`, which the client adds.
        Api::Bulk => hit.to_string().trim_end_matches('}').to_owned(),
        Api::Single => {
            let pairs = hit
                .as_object()
                .into_iter()
                .flatten()
                .filter_map(|(name, value)| Some((name, value.as_str()?)));
            url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish()
        }
    };
    answer::interpret(api, &matomo.send(&[encoded.as_bytes()], with_token).await, 1)
}
