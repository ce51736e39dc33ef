use std::time::Duration;

use super::*;
use crate::domain::answer::{Failure, Reason};
use crate::domain::max_age::MaxAge;

const NEEDS_TOKEN_AFTER: i64 = 86_400;
const FACTS: RequestFacts = RequestFacts { steps: 2, probe: false, busy: false };

fn now() -> Timestamp {
    Timestamp::from_second(1_732_549_300).expect("in range")
}

fn hit(load: u32) -> Outgoing<u32> {
    Outgoing { cdt: now(), idsite: "1".to_owned(), attempts: 0, load }
}

fn aged(load: u32, seconds: i64) -> Outgoing<u32> {
    let cdt = now().checked_sub(Duration::from_secs(seconds.unsigned_abs())).expect("in range");
    Outgoing { cdt, ..hit(load) }
}

fn known_sites() -> SiteMemory {
    let mut sites = SiteMemory::default();
    sites.learn(&Interpretation::Stored { queued: false }, ["1"].into_iter());
    sites
}

fn lane(bulk_size: usize, hits: impl IntoIterator<Item = Outgoing<u32>>) -> Lane<u32> {
    let mut lane = Lane::new(bulk_size, true, MaxAge::default());
    hits.into_iter().for_each(|hit| lane.push(hit));
    lane
}

fn loads(hits: &[Outgoing<u32>]) -> Vec<u32> {
    hits.iter().map(|hit| hit.load).collect()
}

/// Cuts and takes one request after the other.
fn requests(lane: &mut Lane<u32>, sites: &SiteMemory) -> Vec<Vec<u32>> {
    let mut requests = Vec::new();
    while !lane.is_empty() {
        assert!(lane.cut(now(), sites).is_empty());
        let request = lane.take(usize::MAX).expect("a lane that is not empty has a request");
        assert!(!request.is_empty(), "a request without hits");
        requests.push(loads(&request));
    }
    requests
}

#[test]
fn a_backlog_is_cut_into_full_requests_in_order() {
    let mut lane = lane(3, (0..7).map(hit));
    assert_eq!(requests(&mut lane, &known_sites()), [vec![0, 1, 2], vec![3, 4, 5], vec![6]]);
}

#[test]
fn hits_of_a_site_that_is_not_known_go_alone_and_keep_their_order() {
    let other = Outgoing { idsite: "2".to_owned(), ..hit(2) };
    let mut lane = lane(10, [hit(0), hit(1), other, hit(3), hit(4)]);
    assert_eq!(requests(&mut lane, &known_sites()), [vec![0, 1], vec![2], vec![3, 4]]);
}

#[test]
fn hits_that_need_the_token_go_together_and_those_about_to_go_alone() {
    let old = NEEDS_TOKEN_AFTER;
    let hits = [hit(0), aged(1, old), aged(2, old + 60), aged(3, old - 1), hit(4)];
    let mut lane = lane(10, hits);
    let sites = known_sites();
    let mut seen = Vec::new();
    while !lane.is_empty() {
        assert!(lane.cut(now(), &sites).is_empty());
        let next = lane.next_request(now()).expect("one is cut");
        let request = lane.take(usize::MAX).expect("one is cut");
        assert!(!request.is_empty(), "a request without hits");
        assert_eq!(next.hits, request.len());
        seen.push((loads(&request), next.token.is_carried()));
    }
    assert_eq!(seen, [(vec![0], false), (vec![1, 2], true), (vec![3], false), (vec![4], false)]);
}

#[test]
fn a_hit_that_ages_while_it_waits_needs_the_token_then() {
    let mut lane = lane(10, [aged(0, NEEDS_TOKEN_AFTER - 1)]);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let without = NextRequest { hits: 1, token: TokenUse::Without };
    assert_eq!(lane.next_request(now()), Some(without));
    let later = now() + Duration::from_secs(1);
    assert_eq!(
        lane.next_request(later),
        Some(NextRequest { token: TokenUse::Needed("1".to_owned()), hits: 1 })
    );
}

#[test]
fn without_a_token_what_is_too_old_is_parked_and_the_rest_goes_on() {
    let mut lane = Lane::new(10, false, MaxAge::default());
    let old = Outgoing { attempts: 1, ..aged(1, NEEDS_TOKEN_AFTER) };
    [hit(0), old, hit(2)].into_iter().for_each(|hit| lane.push(hit));
    let parked = lane.cut(now(), &known_sites());
    let [(hit, fate)] = &parked[..] else { panic!("{parked:?}") };
    assert_eq!((hit.load, fate), (1, &settle::too_old(1)));
    assert_eq!(lane.take(usize::MAX).map(|request| loads(&request)), Some(vec![0, 2]));
    assert_eq!(lane.next_request(now()), None);
}

#[test]
fn another_age_limit_decides_who_needs_the_token() {
    let hour = MaxAge::new(Duration::from_secs(3_600));
    let mut with = Lane::new(10, true, hour);
    [hit(0), aged(1, 3_599), aged(2, 3_600), aged(3, 80_000)]
        .into_iter()
        .for_each(|hit| with.push(hit));
    let mut carried = Vec::new();
    while !with.is_empty() {
        assert!(with.cut(now(), &known_sites()).is_empty());
        let next = with.next_request(now()).expect("one is cut");
        carried.push((loads(&with.take(usize::MAX).expect("one")), next.token.is_carried()));
    }
    assert_eq!(carried, [(vec![0], false), (vec![1], false), (vec![2, 3], true)]);
    let mut without = Lane::new(10, false, hour);
    [hit(0), aged(1, 3_600)].into_iter().for_each(|hit| without.push(hit));
    let parked = without.cut(now(), &known_sites());
    assert_eq!(parked.iter().map(|(hit, _)| hit.load).collect::<Vec<_>>(), [1]);
    let mut longer = Lane::new(10, false, MaxAge::new(Duration::from_secs(172_800)));
    longer.push(aged(0, 90_000));
    assert!(longer.cut(now(), &known_sites()).is_empty());
}

#[test]
fn there_is_room_until_the_bulk_is_full_and_none_beside_a_request() {
    let mut lane = lane(3, [hit(0)]);
    assert_eq!(lane.room(), 2);
    lane.push(hit(1));
    lane.push(hit(2));
    lane.push(hit(3));
    assert_eq!(lane.room(), 0);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    assert_eq!(lane.room(), 0, "one waits beside the request of three");
    assert_eq!(lane.take(usize::MAX).map(|request| request.len()), Some(3));
    assert_eq!(lane.room(), 2);
}

#[test]
fn a_probe_takes_one_hit_and_leaves_the_others_in_front() {
    let mut lane = lane(3, (0..4).map(hit));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    assert_eq!(lane.take(1).map(|request| loads(&request)), Some(vec![0]));
    assert!(lane.cut(now(), &known_sites()).is_empty(), "nothing is cut while a request waits");
    assert_eq!(lane.take(1).map(|request| loads(&request)), Some(vec![1]));
    assert_eq!(lane.take(usize::MAX).map(|request| loads(&request)), Some(vec![2]));
    assert_eq!(lane.take(usize::MAX).map(|request| loads(&request)), None);
    assert_eq!(requests(&mut lane, &known_sites()), [vec![3]]);
}

#[test]
fn a_probe_of_one_hit_leaves_nothing() {
    let mut lane = lane(3, [hit(0)]);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    assert_eq!(lane.take(1).map(|request| loads(&request)), Some(vec![0]));
    assert!(lane.is_empty());
    assert_eq!(lane.next_request(now()), None);
}

#[test]
fn a_lane_is_empty_when_nothing_waits_and_nothing_is_cut() {
    let mut lane = Lane::new(1, true, MaxAge::default());
    assert!(lane.is_empty());
    lane.push(hit(0));
    assert!(!lane.is_empty(), "one waits");
    assert!(lane.cut(now(), &known_sites()).is_empty());
    assert!(!lane.is_empty(), "one is cut");
    lane.push(hit(1));
    assert!(!lane.is_empty(), "one is cut, and another waits");
    assert_eq!(lane.take(usize::MAX).map(|request| loads(&request)), Some(vec![0]));
    assert!(!lane.is_empty(), "one waits");
    assert_eq!(requests(&mut lane, &known_sites()), [vec![1]]);
    assert!(lane.is_empty());
}

#[test]
fn room_is_made_at_once_for_what_the_next_request_may_have() {
    let mut lane = lane(100, []);
    lane.reserve(0);
    assert_eq!(lane.waiting.capacity(), 0);
    lane.reserve(40);
    assert!((40..100).contains(&lane.waiting.capacity()));
    lane.reserve(usize::MAX);
    assert!((100..1_000).contains(&lane.waiting.capacity()));
}

#[test]
fn without_a_token_no_request_carries_one() {
    let mut lane = Lane::new(10, false, MaxAge::default());
    lane.push(aged(0, NEEDS_TOKEN_AFTER - 1));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let later = now() + Duration::from_secs(1);
    assert_eq!(lane.next_request(later), Some(NextRequest { hits: 1, token: TokenUse::Without }));
}

#[test]
fn what_was_cut_is_cut_anew_in_the_same_order() {
    let mut lane = lane(2, (0..5).map(hit));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    lane.recut();
    assert_eq!(lane.next_request(now()), None);
    assert_eq!(requests(&mut lane, &known_sites()), [vec![0, 1], vec![2, 3], vec![4]]);
}

#[test]
fn a_request_that_is_halved_goes_before_everything_else_and_tells_nothing() {
    let mut lane = lane(3, (0..4).map(hit));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let request = lane.take(usize::MAX).expect("cut");
    let failure = Failure { reason: Reason::ServerError, status: Some(500) };
    let answered = lane.answered(request, &Interpretation::Suspect(failure), FACTS);
    assert!(answered.settled.is_empty());
    assert_eq!(answered.signal, Signal::Nothing);
    assert_eq!(requests(&mut lane, &known_sites()), [vec![0], vec![1, 2], vec![3]]);
}

#[test]
fn a_request_is_halved_in_the_middle() {
    for (size, first, second) in
        [(2, vec![0], vec![1]), (4, vec![0, 1], vec![2, 3]), (5, vec![0, 1], vec![2, 3, 4])]
    {
        let mut lane = lane(size, (0..5).map(hit).take(size));
        assert!(lane.cut(now(), &known_sites()).is_empty());
        let request = lane.take(usize::MAX).expect("cut");
        let failure = Failure { reason: Reason::BadGateway, status: Some(502) };
        assert!(
            lane.answered(request, &Interpretation::Suspect(failure), FACTS).settled.is_empty()
        );
        assert_eq!(requests(&mut lane, &known_sites()), [first, second]);
    }
}

#[test]
fn a_refusal_without_names_is_sent_again_one_by_one() {
    let mut lane = lane(3, (0..4).map(hit));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let request = lane.take(usize::MAX).expect("cut");
    let refused = Interpretation::Refused { places: None, status: 200 };
    let answered = lane.answered(request, &refused, FACTS);
    assert!(answered.settled.is_empty());
    assert_eq!(answered.signal, Signal::Works, "a Matomo that counts is there");
    assert_eq!(requests(&mut lane, &known_sites()), [vec![0], vec![1], vec![2], vec![3]]);
}

#[test]
fn each_hit_of_an_answered_request_has_its_own_fate() {
    let mut lane = lane(3, [hit(0), Outgoing { attempts: 2, ..hit(1) }]);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let request = lane.take(usize::MAX).expect("cut");
    let failure = Failure { reason: Reason::GatewayTimeout, status: Some(504) };
    let interpretation = Interpretation::DownAmbiguous(failure);
    let answered = lane.answered(request, &interpretation, FACTS);
    let fates: Vec<_> = answered.settled.iter().map(|(hit, fate)| (hit.load, fate)).collect();
    let retry = Settlement::Retry { step: 0, attempts: 1, failure };
    let park = Settlement::Park { attempts: 3, failure };
    assert_eq!(fates, [(0, &retry), (1, &park)]);
    assert_eq!(answered.signal, Signal::Silent);
    assert!(lane.is_empty());
}

#[test]
fn a_resting_token_costs_its_hits_an_attempt() {
    let mut lane = lane(3, [aged(0, NEEDS_TOKEN_AFTER), hit(1)]);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let refused = lane.refuse_next(2);
    let [(hit, fate)] = &refused[..] else { panic!("{refused:?}") };
    assert_eq!((hit.load, fate), (0, &settle::token_refused(0, 2)));
    assert_eq!(requests(&mut lane, &known_sites()), [vec![1]]);
}

#[test]
fn what_was_not_sent_comes_out_in_order() {
    let mut lane = lane(2, (0..5).map(hit));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let unsent: Vec<u32> = lane.into_unsent().map(|hit| hit.load).collect();
    assert_eq!(unsent, [0, 1, 2, 3, 4]);
}

const NO_ROOM: Interpretation =
    Interpretation::Down(Failure { reason: Reason::Unavailable, status: Some(503) });

#[test]
fn a_request_that_matomo_had_no_room_for_goes_again_as_it_is_and_not_for_good() {
    let mut lane = lane(2, (0..3).map(hit));
    let busy = RequestFacts { busy: true, ..FACTS };
    for _ in 0..MOST_REFUSALS {
        assert!(lane.cut(now(), &known_sites()).is_empty());
        let request = lane.take(usize::MAX).expect("one is cut");
        assert_eq!(loads(&request), [0, 1], "it goes before what waits");
        let answered = lane.answered(request, &NO_ROOM, busy);
        assert!(answered.settled.is_empty(), "which spends nothing");
        assert_eq!(answered.signal, Signal::Busy);
    }
    let request = lane.take(usize::MAX).expect("once more");
    let answered = lane.answered(request, &NO_ROOM, busy);
    assert_eq!(answered.settled.len(), 2, "it may be the request's own fault");
    assert_eq!(answered.signal, Signal::Down);

    assert!(lane.cut(now(), &known_sites()).is_empty());
    let request = lane.take(usize::MAX).expect("the next one");
    let answered = lane.answered(request, &NO_ROOM, busy);
    assert_eq!(answered.signal, Signal::Busy, "which has refusals of its own");
}

#[test]
fn without_anybody_at_work_a_refusal_is_an_outage() {
    let mut lane = lane(2, [hit(0)]);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    let request = lane.take(usize::MAX).expect("one is cut");
    let answered = lane.answered(request, &NO_ROOM, FACTS);
    assert_eq!((answered.settled.len(), answered.signal), (1, Signal::Down));
}

#[test]
fn a_request_has_at_most_what_is_allowed_now() {
    let mut lane = lane(4, (0..6).map(hit));
    lane.limit(2);
    assert_eq!(lane.room(), 0);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    assert_eq!(lane.next_request(now()).map(|next| next.hits), Some(2));
    lane.recut();
    lane.limit(0);
    assert!(lane.cut(now(), &known_sites()).is_empty());
    assert_eq!(lane.next_request(now()).map(|next| next.hits), Some(1), "at least one");
    lane.recut();
    lane.limit(4);
    assert_eq!(requests(&mut lane, &known_sites()), [vec![0, 1, 2, 3], vec![4, 5]]);
}

#[test]
fn urgent_hits_go_first_and_all_in_their_order() {
    let mut lane = lane(4, (0..4).map(hit));
    assert!(lane.cut(now(), &known_sites()).is_empty());
    (4..9).for_each(|load| lane.push(hit(load)));
    lane.bring_forward(|load| load % 2 == 0);
    let sent = requests(&mut lane, &known_sites());
    assert_eq!(sent, [vec![0, 1, 2, 3], vec![4, 6, 8, 5], vec![7]], "what is cut stays so");
}

#[test]
fn pieces_of_a_refused_request_are_not_put_together_again() {
    let halved =
        Interpretation::Suspect(Failure { reason: Reason::ServerError, status: Some(500) });
    let singly = Interpretation::Refused { places: None, status: 200 };
    for (interpretation, pieces) in [(halved, 2), (singly, 1)] {
        let mut lane = lane(4, (0..5).map(hit));
        assert!(lane.cut(now(), &known_sites()).is_empty());
        let request = lane.take(usize::MAX).expect("one is cut");
        let answered = lane.answered(request, &interpretation, FACTS);
        assert!(answered.settled.is_empty());
        lane.recut();
        assert!(lane.cut(now(), &known_sites()).is_empty());
        assert_eq!(lane.next_request(now()).map(|next| next.hits), Some(pieces));
        // What waits behind them is cut as ever.
        let sizes: Vec<_> =
            requests(&mut lane, &known_sites()).into_iter().map(|hits| hits.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), 5);
        lane.push(hit(5));
        assert!(lane.cut(now(), &known_sites()).is_empty());
        lane.recut();
        assert_eq!(lane.next_request(now()), None, "a whole one is taken back");
    }
}
