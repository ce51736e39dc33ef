//! The main job in one command: a school morning through a real RabbitMQ, two real workers and a
//! stand-in Matomo, with an outage in the middle, and the books at the end.
//!
//! `make demo` runs it. `DEMO_HITS` and `DEMO_SEED` change the morning; `AMQP_URL` brings your own
//! broker.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::disallowed_methods,
    reason = "a test that fails may panic"
)]

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

#[path = "../../tests/it/support/mod.rs"]
mod support;

use support::hits::{self, Message};
use support::matomo::{Matomo, Situation};
use support::queues::Queues;
use support::rabbitmq::Broker;
use support::worker::Worker;

const SHARDS: u16 = 8;
/// Hits an ENT of some size sends in a second of a school morning.
const RATE: u32 = 300;
const OUTAGE: Duration = Duration::from_secs(5);

#[tokio::main]
async fn main() -> ExitCode {
    let outcome = tokio::select! {
        outcome = demo() => outcome,
        () = asked_to_stop() => {
            eprintln!("\nstopped: the workers and the private broker are gone with this program");
            return ExitCode::from(130);
        }
    };
    match outcome {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("the demo failed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Ctrl-C, or SIGTERM.
async fn asked_to_stop() {
    let terminated = async {
        match signal(SignalKind::terminate()) {
            Ok(mut terminate) => terminate.recv().await,
            Err(_) => std::future::pending().await,
        }
    };
    tokio::select! {
        _ = tokio::signal::ctrl_c() => {}
        _ = terminated => {}
    }
    support::worker::QUIET.store(true, std::sync::atomic::Ordering::Relaxed);
}

fn number(name: &str, default: u64) -> anyhow::Result<u64> {
    match std::env::var(name) {
        Ok(text) if !text.is_empty() => {
            text.parse().with_context(|| format!("{name}={text} is not a number"))
        }
        _ => Ok(default),
    }
}

async fn demo() -> anyhow::Result<bool> {
    let (count, seed) = (usize::try_from(number("DEMO_HITS", 6_000)?)?, number("DEMO_SEED", 2024)?);
    println!("Getting a RabbitMQ …");
    let broker = Broker::start().await?;
    println!("  {}", broker.describe());
    let matomo = Matomo::start().await?;
    {
        let mut ledger = matomo.ledger();
        // As a real Matomo was measured: a fixed cost a request, a smaller one a hit.
        (ledger.per_request, ledger.per_hit) =
            (Duration::from_millis(10), Duration::from_micros(3_500));
    }
    println!("  a stand-in Matomo, {}", matomo.url());
    let prefix = format!("dnma.demo.{}", std::process::id());
    let queues = Queues::connect(&broker.url, &prefix).await?;
    let outcome = morning(&broker, &matomo, &queues, &prefix, count, seed).await;
    queues.delete_all().await?;
    outcome
}

async fn morning(
    broker: &Broker,
    matomo: &Matomo,
    queues: &Queues,
    prefix: &str,
    count: usize,
    seed: u64,
) -> anyhow::Result<bool> {
    let url = matomo.url();
    let vars = [
        ("AMQP_URL", broker.url.as_str()),
        ("QUEUE_PREFIX", prefix),
        ("MATOMO_URL", &url),
        ("RETRY_DELAYS", "2s,4s"),
    ];
    let workers = [Worker::start(&vars).await?, Worker::start(&vars).await?];
    for worker in &workers {
        worker.ready().await?;
    }
    println!("  two workers, with RETRY_DELAYS=2s,4s instead of 10m,20m\n");
    let messages = hits::morning(seed, count);
    let broken = messages.iter().filter(|message| message.breaks_the_plan).count();
    println!(
        "A school morning: {count} hits, {RATE} a second, {broken} of which break the plan; \
         Matomo goes away half way."
    );
    let bar = ProgressBar::new(u64::try_from(count)?);
    bar.set_style(ProgressStyle::with_template(
        "  {bar:40} {pos}/{len} in Matomo or rejected  {msg}",
    )?);
    let began = Instant::now();
    publish(messages, matomo, queues, &bar).await?;
    bar.set_message("the rest drains");
    let books = settle(matomo, queues, count, &bar).await?;
    bar.finish_and_clear();
    let took = began.elapsed();
    for worker in workers {
        worker.stop().await?;
    }
    report(&books, matomo, took);
    Ok(books.close() && books.rejected == broken)
}

/// Paced, with the outage in the middle.
async fn publish(
    messages: Vec<Message>,
    matomo: &Matomo,
    queues: &Queues,
    bar: &ProgressBar,
) -> anyhow::Result<()> {
    let count = messages.len();
    let tick = Duration::from_millis(100);
    let mut pace = tokio::time::interval(tick);
    let mut messages = messages.into_iter().map(|message| (message.visitor, message.body));
    let (mut sent, mut outage) = (0, None);
    let per_tick = usize::try_from(RATE / 10)?;
    while sent < count {
        pace.tick().await;
        sent += queues.publish(messages.by_ref().take(per_tick).collect::<Vec<_>>()).await?;
        match outage {
            None if sent >= count / 2 => {
                matomo.set(Situation::BadGateway);
                outage = Some(Instant::now());
                say(bar, "Matomo is away (502): hits wait in their queues");
            }
            Some(since)
                if since.elapsed() >= OUTAGE && matomo.ledger().situation != Situation::Fine =>
            {
                matomo.set(Situation::Fine);
                say(bar, "Matomo is back");
            }
            _ => {}
        }
        bar.set_position(u64::try_from(matomo.copies().len() + queues.ready("rejected").await?)?);
    }
    if matomo.ledger().situation != Situation::Fine {
        matomo.set(Situation::Fine);
        say(bar, "Matomo is back");
    }
    Ok(())
}

/// A progress bar draws only on a terminal; without one the turning points are lines.
fn say(bar: &ProgressBar, message: &'static str) {
    if std::io::stderr().is_terminal() {
        bar.set_message(message);
    } else {
        println!("  {message}");
    }
}

struct Books {
    published: usize,
    delivered: usize,
    rejected: usize,
    parked: usize,
    repeated: usize,
}

impl Books {
    fn close(&self) -> bool {
        self.published == self.delivered + self.rejected + self.parked
    }
}

/// Waits until every hit has come to rest, and reads the books from the queues and from Matomo's
/// ledger.
async fn settle(
    matomo: &Matomo,
    queues: &Queues,
    published: usize,
    bar: &ProgressBar,
) -> anyhow::Result<Books> {
    let deadline = Instant::now() + Duration::from_secs(120);
    loop {
        let copies = matomo.copies();
        let books = Books {
            published,
            delivered: copies.len(),
            rejected: queues.ready("rejected").await?,
            parked: queues.ready("parked").await?,
            repeated: copies.values().map(|copies| copies - 1).sum(),
        };
        bar.set_position(u64::try_from(books.delivered + books.rejected)?);
        if books.close() || Instant::now() > deadline {
            let waiting = queues.ready_in_shards(SHARDS).await?;
            bar.set_message(format!("{waiting} hits wait"));
            return Ok(books);
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn report(books: &Books, matomo: &Matomo, took: Duration) {
    let (requests, overlaps) = {
        let ledger = matomo.ledger();
        (ledger.requests, ledger.overlaps)
    };
    let Books { published, delivered, rejected, parked, repeated } = books;
    println!("\nThe books after {:.1} s", took.as_secs_f64());
    println!("  published           {published:>7}");
    println!("  in Matomo           {delivered:>7}   by {requests} requests");
    println!(
        "  rejected            {rejected:>7}   they break the plan; each says why in \
         x-dnma-violations"
    );
    println!("  parked              {parked:>7}   their retries are spent");
    println!("  stored twice        {repeated:>7}");
    println!("  one visitor in two requests at once {overlaps}");
    if books.close() {
        println!(
            "\nThe books close: {published} = {delivered} + {rejected} + {parked}. Nothing was \
             lost."
        );
        println!("\nWith your own broker and Matomo:");
        println!("  export AMQP_URL=amqps://relay:PASSWORD@rabbitmq.example.fr/VHOST");
        println!("  export MATOMO_URL=https://matomo.example.fr/ MATOMO_SITE_ID=1");
        println!("  dnma-relay check && dnma-relay run");
    } else {
        println!(
            "\nThe books do NOT close: {published} published, {} accounted for.",
            delivered + rejected + parked
        );
    }
}
