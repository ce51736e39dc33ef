use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn breaker() -> (Breaker, Instant) {
    (Breaker::new(|failures| SECOND * 2u32.pow(failures.min(5)), SECOND), Instant::now())
}

#[test]
fn an_outage_opens_probes_and_closes() {
    let (mut breaker, t) = breaker();
    assert_eq!(breaker.ask(t), Permission::Go);
    assert_eq!(breaker.record(Signal::Down, false, None, t), Some(Change::Opened));
    assert_eq!(
        breaker.record(Signal::Works, false, None, t),
        None,
        "an answer from before the outage closes nothing"
    );
    assert_eq!(breaker.ask(t), Permission::WaitUntil(t + SECOND));
    assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
    assert_eq!(breaker.ask(t + SECOND), Permission::WaitForAnswer, "one probe at a time");
    assert_eq!(breaker.record(Signal::Down, true, None, t + SECOND), None);
    assert_eq!(breaker.ask(t + SECOND), Permission::WaitUntil(t + SECOND * 3), "the wait grows");
    assert_eq!(breaker.ask(t + SECOND * 3), Permission::Probe);
    assert_eq!(
        breaker.record(Signal::Works, true, None, t + SECOND * 4),
        Some(Change::Closed(SECOND * 4))
    );
    assert_eq!(breaker.ask(t + SECOND * 4), Permission::Go);
}

#[test]
fn after_an_outage_requests_come_back_one_by_one() {
    let (mut breaker, t) = breaker();
    assert_eq!(breaker.record(Signal::Down, false, None, t), Some(Change::Opened));
    assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
    assert!(matches!(
        breaker.record(Signal::Works, true, None, t + SECOND),
        Some(Change::Closed(_))
    ));
    assert_eq!(breaker.ask(t + SECOND), Permission::Go);
    assert_eq!(breaker.ask(t + SECOND), Permission::WaitForAnswer);
    breaker.abandon(false);
    assert_eq!(breaker.ask(t + SECOND), Permission::Go);
    assert_eq!(breaker.record(Signal::Works, false, None, t + SECOND), None);
    assert_eq!(
        [breaker.ask(t), breaker.ask(t), breaker.ask(t)],
        [Permission::Go, Permission::Go, Permission::WaitForAnswer]
    );
    // It falls over again: the pause is longer than the first time.
    assert_eq!(breaker.record(Signal::Down, false, None, t + SECOND), Some(Change::Opened));
    assert_eq!(breaker.ask(t + SECOND), Permission::WaitUntil(t + SECOND * 3));
}

/// A breaker whose outage of `[t, t + SECOND]` is over.
fn recovering() -> (Breaker, Instant) {
    let (mut breaker, t) = breaker();
    assert_eq!(breaker.record(Signal::Down, false, None, t), Some(Change::Opened));
    assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
    let closed = breaker.record(Signal::Works, true, None, t + SECOND);
    assert_eq!(closed, Some(Change::Closed(SECOND)));
    (breaker, t + SECOND)
}

#[test]
fn each_answer_that_works_doubles_the_room_until_there_is_no_limit() {
    let (mut breaker, t) = recovering();
    let mut under_way = 0;
    for room in [1, 2, 4, 8, 16, 32] {
        while under_way < room {
            assert_eq!(breaker.ask(t), Permission::Go, "{under_way} of {room}");
            under_way += 1;
        }
        assert_eq!(breaker.ask(t), Permission::WaitForAnswer, "{under_way} of {room}");
        assert_eq!(breaker.record(Signal::Works, false, None, t), None);
        under_way -= 1;
    }
    for _ in 0..2 * RECOVERED_AT {
        assert_eq!(breaker.ask(t), Permission::Go);
    }
    // It is forgotten: the next outage starts with the shortest pause.
    assert_eq!(breaker.record(Signal::Down, false, None, t), Some(Change::Opened));
    assert_eq!(breaker.ask(t), Permission::WaitUntil(t + SECOND));
}

#[test]
fn an_answer_that_tells_nothing_makes_room_for_one_request_and_no_more() {
    for signal in [Signal::Unclear, Signal::Nothing] {
        let (mut breaker, t) = recovering();
        for _ in 0..SUSPECT_RUN - 1 {
            assert_eq!(breaker.ask(t), Permission::Go);
            assert_eq!(breaker.ask(t), Permission::WaitForAnswer);
            assert_eq!(breaker.record(signal, false, None, t), None);
        }
    }
}

#[test]
fn what_is_abandoned_gives_back_its_own_permission_only() {
    let (mut breaker, t) = recovering();
    assert_eq!(breaker.ask(t), Permission::Go);
    breaker.abandon(true);
    assert_eq!(breaker.ask(t), Permission::WaitForAnswer, "there is no probe to give back");
    breaker.abandon(false);
    assert_eq!(breaker.ask(t), Permission::Go);

    assert_eq!(breaker.record(Signal::Down, false, None, t), Some(Change::Opened));
    assert_eq!(breaker.ask(t + SECOND * 2), Permission::Probe);
    breaker.abandon(false);
    assert_eq!(breaker.ask(t + SECOND * 2), Permission::WaitForAnswer, "the probe is out");
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.abandon(true);
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn the_status_page_sees_an_outage_from_its_start_to_its_end() {
    let (mut breaker, t) = breaker();
    let seen = |breaker: &Breaker, seconds: u32| {
        let now = t + SECOND * seconds;
        (breaker.state(), breaker.open_for(now), breaker.pause_left(now))
    };
    let open =
        |state, open_for: u32, left: u32| (state, Some(SECOND * open_for), Some(SECOND * left));
    assert_eq!(seen(&breaker, 0), (State::Closed, None, None));
    let wait = Some(SECOND * 10);
    assert_eq!(breaker.record(Signal::Down, false, wait, t), Some(Change::Opened));
    assert_eq!(seen(&breaker, 0), open(State::Open, 0, 10));
    assert_eq!(seen(&breaker, 7), open(State::Open, 7, 3));
    assert_eq!(seen(&breaker, 12), open(State::Open, 12, 0));
    assert_eq!(breaker.ask(t + SECOND * 12), Permission::Probe);
    assert_eq!(seen(&breaker, 12), open(State::HalfOpen, 12, 0));
    assert_eq!(breaker.record(Signal::Unclear, true, None, t + SECOND * 13), None);
    assert_eq!(seen(&breaker, 13), open(State::Open, 13, 2));
    assert_eq!(breaker.ask(t + SECOND * 15), Permission::Probe);
    assert_eq!(breaker.record(Signal::Nothing, true, wait, t + SECOND * 16), None);
    assert_eq!(seen(&breaker, 16), open(State::Open, 16, 10), "no probe without a pause");
    assert_eq!(breaker.ask(t + SECOND * 26), Permission::Probe);
    let closed = breaker.record(Signal::Works, true, None, t + SECOND * 27);
    assert_eq!(closed, Some(Change::Closed(SECOND * 27)));
    assert_eq!(seen(&breaker, 27), (State::Closed, None, None));
}

#[test]
fn only_an_answer_that_works_ends_a_run_of_failures() {
    let (mut breaker, t) = breaker();
    for _ in 1..SUSPECT_RUN {
        assert_eq!(breaker.record(Signal::Unclear, false, None, t), None);
        assert_eq!(breaker.record(Signal::Nothing, false, None, t), None);
    }
    assert_eq!(breaker.record(Signal::Unclear, false, None, t), Some(Change::Opened));
    assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
    assert!(breaker.record(Signal::Works, true, None, t + SECOND).is_some());
    // The run that opened it is over: the next needs its full length again.
    for _ in 1..SUSPECT_RUN {
        assert_eq!(breaker.record(Signal::Unclear, false, None, t), None);
    }
    assert_eq!(breaker.record(Signal::Unclear, false, None, t), Some(Change::Opened));
}

#[test]
fn what_an_answer_means_for_its_hits_says_whether_matomo_works() {
    use crate::domain::answer::{Failure, Reason};
    let failure = Failure { reason: Reason::Timeout, status: None };
    for (interpretation, signal) in [
        (Interpretation::Stored { queued: true }, Signal::Works),
        (Interpretation::Refused { places: None, status: 200 }, Signal::Works),
        (Interpretation::Suspect(failure), Signal::Unclear),
        (Interpretation::SuspectAmbiguous(failure), Signal::Unclear),
        (Interpretation::Down(failure), Signal::Down),
        (Interpretation::DownAmbiguous(failure), Signal::Silent),
        (Interpretation::Ambiguous(failure), Signal::Ambiguous),
    ] {
        assert_eq!(Signal::from(&interpretation), signal, "{interpretation:?}");
    }
}

#[test]
fn one_hits_fault_never_opens_it_but_a_run_does() {
    let (mut breaker, t) = breaker();
    for _ in 0..SUSPECT_RUN * 3 {
        assert_eq!(breaker.record(Signal::Unclear, false, None, t), None);
        assert_eq!(breaker.record(Signal::Works, false, None, t), None);
    }
    for _ in 1..SUSPECT_RUN {
        assert_eq!(breaker.record(Signal::Unclear, false, None, t), None);
    }
    assert_eq!(breaker.record(Signal::Unclear, false, None, t), Some(Change::Opened));
}

#[test]
fn retry_after_is_honoured_within_reason() {
    let (mut breaker, t) = breaker();
    assert_eq!(breaker.record(Signal::Down, false, Some(SECOND * 120), t), Some(Change::Opened));
    assert_eq!(breaker.ask(t), Permission::WaitUntil(t + SECOND * 120));
    assert_eq!(breaker.ask(t + SECOND * 120), Permission::Probe);
    assert_eq!(breaker.record(Signal::Down, true, Some(SECOND * 1_000_000), t), None);
    assert_eq!(breaker.ask(t), Permission::WaitUntil(t + LONGEST_RETRY_AFTER));
}

#[test]
fn a_probe_that_is_not_sent_is_given_back() {
    let (mut breaker, t) = breaker();
    assert_eq!(breaker.record(Signal::Down, false, None, t), Some(Change::Opened));
    assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
    assert_eq!(breaker.state(), State::HalfOpen);
    breaker.abandon(true);
    assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
}

#[test]
fn some_silence_among_answers_is_load_and_silence_alone_is_an_outage() {
    let (mut breaker, t) = breaker();
    assert_eq!(breaker.record(Signal::Works, false, None, t), None);
    let soon = t + SECOND / 2;
    assert_eq!(breaker.record(Signal::Silent, false, None, soon), None);
    assert_eq!(breaker.record(Signal::Works, false, None, soon), None);
    assert_eq!(breaker.record(Signal::Silent, false, None, soon), None);
    assert_eq!(breaker.record(Signal::Silent, false, None, soon + SECOND), Some(Change::Opened));
    let (mut breaker, t) = self::breaker();
    assert_eq!(breaker.record(Signal::Silent, false, None, t), Some(Change::Opened));
}

#[test]
fn a_run_of_answers_in_doubt_opens_it() {
    let (mut breaker, t) = breaker();
    breaker.record(Signal::Works, false, None, t);
    for signal in [Signal::Ambiguous, Signal::Silent] {
        assert_eq!(breaker.record(signal, false, None, t), None);
    }
    assert_eq!(breaker.record(Signal::Works, false, None, t), None, "which ends the run");
    for signal in [Signal::Ambiguous, Signal::Silent] {
        assert_eq!(breaker.record(signal, false, None, t), None);
    }
    assert_eq!(breaker.record(Signal::Ambiguous, false, None, t), Some(Change::Opened));
}

#[test]
fn who_has_no_room_is_busy_until_nothing_gets_through() {
    let (mut breaker, t) = breaker();
    assert!(!breaker.is_busy(t), "it never worked");
    breaker.record(Signal::Works, false, None, t);
    assert!(breaker.is_busy(t + SECOND / 2) && !breaker.is_busy(t + SECOND));
    for _ in 1..BUSY_RUN {
        assert!(breaker.is_busy(t));
        assert_eq!(breaker.record(Signal::Busy, false, None, t), None);
    }
    assert!(!breaker.is_busy(t), "the next refusal is an outage");
    breaker.record(Signal::Works, false, None, t);
    assert!(breaker.is_busy(t));
    breaker.record(Signal::Down, false, None, t);
    assert!(!breaker.is_busy(t), "it is away");
}

#[test]
fn every_failed_probe_has_a_pause_after_it() {
    for signal in [Signal::Nothing, Signal::Ambiguous, Signal::Silent, Signal::Busy] {
        let (mut breaker, t) = breaker();
        breaker.record(Signal::Down, false, None, t);
        assert_eq!(breaker.ask(t + SECOND), Permission::Probe);
        breaker.record(signal, true, None, t + SECOND);
        assert!(matches!(breaker.ask(t + SECOND), Permission::WaitUntil(_)), "{signal:?}");
    }
}
