//! One worker in virtual time: its lanes, site memory and breaker are the ones that the service
//! drives, without the service's sockets and tasks.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::time::{Duration, Instant};

use dnma_relay::domain::answer::{self, Interpretation};
use dnma_relay::domain::breaker::{Breaker, Permission};
use dnma_relay::domain::dispatch::sites::SiteMemory;
use dnma_relay::domain::dispatch::{Lane, Outgoing};
use dnma_relay::domain::limiter::LoadSignal;
use dnma_relay::domain::max_age::MaxAge;
use dnma_relay::domain::request::Api;
use dnma_relay::domain::settle::{RequestFacts, Settlement};

use jiff::Timestamp;

use super::matomo::{self, Nature, Outcome, Spell, Weather};

#[derive(Debug, Clone)]
pub struct History {
    /// When each hit is published, and whose it is.
    pub hits: Vec<(Duration, u8)>,
    /// After them it is fine for good.
    pub spells: Vec<Spell>,
    pub lanes: usize,
    pub bulk: usize,
    /// The worker is killed and started again.
    pub crashes: Vec<Duration>,
    pub poison: u8,
    pub superuser: bool,
    pub delays: Vec<Duration>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    UnderWay,
    Delivered,
    Parked,
}

/// A hit and all that ever happened to it.
#[derive(Debug, Clone)]
pub struct Hit {
    pub visitor: u8,
    pub fate: Fate,
    pub attempts: u32,
    pub stored: u32,
    /// Storings that no answer vouched for.
    pub doubts: u32,
    /// Times its request died with the worker.
    pub crashes: u32,
    /// Times it was sent again because others of its bulk were refused.
    pub singled: u32,
    first_stored: Option<Duration>,
}

/// What is left when nothing happens any more.
pub struct End {
    pub hits: Vec<Hit>,
    pub at: Duration,
    pub overlaps: u32,
}

impl End {
    /// When Matomo first stored a hit after this time.
    pub fn first_stored_after(&self, time: Duration) -> Option<Duration> {
        self.hits.iter().filter_map(|hit| hit.first_stored).filter(|at| *at >= time).min()
    }
}

enum Event {
    Arrives(usize),
    Answered { lane: usize, life: u32 },
    Wakes,
    Crashes,
}

/// A lane and what the simulation knows of it.
struct WorldLane {
    lane: Lane<usize>,
    /// How many hits it holds, those of its request included.
    held: usize,
    /// The request under way, its outcome, and whether it is a probe.
    sent: Option<(Vec<Outgoing<usize>>, Outcome, bool)>,
}

pub struct World {
    history: History,
    hits: Vec<Hit>,
    queue: VecDeque<usize>,
    lanes: Vec<WorldLane>,
    sites: SiteMemory,
    breaker: Breaker,
    /// Ordered by time, then by when they were planned.
    events: BTreeMap<(Duration, u64), Event>,
    planned: u64,
    /// When the lanes look at the breaker again.
    wake: Option<Duration>,
    epoch: Instant,
    now: Duration,
    life: u32,
    overlaps: u32,
}

/// For so long after an answer refusals are load.
const LATELY: Duration = Duration::from_secs(16);

/// As the service's, without its jitter.
fn pause(failures: u32) -> Duration {
    Duration::from_millis(500 * 2_u64.pow(failures.min(4))).min(Duration::from_secs(5))
}

impl World {
    pub fn new(history: History) -> Self {
        let hit = |(_, visitor): &(Duration, u8)| Hit {
            visitor: *visitor,
            fate: Fate::UnderWay,
            attempts: 0,
            stored: 0,
            doubts: 0,
            crashes: 0,
            singled: 0,
            first_stored: None,
        };
        let mut world = Self {
            hits: history.hits.iter().map(hit).collect(),
            queue: VecDeque::new(),
            lanes: Vec::new(),
            sites: SiteMemory::default(),
            breaker: Breaker::new(pause, LATELY),
            events: BTreeMap::new(),
            planned: 0,
            wake: None,
            epoch: Instant::now(),
            now: Duration::ZERO,
            life: 0,
            overlaps: 0,
            history,
        };
        for index in 0..world.hits.len() {
            world.plan(world.history.hits[index].0, Event::Arrives(index));
        }
        for at in world.history.crashes.clone() {
            world.plan(at, Event::Crashes);
        }
        world.open_lanes();
        world
    }

    fn plan(&mut self, at: Duration, event: Event) {
        self.planned += 1;
        self.events.insert((at, self.planned), event);
    }

    fn wake_at(&mut self, time: Duration) {
        if self.wake != Some(time) {
            self.wake = Some(time);
            self.plan(time, Event::Wakes);
        }
    }

    /// Until nothing is left to happen. A line that stands still with hits in it ends here too, and
    /// its hits show it.
    pub fn run(mut self) -> End {
        while let Some(((at, _), event)) = self.events.pop_first() {
            assert!(self.planned < 200_000, "the line never comes to rest: requests without end");
            self.now = at;
            match event {
                Event::Arrives(hit) => self.queue.push_back(hit),
                Event::Answered { lane, life } if life == self.life => self.answered(lane),
                Event::Answered { .. } | Event::Wakes => {}
                Event::Crashes => self.crash(),
            }
            self.feed();
            for lane in 0..self.lanes.len() {
                self.try_to_send(lane);
            }
        }
        End { hits: self.hits, at: self.now, overlaps: self.overlaps }
    }

    fn open_lanes(&mut self) {
        let bulk = self.history.bulk;
        let open =
            || WorldLane { lane: Lane::new(bulk, true, MaxAge::default()), held: 0, sent: None };
        self.lanes.resize_with(self.history.lanes, open);
    }

    /// The wall clock, which no history lets run for the 24 h after which hits need the token.
    fn clock(&self) -> Timestamp {
        Timestamp::from_second(1_732_500_000).expect("in range") + self.now
    }

    /// Moves hits from the shard to the lanes, as far as the prefetch allows.
    fn feed(&mut self) {
        let prefetch = self.history.lanes * self.history.bulk * 2;
        let held: usize = self.lanes.iter().map(|lane| lane.held).sum();
        for _ in held..prefetch {
            let Some(hit) = self.queue.pop_front() else { return };
            let lane = usize::from(self.hits[hit].visitor) % self.lanes.len();
            let outgoing = Outgoing {
                cdt: self.clock(),
                idsite: "1".to_owned(),
                attempts: self.hits[hit].attempts,
                load: hit,
            };
            self.lanes[lane].lane.push(outgoing);
            self.lanes[lane].held += 1;
        }
    }

    fn try_to_send(&mut self, index: usize) {
        let (clock, lane) = (self.clock(), &mut self.lanes[index]);
        if lane.sent.is_some() {
            return;
        }
        assert!(lane.lane.cut(clock, &self.sites).is_empty(), "nothing is too old");
        if lane.lane.next_request(clock).is_none() {
            return;
        }
        let probe = match self.breaker.ask(self.epoch + self.now) {
            Permission::Go => false,
            Permission::Probe => true,
            Permission::WaitUntil(time) => return self.wake_at(time - self.epoch),
            Permission::WaitForAnswer => return,
        };
        let request =
            self.lanes[index].lane.take(if probe { 1 } else { usize::MAX }).expect("a request");
        let visitors = |hits: &[Outgoing<usize>]| {
            hits.iter().map(|hit| self.hits[hit.load].visitor).collect::<HashSet<_>>()
        };
        let under_way = self
            .lanes
            .iter()
            .filter_map(|lane| lane.sent.as_ref())
            .flat_map(|(hits, ..)| visitors(hits))
            .collect::<HashSet<_>>();
        self.overlaps +=
            u32::try_from(visitors(&request).intersection(&under_way).count()).expect("few");
        let natures: Vec<Nature> = request.iter().map(|hit| self.nature(hit.load)).collect();
        let outcome = matomo::answer(self.weather(), &natures, self.history.superuser);
        for (hit, stored) in request.iter().zip(&outcome.stored) {
            if *stored {
                let hit = &mut self.hits[hit.load];
                hit.stored += 1;
                hit.first_stored.get_or_insert(self.now);
            }
        }
        self.plan(self.now + outcome.takes, Event::Answered { lane: index, life: self.life });
        self.lanes[index].sent = Some((request, outcome, probe));
    }

    fn nature(&self, hit: usize) -> Nature {
        let (visitor, poison) = (self.hits[hit].visitor, self.history.poison);
        match poison {
            poison if visitor < poison => Nature::Exception,
            poison if poison > 0 && visitor == poison => Nature::Invalid,
            _ => Nature::Good,
        }
    }

    fn weather(&self) -> Weather {
        let mut until = Duration::ZERO;
        for spell in &self.history.spells {
            until += spell.lasts;
            if self.now < until {
                return spell.weather;
            }
        }
        Weather::Fine
    }

    fn answered(&mut self, index: usize) {
        let Some((request, Outcome { answer, stored, .. }, probe)) = self.lanes[index].sent.take()
        else {
            return;
        };
        let interpretation = answer::interpret(Api::Bulk, &answer, request.len());
        if matches!(interpretation, Interpretation::Refused { places: None, .. }) {
            for (hit, stored) in request.iter().zip(&stored) {
                self.hits[hit.load].doubts += u32::from(*stored);
                self.hits[hit.load].singled += 1;
            }
        }
        self.sites.learn(&interpretation, request.iter().map(|hit| hit.idsite.as_str()));
        let now = self.epoch + self.now;
        let busy = !probe
            && answer.retry_after().is_none()
            && LoadSignal::from(&interpretation) == LoadSignal::Refused
            && self.breaker.is_busy(now);
        let facts = RequestFacts { steps: self.history.delays.len(), probe, busy };
        let answered = self.lanes[index].lane.answered(request, &interpretation, facts);
        self.breaker.record(answered.signal, probe, answer.retry_after(), now);
        self.lanes[index].held -= answered.settled.len();
        for ((hit, fate), stored) in answered.settled.into_iter().zip(stored) {
            self.settle(hit.load, fate, stored);
        }
    }

    fn settle(&mut self, index: usize, settlement: Settlement, stored: bool) {
        let hit = &mut self.hits[index];
        match settlement {
            Settlement::Delivered(_) => hit.fate = Fate::Delivered,
            Settlement::Retry { step, attempts, .. } => {
                hit.attempts = attempts;
                hit.doubts += u32::from(stored);
                let due = self.now + self.history.delays[step];
                self.plan(due, Event::Arrives(index));
            }
            Settlement::Park { attempts, .. } => {
                (hit.attempts, hit.fate) = (attempts, Fate::Parked);
                hit.doubts += u32::from(stored);
            }
            Settlement::Reject { .. } | Settlement::Release => {
                panic!("no answer rejects or returns a hit")
            }
        }
    }

    /// What the worker held goes back to the front of its queue; nobody hears the answers that are
    /// under way.
    fn crash(&mut self) {
        self.life += 1;
        self.breaker = Breaker::new(pause, LATELY);
        for WorldLane { lane, sent, .. } in std::mem::take(&mut self.lanes) {
            if let Some((request, outcome, _)) = sent {
                for (hit, stored) in request.iter().zip(outcome.stored) {
                    self.hits[hit.load].crashes += 1;
                    self.hits[hit.load].doubts += u32::from(stored);
                }
                self.queue.extend(request.iter().map(|hit| hit.load));
            }
            self.queue.extend(lane.into_unsent().map(|hit| hit.load));
        }
        self.sites = SiteMemory::default();
        self.open_lanes();
    }
}
