//! Beyond rates: how long a hit takes at a given load, and how a long backlog drains.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::ensure;
use futures_util::future::try_join_all;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
use lapin::{BasicProperties, Channel};
use serde::Serialize;

use super::process::{self, Process};
use super::run::{SHARDS, Stage};
use super::sink::{self, Behaviour};
use super::support::hits;
use super::support::worker::Worker;

/// Channels that hits are published through at once.
const CHANNELS: usize = 4;

/// In place of the time of publishing, until it is known.
const NO_TIME: &str = "1000000000000000";

/// Milliseconds from publish to delivered, at one load.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Delays {
    /// Hundredths of the top rate.
    pub load: u32,
    pub hits_per_second: f64,
    pub p50: f64,
    pub p99: f64,
    pub p999: f64,
}

/// How a backlog went.
#[derive(Debug, Clone, Serialize)]
pub struct Drain {
    pub hits: usize,
    pub seconds: f64,
    /// Resident memory in MiB, each second.
    pub memory: Vec<f64>,
}

/// The relay under 10, 50 and 90 % of what it takes while as many hits as possible are published on
/// the same machine.
pub async fn delays(stage: &Stage, seconds: f64) -> anyhow::Result<Vec<Delays>> {
    let top = paced(stage, f64::INFINITY, seconds).await?.0;
    let mut all = Vec::new();
    for load in [10, 50, 90] {
        let (rate, mut delays) = paced(stage, top * f64::from(load) / 100.0, seconds).await?;
        delays.sort_unstable();
        let at = |part: f64| {
            delays
                .get((delays.len() as f64 * part) as usize)
                .map_or(f64::NAN, |micros| f64::from(*micros) / 1_000.0)
        };
        all.push(Delays {
            load,
            hits_per_second: rate,
            p50: at(0.5),
            p99: at(0.99),
            p999: at(0.999),
        });
    }
    Ok(all)
}

/// Publishes for so long at so many hits a second; gives the rate that was reached, and each hit's
/// microseconds.
async fn paced(stage: &Stage, rate: f64, seconds: f64) -> anyhow::Result<(f64, Vec<u32>)> {
    let sink = Process::part(
        &["sink", &serde_json::to_string(&Behaviour { timed: true, ..Behaviour::default() })?],
        &HashMap::new(),
    )?;
    let worker = Worker::start(&stage.vars(&sink.url())).await?;
    worker.ready().await?;
    // The first hits open connections and channels: they are not measured.
    let warm = Stage::messages(400, 0);
    stage.queues.publish(warm).await?;
    let warmed = until_delivered(&sink, 400).await?;
    let began = Instant::now();
    let publishers = (0..CHANNELS).map(|number| {
        publish(stage, number, rate / CHANNELS as f64, Duration::from_secs_f64(seconds))
    });
    let published: usize = try_join_all(publishers).await?.into_iter().sum();
    let delays = until_delivered(&sink, warmed.len() + published).await?;
    let reached = published as f64 / began.elapsed().as_secs_f64();
    worker.stop().await?;
    Ok((reached, delays.get(warmed.len()..).unwrap_or_default().to_vec()))
}

async fn until_delivered(sink: &Process, count: usize) -> anyhow::Result<Vec<u32>> {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let tally = sink.tally().await?;
        if tally.delays.len() >= count {
            return Ok(tally.delays);
        }
        ensure!(Instant::now() < deadline, "only {} of {count} hits came", tally.delays.len());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// One channel's share: what is due goes out each 2 ms, with the time of its own sending.
async fn publish(
    stage: &Stage,
    number: usize,
    rate: f64,
    during: Duration,
) -> anyhow::Result<usize> {
    let channel: Channel = stage.queues.connection().create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let bodies: Vec<(String, String)> = (0..500)
        .map(|visitor| {
            let visitor = hits::visitor(visitor * CHANNELS + number);
            (visitor.clone(), hits::valid(&visitor, &format!("page-{NO_TIME}")).to_string())
        })
        .collect();
    let options = BasicPublishOptions { mandatory: true, ..Default::default() };
    let mut confirms = Vec::new();
    let mut sent = 0;
    let began = Instant::now();
    let mut pace = tokio::time::interval(Duration::from_millis(2));
    while began.elapsed() < during {
        let due = began.elapsed().as_secs_f64() * rate;
        while (sent as f64) < due && began.elapsed() < during {
            let (visitor, body) = &bodies[sent % bodies.len()];
            let body = body.replace(NO_TIME, &sink::now().to_string());
            let properties = BasicProperties::default().with_delivery_mode(2);
            let exchange = stage.prefix.as_str().into();
            confirms.push(
                channel
                    .basic_publish(
                        exchange,
                        visitor.as_str().into(),
                        options,
                        body.as_bytes(),
                        properties,
                    )
                    .await?,
            );
            sent += 1;
            if confirms.len() >= 500 {
                try_join_all(confirms.drain(..)).await?;
            }
        }
        pace.tick().await;
    }
    try_join_all(confirms).await?;
    channel.close(200, "done".into()).await?;
    Ok(sent)
}

/// A backlog, from the start of one relay until nothing is left.
pub async fn drain(stage: &Stage, count: usize) -> anyhow::Result<Drain> {
    stage.queues.publish(Stage::messages(count, 0)).await?;
    let sink =
        Process::part(&["sink", &serde_json::to_string(&Behaviour::default())?], &HashMap::new())?;
    let began = Instant::now();
    let worker = Worker::start(&stage.vars(&sink.url())).await?;
    let mut memory = Vec::new();
    let deadline = began + Duration::from_secs(60) + Duration::from_millis(count as u64);
    let mut tick = tokio::time::interval(Duration::from_secs(1));
    loop {
        tick.tick().await;
        let tally = sink.tally().await?;
        memory.push(process::memory(worker.pid(), "VmRSS:")?);
        if tally.stored >= count as u64 {
            break;
        }
        ensure!(Instant::now() < deadline, "only {} of {count} hits drained", tally.stored);
    }
    let seconds = began.elapsed().as_secs_f64();
    worker.stop().await?;
    ensure!(stage.queues.ready_in_shards(SHARDS).await? == 0, "hits are left");
    Ok(Drain { hits: count, seconds, memory })
}
