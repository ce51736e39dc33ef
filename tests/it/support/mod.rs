//! What tests and the demo stand on: a real RabbitMQ, a stand-in Matomo, real worker processes, and
//! hits.
#![allow(
    dead_code,
    unreachable_pub,
    missing_docs,
    reason = "shared by two programs, each of which uses a part"
)]

pub mod books;
pub mod browser;
pub mod cable;
pub mod cluster;
pub mod hits;
pub mod matomo;
pub mod queues;
pub mod rabbitmq;
pub mod raw_amqp;
pub mod report;
pub mod tls;
pub mod worker;

use std::future::{Future, ready};
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use tokio::net::TcpListener;

/// Polls a condition instead of sleeping for it.
pub async fn eventually<F: Future<Output = bool>>(
    what: &str,
    within: Duration,
    mut holds: impl FnMut() -> F,
) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !holds().await {
        anyhow::ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        // The one pause between two looks; whatever can be awaited is awaited through here.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A free port of the loopback interface, below those that the system gives to whoever asks for
/// any: it can be closed for a while, and nobody takes it.
pub fn free_port() -> anyhow::Result<u16> {
    const PORTS: u32 = 12_000;
    static TURN: AtomicU32 = AtomicU32::new(0);
    // Runs at the same time, which have neighbouring process ids, begin far from each other.
    let first = std::process::id().wrapping_mul(1_009);
    let mut turns =
        (0..PORTS).map(|_| first.wrapping_add(TURN.fetch_add(1, Ordering::Relaxed)) % PORTS);
    let port = turns.find_map(|turn| {
        let port = 20_000 + u16::try_from(turn).ok()?;
        std::net::TcpListener::bind(("127.0.0.1", port)).ok().map(|_| port)
    });
    port.context("no port is free")
}

/// Listens on a port that was closed just now. A process that is started at that moment has every
/// socket of ours until it runs its own program, so the port may be in use for an instant.
pub async fn listen(address: SocketAddr) -> anyhow::Result<TcpListener> {
    let mut bound = None;
    let is_free = || {
        let outcome = std::net::TcpListener::bind(address);
        let in_use = outcome.as_ref().is_err_and(|error| error.kind() == ErrorKind::AddrInUse);
        bound = Some(outcome);
        ready(!in_use)
    };
    eventually("the port is free", Duration::from_secs(5), is_free).await?;
    let listener = bound.context("the port was tried")?.with_context(|| address.to_string())?;
    listener.set_nonblocking(true)?;
    Ok(TcpListener::from_std(listener)?)
}

/// Listens on a port that it can come back to after it was closed for a while.
pub async fn listen_anywhere() -> anyhow::Result<TcpListener> {
    listen(([127, 0, 0, 1], free_port()?).into()).await
}
