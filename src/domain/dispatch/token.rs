//! Whether a request may carry the token now.
//!
//! Matomo counts each request whose token it refuses, and after 20 of them within an hour it
//! answers 500 to every bulk with a token from that address, a good one included. So a token that
//! has not proved good for a site is tried by one request at a time, a few times, and then rests
//! for that site; and all workers together try no more than the address may.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::sites::can_remember;
use crate::domain::answer::{Failure, Interpretation, Reason};

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

/// So many answers of 500 in a row to single hits with the token are of the token, if others are
/// stored meanwhile.
const LOCKED_OUT_RUN: u32 = 3;

/// For so long every request carries the token where one without it failed and one with it did not.
const ALONG_FOR: Duration = Duration::from_secs(3_600);

/// A request without the token that was stored within this time shows that Matomo works.
const LATELY: Duration = Duration::from_secs(60);

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
    /// Since when every single hit that needed it was answered with 500, and how many were.
    failed_since: Option<(Instant, u32)>,
    /// Whether the latest request that needed it was stored.
    is_good: bool,
    /// Whether every request carries it.
    goes_along: bool,
    /// Whether the next answer to a request without it says whether it must.
    plain_on_trial: bool,
    /// Until when every request carries it, once that is certain.
    along_until: Option<Instant>,
}

/// What is known of the token for one site.
#[derive(Debug, Default)]
struct SiteTrust {
    /// Whether Matomo has stored a hit with the token since it was last refused.
    proved: bool,
    /// Whether Matomo has ever stored a hit with it. A refusal is rather the hit's fault then.
    has_been_good: bool,
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
        // What one site has spent costs a site no hit whose token is good, and was a moment ago.
        let tries = match self.tries_left(now) {
            0 if proved && self.is_good => 1,
            0 if self.workers.is_none() => return TokenPermission::Wait,
            0 => return TokenPermission::Resting,
            tries => tries,
        };
        if (!proved && self.on_trial) || self.under_way >= MAX_UNDER_WAY.min(tries) {
            return TokenPermission::Wait;
        }
        self.under_way += 1;
        self.on_trial |= !proved;
        TokenPermission::Send
    }

    /// Takes in the answer to a request of so many hits that needed the token for this site.
    pub fn record(
        &mut self,
        site: &str,
        interpretation: &Interpretation,
        hits: usize,
        now: Instant,
    ) -> Option<TokenChange> {
        self.abandon(site);
        match interpretation {
            Interpretation::Refused { places: Some(places), .. } if places.len() >= hits => {
                self.failed_since = None;
                // Only where it was good a refusal may say that it is revoked.
                self.is_good &= !self.sites.get(site).is_some_and(|trust| trust.proved);
                self.refused_at.push_back(now);
                let most = MAX_REFUSALS.min(self.most_tries() / 2).max(1);
                let mut rests = false;
                self.remember(site, |trust| {
                    trust.proved = false;
                    trust.refused_in_a_row += 1;
                    let most = if trust.has_been_good { MAX_REFUSALS } else { most };
                    rests = trust.refused_in_a_row >= most;
                    if rests {
                        (trust.refused_in_a_row, trust.rests_until) = (0, Some(now + TOKEN_REST));
                    }
                });
                let is_spent = self.tries_left(now) == 0 && self.workers.is_some();
                if is_spent {
                    return Some(TokenChange::TriesSpent);
                }
                return rests.then_some(TokenChange::RestsForSite);
            }
            // Where a part is stored, the token is good, and the others have faults of their own.
            Interpretation::Stored { .. } | Interpretation::Refused { .. } => {
                (self.failed_since, self.is_good) = (None, true);
                self.remember(site, |trust| {
                    *trust =
                        SiteTrust { proved: true, has_been_good: true, ..SiteTrust::default() };
                });
            }
            // A bulk fails for one hit, and its halves may fail with it.
            Interpretation::Suspect(Failure { reason: Reason::ServerError, status: Some(500) })
                if hits == 1 && self.is_of_the_token(now) =>
            {
                let (since, before) = self.failed_since.unwrap_or((now, 0));
                self.failed_since = Some((since, before + 1));
                // An outage begins like this too, but nothing is stored in it.
                let others_are_stored = self.plain_stored_at.is_some_and(|at| at > since);
                if before + 1 >= LOCKED_OUT_RUN && others_are_stored {
                    (self.failed_since, self.rests_until) = (None, Some(now + TOKEN_REST));
                    return Some(TokenChange::LockedOut);
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

    /// Takes in the answer to a request of so many hits that did not need the token, and went with
    /// it (`is_along`) or without. `is_probe` says that Matomo was away.
    ///
    /// A Matomo that takes no bulk without the token answers 500, as one that is broken does. Only
    /// the other way tells, while nothing is to be lost by it; and what was stored the other way
    /// may have been stored because Matomo was whole again, so the first way is tried once more.
    pub fn record_other(
        &mut self,
        interpretation: &Interpretation,
        is_along: bool,
        hits: usize,
        is_probe: bool,
        now: Instant,
    ) {
        match interpretation {
            Interpretation::Stored { .. } if !is_along => {
                self.plain_stored_at = Some(now);
                (self.plain_on_trial, self.along_until) = (false, None);
            }
            Interpretation::Stored { .. } => {
                let is_certain = self.along_until.is_some_and(|until| now < until);
                if self.goes_along && !is_certain {
                    (self.goes_along, self.plain_on_trial) = (false, true);
                }
            }
            Interpretation::Suspect(Failure { reason: Reason::ServerError, .. })
                if is_along == self.goes_along && hits == 1 =>
            {
                let is_certain = is_along && self.along_until.is_some_and(|until| now < until);
                let may_be_it = is_probe
                    || self.plain_on_trial
                    || (self.plain_stored_at.is_none() && !is_certain);
                if may_be_it {
                    if !is_along && self.plain_on_trial {
                        self.along_until = Some(now + ALONG_FOR);
                    }
                    (self.goes_along, self.plain_on_trial) = (!is_along, false);
                }
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

    /// How often this worker may be refused within an hour.
    fn most_tries(&self) -> u32 {
        (MAX_TRIES / self.workers.unwrap_or(LIKELY_WORKERS).max(1)).max(1)
    }

    /// How often it still may.
    fn tries_left(&mut self, now: Instant) -> u32 {
        while self.refused_at.front().is_some_and(|at| now.duration_since(*at) >= TRIES_WITHIN) {
            self.refused_at.pop_front();
        }
        let refused = u32::try_from(self.refused_at.len()).unwrap_or(u32::MAX);
        self.most_tries().saturating_sub(refused)
    }

    fn remember(&mut self, site: &str, change: impl FnOnce(&mut SiteTrust)) {
        if let Some(trust) = self.sites.get_mut(site) {
            change(trust);
        } else if can_remember(self.sites.len(), site) {
            // Any other is as new each time.
            change(self.sites.entry(site.to_owned()).or_default());
        }
    }
}

#[cfg(test)]
mod tests;
