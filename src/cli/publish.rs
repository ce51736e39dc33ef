//! `dnma-relay publish`: hits from a file to the main exchange.

use std::collections::VecDeque;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use serde::Serialize;

use super::Unusable;
use super::input::{Input, InputRecord};
use super::stop;
use crate::domain::hit;
use crate::domain::prose::hits;
use crate::service::amqp::publisher::{Confirm, Publisher};
use crate::service::config::{BrokerSettings, MAX_USER_BYTES};

/// The command line options of `publish`.
#[derive(Debug, Args)]
pub struct PublishOptions {
    /// File of hits; - for standard input
    file: String,
    /// Most hits per second; without it, as fast as the broker confirms
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    rate: Option<u32>,
    /// One JSON object at the end instead of a sentence
    #[arg(long)]
    json: bool,
    /// Put this AMQP user into each message, for relays with TENANTS; the broker refuses any but
    /// the user of AMQP_URL
    #[arg(long, value_name = "USER", value_parser = amqp_user)]
    user_id: Option<String>,
}

/// Reads the name of an AMQP user.
fn amqp_user(text: &str) -> Result<String, String> {
    if text.len() > MAX_USER_BYTES {
        return Err(format!(
            "{} bytes, and AMQP has room for {MAX_USER_BYTES} in the name of a user",
            text.len()
        ));
    }
    Ok(text.to_owned())
}

/// How many hits may be published and not yet confirmed by the broker.
const WINDOW: usize = 1_000;

/// What became of the hits so far.
#[derive(Debug, Default, Serialize)]
struct PublishCounts {
    /// Hits that the broker confirmed.
    published: u64,
    /// Hits that the broker refused or could not route.
    refused: u64,
    /// Hits that are too long or lie in broken rows, and were not published.
    unreadable: u64,
    /// Hits without a readable `uid`, which were published all the same.
    without_visitor: u64,
    /// The last line or hit up to which the broker has answered for all.
    #[serde(skip)]
    settled_to: u64,
    /// What `settled_to` counts: lines or hits.
    #[serde(skip)]
    unit: &'static str,
}

/// Publishes every hit and waits for every confirm.
///
/// # Errors
/// Fails for a configuration mistake, a file that cannot be read, and a broker that goes away.
pub async fn run(options: &PublishOptions) -> anyhow::Result<ExitCode> {
    let settings = BrokerSettings::from_env()?;
    let mut input = Input::open(&options.file).map_err(Unusable)?;
    let publisher = Publisher::open(&settings, options.user_id.as_deref()).await?;
    let own = publisher.login();
    if let Some(user) = options.user_id.as_ref().filter(|user| **user != own) {
        eprintln!(
            "--user-id {user}: the broker refuses that unless {own}, the user of AMQP_URL, has \
             the tag impersonator"
        );
    }
    input.show_progress()?;
    let mut pace = options.rate.map(|rate| tokio::time::interval(Duration::from_secs(1) / rate));
    let mut count = PublishCounts { unit: input.unit(), ..PublishCounts::default() };
    let stop = stop::on_signal()?;
    let mut window: VecDeque<(u64, Confirm)> = VecDeque::new();
    // Reading blocks this thread, and no other: the connection has threads of its own.
    let broken = loop {
        if stop.is_cancelled() {
            break Some(anyhow::anyhow!("stopped by a signal"));
        }
        let InputRecord { number, body, content_type, .. } = match input.next() {
            Ok(Some(record)) => record,
            Ok(None) => break None,
            Err(error) => break Some(error),
        };
        let Some(body) = body.ok().filter(|body| body.len() <= hit::MAX_BYTES) else {
            count.unreadable += 1;
            continue;
        };
        if let Some(pace) = &mut pace {
            let Some(_) = stop.run_until_cancelled(pace.tick()).await else { continue };
        }
        let visitor =
            hit::decode(body, content_type).ok().and_then(|hit| hit.visitor().map(str::to_owned));
        count.without_visitor += u64::from(visitor.is_none());
        let published =
            publisher.publish(body, visitor.as_deref().unwrap_or_default(), content_type).await;
        window.push_back((number, published.with_context(|| count.so_far())?));
        if window.len() >= WINDOW
            && let Some(oldest) = window.pop_front()
        {
            count.settle(oldest).await?;
            input.show_message(format!("{} hits", count.published));
        }
    };
    for confirm in window {
        count.settle(confirm).await?;
    }
    input.finish();
    publisher.close().await;
    if let Some(error) = broken {
        let so_far = format!(
            "everything up to {} {} is confirmed, and nothing after it was sent",
            count.unit, count.settled_to
        );
        return Err(error.context(so_far));
    }
    report(&count, options.json)?;
    Ok(if count.refused + count.unreadable == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl PublishCounts {
    /// Waits for the confirm of one hit, and counts it.
    async fn settle(&mut self, (line, confirm): (u64, Confirm)) -> anyhow::Result<()> {
        if confirm.is_taken().await.with_context(|| self.so_far())? {
            self.published += 1;
        } else {
            self.refused += 1;
        }
        self.settled_to = line;
        Ok(())
    }

    /// Says from where to go on after the connection broke.
    fn so_far(&self) -> String {
        format!(
            "the connection to RabbitMQ broke: everything up to {} {} is confirmed, later ones \
             may have arrived",
            self.unit, self.settled_to
        )
    }
}

/// Prints the counts, as sentences or as JSON.
fn report(count: &PublishCounts, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(count)?);
        return Ok(());
    }
    println!("{} published and confirmed by the broker", hits(count.published));
    if count.refused > 0 {
        println!(
            "{} refused by the broker: is the topology there? A relay declares it, or see \
             `dnma-relay topology`",
            hits(count.refused)
        );
    }
    if count.unreadable > 0 {
        println!(
            "{} longer than {} bytes, or in broken rows: not published",
            hits(count.unreadable),
            hit::MAX_BYTES
        );
    }
    if count.without_visitor > 0 {
        println!(
            "{} without a readable uid: a relay will reject such",
            hits(count.without_visitor)
        );
    }
    Ok(())
}
