//! A Matomo that serves so many requests at a time, in the order of arrival, and goes on with what
//! the client has given up.

use std::collections::VecDeque;

use super::chance::Chance;

/// How a Matomo serves.
#[derive(Debug, Clone)]
pub struct Server {
    /// How many requests it serves at a time.
    pub slots: usize,
    /// Seconds per request.
    pub per_request: f64,
    /// Seconds per hit.
    pub per_hit: f64,
    /// It answers 502 when more requests than this wait.
    pub longest_queue: Option<usize>,
    /// From when on (in seconds, in order) everything takes so many times as long; infinity is a
    /// stall.
    pub changes: Vec<(f64, f64)>,
    /// By how much the time of a request differs at random, as a share of it.
    pub spread: f64,
}

impl Server {
    /// The time of a request at the usual speed, in seconds.
    pub fn work(&self, hits: usize) -> f64 {
        self.per_request + self.per_hit * hits as f64
    }

    /// How many times as long everything takes at a time.
    pub fn slowness(&self, at: f64) -> f64 {
        self.changes.iter().rev().find(|(from, _)| *from <= at).map_or(1.0, |(_, factor)| *factor)
    }

    /// The most hits per second that `lanes` lanes with requests of `bulk` hits get out of it, at
    /// the usual speed.
    pub fn limit(&self, lanes: usize, bulk: usize) -> f64 {
        self.slots.min(lanes) as f64 * bulk as f64 / self.work(bulk)
    }

    /// The limit times the time during which it works, in hits, between two times.
    pub fn could_serve(&self, lanes: usize, bulk: usize, from: f64, to: f64) -> f64 {
        let mut edges: Vec<f64> = self.changes.iter().map(|(at, _)| *at).collect();
        edges.retain(|at| *at > from && *at < to);
        edges.insert(0, from);
        edges.push(to);
        let work: f64 =
            edges.windows(2).map(|pair| (pair[1] - pair[0]) / self.slowness(pair[0])).sum();
        work * self.limit(lanes, bulk)
    }

    /// When work that begins now is done.
    fn done(&self, mut now: f64, mut work: f64) -> f64 {
        loop {
            let slowness = self.slowness(now);
            let change = self.changes.iter().map(|(at, _)| *at).find(|at| *at > now);
            let until = change.unwrap_or(f64::INFINITY);
            if now + work * slowness <= until || until == f64::INFINITY {
                return now + work * slowness;
            }
            work -= (until - now) / slowness;
            now = until;
        }
    }
}

/// The requests at a [`Server`].
pub struct Queue {
    server: Server,
    busy: usize,
    waiting: VecDeque<(usize, usize)>,
    chance: Chance,
}

impl Queue {
    pub fn new(server: Server, chance: Chance) -> Self {
        Self { server, busy: 0, waiting: VecDeque::new(), chance }
    }

    /// A request of so many hits comes. Whether it is let in.
    pub fn arrive(&mut self, request: usize, hits: usize) -> bool {
        let is_full = self.busy >= self.server.slots
            && self.server.longest_queue.is_some_and(|most| self.waiting.len() >= most);
        if !is_full {
            self.waiting.push_back((request, hits));
        }
        !is_full
    }

    /// Begins with the next request, if a slot is free: its number, and when it is done.
    pub fn serve(&mut self, now: f64) -> Option<(usize, f64)> {
        if self.busy >= self.server.slots {
            return None;
        }
        let (request, hits) = self.waiting.pop_front()?;
        self.busy += 1;
        let spread = 1.0 + self.server.spread * (2.0 * self.chance.share() - 1.0);
        Some((request, self.server.done(now, self.server.work(hits) * spread)))
    }

    pub fn served(&mut self) {
        self.busy -= 1;
    }
}
