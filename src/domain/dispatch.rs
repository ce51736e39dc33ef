//! What a lane sends next, and what becomes of it. A worker's lanes and the simulation in
//! `tests/simulation` drive the same code.
//!
//! A [`Lane`] holds the hits of its visitors in the order of their shards. It cuts them into
//! requests, one at a time and as late as possible: by then more is known of their sites, and more
//! of them may wait. A request that Matomo refuses as a whole comes back in smaller pieces, which
//! go before everything else.

use std::collections::VecDeque;

use jiff::Timestamp;

use super::answer::Interpretation;
use super::breaker::Signal;
use super::max_age::{Age, MaxAge};
use super::settle::{self, Decision, RequestFacts, Settlement};

pub mod sites;
pub mod token;

use sites::SiteMemory;
use token::TokenUse;

/// A request for which Matomo has no room goes again so often, and is then taken for its cause.
const MOST_REFUSALS: u32 = 4;

/// A hit on its way to Matomo: what the dispatch needs to know of it, and what its owner carries
/// along.
#[derive(Debug)]
pub struct Outgoing<T> {
    /// The time that is sent. It decides whether the hit needs the token.
    pub cdt: Timestamp,
    /// The site that the hit is for.
    pub idsite: String,
    /// How often the hit was sent before.
    pub attempts: u32,
    /// What the dispatch carries along without looking at it: the worker's message, or the
    /// simulation's number.
    pub load: T,
}

/// With which others a hit may share a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Batching<'h> {
    /// With all that may travel so.
    Together,
    /// With those for this site that need the token too, which the request then carries.
    WithToken(&'h str),
    /// With nobody, so that a refusal of the request names the hit.
    Alone,
}

/// What the next request is, for whoever asks whether it may go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NextRequest {
    /// How many hits it has.
    pub hits: usize,
    /// What it has to do with the token.
    pub token: TokenUse,
}

/// What an answer means for the hits of its request.
#[derive(Debug)]
#[must_use]
pub struct Answered<T> {
    /// Hits that have their fate. The others of the request are in the lane again.
    pub settled: Vec<(Outgoing<T>, Settlement)>,
    /// What the breaker learns.
    pub signal: Signal,
}

/// The hits of some visitors, of whom none has two requests under way.
#[derive(Debug)]
pub struct Lane<T> {
    /// Hits that are in no request, in the order of their shards.
    waiting: Vec<Outgoing<T>>,
    /// Requests that are cut and not sent, the next one first. They go before what waits.
    requests: VecDeque<Vec<Outgoing<T>>>,
    /// Whether the cut requests are pieces of one that Matomo did not take as a whole.
    is_in_pieces: bool,
    /// The most hits of one request, now.
    bulk_size: usize,
    /// How often in a row Matomo had no room for the request of this lane.
    refusals: u32,
    /// Whether there is a token, with which hits of any age can be delivered.
    has_token: bool,
    /// The age from which on Matomo wants it.
    max_age: MaxAge,
    /// Whether every request carries it.
    token_goes_along: bool,
}

impl<T> Lane<T> {
    /// An empty lane, whose requests have at most `bulk_size` hits.
    pub fn new(bulk_size: usize, has_token: bool, max_age: MaxAge) -> Self {
        Self {
            waiting: Vec::new(),
            requests: VecDeque::new(),
            is_in_pieces: false,
            bulk_size,
            refusals: 0,
            has_token,
            max_age,
            token_goes_along: false,
        }
    }

    /// From now on every request carries the token, if there is one, or only those that need it.
    pub fn token_goes_along(&mut self, goes_along: bool) {
        self.token_goes_along = goes_along;
    }

    /// From now on a request has at most so many hits, at least one.
    pub fn limit(&mut self, bulk_size: usize) {
        self.bulk_size = bulk_size.max(1);
    }

    /// Whether the lane has nothing to send.
    pub fn is_empty(&self) -> bool {
        self.waiting.is_empty() && self.requests.is_empty()
    }

    /// How many hits more the next request may have. Without lingering for them, a backlog is sent
    /// in full bulks and a quiet hour hit by hit.
    pub fn room(&self) -> usize {
        if self.requests.is_empty() { self.bulk_size.saturating_sub(self.waiting.len()) } else { 0 }
    }

    /// Makes room for so many hits at once.
    pub fn reserve(&mut self, hits: usize) {
        self.waiting.reserve(hits.min(self.room()));
    }

    /// Adds a hit behind all others.
    pub fn push(&mut self, hit: Outgoing<T>) {
        self.waiting.push(hit);
    }

    /// Hits for which `is_urgent` holds are cut before all others; in their order, both. All hits
    /// of a visitor have to be as urgent.
    pub fn bring_forward(&mut self, is_urgent: impl Fn(&T) -> bool) {
        let urgent = self.waiting.extract_if(.., |hit| is_urgent(&hit.load)).collect::<Vec<_>>();
        self.waiting.splice(..0, urgent);
    }

    /// Cuts the next request off what waits, unless one is cut already. Returns the hits that
    /// cannot be sent at all, with their fate.
    pub fn cut(&mut self, now: Timestamp, sites: &SiteMemory) -> Vec<(Outgoing<T>, Settlement)> {
        if !self.requests.is_empty() {
            return Vec::new();
        }
        let parked = self.take_too_old(now);
        if let Some(first) = self.waiting.first() {
            let batching = batching(first, self.max_age, now, sites);
            let most = if batching == Batching::Alone { 1 } else { self.bulk_size };
            let alike =
                |hit: &&Outgoing<T>| self::batching(hit, self.max_age, now, sites) == batching;
            let size = self.waiting.iter().take(most).take_while(alike).count();
            let rest = self.waiting.split_off(size);
            self.requests.push_back(std::mem::replace(&mut self.waiting, rest));
            self.is_in_pieces = false;
        }
        parked
    }

    /// Matomo refuses hits over its age limit without a token, today and at every retry.
    fn take_too_old(&mut self, now: Timestamp) -> Vec<(Outgoing<T>, Settlement)> {
        if self.has_token {
            return Vec::new();
        }
        let max_age = self.max_age;
        let too_old = |hit: &mut Outgoing<T>| max_age.of(hit.cdt, now) == Age::NeedsToken;
        let with_fate = |hit: Outgoing<T>| {
            let fate = settle::too_old(hit.attempts);
            (hit, fate)
        };
        self.waiting.extract_if(.., too_old).map(with_fate).collect()
    }

    /// The request that goes next, if one is cut. A hit that ages while it waits may need the
    /// token later.
    pub fn next_request(&self, now: Timestamp) -> Option<NextRequest> {
        let request = self.requests.front()?;
        let max_age = self.max_age;
        let needs_token = |hit: &&Outgoing<T>| max_age.of(hit.cdt, now) == Age::NeedsToken;
        let token = match request.iter().find(needs_token) {
            _ if !self.has_token => TokenUse::Without,
            Some(hit) => TokenUse::Needed(hit.idsite.clone()),
            None if self.token_goes_along => TokenUse::Along,
            None => TokenUse::Without,
        };
        Some(NextRequest { hits: request.len(), token })
    }

    /// Takes the next request out to be sent: at most so many of its hits, at least one. The others
    /// go next.
    pub fn take(&mut self, most: usize) -> Option<Vec<Outgoing<T>>> {
        let mut request = self.requests.pop_front()?;
        let most = most.max(1);
        if request.len() > most {
            self.requests.push_front(request.split_off(most));
        }
        Some(request)
    }

    /// Takes back what was cut, to be cut anew: hits aged while they waited, and more came. Pieces
    /// of a request stay: together they would be refused again.
    pub fn recut(&mut self) {
        if self.is_in_pieces {
            return;
        }
        self.waiting.splice(..0, self.requests.drain(..).flatten());
    }

    /// Takes the next request out because the token that it needs rests.
    pub fn refuse_next(&mut self, steps: usize) -> Vec<(Outgoing<T>, Settlement)> {
        let with_fate = |hit: Outgoing<T>| {
            let fate = settle::token_refused(hit.attempts, steps);
            (hit, fate)
        };
        self.requests.pop_front().unwrap_or_default().into_iter().map(with_fate).collect()
    }

    /// Takes in the answer to a request. A request that is to be sent again in pieces is in the
    /// lane then, before everything else.
    pub fn answered(
        &mut self,
        mut request: Vec<Outgoing<T>>,
        interpretation: &Interpretation,
        facts: RequestFacts,
    ) -> Answered<T> {
        let attempts: Vec<u32> = request.iter().map(|hit| hit.attempts).collect();
        // A hit for whose sake Matomo refuses everything must not go again for good.
        let facts = RequestFacts { busy: facts.busy && self.refusals < MOST_REFUSALS, ..facts };
        let decision = settle::decide(interpretation, &attempts, facts);
        self.refusals = if decision == Decision::Again { self.refusals + 1 } else { 0 };
        match decision {
            Decision::Again => {
                self.requests.push_front(request);
                Answered { settled: Vec::new(), signal: Signal::Busy }
            }
            Decision::Settle(fates) => {
                let settled = request.into_iter().zip(fates).collect();
                Answered { settled, signal: Signal::from(interpretation) }
            }
            Decision::Halve => {
                self.is_in_pieces = true;
                let second = request.split_off(request.len() / 2);
                self.requests.push_front(second);
                self.requests.push_front(request);
                // A bulk says nothing of Matomo as a whole; only a hit that stands alone does.
                Answered { settled: Vec::new(), signal: Signal::Nothing }
            }
            Decision::Singly => {
                self.is_in_pieces = true;
                for hit in request.into_iter().rev() {
                    self.requests.push_front(vec![hit]);
                }
                Answered { settled: Vec::new(), signal: Signal::from(interpretation) }
            }
        }
    }

    /// Everything that was not sent, in order.
    pub fn into_unsent(self) -> impl Iterator<Item = Outgoing<T>> {
        self.requests.into_iter().flatten().chain(self.waiting)
    }
}

fn batching<'h, T>(
    hit: &'h Outgoing<T>,
    max_age: MaxAge,
    now: Timestamp,
    sites: &SiteMemory,
) -> Batching<'h> {
    match max_age.of(hit.cdt, now) {
        // A bulk with one unknown site would be sent again one by one, and its other hits stored
        // twice.
        _ if !sites.accepts(&hit.idsite) => Batching::Alone,
        Age::NeedsToken => Batching::WithToken(&hit.idsite),
        Age::Crossing => Batching::Alone,
        Age::Fresh => Batching::Together,
    }
}

#[cfg(test)]
mod tests;
