//! Whether a request may carry the token now.
//!
//! Matomo counts each request whose token it refuses, and after 20 of them within an hour it
//! answers 500 to every bulk with a token from that address, a good one included. So a token that
//! has not proved good for a site is tried by one request at a time, a few times, and then rests
//! for that site; and all workers together try no more than the address may.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use crate::domain::answer::{Interpretation, Reason};

/// After so many refusals in a row the token is taken for bad for their site, rather than the hits.
pub const MAX_REFUSALS: u32 = 3;

/// How long a token that was refused is not sent.
pub const TOKEN_REST: Duration = Duration::from_secs(1_800);

/// The most requests that carry a good token at a time.
pub const MAX_UNDER_WAY: u32 = 8;

/// Within so long Matomo counts refused tokens.
const TRIES_WITHIN: Duration = Duration::from_secs(3_600);

/// So many refused tokens an hour are left to all workers together. Matomo locks an address out at
/// over 20.
const MAX_TRIES: u32 = 18;

/// As many workers are assumed to be there until they are counted, and where they cannot be.
pub const LIKELY_WORKERS: u32 = 6;

/// So many answers of 500 in a row to requests with the token are of the token, if others are
/// stored meanwhile.
const LOCKED_OUT_RUN: u32 = 2;

/// A request without the token that was stored within this time shows that Matomo works.
const LATELY: Duration = Duration::from_secs(60);

/// The most sites of which something is remembered. Any other is as new each time.
const MAX_SITES: usize = 10_000;

/// What a request has to do with the token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenUse {
    /// It goes without.
    Without,
    /// It carries the token because this Matomo takes no bulk without one
    /// (`bulk_requests_require_authentication`). No hit in it needs it, so Matomo does not count a
    /// refusal.
    Along,
    /// It has hits for this site that Matomo takes with the token only.
    Needed(String),
}

impl TokenUse {
    /// Whether the request carries the token.
    pub fn is_carried(&self) -> bool {
        *self != Self::Without
    }
}

/// Whether a request may carry the token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenPermission {
    /// It may. Its answer must be recorded, or the request abandoned.
    Send,
    /// Not before another request with the token has its answer, or the workers are counted.
    Wait,
    /// The token was refused and is not sent for now.
    Resting,
}

/// What is new of the token after an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TokenChange {
    /// It rests for one site, which refuses it.
    RestsForSite,
    /// It rests for all sites: this worker has spent its tries of an hour.
    TriesSpent,
    /// It rests for all sites: Matomo has locked this address out.
    LockedOut,
}

/// What the answers so far tell of the token.
#[derive(Debug, Default)]
pub struct TokenPolicy {
    sites: HashMap<String, SiteTrust>,
    /// When it was refused, within [`TRIES_WITHIN`].
    refused_at: VecDeque<Instant>,
    /// How many workers share the address, if that is known.
    workers: Option<u32>,
    /// How many requests carry it because they need it.
    under_way: u32,
    /// Whether one of them tries it for a site for which it has not proved good.
    on_trial: bool,
    /// Until when it is not sent for any site.
    rests_until: Option<Instant>,
    /// When a request without it was last stored.
    plain_stored_at: Option<Instant>,
    /// Answers of 500 in a row to requests that needed it.
    failures: u32,
    /// Whether every request carries it.
    goes_along: bool,
}

/// What is known of the token for one site.
#[derive(Debug, Default)]
struct SiteTrust {
    /// Whether Matomo has stored a hit with the token since it was last refused.
    proved: bool,
    /// How often it was refused since then.
    refused_in_a_row: u32,
    /// Until when it is not sent, if it was refused too often.
    rests_until: Option<Instant>,
}

impl TokenPolicy {
    /// So many workers reach Matomo from here; each tries its part of what the address may. Returns
    /// whether that is new.
    pub fn set_workers(&mut self, workers: u32) -> bool {
        self.workers.replace(workers) != Some(workers)
    }

    /// Whether every request carries the token.
    pub fn goes_along(&self) -> bool {
        self.goes_along
    }

    /// Whether a request with hits for this site may carry the token now. After `Send`,
    /// [`TokenPolicy::record`] or [`TokenPolicy::abandon`] must follow.
    pub fn ask(&mut self, site: &str, now: Instant) -> TokenPermission {
        let rests = |until: Option<Instant>| until.is_some_and(|until| now < until);
        let trust = self.sites.get(site);
        if rests(self.rests_until) || rests(trust.and_then(|trust| trust.rests_until)) {
            return TokenPermission::Resting;
        }
        let proved = trust.is_some_and(|trust| trust.proved);
        let tries = self.tries_left(now);
        if tries == 0 {
            let is_final = self.workers.is_some();
            return if is_final { TokenPermission::Resting } else { TokenPermission::Wait };
        }
        if (!proved && self.on_trial) || self.under_way >= MAX_UNDER_WAY.min(tries) {
            return TokenPermission::Wait;
        }
        self.under_way += 1;
        self.on_trial |= !proved;
        TokenPermission::Send
    }

    /// Takes in the answer to a request that needed the token for this site.
    pub fn record(
        &mut self,
        site: &str,
        interpretation: &Interpretation,
        now: Instant,
    ) -> Option<TokenChange> {
        self.abandon(site);
        match interpretation {
            Interpretation::Stored { .. } => {
                self.failures = 0;
                self.remember(site, |trust| {
                    *trust = SiteTrust { proved: true, ..SiteTrust::default() }
                });
            }
            // Of a bulk that is refused without names, one hit may be wrong. Its hits are sent
            // again alone, and then count.
            Interpretation::Refused { places: Some(_), .. } => {
                self.failures = 0;
                let spent = self.spend_try(now);
                let mut rests = false;
                self.remember(site, |trust| {
                    trust.proved = false;
                    trust.refused_in_a_row += 1;
                    rests = trust.refused_in_a_row >= MAX_REFUSALS;
                    if rests {
                        (trust.refused_in_a_row, trust.rests_until) = (0, Some(now + TOKEN_REST));
                    }
                });
                return rests.then_some(TokenChange::RestsForSite).or(spent);
            }
            // Matomo counts a refusal in it all the same.
            Interpretation::Refused { places: None, .. } => return self.spend_try(now),
            Interpretation::Suspect(failure) if failure.reason == Reason::ServerError => {
                if self.is_of_the_token(now) {
                    self.failures += 1;
                    if self.failures >= LOCKED_OUT_RUN {
                        (self.failures, self.rests_until) = (0, Some(now + TOKEN_REST));
                        return Some(TokenChange::LockedOut);
                    }
                }
            }
            Interpretation::Suspect(_)
            | Interpretation::SuspectAmbiguous(_)
            | Interpretation::Down(_)
            | Interpretation::DownAmbiguous(_)
            | Interpretation::Ambiguous(_) => {}
        }
        None
    }

    /// Takes in the answer to a request that did not need the token. `is_alone` says that it had
    /// one hit, and `is_probe` that Matomo was away.
    pub fn record_other(
        &mut self,
        interpretation: &Interpretation,
        is_alone: bool,
        is_probe: bool,
        now: Instant,
    ) {
        match interpretation {
            Interpretation::Stored { .. } if !self.goes_along => self.plain_stored_at = Some(now),
            // A Matomo that takes no bulk without the token answers 500, as one that is broken
            // does. Only the other way tells, while nothing is to be lost by it.
            Interpretation::Suspect(failure)
                if failure.reason == Reason::ServerError
                    && is_alone
                    && (is_probe || self.plain_stored_at.is_none()) =>
            {
                self.goes_along = !self.goes_along;
            }
            _ => {}
        }
    }

    /// Whether a 500 to a request with the token tells of the token, and not of Matomo, which
    /// stores what comes without it.
    pub fn is_of_the_token(&self, now: Instant) -> bool {
        self.plain_stored_at.is_some_and(|at| now.duration_since(at) < LATELY)
    }

    /// The request for this site was not sent after all.
    pub fn abandon(&mut self, site: &str) {
        self.under_way = self.under_way.saturating_sub(1);
        if !self.sites.get(site).is_some_and(|trust| trust.proved) {
            self.on_trial = false;
        }
    }

    /// How often this worker may still be refused within the hour.
    fn tries_left(&mut self, now: Instant) -> u32 {
        while self.refused_at.front().is_some_and(|at| now.duration_since(*at) >= TRIES_WITHIN) {
            self.refused_at.pop_front();
        }
        let refused = u32::try_from(self.refused_at.len()).unwrap_or(u32::MAX);
        let most = MAX_TRIES / self.workers.unwrap_or(LIKELY_WORKERS).max(1);
        most.max(1).saturating_sub(refused)
    }

    /// The token was refused once more.
    fn spend_try(&mut self, now: Instant) -> Option<TokenChange> {
        self.refused_at.push_back(now);
        let is_spent = self.tries_left(now) == 0 && self.workers.is_some();
        is_spent.then_some(TokenChange::TriesSpent)
    }

    fn remember(&mut self, site: &str, change: impl FnOnce(&mut SiteTrust)) {
        if let Some(trust) = self.sites.get_mut(site) {
            change(trust);
        } else if self.sites.len() < MAX_SITES {
            change(self.sites.entry(site.to_owned()).or_default());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::Failure;

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
        assert_eq!(token.ask("1", now), TokenPermission::Send);
        assert_eq!(token.record("1", &STORED, now), None);
        for _ in 0..MAX_UNDER_WAY {
            assert_eq!(token.ask("1", now), TokenPermission::Send);
        }
        assert_eq!(token.ask("1", now), TokenPermission::Wait);
        assert_eq!(token.record("1", &refused(), now), None);
        assert_eq!(token.ask("1", now), TokenPermission::Send);
        assert_eq!(token.ask("1", now), TokenPermission::Wait, "it has to prove itself");
    }

    #[test]
    fn a_token_that_is_refused_in_a_row_rests_for_its_site_and_no_other() {
        let (mut token, now) = policy(1);
        let refuse = |token: &mut TokenPolicy| {
            assert_eq!(token.ask("1", now), TokenPermission::Send);
            token.record("1", &refused(), now)
        };
        assert_eq!((refuse(&mut token), refuse(&mut token)), (None, None));
        assert_eq!(token.ask("1", now), TokenPermission::Send);
        assert_eq!(token.record("1", &STORED, now), None, "a stored hit ends the row");
        assert_eq!((refuse(&mut token), refuse(&mut token)), (None, None));
        assert_eq!(refuse(&mut token), Some(TokenChange::RestsForSite));
        let end = now + TOKEN_REST;
        assert_eq!(token.ask("1", end - Duration::from_nanos(1)), TokenPermission::Resting);
        assert_eq!(token.ask("2", now), TokenPermission::Send, "another ENT's site");
        token.abandon("2");
        assert_eq!(token.ask("1", end), TokenPermission::Send);
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
                    assert_eq!(token.ask("0", now), TokenPermission::Send);
                    token.record("0", &STORED, now);
                }
                for site in 0..40 {
                    let site = site.to_string();
                    let mut under_way = 0;
                    while token.ask(&site, now) == TokenPermission::Send {
                        under_way += 1;
                    }
                    tries += under_way;
                    for _ in 0..under_way {
                        token.record(&site, &refused(), now);
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
        let refuse = |token: &mut TokenPolicy, site: &str| {
            assert_eq!(token.ask(site, now), TokenPermission::Send);
            token.record(site, &refused(), now)
        };
        for site in ["1", "2", "3"] {
            assert_eq!(refuse(&mut token, site), None);
        }
        assert_eq!(token.ask("4", now), TokenPermission::Wait);
        assert!(token.set_workers(2) && !token.set_workers(2));
        for site in ["4", "5", "6", "7", "8"] {
            assert_eq!(refuse(&mut token, site), None);
        }
        assert_eq!(refuse(&mut token, "9"), Some(TokenChange::TriesSpent));
        assert_eq!(token.ask("10", now), TokenPermission::Resting);
    }

    #[test]
    fn a_500_only_with_the_token_is_of_the_token() {
        let (mut token, now) = policy(1);
        let fail = |token: &mut TokenPolicy, now| {
            assert_eq!(token.ask("1", now), TokenPermission::Send);
            token.record("1", &FAILED, now)
        };
        for _ in 0..5 {
            assert_eq!(fail(&mut token, now), None, "nothing else was stored: Matomo is away");
        }
        token.record_other(&STORED, true, false, now);
        assert!(token.is_of_the_token(now));
        assert_eq!(fail(&mut token, now), None, "it may be the hit");
        assert_eq!(fail(&mut token, now), Some(TokenChange::LockedOut));
        assert_eq!(token.ask("2", now), TokenPermission::Resting);
        assert_eq!(token.ask("2", now + TOKEN_REST), TokenPermission::Send);
        assert!(!token.is_of_the_token(now + LATELY));
    }

    #[test]
    fn the_token_goes_along_where_matomo_takes_nothing_without_it() {
        let (mut token, now) = policy(1);
        token.record_other(&FAILED, false, false, now);
        assert!(!token.goes_along(), "a bulk may have one bad hit");
        token.record_other(&FAILED, true, false, now);
        assert!(token.goes_along());
        token.record_other(&STORED, true, false, now);
        assert!(token.goes_along(), "so that was it");
        token.record_other(&FAILED, true, true, now);
        assert!(!token.goes_along(), "an outage: each way is tried in turn");
        token.record_other(&STORED, true, true, now);
        token.record_other(&FAILED, true, false, now);
        assert!(!token.goes_along(), "one hit's fault, at a Matomo that takes others");
    }
}
