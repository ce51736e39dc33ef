use std::time::{Duration, Instant};

use super::super::answer::{Failure, Interpretation, Reason};
use super::*;

const BOUNDS: LoadBounds = LoadBounds { requests: 8, hits: 50, timeout: Duration::from_secs(6) };
const SLOW: Duration = Duration::from_millis(600);
const FAST: Duration = Duration::from_millis(2);

/// Sends all that may go at once, and lets it end after so long.
fn round(limiter: &mut Limiter, now: &mut Instant, takes: Duration, outcome: LoadSignal) -> usize {
    let mut under_way = Vec::new();
    if let Room::WaitUntil(time) = limiter.ask(*now) {
        *now = time;
    }
    while let Room::Go(hits) = limiter.ask(*now) {
        under_way.push(limiter.begin(hits, *now));
    }
    *now += takes;
    let hits = under_way.iter().map(|request| request.hits).sum();
    for request in under_way {
        limiter.end(request, outcome, *now);
    }
    hits
}

fn full_speed(bounds: LoadBounds) -> (Limiter, Instant) {
    let (mut limiter, mut now) = (Limiter::new(bounds), Instant::now());
    while is_limiting(&limiter) {
        round(&mut limiter, &mut now, FAST, LoadSignal::Answered);
    }
    (limiter, now)
}

/// Whether less may be under way than the settings allow.
fn is_limiting(limiter: &Limiter) -> bool {
    limiter.limit() != limiter.most()
}

#[test]
fn the_first_request_is_small_and_a_fast_matomo_has_all_within_100_ms() {
    let (mut limiter, start) = (Limiter::new(BOUNDS), Instant::now());
    assert_eq!(limiter.limit(), Limit { requests: 1, hits: 1 });
    let mut now = start;
    let mut before = 0;
    while is_limiting(&limiter) {
        let hits = round(&mut limiter, &mut now, FAST, LoadSignal::Answered);
        assert!(hits <= 2 * before + 1, "{hits} after {before}");
        before = before.max(hits);
    }
    assert!(now - start <= Duration::from_millis(100), "{:?}", now - start);
    assert_eq!(limiter.limit(), Limit { requests: 8, hits: 50 });
    // At full speed, all requests are full.
    assert_eq!(round(&mut limiter, &mut now, FAST, LoadSignal::Answered), 400);
}

#[test]
fn slow_answers_cut_once_per_round_trip() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    round(&mut limiter, &mut now, SLOW, LoadSignal::Answered);
    let Limit { requests, hits } = limiter.limit();
    assert!((100..=200).contains(&(requests * hits)), "{requests} requests of {hits} hits");
    for _ in 0..20 {
        round(&mut limiter, &mut now, 4 * SLOW, LoadSignal::Answered);
    }
    assert_eq!(limiter.limit(), Limit { requests: 1, hits: 1 });
    assert!(matches!(limiter.ask(now), Room::WaitUntil(time) if time > now));
}

#[test]
fn one_slow_answer_among_fast_ones_changes_little() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    let slow = limiter.begin(50, now);
    for _ in 0..20 {
        let request = limiter.begin(50, now);
        now += SLOW / 20;
        limiter.end(request, LoadSignal::Answered, now);
    }
    limiter.end(slow, LoadSignal::Answered, now);
    let Limit { requests, hits } = limiter.limit();
    assert!(requests * hits >= 380, "{requests} requests of {hits} hits");
}

#[test]
fn if_no_answer_comes_all_begins_anew() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    round(&mut limiter, &mut now, BOUNDS.timeout, LoadSignal::Lost);
    assert_eq!(limiter.limit(), Limit { requests: 1, hits: 1 });
    assert_eq!(limiter.ask(now), Room::Go(1));
    // And if that is lost too, it waits, but never for long.
    for _ in 0..10 {
        round(&mut limiter, &mut now, BOUNDS.timeout, LoadSignal::Lost);
        let Room::WaitUntil(time) = limiter.ask(now) else { panic!("goes on at once") };
        assert!(time - now <= LONGEST_PAUSE_AFTER_LOSS);
    }
    // One good answer after the other, and it is back.
    for _ in 0..40 {
        round(&mut limiter, &mut now, FAST, LoadSignal::Answered);
    }
    assert!(!is_limiting(&limiter));
}

#[test]
fn a_lost_answer_among_others_halves() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    let lost = limiter.begin(50, now);
    now += BOUNDS.timeout - FAST;
    let other = limiter.begin(50, now);
    now += FAST;
    limiter.end(other, LoadSignal::Answered, now);
    limiter.end(lost, LoadSignal::Lost, now);
    let Limit { requests, hits } = limiter.limit();
    assert_eq!(requests * hits, 200);
}

#[test]
fn nothing_begins_into_a_long_silence() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    let first = limiter.begin(50, now);
    now += BOUNDS.timeout / 4;
    assert!(matches!(limiter.ask(now), Room::Go(_)));
    now += Duration::from_millis(1);
    assert_eq!(limiter.ask(now), Room::WaitForAnswer);
    limiter.end(first, LoadSignal::Answered, now);
    assert!(matches!(limiter.ask(now), Room::Go(_)));
}

#[test]
fn refusals_lower_the_number_of_requests_for_a_while() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    let under_way: Vec<Begun> = (0..8).map(|_| limiter.begin(50, now)).collect();
    now += FAST;
    for request in under_way {
        limiter.end(request, LoadSignal::Refused, now);
    }
    assert_eq!(limiter.limit().requests, 6, "once for all of them");
    let rest = limiter.ask(now);
    assert!(matches!(rest, Room::WaitUntil(time) if time > now && time - now <= LONGEST_REST));
    now += LONGEST_REST;
    for _ in 0..100 {
        round(&mut limiter, &mut now, Duration::from_millis(5), LoadSignal::Answered);
    }
    assert_eq!(limiter.limit().requests, 6, "not tried again at once");
    for _ in 0..1_200 {
        round(&mut limiter, &mut now, Duration::from_millis(5), LoadSignal::Answered);
    }
    assert!(!is_limiting(&limiter));
}

#[test]
fn what_is_given_back_leaves_no_trace() {
    let (mut limiter, now) = (Limiter::new(BOUNDS), Instant::now());
    let request = limiter.begin(1, now);
    assert_eq!(limiter.ask(now), Room::WaitForAnswer);
    limiter.abandon(request);
    assert_eq!(limiter.ask(now), Room::Go(1));
}

#[test]
fn a_limit_that_is_not_used_is_not_kept() {
    let (mut limiter, mut now) = full_speed(BOUNDS);
    for _ in 0..100 {
        let request = limiter.begin(1, now);
        now += Duration::from_secs(1);
        limiter.end(request, LoadSignal::Answered, now);
    }
    let Limit { requests, hits } = limiter.limit();
    assert!(requests * hits <= 8, "{requests} requests of {hits} hits");
}

#[test]
fn bounds_are_kept_whatever_comes() {
    for (requests, hits) in [(0, 0), (1, 1), (8, 1), (1, 50), (64, 100)] {
        let bounds = LoadBounds { requests, hits, ..BOUNDS };
        let (mut limiter, mut now) = full_speed(bounds);
        for outcome in
            [LoadSignal::Answered, LoadSignal::Refused, LoadSignal::Lost, LoadSignal::Unrelated]
        {
            for takes in [FAST, SLOW, BOUNDS.timeout] {
                for _ in 0..30 {
                    let limit = limiter.limit();
                    assert!((1..=requests.max(1)).contains(&limit.requests));
                    assert!((1..=hits.max(1)).contains(&limit.hits));
                    let sent = round(&mut limiter, &mut now, takes, outcome);
                    assert!(sent <= requests.max(1) * hits.max(1));
                }
            }
        }
    }
}

#[test]
fn what_an_answer_means_for_the_load() {
    let failure = |reason| Failure { reason, status: None };
    for (interpretation, outcome) in [
        (Interpretation::Stored { queued: false }, LoadSignal::Answered),
        (Interpretation::Refused { places: None, status: 200 }, LoadSignal::Answered),
        (Interpretation::Ambiguous(failure(Reason::CountMismatch)), LoadSignal::Answered),
        (Interpretation::Suspect(failure(Reason::ServerError)), LoadSignal::Answered),
        (Interpretation::Suspect(failure(Reason::BadGateway)), LoadSignal::Refused),
        (Interpretation::Suspect(failure(Reason::ClientError)), LoadSignal::Unrelated),
        (Interpretation::Down(failure(Reason::TooManyRequests)), LoadSignal::Refused),
        (Interpretation::Down(failure(Reason::Unavailable)), LoadSignal::Refused),
        (Interpretation::Down(failure(Reason::Unreachable)), LoadSignal::Unrelated),
        (Interpretation::Down(failure(Reason::Redirect)), LoadSignal::Unrelated),
        (Interpretation::DownAmbiguous(failure(Reason::Timeout)), LoadSignal::Lost),
    ] {
        assert_eq!(LoadSignal::from(&interpretation), outcome, "{interpretation:?}");
    }
}
