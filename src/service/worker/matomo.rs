//! One request to Matomo → [`Answer`]. A timeout is an answer, not an error. Nothing here
//! decides a fate.

use std::error::Error as _;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use reqwest::header::{CONTENT_TYPE, DATE, LOCATION, RETRY_AFTER};
use reqwest::{Client, Response, redirect};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use crate::domain::answer::{self, Answer, Body};
use crate::domain::request::{self, Api, Rand};
use crate::service::config::{self, is_loopback};

/// Answers are below 1 KiB; more than this is not Matomo, and is not read.
const MAX_ANSWER: usize = 64 * 1024;

/// A query longer than this goes as a POST form: nginx refuses a request line over 8 KiB with 414.
const MAX_QUERY: usize = 7_000;

/// Over so long the shortest time of a request is looked for.
const FASTEST_OVER: Duration = Duration::from_secs(60);

/// Apache closes an idle connection after 5 s by default; a request sent just then would end in
/// doubt.
const IDLE_TIMEOUT: Duration = Duration::from_secs(4);

/// The Tracking API of one Matomo.
#[derive(Debug)]
pub struct MatomoClient {
    client: Client,
    /// The full address of the tracking endpoint.
    url: Url,
    /// The form of a request.
    api: Api,
    /// `MATOMO_TOKEN_AUTH`, for requests that need it.
    token: Option<SecretString>,
    /// How fast Matomo takes requests.
    fastest: Mutex<Fastest>,
    /// How the latest answer began that was not understood, as the log has it.
    excerpt: Mutex<String>,
}

/// The shortest times in which Matomo stored a request, of this minute and of the last one in which
/// it stored any: a Matomo that became slower is not held against what it once could.
#[derive(Debug, Default)]
struct Fastest {
    /// When this minute began, and its shortest time.
    latest: Option<(Instant, Duration)>,
    /// The shortest time of the one before.
    before: Option<Duration>,
}

impl Fastest {
    /// Takes in a request that was stored.
    fn note(&mut self, took: Duration, now: Instant) {
        match &mut self.latest {
            Some((since, shortest)) if now.duration_since(*since) < FASTEST_OVER => {
                *shortest = (*shortest).min(took);
            }
            latest => {
                self.before = latest.replace((now, took)).map(|(_, shortest)| shortest);
            }
        }
    }

    /// Whether an answer came too soon for Matomo to have stored anything: in less than half of
    /// what it takes at least.
    fn is_before(&self, took: Duration) -> bool {
        let latest = self.latest.map(|(_, shortest)| shortest);
        let shortest = latest.into_iter().chain(self.before).min();
        shortest.is_some_and(|shortest| took < shortest / 2)
    }
}

/// How an address answers to a request for nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Greeting {
    /// The HTTP status.
    pub status: u16,
    /// Where a redirect leads.
    pub location: Option<String>,
    /// Whether it says of itself that it is Matomo's tracker.
    pub is_matomo: bool,
    /// Whether it says nothing, as a Matomo with the QueuedTracking plugin does.
    pub is_silent: bool,
    /// Its clock less ours, in seconds.
    pub ahead_of_us: Option<i64>,
}

impl MatomoClient {
    /// A client with a pool of connections of its own.
    ///
    /// # Errors
    /// When the trusted certificates of the system cannot be loaded.
    pub fn new(settings: &config::MatomoSettings) -> anyhow::Result<Self> {
        // No User-Agent: Matomo takes the sender's for a hit that has none, and the relay
        // is nobody's browser. No redirects: a 302 turns a bulk into an empty GET that
        // answers 200.
        let mut client = Client::builder()
            .timeout(settings.timeout)
            .redirect(redirect::Policy::none())
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(usize::from(settings.concurrency));
        // A proxy is off this machine, and what goes to it by http is in the clear: what need not
        // be encrypted because it stays here has to stay here.
        if is_loopback(&settings.url) {
            client = client.no_proxy();
        }
        let client = client.build().context("the HTTP client for MATOMO_URL cannot be set up")?;
        Ok(Self {
            client,
            url: settings.url.clone(),
            api: settings.api,
            token: settings.token.clone(),
            fastest: Mutex::default(),
            excerpt: Mutex::default(),
        })
    }

    /// Sends encoded hits, in their order. In single mode there is one.
    pub async fn send(&self, hits: &[&[u8]], with_token: bool) -> Answer {
        let token = self.token.as_ref().filter(|_| with_token).map(ExposeSecret::expose_secret);
        let request = match self.api {
            Api::Bulk => {
                let body = request::bulk_body(hits, fresh_rand, token);
                self.client
                    .post(self.url.clone())
                    .header(CONTENT_TYPE, "application/json")
                    .body(body)
            }
            Api::Single => self.single(hits.first().copied().unwrap_or_default(), token),
        };
        let started = Instant::now();
        let mut answer = match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => from_error(&error),
        };
        if let Answer::Response { at_once, .. } = &mut answer {
            *at_once = self.fastest().is_before(started.elapsed());
        }
        answer
    }

    /// A request that began then was stored, and took so long.
    pub fn note_stored(&self, started: Instant, took: Duration) {
        self.fastest().note(took, started);
    }

    fn fastest(&self) -> MutexGuard<'_, Fastest> {
        self.fastest.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the tracker for nothing, which it answers by naming itself.
    ///
    /// # Errors
    /// Why nobody answers, in words and without the address.
    pub async fn greet(&self) -> Result<Greeting, String> {
        let mut response = self
            .client
            .get(self.url.clone())
            .send()
            .await
            .map_err(|error| cause(&error.without_url()))?;
        let header = |name| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).map(str::to_owned)
        };
        let (status, location) = (response.status().as_u16(), header(LOCATION));
        let date = header(DATE).and_then(|date| jiff::fmt::rfc2822::parse(&date).ok());
        let ahead_of_us =
            date.map(|date| date.timestamp().as_second() - jiff::Timestamp::now().as_second());
        let mut bytes = Vec::new();
        while let Ok(Some(chunk)) = response.chunk().await {
            bytes.extend(chunk.iter().take(MAX_ANSWER - bytes.len()));
            if bytes.len() == MAX_ANSWER {
                break;
            }
        }
        let is_matomo = status == 200 && String::from_utf8_lossy(&bytes).contains("part of Matomo");
        let is_silent = status == 200 && bytes.is_empty();
        Ok(Greeting { status, location, is_matomo, is_silent, ahead_of_us })
    }

    /// Reads an answer within its bounds, and logs the beginning of one that is not understood.
    async fn read(&self, mut response: Response) -> Answer {
        let status = response.status().as_u16();
        let header = |name| {
            response.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
        };
        let content_type = header(CONTENT_TYPE).to_owned();
        let retry_after = retry_after(header(RETRY_AFTER), jiff::Timestamp::now());
        let mut bytes = Vec::new();
        let body = loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_ANSWER => {
                    bytes.extend_from_slice(&chunk)
                }
                Ok(Some(_)) => break Body::Other,
                Ok(None) => break Body::read(&content_type, &bytes),
                Err(error) if error.is_timeout() => return Answer::TimedOut,
                Err(_) => return Answer::Broken,
            }
        };
        if status == 200 && matches!(body, Body::Other | Body::Unclear) {
            self.log_excerpt(&content_type, &bytes);
        }
        Answer::Response { status, body, retry_after, at_once: false }
    }

    /// Once for answers that begin alike, one after the other.
    fn log_excerpt(&self, content_type: &str, bytes: &[u8]) {
        let excerpt = answer::excerpt(bytes);
        let mut last = self.excerpt.lock().unwrap_or_else(PoisonError::into_inner);
        if *last != excerpt {
            tracing::warn!(
                begins = excerpt,
                content_type = answer::excerpt(content_type.as_bytes()),
                "an answer with the status 200 is none that Matomo gives"
            );
            *last = excerpt;
        }
    }

    fn single(&self, hit: &[u8], token: Option<&str>) -> reqwest::RequestBuilder {
        let query = request::single_query(hit, fresh_rand());
        let form = match token {
            Some(token) => request::with_token(query, token),
            None if query.len() > MAX_QUERY => query,
            None => {
                let mut url = self.url.clone();
                // Percent-encoded, so ASCII.
                url.set_query(std::str::from_utf8(&query).ok());
                return self.client.get(url);
            }
        };
        self.client
            .post(self.url.clone())
            .header(CONTENT_TYPE, "application/x-www-form-urlencoded")
            .body(form)
    }
}

/// The innermost reason: the outer ones only say that something failed.
pub(crate) fn cause(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

fn fresh_rand() -> Rand {
    request::rand(rand::random())
}

/// Reads `Retry-After`: whole seconds, or the date until which to wait. A date that is over asks
/// for no wait.
fn retry_after(value: &str, now: jiff::Timestamp) -> Option<Duration> {
    if let Ok(seconds) = value.trim().parse() {
        return Some(Duration::from_secs(seconds));
    }
    let until = jiff::fmt::rfc2822::parse(value.trim()).ok()?.timestamp();
    Some(Duration::try_from(until.duration_since(now)).unwrap_or_default())
}

fn from_error(error: &reqwest::Error) -> Answer {
    // The text of the error may hold the URL of a single request, which is a person's page view:
    // only its kind is told.
    let cause = error.source().map(|_| {
        if error.is_connect() {
            "connect"
        } else if error.is_timeout() {
            "timeout"
        } else {
            "broken"
        }
    });
    tracing::debug!(cause, "no answer from Matomo");
    if error.is_connect() {
        Answer::Unreachable
    } else if error.is_timeout() {
        Answer::TimedOut
    } else {
        Answer::Broken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn too_soon_is_less_than_half_of_what_it_takes_now() {
        let (mut fastest, start) = (Fastest::default(), Instant::now());
        let millis = Duration::from_millis;
        assert!(!fastest.is_before(Duration::ZERO), "nothing is known");
        fastest.note(millis(20), start);
        fastest.note(millis(30), start);
        assert!(fastest.is_before(millis(9)) && !fastest.is_before(millis(10)));
        fastest.note(millis(200), start + FASTEST_OVER);
        assert!(!fastest.is_before(millis(10)), "the minute before counts");
        fastest.note(millis(200), start + 2 * FASTEST_OVER);
        assert!(fastest.is_before(millis(99)));
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = "2026-11-25T08:00:00Z".parse().expect("a time");
        assert_eq!(retry_after(" 120 ", now), Some(Duration::from_secs(120)));
        let date = "Wed, 25 Nov 2026 08:01:30 GMT";
        assert_eq!(retry_after(date, now), Some(Duration::from_secs(90)));
        assert_eq!(retry_after("Wed, 25 Nov 2026 07:00:00 GMT", now), Some(Duration::ZERO));
        assert_eq!((retry_after("soon", now), retry_after("", now)), (None, None));
    }
}
