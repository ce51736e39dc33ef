use super::*;

const STORED: Interpretation = Interpretation::Stored { queued: false };
const FAILED: Interpretation =
    Interpretation::Suspect(Failure { reason: Reason::ServerError, status: Some(500) });

fn refused() -> Interpretation {
    Interpretation::Refused { places: Some(vec![0]), status: 200 }
}

/// One of so many workers.
fn policy(workers: u32) -> (TokenPolicy, Instant) {
    let mut token = TokenPolicy::default();
    token.set_workers(workers);
    (token, Instant::now())
}

/// Sends a request of one hit, and gives it this answer.
fn send(
    token: &mut TokenPolicy,
    site: &str,
    answer: &Interpretation,
    now: Instant,
) -> Option<TokenChange> {
    assert_eq!(token.ask(site, now), TokenPermission::Send, "for site {site}");
    token.record(site, answer, 1, now)
}

#[test]
fn an_unproved_token_is_tried_by_one_request_at_a_time() {
    let (mut token, now) = policy(1);
    assert_eq!(token.ask("1", now), TokenPermission::Send);
    assert_eq!(token.ask("1", now), TokenPermission::Wait);
    assert_eq!(token.ask("2", now), TokenPermission::Wait);
    token.abandon("1");
    assert_eq!(token.ask("1", now), TokenPermission::Send, "what was not sent makes room");
}

#[test]
fn a_good_token_is_sent_by_several_requests_and_a_refusal_ends_that() {
    let (mut token, now) = policy(1);
    assert_eq!(send(&mut token, "1", &STORED, now), None);
    for _ in 0..MAX_UNDER_WAY {
        assert_eq!(token.ask("1", now), TokenPermission::Send);
    }
    assert_eq!(token.ask("1", now), TokenPermission::Wait);
    assert_eq!(token.record("1", &refused(), 1, now), None);
    assert_eq!(token.ask("1", now), TokenPermission::Send);
    assert_eq!(token.ask("1", now), TokenPermission::Wait, "it has to prove itself again");
}

#[test]
fn a_token_that_is_refused_in_a_row_rests_for_its_site_and_no_other() {
    let (mut token, now) = policy(1);
    for _ in 0..2 {
        assert_eq!(send(&mut token, "1", &refused(), now), None);
    }
    assert_eq!(send(&mut token, "1", &STORED, now), None, "a stored hit ends the row");
    for _ in 0..2 {
        assert_eq!(send(&mut token, "1", &refused(), now), None);
    }
    assert_eq!(send(&mut token, "1", &refused(), now), Some(TokenChange::RestsForSite));
    let end = now + TOKEN_REST;
    assert_eq!(token.ask("1", end - Duration::from_nanos(1)), TokenPermission::Resting);
    assert_eq!(token.ask("2", now), TokenPermission::Send, "another ENT's site");
    token.abandon("2");
    assert_eq!(token.ask("1", end), TokenPermission::Send);
}

#[test]
fn a_part_that_is_stored_shows_that_the_token_is_good() {
    let (mut token, now) = policy(18);
    for places in [None, Some(vec![1])] {
        assert_eq!(token.ask("1", now), TokenPermission::Send);
        let refused = Interpretation::Refused { places, status: 200 };
        assert_eq!(token.record("1", &refused, 2, now), None);
    }
    assert_eq!(send(&mut token, "1", &STORED, now), None);
}

/// With few tries a site takes half of them at most, and none from a site that is proved.
#[test]
fn what_one_site_has_spent_costs_another_nothing() {
    let (mut token, now) = policy(6);
    assert_eq!(send(&mut token, "good", &STORED, now), None);
    assert_eq!(send(&mut token, "bad", &refused(), now), Some(TokenChange::RestsForSite));
    assert_eq!(send(&mut token, "new", &STORED, now), None);
    assert_eq!(send(&mut token, "worse", &refused(), now), Some(TokenChange::RestsForSite));
    assert_eq!(send(&mut token, "worst", &refused(), now), Some(TokenChange::TriesSpent));
    assert_eq!(token.ask("unknown", now), TokenPermission::Resting);
    assert_eq!(send(&mut token, "good", &STORED, now), None, "it was good a moment ago");
    assert_eq!(send(&mut token, "good", &refused(), now), Some(TokenChange::TriesSpent));
    assert_eq!(token.ask("new", now), TokenPermission::Resting, "it may be revoked");
    let (mut token, now) = policy(18);
    assert_eq!(send(&mut token, "bad", &refused(), now), Some(TokenChange::TriesSpent));
    assert_eq!(token.ask("good", now), TokenPermission::Resting, "nobody knows it");
}

/// A bad site whose hits come all the time, beside a good one, for three hours.
#[test]
fn a_bad_site_starves_no_good_one() {
    for workers in [1, 3, 6, 7, 9] {
        let (mut token, start) = policy(workers);
        assert_eq!(send(&mut token, "good", &STORED, start), None);
        let mut refusals = 0;
        for minute in 0..180 {
            let now = start + Duration::from_secs(60 * minute);
            if token.ask("bad", now) == TokenPermission::Send {
                token.record("bad", &refused(), 1, now);
                refusals += 1;
            }
            assert_eq!(send(&mut token, "good", &STORED, now), None, "minute {minute}");
        }
        assert!(refusals * workers <= 3 * 20, "{refusals} refusals of {workers} in 3 h");
    }
}

/// Whatever they try it for, and as soon as they can.
#[test]
fn all_workers_together_stay_below_the_lock_out() {
    for workers in 1..=18 {
        let mut tries = 0;
        for worker in 0..workers {
            let (mut token, now) = policy(workers);
            if worker == 0 {
                // It has proved good here, and is revoked.
                assert_eq!(send(&mut token, "0", &STORED, now), None);
            }
            for site in 0..40 {
                let site = site.to_string();
                let mut under_way = 0;
                while token.ask(&site, now) == TokenPermission::Send {
                    under_way += 1;
                }
                tries += under_way;
                for _ in 0..under_way {
                    token.record(&site, &refused(), 1, now);
                }
            }
            assert_eq!(token.ask("new", now), TokenPermission::Resting);
            let later = now + TRIES_WITHIN;
            assert_eq!(token.ask("new", later), TokenPermission::Send, "an hour later");
        }
        assert!(tries <= 20, "{tries} tries of {workers} workers");
    }
}

#[test]
fn until_the_workers_are_counted_few_tries_are_made() {
    let (mut token, now) = (TokenPolicy::default(), Instant::now());
    for site in ["1", "2", "3"] {
        assert_eq!(send(&mut token, site, &refused(), now), Some(TokenChange::RestsForSite));
    }
    assert_eq!(token.ask("4", now), TokenPermission::Wait);
    assert!(token.set_workers(2) && !token.set_workers(2));
    for site in ["4", "5", "6", "7", "8"] {
        assert_eq!(send(&mut token, site, &refused(), now), None);
    }
    assert_eq!(send(&mut token, "9", &refused(), now), Some(TokenChange::TriesSpent));
    assert_eq!(token.ask("10", now), TokenPermission::Resting);
}

#[test]
fn a_500_only_with_the_token_is_of_the_token() {
    let (mut token, now) = policy(1);
    for _ in 0..5 {
        assert_eq!(send(&mut token, "1", &FAILED, now), None, "Matomo may be away");
    }
    token.record_other(&STORED, false, 1, false, now);
    assert!(token.is_of_the_token(now));
    for _ in 0..5 {
        assert_eq!(token.ask("1", now), TokenPermission::Send);
        assert_eq!(token.record("1", &FAILED, 2, now), None, "one hit of a bulk may fail it");
    }
    for _ in 0..5 {
        assert_eq!(send(&mut token, "1", &FAILED, now), None, "an outage begins like this");
    }
    let later = now + Duration::from_millis(1);
    token.record_other(&STORED, false, 1, false, later);
    assert_eq!(send(&mut token, "1", &FAILED, later), Some(TokenChange::LockedOut));
    assert_eq!(token.ask("2", now), TokenPermission::Resting);
    assert_eq!(token.ask("2", later + TOKEN_REST), TokenPermission::Send);
    assert!(!token.is_of_the_token(later + LATELY));
}

#[test]
fn the_third_500_in_a_row_with_the_token_is_a_lock_out() {
    let (mut token, now) = policy(1);
    let later = now + Duration::from_millis(1);
    token.record_other(&STORED, false, 1, false, now);
    assert_eq!(send(&mut token, "1", &FAILED, now), None);
    token.record_other(&STORED, false, 1, false, later);
    assert_eq!(send(&mut token, "1", &FAILED, later), None);
    assert_eq!(send(&mut token, "1", &FAILED, later), Some(TokenChange::LockedOut));
    assert_eq!(token.ask("2", later), TokenPermission::Resting);
}

#[test]
fn the_token_goes_along_where_matomo_takes_nothing_without_it() {
    let (mut token, now) = policy(1);
    token.record_other(&FAILED, false, 2, false, now);
    assert!(!token.goes_along(), "a bulk may have one bad hit");
    token.record_other(&FAILED, false, 1, false, now);
    assert!(token.goes_along());
    token.record_other(&STORED, true, 1, false, now);
    assert!(!token.goes_along(), "perhaps Matomo is whole again");
    token.record_other(&FAILED, false, 1, false, now);
    assert!(token.goes_along());
    token.record_other(&STORED, true, 1, false, now);
    assert!(token.goes_along(), "so that was it");
    token.record_other(&FAILED, true, 1, false, now);
    assert!(token.goes_along(), "one hit's fault");
    token.record_other(&STORED, true, 1, false, now + ALONG_FOR);
    assert!(!token.goes_along(), "it is looked at anew from time to time");
}

#[test]
fn an_outage_leaves_no_token_in_requests_that_need_none() {
    let (mut token, now) = policy(1);
    token.record_other(&STORED, false, 1, false, now);
    token.record_other(&FAILED, false, 1, false, now);
    assert!(!token.goes_along(), "one hit's fault, at a Matomo that takes others");
    token.record_other(&FAILED, false, 1, true, now);
    assert!(token.goes_along(), "each way is tried in turn");
    token.record_other(&STORED, true, 1, true, now);
    token.record_other(&STORED, true, 50, false, now);
    assert!(!token.goes_along());
    token.record_other(&STORED, false, 50, false, now);
    assert!(!token.goes_along() && token.is_of_the_token(now));
}

#[test]
fn where_neither_way_is_stored_each_is_tried_in_turn() {
    let (mut token, now) = policy(1);
    for is_along in [false, true, false] {
        assert_eq!(token.goes_along(), is_along);
        token.record_other(&FAILED, is_along, 1, false, now);
    }
}

#[test]
fn a_site_whose_token_was_good_is_not_given_up_at_the_first_refusal() {
    let (mut token, now) = policy(9);
    assert_eq!(send(&mut token, "1", &STORED, now), None);
    assert_eq!(send(&mut token, "1", &refused(), now), None);
    let (mut token, now) = policy(9);
    assert_eq!(send(&mut token, "1", &refused(), now), Some(TokenChange::RestsForSite));
}
