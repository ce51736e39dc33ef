//! What came back from a request → what it means for the hits that it carried.
//!
//! Matomo answers 200 or 204 to hits that it did not store, 400 to good hits while its database is
//! away, and 500 to a whole bulk for the sake of one hit. [`interpret`] knows all that; what becomes of
//! the hits is decided in [`settle`](super::settle).

use std::time::Duration;

use serde::Deserialize;

use super::code::codes;
use super::request::Api;

/// What came back from one request. A timeout is an answer too.
#[derive(Debug, Clone, PartialEq)]
pub enum Answer {
    /// An HTTP response.
    Response {
        /// HTTP status.
        status: u16,
        /// What the body was.
        body: Body,
        /// `Retry-After`, where a proxy sent one.
        retry_after: Option<Duration>,
    },
    /// No connection: nothing was sent.
    Unreachable,
    /// No answer in time. Matomo goes on with a request whose client left, so the hits may be
    /// stored.
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
    /// The bulk endpoint's account.
    Counts(Counts),
    /// Matomo's 43-byte GIF: a single request, or a bulk taken by the QueuedTracking plugin.
    Gif,
    /// Nothing.
    Empty,
    /// Anything else: a login page, "Matomo is not installed yet", `Error:SQLSTATE…`.
    Other,
}

/// `{"status":"success","tracked":n,"invalid":0}`
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct Counts {
    status: String,
    tracked: u64,
    invalid: u64,
    /// Which hits were refused, by place; only with a superuser's token.
    #[serde(default)]
    invalid_indices: Option<Vec<usize>>,
}

/// The length of Matomo's answer picture.
const GIF_BYTES: usize = 43;

impl Body {
    /// Reads a response body by its content type.
    pub fn read(content_type: &str, bytes: &[u8]) -> Self {
        let kind = content_type.split(';').next().unwrap_or_default().trim();
        if bytes.is_empty() {
            return Self::Empty;
        }
        if kind.eq_ignore_ascii_case("image/gif") && bytes.len() == GIF_BYTES {
            return Self::Gif;
        }
        if kind.eq_ignore_ascii_case("application/json") {
            return serde_json::from_slice(bytes).map_or(Self::Other, Self::Counts);
        }
        Self::Other
    }
}

codes! {
    /// Why a hit was not delivered: in `x-dnma-reason` and metrics.
    Reason {
        /// Matomo could not be connected to.
        Unreachable = "unreachable",
        /// No answer within `MATOMO_TIMEOUT`.
        Timeout = "timeout",
        /// The connection broke during the request.
        ConnectionLost = "connection-lost",
        /// 3xx: a redirect loses the body of a POST, so it is never followed. `MATOMO_URL` is wrong.
        Redirect = "redirect",
        /// 4xx, or Matomo's 400 in single mode, which it also answers while its database is away.
        ClientError = "client-error",
        /// 429, from a proxy: Matomo never sends it.
        TooManyRequests = "too-many-requests",
        /// 500: the request was rolled back.
        ServerError = "server-error",
        /// 502: PHP died or is not there.
        BadGateway = "bad-gateway",
        /// 503 and other 5xx.
        Unavailable = "unavailable",
        /// 504: the proxy gave up; Matomo goes on and stores.
        GatewayTimeout = "gateway-timeout",
        /// 200, but `tracked: 0, invalid: 0`: tracking is switched off.
        TrackerOff = "tracker-off",
        /// A 2xx that no Matomo sends.
        NotMatomo = "not-matomo",
        /// 200, but fewer hits counted than sent: one was skipped on a lock wait, and nobody knows which.
        CountMismatch = "count-mismatch",
        /// Matomo counted the hit as invalid: an unknown site, or a time that needs a better token.
        Refused = "refused",
        /// The hit needs a token, and the one we have was refused not long ago.
        TokenRefused = "token-refused",
        /// Older than 24 h, and there is no token.
        TooOld = "too-old",
    }
}

/// Why a request failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failure {
    /// The reason.
    pub reason: Reason,
    /// HTTP status, where there was one.
    pub status: Option<u16>,
}

/// What an answer means for the hits of its request.
#[derive(Debug, Clone, PartialEq)]
pub enum Interpretation {
    /// All stored; `queued`: taken by the QueuedTracking plugin, which stores later and tells
    /// nobody.
    Stored {
        /// By the plugin.
        queued: bool,
    },
    /// Matomo counted some as invalid.
    Refused {
        /// Which ones, if that can be known.
        places: Option<Vec<usize>>,
        /// HTTP status.
        status: u16,
    },
    /// Nothing was stored, and one hit may be the cause.
    Suspect(Failure),
    /// Not one hit's fault, and nothing was stored.
    Down(Failure),
    /// Not one hit's fault, and the hits may be stored.
    DownAmbiguous(Failure),
    /// Matomo works, but its count does not add up.
    Ambiguous(Failure),
}

impl Interpretation {
    /// What went wrong, if it was the whole request.
    pub fn failure(&self) -> Option<Failure> {
        match self {
            Self::Suspect(failure)
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
            Self::DownAmbiguous(failure) | Self::Ambiguous(failure) => Some(failure.reason),
            Self::Refused { places: None, .. } => Some(Reason::Refused),
            Self::Refused { places: Some(_), .. }
            | Self::Stored { .. }
            | Self::Suspect(_)
            | Self::Down(_) => None,
        }
    }
}

/// Reads the answer to a request of `sent` hits.
pub fn interpret(api: Api, answer: &Answer, sent: usize) -> Interpretation {
    let (status, body) = match answer {
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
        Answer::Response { status, body, .. } => (*status, body),
    };
    let failure = |reason| Failure { reason, status: Some(status) };
    match status {
        200 => match (api, body) {
            (Api::Bulk, Body::Counts(counts)) => counted(counts, sent, status),
            (_, Body::Gif) => Interpretation::Stored { queued: api == Api::Bulk },
            _ => Interpretation::Down(failure(Reason::NotMatomo)),
        },
        204 => Interpretation::Stored { queued: api == Api::Bulk },
        300..=399 => Interpretation::Down(failure(Reason::Redirect)),
        408 => Interpretation::Down(failure(Reason::Unavailable)),
        429 => Interpretation::Down(failure(Reason::TooManyRequests)),
        400..=499 => Interpretation::Suspect(failure(Reason::ClientError)),
        500 => Interpretation::Suspect(failure(Reason::ServerError)),
        502 => Interpretation::Suspect(failure(Reason::BadGateway)),
        504 => Interpretation::DownAmbiguous(failure(Reason::GatewayTimeout)),
        501..=599 => Interpretation::Down(failure(Reason::Unavailable)),
        _ => Interpretation::Down(failure(Reason::NotMatomo)),
    }
}

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

/// Whether the list of refused places can be true: as many as counted, each once, each in the bulk.
fn credible(places: &[usize], invalid: u64, sent: usize) -> bool {
    let mut seen = places.to_vec();
    seen.sort_unstable();
    seen.dedup();
    u64::try_from(seen.len()) == Ok(invalid)
        && places.len() == seen.len()
        && seen.iter().all(|place| *place < sent)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn response(status: u16, content_type: &str, body: &str) -> Answer {
        Answer::Response {
            status,
            body: Body::read(content_type, body.as_bytes()),
            retry_after: None,
        }
    }
    fn json(body: &str) -> Answer {
        response(200, "application/json", body)
    }
    fn gif() -> String {
        "G".repeat(43)
    }
    fn reason(interpretation: &Interpretation) -> Option<Reason> {
        interpretation.failure().map(|failure| failure.reason)
    }

    #[test]
    fn a_200_is_delivered_only_if_the_count_adds_up() {
        assert_eq!(
            interpret(Api::Bulk, &json(r#"{"status":"success","tracked":3,"invalid":0}"#), 3),
            Interpretation::Stored { queued: false }
        );
        let cases = [
            (json(r#"{"status":"success","tracked":0,"invalid":0}"#), Reason::TrackerOff),
            (json(r#"{"status":"success","tracked":2,"invalid":0}"#), Reason::CountMismatch),
            (json(r#"{"status":"success","tracked":4,"invalid":0}"#), Reason::CountMismatch),
            (
                json(r#"{"status":"success","tracked":18446744073709551615,"invalid":4}"#),
                Reason::CountMismatch,
            ),
            (json(r#"{"status":"error","tracked":3,"invalid":0}"#), Reason::NotMatomo),
            (json("[]"), Reason::NotMatomo),
            (
                response(200, "text/html", "Error:SQLSTATE[HY000]: General error: 2006"),
                Reason::NotMatomo,
            ),
            (
                response(200, "text/html", r#"{"status":"success","tracked":3,"invalid":0}"#),
                Reason::NotMatomo,
            ),
            (response(200, "text/html", ""), Reason::NotMatomo),
            (response(200, "image/gif", "GIF too short"), Reason::NotMatomo),
        ];
        for (answer, expected) in cases {
            assert_eq!(reason(&interpret(Api::Bulk, &answer, 3)), Some(expected), "{answer:?}");
        }
        assert_eq!(
            interpret(Api::Bulk, &response(200, "image/gif", &gif()), 3),
            Interpretation::Stored { queued: true }
        );
        assert_eq!(
            interpret(Api::Single, &response(200, "image/gif", &gif()), 1),
            Interpretation::Stored { queued: false }
        );
        assert_eq!(
            reason(&interpret(
                Api::Single,
                &json(r#"{"status":"success","tracked":0,"invalid":0}"#),
                1
            )),
            Some(Reason::NotMatomo)
        );
    }

    #[test]
    fn hits_are_in_doubt_where_nobody_knows_what_was_stored() {
        let bulk = |answer: &Answer| interpret(Api::Bulk, answer, 3).doubt();
        assert_eq!(bulk(&Answer::TimedOut), Some(Reason::Timeout));
        assert_eq!(bulk(&Answer::Broken), Some(Reason::ConnectionLost));
        assert_eq!(bulk(&response(504, "text/html", "")), Some(Reason::GatewayTimeout));
        for (counts, expected) in [
            (r#"{"status":"success","tracked":3,"invalid":0}"#, None),
            (r#"{"status":"success","tracked":2,"invalid":0}"#, Some(Reason::CountMismatch)),
            (r#"{"status":"success","tracked":2,"invalid":1}"#, Some(Reason::Refused)),
            (r#"{"status":"success","tracked":2,"invalid":1,"invalid_indices":[1]}"#, None),
            (r#"{"status":"success","tracked":0,"invalid":3}"#, None),
            (r#"{"status":"success","tracked":0,"invalid":0}"#, None),
        ] {
            assert_eq!(bulk(&json(counts)), expected, "{counts}");
        }
        assert_eq!(bulk(&Answer::Unreachable), None);
        for status in [302, 400, 429, 500, 502, 503] {
            assert_eq!(bulk(&response(status, "text/html", "")), None, "{status}");
        }
    }

    #[test]
    fn refused_hits_are_named_only_when_the_list_can_be_true() {
        let refused = |body: &str| match interpret(Api::Bulk, &json(body), 3) {
            Interpretation::Refused { places, .. } => places,
            other => panic!("{other:?}"),
        };
        assert_eq!(
            refused(r#"{"status":"success","tracked":2,"invalid":1,"invalid_indices":[1]}"#),
            Some(vec![1])
        );
        assert_eq!(refused(r#"{"status":"success","tracked":2,"invalid":1}"#), None);
        assert_eq!(
            refused(r#"{"status":"success","tracked":2,"invalid":1,"invalid_indices":[3]}"#),
            None
        );
        assert_eq!(
            refused(r#"{"status":"success","tracked":1,"invalid":2,"invalid_indices":[1,1]}"#),
            None
        );
        assert_eq!(refused(r#"{"status":"success","tracked":0,"invalid":3}"#), Some(vec![0, 1, 2]));
    }
}
