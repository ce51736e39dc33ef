//! A Matomo in virtual time: what it stores and what it answers, for each weather.

use std::time::Duration;

use dnma_relay::domain::answer::{Answer, Body};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    Fine,
    Unreachable,
    BadGateway,
    DatabaseDown,
    TrackerOff,
    LoginPage,
    Redirect,
    /// With `Retry-After`.
    TooManyRequests(u64),
    /// Stores, and says otherwise.
    GatewayTimeout,
    TimedOut,
    Broken,
    /// Stores all but the first hit, and names nobody.
    LockWait,
}

#[derive(Debug, Clone, Copy)]
pub struct Spell {
    pub weather: Weather,
    pub lasts: Duration,
}

/// What is wrong with a hit, whatever the weather.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Nature {
    Good,
    /// Rolls its whole request back.
    Exception,
    /// Counted as invalid.
    Invalid,
}

/// What becomes of one request.
pub struct Outcome {
    pub answer: Answer,
    /// Which of its hits are stored.
    pub stored: Vec<bool>,
    pub takes: Duration,
}

fn response(status: u16, content_type: &str, body: &str) -> Answer {
    let body = Body::read(content_type, body.as_bytes());
    Answer::Response { status, body, retry_after: None, at_once: false }
}

fn counts(tracked: usize, invalid: &[usize], named: bool) -> Answer {
    let places = if named { format!(",\"invalid_indices\":{invalid:?}") } else { String::new() };
    let body = format!(
        "{{\"status\":\"success\",\"tracked\":{tracked},\"invalid\":{}{places}}}",
        invalid.len()
    );
    response(200, "application/json", &body)
}

/// Answers a request of these hits.
pub fn answer(weather: Weather, hits: &[Nature], superuser: bool) -> Outcome {
    let takes = Duration::from_millis(15 + 4 * hits.len() as u64);
    let nothing = |answer| Outcome { answer, stored: vec![false; hits.len()], takes };
    let all = |answer, takes| Outcome { answer, stored: vec![true; hits.len()], takes };
    match weather {
        Weather::Unreachable => return nothing(Answer::Unreachable),
        Weather::BadGateway => return nothing(response(502, "text/html", "<html>")),
        Weather::DatabaseDown => {
            return nothing(response(
                500,
                "application/json",
                r#"{"status":"error","tracked":0,"invalid":0}"#,
            ));
        }
        Weather::TrackerOff => return nothing(counts(0, &[], false)),
        Weather::LoginPage => return nothing(response(200, "text/html", "<form>")),
        Weather::Redirect => return nothing(response(302, "text/html", "")),
        Weather::TooManyRequests(seconds) => {
            return nothing(Answer::Response {
                status: 429,
                body: Body::Empty,
                retry_after: Some(Duration::from_secs(seconds)),
                at_once: true,
            });
        }
        _ if hits.contains(&Nature::Exception) => {
            return nothing(response(
                500,
                "application/json",
                r#"{"status":"error","tracked":0,"invalid":0}"#,
            ));
        }
        Weather::Fine
        | Weather::GatewayTimeout
        | Weather::TimedOut
        | Weather::Broken
        | Weather::LockWait => {}
    }
    let invalid: Vec<usize> =
        (0..hits.len()).filter(|place| hits[*place] == Nature::Invalid).collect();
    let mut outcome = all(counts(hits.len() - invalid.len(), &invalid, superuser), takes);
    for place in &invalid {
        outcome.stored[*place] = false;
    }
    match weather {
        Weather::GatewayTimeout => outcome.answer = response(504, "text/html", ""),
        Weather::TimedOut => {
            (outcome.answer, outcome.takes) = (Answer::TimedOut, Duration::from_secs(65))
        }
        Weather::Broken => outcome.answer = Answer::Broken,
        Weather::LockWait => {
            if let Some(first) = outcome.stored.iter().position(|stored| *stored) {
                outcome.stored[first] = false;
                outcome.answer = counts(hits.len() - invalid.len() - 1, &invalid, superuser);
            }
        }
        _ => {}
    }
    outcome
}
