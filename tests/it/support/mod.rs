//! What tests and the demo stand on: a real RabbitMQ, a stand-in Matomo, real worker processes, and hits.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by two programs, each of which uses a part")]

pub mod books;
pub mod browser;
pub mod cable;
pub mod cluster;
pub mod hits;
pub mod matomo;
pub mod queues;
pub mod rabbitmq;
pub mod report;
pub mod tls;
pub mod worker;

use std::future::Future;
use std::time::{Duration, Instant};

/// Polls a condition instead of sleeping for it.
pub async fn eventually<F: Future<Output = bool>>(what: &str, within: Duration, mut holds: impl FnMut() -> F) -> anyhow::Result<()> {
    let deadline = Instant::now() + within;
    while !holds().await {
        anyhow::ensure!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A free port of the loopback interface.
pub fn free_port() -> anyhow::Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}
