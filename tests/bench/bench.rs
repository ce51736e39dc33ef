//! `make bench`: how fast the relay is, beside bare lapin and beside what people write instead, on
//! one broker, with the same messages and into the same sink.
//!
//! The contestants take turns, round after round, and every ratio is of one round: a machine that
//! is slower for a while is so for all of them. `ROUNDS`, `HITS` (of a run) and `DRAIN` (of the
//! long backlog) change the size, `ONLY` names the contestants that hold a word, `QUICK=1` only
//! shows that all of it works. `AMQP_URL` brings your own broker.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    missing_docs,
    unreachable_pub,
    reason = "a measurement that fails may panic, and is nobody's library"
)]

use std::path::Path;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::Context;
use serde_json::json;

#[path = "../it/support/mod.rs"]
mod support;

mod ceiling;
mod chart;
mod contestant;
mod paced;
mod peers;
mod process;
mod run;
mod sink;
mod table;

use paced::{Delays, Drain};
use peers::Peer;
use run::Stage;
use support::queues::Queues;
use support::rabbitmq::Broker;

/// Where the results lie.
const RESULTS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/target/bench");

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let outcome = match arguments.split_first() {
        Some((part, rest)) if part == "sink" => sink::process(&rest.join(" ")).await,
        Some((part, rest)) if part == "ceiling" => ceiling::process(rest).await,
        _ => tokio::select! {
            outcome = bench() => outcome,
            _ = tokio::signal::ctrl_c() => Err(anyhow::anyhow!("stopped")),
        },
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("the bench failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// How much is measured.
struct Size {
    rounds: usize,
    hits: usize,
    drain: usize,
    /// Seconds of each load at which delays are measured.
    seconds: f64,
}

impl Size {
    fn from_env() -> anyhow::Result<Self> {
        let quick = std::env::var("QUICK").is_ok_and(|value| !value.is_empty() && value != "0");
        let default = if quick { [1, 1_000, 2_000, 1] } else { [5, 60_000, 1_000_000, 10] };
        let seconds = default[3] as f64;
        let number = |name, default: usize| match std::env::var(name) {
            Ok(text) if !text.is_empty() => {
                text.parse().with_context(|| format!("{name}={text} is not a number"))
            }
            _ => Ok(default),
        };
        Ok(Self {
            rounds: number("ROUNDS", default[0])?,
            hits: number("HITS", default[1])?,
            drain: number("DRAIN", default[2])?,
            seconds,
        })
    }
}

async fn bench() -> anyhow::Result<()> {
    let size = Size::from_env()?;
    let broker = Broker::start().await?;
    let about = format!(
        "{}; {} cores; {}",
        broker.describe(),
        std::thread::available_parallelism()?,
        build()
    );
    println!("{about}");
    let peers: Vec<Peer> = Peer::ALL.into_iter().filter(|peer| is_here(*peer)).collect();
    let only = std::env::var("ONLY").unwrap_or_default();
    let mut contestants = contestant::all(size.hits, &peers);
    contestants.retain(|contestant| {
        contestant.name.contains(&only) || contestant.name == contestant::CEILING
    });
    let prefix = format!("dnma.bench.{}", std::process::id());
    let stage = Stage { queues: Queues::connect(&broker.url, &prefix).await?, broker, prefix };
    let outcome = measure(&stage, &size, &contestants, only.is_empty(), &about).await;
    stage.queues.delete_all().await?;
    outcome
}

/// Which build of the relay runs: the one beside this program.
fn build() -> &'static str {
    if cfg!(debug_assertions) { "DEBUG BUILD: the numbers mean nothing" } else { "release build" }
}

fn is_here(peer: Peer) -> bool {
    match peer.install() {
        Ok(()) => true,
        Err(error) => {
            println!("NOT MEASURED: {} ({error:#})", peer.one_by_one());
            false
        }
    }
}

async fn measure(
    stage: &Stage,
    size: &Size,
    contestants: &[contestant::Contestant],
    whole: bool,
    about: &str,
) -> anyhow::Result<()> {
    stage.declare().await?;
    let began = Instant::now();
    let mut rounds = Vec::new();
    for round in 1..=size.rounds {
        let mut measured = Vec::new();
        for contestant in contestants {
            let run = stage.run(contestant).await?;
            println!(
                "{:>5.0} s  round {round}  {:<40} {:>8.0} hits/s",
                began.elapsed().as_secs_f64(),
                contestant.name,
                run.rate
            );
            measured.push(run);
        }
        rounds.push(measured);
    }
    let rows = table::rows(contestants, &rounds);
    let delays = if whole { paced::delays(stage, size.seconds).await? } else { Vec::new() };
    let drain = if whole { Some(paced::drain(stage, size.drain).await?) } else { None };
    let more = paced_lines(&delays, drain.as_ref());
    println!(
        "\nMedians of {} rounds (least–most); ratios are of one round.\n\n{}\n{more}",
        size.rounds,
        table::text(&rows)
    );
    let folder = Path::new(RESULTS);
    std::fs::create_dir_all(folder)?;
    let json = json!({
        "about": about,
        "rounds": size.rounds,
        "hits": size.hits,
        "contestants": rows,
        "delays": delays,
        "drain": drain,
    });
    std::fs::write(folder.join("bench.json"), serde_json::to_string_pretty(&json)? + "\n")?;
    let head = format!(
        "{about}. Medians of {} rounds of {} hits (least–most); ratios are of one round.",
        size.rounds, size.hits
    );
    std::fs::write(
        folder.join("bench.md"),
        format!("{head}\n\n{}\n{more}", table::markdown(&rows)),
    )?;
    std::fs::write(folder.join("bench.svg"), chart::svg(&rows))?;
    println!("Also in target/bench: bench.md, bench.json, bench.svg");
    Ok(())
}

/// What is said of delays and of the long backlog: lines of a Markdown list.
fn paced_lines(delays: &[Delays], drain: Option<&Drain>) -> String {
    let mut lines = String::new();
    for Delays { load, hits_per_second, p50, p99, p999 } in delays {
        lines += &format!(
            "- From publish to delivered at {load} % of the top rate ({hits_per_second:.0} \
             hits/s, published on the same machine): p50 {p50:.1} ms, p99 {p99:.1} ms, p99.9 \
             {p999:.1} ms.\n"
        );
    }
    if let Some(Drain { hits, seconds, memory }) = drain {
        let at = |part: f64| {
            memory.get(((memory.len() - 1) as f64 * part) as usize).copied().unwrap_or_default()
        };
        lines += &format!(
            "- {hits} hits drain in {seconds:.1} s, by one relay; its memory after a tenth of \
             that time, half of it and at the end: {:.0}, {:.0} and {:.0} MiB.\n",
            at(0.1),
            at(0.5),
            at(1.0)
        );
    }
    lines
}

/// A client for loopback.
fn client() -> anyhow::Result<reqwest::Client> {
    let _installed_before = rustls::crypto::ring::default_provider().install_default();
    Ok(reqwest::Client::builder().no_proxy().build()?)
}
