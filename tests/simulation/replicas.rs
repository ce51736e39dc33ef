//! Replicas in virtual time before one [`Server`]: each with its lanes and a limiter of its own,
//! and a backlog that never ends.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};
use std::time::{Duration, Instant};

use dnma_relay::domain::limiter::{Begun, Limit, Limiter, LoadBounds, LoadSignal, Room};

use super::chance::Chance;
use super::queueing::{Queue, Server};

/// What the replicas go by.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Policy {
    Limiter,
    /// The same for all and always.
    Fixed(Limit),
}

#[derive(Debug, Clone)]
pub struct Scene {
    pub server: Server,
    /// When each replica starts, in seconds.
    pub starts: Vec<f64>,
    pub lanes: usize,
    pub bulk: usize,
    /// In seconds.
    pub timeout: f64,
    /// When a hit in doubt is sent again, in seconds.
    pub delays: Vec<f64>,
    pub policy: Policy,
    pub lasts: f64,
    pub seed: u64,
}

/// A request that has ended.
#[derive(Debug, Clone, Copy)]
pub struct Ended {
    pub replica: usize,
    pub began: f64,
    pub at: f64,
    pub hits: usize,
    pub outcome: LoadSignal,
}

/// All that happened.
#[derive(Debug, Default)]
pub struct Report {
    pub ended: Vec<Ended>,
    /// Hits parked although stored.
    pub parked: usize,
    /// Until when the server worked on requests that had been given up.
    pub dead_until: f64,
}

/// Hits that were sent as often, and are sent again from a time on.
#[derive(Debug, Clone, Copy)]
struct Again {
    due: f64,
    hits: usize,
    attempts: usize,
}

struct Request {
    replica: usize,
    began: f64,
    hits: usize,
    /// The hits by how often they were sent before.
    parts: Vec<(usize, usize)>,
    /// None once the client knows how it ended.
    begun: Option<Begun>,
}

struct Replica {
    limiter: Limiter,
    under_way: usize,
    again: VecDeque<Again>,
    wake: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
enum Event {
    Starts(usize),
    Wakes(usize),
    Served(usize),
    Answered(usize, bool),
    GivenUp(usize),
}

#[derive(PartialEq)]
struct Planned(f64, u64, Event);

impl Eq for Planned {}

impl Ord for Planned {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.0.total_cmp(&other.0).then(self.1.cmp(&other.1))
    }
}

impl PartialOrd for Planned {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

/// From the worker to Matomo and back, in seconds.
const NETWORK: f64 = 0.001;

pub struct Replicas {
    scene: Scene,
    queue: Queue,
    replicas: Vec<Replica>,
    requests: Vec<Request>,
    events: BinaryHeap<Reverse<Planned>>,
    planned: u64,
    now: f64,
    epoch: Instant,
    report: Report,
}

pub fn run(scene: Scene) -> Report {
    let bounds = LoadBounds {
        requests: scene.lanes,
        hits: scene.bulk,
        timeout: Duration::from_secs_f64(scene.timeout),
    };
    let replica = |_: &f64| Replica {
        limiter: Limiter::new(bounds),
        under_way: 0,
        again: VecDeque::new(),
        wake: -1.0,
    };
    let mut world = Replicas {
        queue: Queue::new(scene.server.clone(), Chance::new(scene.seed)),
        replicas: scene.starts.iter().map(replica).collect(),
        requests: Vec::new(),
        events: BinaryHeap::new(),
        planned: 0,
        now: 0.0,
        epoch: Instant::now(),
        report: Report::default(),
        scene,
    };
    for (index, at) in world.scene.starts.clone().into_iter().enumerate() {
        world.plan(at, Event::Starts(index));
    }
    while let Some(Reverse(Planned(at, _, event))) = world.events.pop() {
        if at > world.scene.lasts {
            break;
        }
        world.now = at;
        world.happen(event);
    }
    world.report
}

impl Replicas {
    fn plan(&mut self, at: f64, event: Event) {
        self.planned += 1;
        self.events.push(Reverse(Planned(at, self.planned, event)));
    }

    fn clock(&self) -> Instant {
        self.epoch + Duration::from_secs_f64(self.now)
    }

    fn happen(&mut self, event: Event) {
        match event {
            Event::Starts(replica) | Event::Wakes(replica) => self.send(replica),
            Event::Served(request) => {
                self.queue.served();
                if self.requests[request].begun.is_none() {
                    self.report.dead_until = self.now;
                }
                self.plan(self.now + NETWORK, Event::Answered(request, true));
                self.serve();
            }
            Event::Answered(request, true) => self.end(request, LoadSignal::Answered),
            Event::Answered(request, false) => self.end(request, LoadSignal::Refused),
            Event::GivenUp(request) => self.end(request, LoadSignal::Lost),
        }
    }

    fn serve(&mut self) {
        while let Some((request, done)) = self.queue.serve(self.now) {
            if done.is_finite() {
                self.plan(done, Event::Served(request));
            }
        }
    }

    /// What the replica may send now.
    fn room(&mut self, index: usize) -> Option<usize> {
        let replica = &self.replicas[index];
        if replica.under_way >= self.scene.lanes {
            return None;
        }
        match self.scene.policy {
            Policy::Fixed(limit) => (replica.under_way < limit.requests).then_some(limit.hits),
            Policy::Limiter => match replica.limiter.ask(self.clock()) {
                Room::Go(hits) => {
                    assert!(hits >= 1 && hits <= self.scene.bulk, "{hits} hits");
                    Some(hits)
                }
                Room::WaitForAnswer => {
                    assert!(replica.under_way > 0, "waits for an answer that never comes");
                    None
                }
                Room::WaitUntil(time) => {
                    let at = (time - self.epoch).as_secs_f64().max(self.now + 1e-6);
                    if (self.replicas[index].wake - at).abs() > 1e-6 {
                        self.replicas[index].wake = at;
                        self.plan(at, Event::Wakes(index));
                    }
                    None
                }
            },
        }
    }

    fn send(&mut self, index: usize) {
        while let Some(most) = self.room(index) {
            let parts = self.take(index, most);
            let (clock, replica) = (self.clock(), &mut self.replicas[index]);
            replica.under_way += 1;
            let begun = Some(replica.limiter.begin(most, clock));
            let number = self.requests.len();
            self.requests.push(Request {
                replica: index,
                began: self.now,
                hits: most,
                parts,
                begun,
            });
            if self.queue.arrive(number, most) {
                self.plan(self.now + self.scene.timeout, Event::GivenUp(number));
                self.serve();
            } else {
                self.plan(self.now + NETWORK, Event::Answered(number, false));
            }
        }
    }

    /// Hits for a request: those that are due again, then new ones.
    fn take(&mut self, index: usize, most: usize) -> Vec<(usize, usize)> {
        let now = self.now;
        let again = &mut self.replicas[index].again;
        let mut parts = Vec::new();
        let mut room = most;
        while room > 0 {
            let Some(place) = again.iter().position(|part| part.due <= now) else { break };
            let part = &mut again[place];
            let taken = part.hits.min(room);
            parts.push((taken, part.attempts));
            part.hits -= taken;
            room -= taken;
            if part.hits == 0 {
                again.remove(place);
            }
        }
        if room > 0 {
            parts.push((room, 0));
        }
        parts
    }

    fn end(&mut self, number: usize, outcome: LoadSignal) {
        let (now, clock) = (self.now, self.clock());
        let request = &mut self.requests[number];
        let Some(begun) = request.begun.take() else { return };
        let (index, began, hits) = (request.replica, request.began, request.hits);
        let parts = std::mem::take(&mut request.parts);
        let replica = &mut self.replicas[index];
        replica.limiter.end(begun, outcome, clock);
        replica.under_way -= 1;
        for (hits, attempts) in parts {
            match outcome {
                LoadSignal::Refused => {
                    replica.again.push_front(Again { due: now, hits, attempts });
                }
                LoadSignal::Lost => match self.scene.delays.get(attempts) {
                    Some(delay) => {
                        let attempts = attempts + 1;
                        replica.again.push_back(Again { due: now + delay, hits, attempts });
                    }
                    None => self.report.parked += hits,
                },
                LoadSignal::Answered | LoadSignal::Unrelated => {}
            }
        }
        self.report.ended.push(Ended { replica: index, began, at: now, hits, outcome });
        self.send(index);
    }
}

impl Report {
    /// The hits of requests that ended so between two times.
    pub fn hits(&self, outcome: LoadSignal, from: f64, to: f64) -> usize {
        let is_in = |ended: &&Ended| ended.outcome == outcome && from <= ended.at && ended.at < to;
        self.ended.iter().filter(is_in).map(|ended| ended.hits).sum()
    }

    /// The hits that a replica delivered between two times.
    pub fn delivered_by(&self, replica: usize, from: f64, to: f64) -> usize {
        let is_in = |ended: &&Ended| {
            ended.outcome == LoadSignal::Answered
                && ended.replica == replica
                && from <= ended.at
                && ended.at < to
        };
        self.ended.iter().filter(is_in).map(|ended| ended.hits).sum()
    }

    /// The latency that a share of the answers between two times stayed below, in seconds.
    pub fn latency(&self, share: f64, from: f64, to: f64) -> f64 {
        let is_in = |ended: &&Ended| from <= ended.at && ended.at < to;
        let mut all: Vec<f64> =
            self.ended.iter().filter(is_in).map(|ended| ended.at - ended.began).collect();
        all.sort_by(f64::total_cmp);
        let place = (all.len() as f64 * share) as usize;
        all.get(place.min(all.len().saturating_sub(1))).copied().unwrap_or_default()
    }
}
