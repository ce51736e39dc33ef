//! Interprets what came back from a request: what it means for the hits that the request carried.
//!
//! Matomo answers 200 or 204 to hits that it did not store, 400 to good hits while its database is
//! away, and 500 to a whole bulk for the sake of one hit. [`interpret`] knows all that; what
//! becomes of the hits is decided in [`settle`](super::settle).

use std::time::Duration;

use memchr::memmem;
use serde::Deserialize;

use super::code::codes;
use super::request::Api;

/// What came back from a request. A timeout counts as an answer too.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// There was an HTTP response.
    Response {
        /// The HTTP status.
        status: u16,
        /// The body, as far as it matters.
        body: Body,
        /// The `Retry-After` header, if a proxy sent one.
        retry_after: Option<Duration>,
        /// Whether it came too soon for Matomo to have stored anything.
        at_once: bool,
    },
    /// There was no connection, so nothing was sent.
    Unreachable,
    /// There was no answer in time. Matomo goes on with a request whose client left, so the hits
    /// may be stored.
    TimedOut,
    /// The connection broke after the request was under way: the hits may be stored.
    Broken,
}

impl Answer {
    /// How long a proxy asks to wait, if it does.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Response { retry_after, .. } => *retry_after,
            Self::Unreachable | Self::TimedOut | Self::Broken => None,
        }
    }
}

/// The body of a response, as far as it matters.
#[derive(Debug, Clone, PartialEq)]
pub enum Body {
    /// It has the bulk endpoint's count of hits, once: alone, or among the notices of PHP, after a
    /// byte order mark, before a cache's comment.
    Counts(Counts),
    /// It speaks of a count, but which one is not certain.
    Unclear,
    /// Matomo says that it rolled this request back, as it does after a deadlock on a table of its
    /// own (`Error:There is no active transaction`).
    RolledBack,
    /// It is Matomo's 43-byte GIF, alone or after the notices of PHP, which answers a single
    /// request, and a bulk that the QueuedTracking plugin took.
    Gif,
    /// There is no body.
    Empty,
    /// It is anything else: a login page, "Matomo is not installed yet", `Error:SQLSTATE…`.
    Other,
}

/// The bulk endpoint's count of hits: `{"status":"success","tracked":n,"invalid":0}`.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Counts {
    /// `success`, or the count is not believed.
    status: String,
    /// Hits that Matomo stored.
    tracked: u64,
    /// Hits that Matomo refused.
    invalid: u64,
    /// The places of the refused hits in the bulk. Matomo names them only with a superuser's
    /// token.
    #[serde(default)]
    invalid_indices: Option<Vec<usize>>,
}

impl Counts {
    /// Whether so many hits were counted as stored.
    fn reach(&self, sent: usize) -> bool {
        usize::try_from(self.tracked).map_or(true, |tracked| tracked >= sent)
    }
}

/// What Matomo writes where a deadlock ended its transaction, with the status 200.
const NO_TRANSACTION: &[u8] = b"There is no active transaction";

/// By what a text is known that speaks of a count.
const COUNT_KEY: &[u8] = b"\"tracked\"";

/// The length of the picture with which Matomo answers.
const GIF_BYTES: usize = 43;

/// How the picture begins.
const GIF_BEGIN: &[u8] = b"GIF89a";

impl Body {
    /// Reads a response body by its content type.
    pub fn read(content_type: &str, bytes: &[u8]) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if bytes.is_empty() {
            return Self::Empty;
        }
        if kind.eq_ignore_ascii_case("image/gif") && ends_with_gif(bytes) {
            return Self::Gif;
        }
        if kind.eq_ignore_ascii_case("application/json")
            && let Ok(counts) = serde_json::from_slice(bytes)
        {
            return Self::Counts(counts);
        }
        let mut found = counts_within(bytes);
        match (found.next(), found.next()) {
            (Some(counts), None) => Self::Counts(counts),
            (None, _) if memmem::find(bytes, NO_TRANSACTION).is_some() => Self::RolledBack,
            _ if memmem::find(bytes, COUNT_KEY).is_some() => Self::Unclear,
            _ => Self::Other,
        }
    }
}

/// So many bytes of an answer are told at most.
const MAX_EXCERPT: usize = 160;

/// A word that is longer is no word.
const MAX_WORD: usize = 24;

/// The beginning of an answer that is not understood, for the log: its words and tags. Whatever
/// may be a value (what stands in quotation marks, has a digit, an `=` or an `@`, or is too long)
/// is left out: an error of a database quotes the hit.
pub fn excerpt(bytes: &[u8]) -> String {
    let begin = String::from_utf8_lossy(bytes.get(..MAX_EXCERPT).unwrap_or(bytes)).into_owned();
    let mut quoted = None;
    let begin: String = begin
        .chars()
        .map(|c| {
            let is_mark = c == '\'' || c == '"';
            match quoted {
                None if is_mark => quoted = Some(c),
                Some(mark) if mark == c => quoted = None,
                _ => {}
            }
            let is_hidden = is_mark || quoted.is_some() && !c.is_whitespace();
            if is_hidden { '=' } else { c }
        })
        .collect();
    let is_word = |word: &str| {
        let harmless = |byte: u8| byte.is_ascii_alphabetic() || b"<>/!.,:;()[]{}-".contains(&byte);
        word.len() <= MAX_WORD && word.bytes().all(harmless)
    };
    let words = begin.split_whitespace().map(|word| if is_word(word) { word } else { "…" });
    words.collect::<Vec<_>>().join(" ")
}

/// Whether it is the picture, alone or after the notices of PHP.
fn ends_with_gif(bytes: &[u8]) -> bool {
    let start = bytes.len().checked_sub(GIF_BYTES);
    start.and_then(|start| bytes.get(start..)).is_some_and(|end| end.starts_with(GIF_BEGIN))
}

/// The counts that stand somewhere in a text, each as Matomo writes it.
fn counts_within(bytes: &[u8]) -> impl Iterator<Item = Counts> {
    memmem::find_iter(bytes, b"{\"status\"").filter_map(|place| {
        let text = bytes.get(place..)?;
        serde_json::Deserializer::from_slice(text).into_iter().next()?.ok()
    })
}

codes! {
    /// Why a hit was not delivered. Its code stands in `x-dnma-reason` and metrics.
    Reason {
        /// Matomo could not be connected to.
        Unreachable = "unreachable",
        /// There was no answer within `MATOMO_TIMEOUT`.
        Timeout = "timeout",
        /// The connection broke during the request.
        ConnectionLost = "connection-lost",
        /// The status was 3xx. A redirect loses the body of a POST, so it is never followed:
        /// `MATOMO_URL` is wrong.
        Redirect = "redirect",
        /// The status was 4xx. In single mode Matomo answers 400 while its database is away, too.
        ClientError = "client-error",
        /// The status was 429, which a proxy sends and Matomo never does.
        TooManyRequests = "too-many-requests",
        /// The status was 500: Matomo rolled the request back, unless its count says otherwise.
        ServerError = "server-error",
        /// The status was 502: PHP died or is not there. Rarely one that dies has stored already.
        BadGateway = "bad-gateway",
        /// The status was 503, 408, or another 5xx.
        Unavailable = "unavailable",
        /// The status was 504: the proxy gave up, while Matomo goes on and stores.
        GatewayTimeout = "gateway-timeout",
        /// The status was 200 with `tracked: 0, invalid: 0`: tracking is switched off.
        TrackerOff = "tracker-off",
        /// The answer is none that Matomo sends.
        NotMatomo = "not-matomo",
        /// The status was 200, but another number of hits was counted than sent: one was skipped on
        /// a lock wait, for example, and nobody knows which.
        CountMismatch = "count-mismatch",
        /// Matomo counted the hit as invalid: an unknown site, or a time that needs a better token.
        Refused = "refused",
        /// The hit needs a token, and the one we have was refused not long ago.
        TokenRefused = "token-refused",
        /// The hit is over the age limit, and there is no token.
        TooOld = "too-old",
        /// The message is no hit: it holds bytes that the client library cannot read, or its body
        /// is beyond all bounds. The broker moved it as it is.
        Unreadable = "unreadable",
    }
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// Why it failed.
    pub reason: Reason,
    /// The HTTP status, if there was a response.
    pub status: Option<u16>,
}

/// What an answer means for the hits of its request.
#[derive(Debug, Clone, PartialEq)]
pub enum Interpretation {
    /// All hits are stored, or queued to be.
    Stored {
        /// Whether the QueuedTracking plugin took them, which stores later and reports to nobody.
        queued: bool,
    },
    /// Matomo counted some hits as invalid.
    Refused {
        /// The places of these hits in the request, if they are known.
        places: Option<Vec<usize>>,
        /// The HTTP status.
        status: u16,
    },
    /// Nothing was stored, and one hit may be the cause.
    Suspect(Failure),
    /// The hits may be stored, and one hit may be the cause.
    SuspectAmbiguous(Failure),
    /// Nothing was stored, and that is not one hit's fault.
    Down(Failure),
    /// The hits may be stored; that this is not certain is not one hit's fault.
    DownAmbiguous(Failure),
    /// Matomo works, but its count does not add up, so the hits may be stored.
    Ambiguous(Failure),
}

impl Interpretation {
    /// Returns what went wrong, if the whole request failed.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Suspect(failure)
            | Self::SuspectAmbiguous(failure)
            | Self::Down(failure)
            | Self::DownAmbiguous(failure)
            | Self::Ambiguous(failure) => Some(*failure),
            Self::Stored { .. } | Self::Refused { .. } => None,
        }
    }

    /// Why the hits of the request, which go to Matomo again, may be stored there already; `None`
    /// where it is known what was stored. Of a request with refused hits that Matomo does not name,
    /// the others are stored, and all go again.
    pub fn doubt(&self) -> Option<Reason> {
        match self {
            Self::SuspectAmbiguous(failure)
            | Self::DownAmbiguous(failure)
            | Self::Ambiguous(failure) => Some(failure.reason),
            Self::Refused { places: None, .. } => Some(Reason::Refused),
            Self::Refused { places: Some(_), .. }
            | Self::Stored { .. }
            | Self::Suspect(_)
            | Self::Down(_) => None,
        }
    }
}

/// Interprets the answer to a request of `sent` hits.
pub fn interpret(api: Api, answer: &Answer, sent: usize) -> Interpretation {
    let (status, body, at_once) = match answer {
        Answer::Unreachable => {
            return Interpretation::Down(Failure { reason: Reason::Unreachable, status: None });
        }
        Answer::TimedOut => {
            return Interpretation::DownAmbiguous(Failure {
                reason: Reason::Timeout,
                status: None,
            });
        }
        Answer::Broken => {
            return Interpretation::DownAmbiguous(Failure {
                reason: Reason::ConnectionLost,
                status: None,
            });
        }
        Answer::Response { status, body, at_once, .. } => (*status, body, *at_once),
    };
    let failure = |reason| Failure { reason, status: Some(status) };
    match status {
        200 => match (api, body) {
            (Api::Bulk, Body::Counts(counts)) => counted(counts, sent, status),
            (Api::Bulk, Body::Unclear) => Interpretation::Ambiguous(failure(Reason::CountMismatch)),
            (_, Body::RolledBack) => Interpretation::Suspect(failure(Reason::ServerError)),
            (_, Body::Gif) => Interpretation::Stored { queued: api == Api::Bulk },
            _ => Interpretation::Down(failure(Reason::NotMatomo)),
        },
        204 => Interpretation::Stored { queued: api == Api::Bulk },
        300..=399 => Interpretation::Down(failure(Reason::Redirect)),
        408 => Interpretation::Down(failure(Reason::Unavailable)),
        429 => Interpretation::Down(failure(Reason::TooManyRequests)),
        400..=499 => Interpretation::Suspect(failure(Reason::ClientError)),
        // Matomo counts up to the hit that failed, and rolls back. Where all are counted, it failed
        // after the last one, and some or all are stored.
        500 => match (api, body) {
            (Api::Bulk, Body::Counts(counts)) if counts.reach(sent) => {
                Interpretation::Ambiguous(failure(Reason::ServerError))
            }
            (Api::Bulk, Body::Unclear) => Interpretation::Ambiguous(failure(Reason::ServerError)),
            _ => Interpretation::Suspect(failure(Reason::ServerError)),
        },
        502 if at_once => Interpretation::Suspect(failure(Reason::BadGateway)),
        502 => Interpretation::SuspectAmbiguous(failure(Reason::BadGateway)),
        504 => Interpretation::DownAmbiguous(failure(Reason::GatewayTimeout)),
        501..=599 => Interpretation::Down(failure(Reason::Unavailable)),
        _ => Interpretation::Down(failure(Reason::NotMatomo)),
    }
}

/// Interprets the bulk endpoint's count.
fn counted(counts: &Counts, sent: usize, status: u16) -> Interpretation {
    let failure = |reason| Failure { reason, status: Some(status) };
    let total =
        counts.tracked.checked_add(counts.invalid).and_then(|total| usize::try_from(total).ok());
    if counts.status != "success" {
        return Interpretation::Down(failure(Reason::NotMatomo));
    }
    if counts.tracked == 0 && counts.invalid == 0 {
        return Interpretation::Down(failure(Reason::TrackerOff));
    }
    if total != Some(sent) {
        return Interpretation::Ambiguous(failure(Reason::CountMismatch));
    }
    if counts.invalid == 0 {
        return Interpretation::Stored { queued: false };
    }
    let places = if counts.tracked == 0 {
        Some((0..sent).collect())
    } else {
        counts.invalid_indices.clone().filter(|places| credible(places, counts.invalid, sent))
    };
    Interpretation::Refused { places, status }
}

/// Whether the list of refused places can be true: as many as were counted, each once, and each in
/// the bulk.
fn credible(places: &[usize], invalid: u64, sent: usize) -> bool {
    let mut seen = places.to_vec();
    seen.sort_unstable();
    seen.dedup();
    u64::try_from(seen.len()) == Ok(invalid)
        && places.len() == seen.len()
        && seen.iter().all(|place| *place < sent)
}

#[cfg(test)]
mod tests;
