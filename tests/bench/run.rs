//! One run of one contestant: the shards are filled, it starts, and is watched until they are
//! empty.

use std::collections::HashMap;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};

use super::contestant::{Contestant, Kind};
use super::process::{self, Process};
use super::sink;
use super::support::hits;
use super::support::queues::Queues;
use super::support::rabbitmq::Broker;
use super::support::worker::Worker;

pub const SHARDS: u16 = 8;

/// Visitors that the hits of a run come from in turn: a school's.
const VISITORS: usize = 2_000;

/// What all runs share.
pub struct Stage {
    pub broker: Broker,
    pub queues: Queues,
    pub prefix: String,
}

/// What one run told.
#[derive(Debug, Clone, Copy, Default)]
pub struct Measured {
    /// Hits a second, between the tenth and the ninetieth hundredth of them.
    pub rate: f64,
    /// Microseconds of CPU a hit, in the same time, of all its processes.
    pub cpu: f64,
    /// The most memory that one of its processes had, MiB.
    pub memory: f64,
    /// Hits a request, in the same time; not a number where there were no requests.
    pub bulk: f64,
    /// The part of that time in which a slot of the sink had nothing to do.
    pub idle: Option<f64>,
    /// Seconds from its start to the first delivered hit.
    pub first: Option<f64>,
}

/// The processes of a contestant.
enum Cast {
    Ceiling(Process),
    Relay(Vec<Worker>),
    Peer(Process),
}

/// How far a run is.
#[derive(Clone, Copy)]
struct Moment {
    at: Instant,
    done: f64,
    cpu: u64,
    copies: u64,
    requests: u64,
    busy: u64,
}

impl Stage {
    /// Messages, each with its number; one in `broken` breaks the plan.
    pub fn messages(count: usize, broken: usize) -> impl Iterator<Item = (String, Vec<u8>)> {
        let now = jiff::Timestamp::now().as_second();
        (0..count).map(move |number| {
            let visitor = hits::visitor(number % VISITORS);
            let mut hit = hits::valid_at(&visitor, &format!("page-{number}"), now);
            if broken > 0 && number.is_multiple_of(broken) {
                hit = hits::with(hit, "dimension8", "CANTINE".into());
            }
            (visitor, hit.to_string().into_bytes())
        })
    }

    /// Declares what a relay works on.
    pub async fn declare(&self) -> anyhow::Result<()> {
        let worker = Worker::start(&self.vars("http://127.0.0.1:9/")).await?;
        worker.ready().await?;
        worker.stop().await
    }

    pub fn vars<'v>(&'v self, matomo: &'v str) -> [(&'v str, &'v str); 3] {
        [("AMQP_URL", &self.broker.url), ("QUEUE_PREFIX", &self.prefix), ("MATOMO_URL", matomo)]
    }

    fn shard_names(&self) -> String {
        (0..SHARDS).map(|shard| format!("{}.{shard}", self.prefix)).collect::<Vec<_>>().join(",")
    }

    pub async fn run(&self, contestant: &Contestant) -> anyhow::Result<Measured> {
        self.queues.publish(Self::messages(contestant.hits, contestant.broken)).await?;
        let sink =
            Process::part(&["sink", &serde_json::to_string(&contestant.sink)?], &HashMap::new())?;
        let began = sink::now();
        let mut cast = self.start(contestant, &sink.url()).await?;
        let watched = self.watch(contestant, &sink, &mut cast).await;
        let last_words = match &cast {
            Cast::Relay(workers) => workers.iter().map(Worker::log).collect::<Vec<_>>().join("\n"),
            _ => String::new(),
        };
        let (tenth, ninetieth) =
            watched.with_context(|| format!("{}\n{last_words}", contestant.name))?;
        // Not a number where the run was too short to tell.
        let done = ninetieth.done - tenth.done;
        let stretch = (ninetieth.at - tenth.at).as_secs_f64();
        let slots = contestant.sink.at_once as f64;
        let tally = cast.tally(&sink).await?;
        let measured = Measured {
            rate: done / stretch,
            bulk: (ninetieth.copies - tenth.copies) as f64
                / (ninetieth.requests - tenth.requests) as f64,
            idle: (slots > 0.0)
                .then(|| 1.0 - (ninetieth.busy - tenth.busy) as f64 / 1e6 / stretch / slots),
            cpu: (ninetieth.cpu - tenth.cpu) as f64 / 1_000.0 / done,
            memory: cast
                .pids()
                .iter()
                .map(|pid| process::memory(*pid, "VmHWM:"))
                .try_fold(0.0, |most, here| here.map(|here| here.max(most)))?,
            first: (tally.first > 0).then(|| tally.first.saturating_sub(began) as f64 / 1e6),
        };
        cast.end().await?;
        let left = self.queues.ready_in_shards(SHARDS).await?;
        ensure!(
            left == 0 && tally.doubles == 0,
            "{}: {left} hits left, {} doubles",
            contestant.name,
            tally.doubles
        );
        self.empty().await?;
        Ok(measured)
    }

    /// Rejected hits go, too.
    async fn empty(&self) -> anyhow::Result<()> {
        let options = lapin::options::QueuePurgeOptions::default();
        self.queues
            .channel()
            .queue_purge(format!("{}.rejected", self.prefix).into(), options)
            .await?;
        Ok(())
    }

    async fn start(&self, contestant: &Contestant, sink: &str) -> anyhow::Result<Cast> {
        let prefetch = 2 * 8 * contestant.bulk.max(50) / usize::from(SHARDS);
        match &contestant.kind {
            Kind::Ceiling { every } => {
                let vars = HashMap::from([("AMQP_URL".to_owned(), self.broker.url.clone())]);
                let (prefetch, every) = (prefetch.to_string(), every.to_string());
                Ok(Cast::Ceiling(Process::part(
                    &["ceiling", &self.shard_names(), &prefetch, &every],
                    &vars,
                )?))
            }
            Kind::Relay { replicas, vars } => {
                let mut all = self.vars(sink).to_vec();
                all.extend_from_slice(vars);
                // All at once: on RabbitMQ 3 the first to come would have every shard to itself for
                // longer.
                let workers =
                    futures_util::future::try_join_all((0..*replicas).map(|_| Worker::start(&all)))
                        .await?;
                Ok(Cast::Relay(workers))
            }
            Kind::Peer(peer) => {
                let mut command: Command = peer.command()?;
                command.env("AMQP_URL", &self.broker.url).env("QUEUES", self.shard_names());
                command
                    .env("MATOMO_URL", format!("{sink}matomo.php"))
                    .env("BULK", contestant.bulk.to_string());
                Ok(Cast::Peer(Process::start(command)?))
            }
        }
    }

    /// Until every hit is settled; gives the moments when a tenth and nine tenths of them were.
    async fn watch(
        &self,
        contestant: &Contestant,
        sink: &Process,
        cast: &mut Cast,
    ) -> anyhow::Result<(Moment, Moment)> {
        let hits = contestant.hits as f64;
        let deadline = Instant::now()
            + Duration::from_secs(60)
            + Duration::from_millis(5 * contestant.hits as u64);
        let (mut tenth, mut ninetieth): (Option<Moment>, Option<Moment>) = (None, None);
        loop {
            let tally = cast.tally(sink).await?;
            let at = Instant::now();
            let mut done = cast.done(contestant, &tally).await?;
            let here = Moment {
                at,
                done,
                cpu: cast.cpu()?,
                copies: tally.copies,
                requests: tally.requests,
                busy: tally.busy,
            };
            if done >= hits * 0.1 {
                tenth = tenth.or(Some(here));
            }
            if done >= hits * 0.9 {
                ninetieth = ninetieth.or(Some(here));
            }
            if let (true, Some(tenth), Some(ninetieth)) = (done >= hits, tenth, ninetieth) {
                return Ok((tenth, ninetieth));
            }
            done = done.floor();
            ensure!(Instant::now() < deadline, "only {done} of {hits} hits in time");
            cast.check()?;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Cast {
    fn pids(&self) -> Vec<u32> {
        match self {
            Self::Ceiling(process) | Self::Peer(process) => vec![process.pid()],
            Self::Relay(workers) => workers.iter().map(Worker::pid).collect(),
        }
    }

    fn cpu(&self) -> anyhow::Result<u64> {
        self.pids().into_iter().map(process::cpu).sum()
    }

    async fn tally(&self, sink: &Process) -> anyhow::Result<sink::Tally> {
        if let Self::Ceiling(process) = self { process.tally().await } else { sink.tally().await }
    }

    /// Hits that have their fate. One that is sent twice is half done after the first time.
    async fn done(&self, contestant: &Contestant, tally: &sink::Tally) -> anyhow::Result<f64> {
        let sent = if contestant.sink.refuse_first {
            tally.copies as f64 / 2.0
        } else {
            tally.stored as f64
        };
        match self {
            Self::Relay(workers) if contestant.broken > 0 => {
                let rejected = futures_util::future::try_join_all(
                    workers.iter().map(|worker| worker.sum("rejected_total")),
                )
                .await?;
                Ok(sent + rejected.iter().sum::<f64>())
            }
            _ => Ok(sent),
        }
    }

    fn check(&mut self) -> anyhow::Result<()> {
        match self {
            Self::Ceiling(process) | Self::Peer(process) => process.check(),
            // Its log tells what a relay met.
            Self::Relay(_) => Ok(()),
        }
    }

    async fn end(self) -> anyhow::Result<()> {
        if let Self::Relay(workers) = self {
            for worker in workers {
                worker.stop().await?;
            }
            return Ok(());
        }
        // A sink knows a hit before its ack has gone.
        tokio::time::sleep(Duration::from_millis(300)).await;
        Ok(())
    }
}
