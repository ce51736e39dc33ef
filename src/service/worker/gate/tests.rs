use super::*;
use crate::domain::answer::Reason;

const STORED: Interpretation = Interpretation::Stored { queued: false };
const UNREACHABLE: Failure = Failure { reason: Reason::Unreachable, status: None };

fn gate(max_rate: Option<u32>, hits: usize) -> Gate {
    let bounds = LoadBounds { requests: 8, hits, timeout: Duration::from_secs(65) };
    Gate::new(bounds, max_rate, Metrics::new(2))
}

fn needed() -> TokenUse {
    TokenUse::Needed("1".to_owned())
}

/// Answers at once, until more than one request may be under way. How many that takes depends
/// on how fast this machine is just now.
async fn works_for_a_while(gate: &Gate) {
    for _ in 0..10_000 {
        if gate.limit_of_most().0.requests > 2 {
            return;
        }
        let mut permit = gate.permit(10, TokenUse::Without).await.expect("no token is asked for");
        permit.sends(permit.most());
        permit.report(Signal::Works, None, &STORED);
    }
    panic!("never more than two requests at a time");
}

/// Whether a permit is to be had without any time going by.
async fn at_once(gate: &Gate, with_token: bool) -> Option<Permit<'_>> {
    let token = if with_token { needed() } else { TokenUse::Without };
    tokio::select! {
        biased;
        permit = gate.permit(1, token) => permit.ok(),
        () = std::future::ready(()) => None,
    }
}

#[tokio::test]
async fn an_outage_lets_one_probe_through_and_its_answer_opens_the_gate() {
    let gate = gate(None, 10);
    let permit = at_once(&gate, false).await.expect("closed breaker");
    assert!(!permit.is_probe());
    let down = Interpretation::Down(UNREACHABLE);
    permit.report(Signal::Down, None, &down);
    assert_eq!(gate.why(), Some(UNREACHABLE));
    assert!(gate.open_for().is_some() && gate.pause_left().is_some());
    assert!(at_once(&gate, false).await.is_none(), "nothing goes before the pause is over");
    let probe = gate.permit(1, TokenUse::Without).await.expect("no token is asked for");
    assert!(probe.is_probe());
    assert!(at_once(&gate, false).await.is_none(), "one probe at a time");
    drop(probe);
    let probe = at_once(&gate, false).await.expect("a probe that is not sent is given back");
    probe.report(Signal::Works, None, &STORED);
    assert_eq!((gate.why(), gate.open_for()), (None, None));
    assert!(!at_once(&gate, false).await.expect("closed again").is_probe());
}

#[tokio::test]
async fn those_who_wait_go_when_an_answer_comes() {
    let gate = gate(None, 10);
    works_for_a_while(&gate).await;
    let first = at_once(&gate, true).await.expect("the first tries the token");
    let second = gate.permit(1, needed());
    tokio::pin!(second);
    assert!(futures_util::poll!(second.as_mut()).is_pending(), "the token is on trial");
    assert!(at_once(&gate, false).await.is_some(), "what needs no token does not wait");
    first.report(Signal::Works, None, &STORED);
    assert!(second.await.is_ok());
}

#[tokio::test]
async fn a_permit_that_is_dropped_gives_the_token_back() {
    let gate = gate(None, 10);
    drop(at_once(&gate, true).await.expect("the first"));
    assert!(at_once(&gate, true).await.is_some());
}

#[tokio::test]
async fn a_token_that_rests_is_said_at_once() {
    let gate = gate(None, 10);
    gate.set_workers(1);
    let refused = Interpretation::Refused { places: Some(vec![0]), status: 200 };
    for _ in 0..3 {
        let permit = gate.permit(1, needed()).await.expect("not yet");
        permit.report(Signal::Works, None, &refused);
    }
    assert_eq!(gate.permit(1, needed()).await.err(), Some(TokenRests));
    assert!(gate.permit(1, TokenUse::Without).await.is_ok());
}

#[tokio::test]
async fn who_waits_for_room_goes_in_the_order_of_asking() {
    let gate = gate(None, 10);
    let first = at_once(&gate, false).await.expect("the first goes");
    assert_eq!(first.most(), 1, "and with one hit, for nothing is known of Matomo");
    let (second, third) = (gate.permit(10, TokenUse::Without), gate.permit(10, TokenUse::Without));
    tokio::pin!(second, third);
    assert!(futures_util::poll!(second.as_mut()).is_pending());
    assert!(futures_util::poll!(third.as_mut()).is_pending());
    first.report(Signal::Works, None, &STORED);
    assert!(futures_util::poll!(third.as_mut()).is_pending(), "it asked later");
    assert!(second.await.is_ok_and(|permit| permit.most() > 1), "an answer makes room");
}

#[tokio::test]
async fn the_rate_limit_lets_a_burst_through_and_then_waits() {
    let gate = gate(Some(1), 3);
    assert!(gate.permit(3, TokenUse::Without).await.is_ok());
    assert!(at_once(&gate, false).await.is_none());
}
