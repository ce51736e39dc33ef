//! Whoever reaches the HTTP port takes nothing from the hits, and keeps no probe waiting.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::Scene;
use crate::support::worker::Worker;
use crate::support::{eventually, hits};

const SOON: Duration = Duration::from_secs(30);

/// Connections of a client that opens them and does not go on.
const CROWD: usize = 3_000;

/// How many of them come each second.
const PER_SECOND: u32 = 1_000;

/// How long a probe may take, of the 1 s that Kubernetes waits by default.
const PROBE: Duration = Duration::from_millis(100);

/// What a worker may grow by, in MiB.
const GROWTH: u64 = 30;

/// This process holds the other end of each connection.
fn raise_descriptors() -> anyhow::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    Ok(setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

fn address(worker: &Worker) -> anyhow::Result<String> {
    Ok(worker.url().strip_prefix("http://").context("an address")?.to_owned())
}

/// How long a probe takes on a connection of its own.
async fn probe(address: &str) -> anyhow::Result<Duration> {
    let asked = Instant::now();
    let answer =
        ask(address, "GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await?;
    ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(asked.elapsed())
}

/// Everything that is answered.
async fn ask(address: &str, request: &str) -> anyhow::Result<String> {
    let mut stream = TcpStream::connect(address).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// Opens connections that send this, and neither go on nor read.
async fn crowd(address: &str, count: usize, sent: &[u8]) -> anyhow::Result<Vec<TcpStream>> {
    let mut crowd = Vec::new();
    // What one machine of a client opens without an effort.
    let mut pace = tokio::time::interval(Duration::from_secs(1) / PER_SECOND);
    for _ in 0..count {
        pace.tick().await;
        let mut stream = TcpStream::connect(address).await?;
        // It may be closed already.
        let _sent = tokio::time::timeout(Duration::from_millis(20), stream.write_all(sent)).await;
        crowd.push(stream);
    }
    Ok(crowd)
}

/// The longest of the probes while this is under way.
async fn slowest_during<T>(
    address: &str,
    act: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<(T, Duration)> {
    let mut slowest = Duration::ZERO;
    let mut act = std::pin::pin!(act);
    let outcome = loop {
        tokio::select! {
            outcome = &mut act => break outcome?,
            took = probe(address) => slowest = slowest.max(took?),
        }
    };
    Ok((outcome, slowest.max(probe(address).await?)))
}

pub(crate) async fn slow_clients_keep_no_probe_waiting(scene: Scene) -> anyhow::Result<()> {
    raise_descriptors()?;
    let worker = scene.worker(&[]).await?;
    let (address, at_rest) = (address(&worker)?, worker.memory()?);
    let header = format!("GET / HTTP/1.1\r\nHost: x\r\nX-Slow: {}", "x".repeat(30 * 1024));
    // Answers that nobody fetches, of the largest page.
    let pages = "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(100);
    for (what, count, sent) in [
        ("a request that does not end", CROWD, header.as_bytes()),
        ("silence", CROWD, b"".as_slice()),
        ("answers that are not read", 500, pages.as_bytes()),
    ] {
        let (crowd, slowest) = slowest_during(&address, crowd(&address, count, sent)).await?;
        let memory = worker.memory()?;
        println!(
            "{count} connections, {what}: slowest probe {slowest:?}, {at_rest} → {memory} MiB"
        );
        ensure!(slowest < PROBE, "{what}: a probe took {slowest:?}");
        ensure!(memory < at_rest + GROWTH, "{what}: {at_rest} MiB, then {memory} MiB");
        // Hits go on meanwhile.
        let before = scene.matomo.stored();
        scene.queues.publish(hits::load(0..200, 200)).await?;
        eventually("hits are stored", SOON, async || scene.matomo.stored() >= before + 200).await?;
        drop(crowd);
    }
    worker.stop().await
}

pub(crate) async fn few_descriptors_are_enough_for_hits(scene: Scene) -> anyhow::Result<()> {
    raise_descriptors()?;
    let matomo = scene.matomo.url();
    let worker = Worker::start_with_descriptors(200, &scene.vars(&matomo, &[])).await?;
    worker.ready().await?;
    let address = address(&worker)?;
    let (crowd, slowest) = slowest_during(&address, crowd(&address, 1_000, b"GET /")).await?;
    ensure!(slowest < PROBE, "a probe took {slowest:?}: {}", worker.log());
    let open = std::fs::read_dir(format!("/proc/{}/fd", worker.pid()))?.count();
    println!("1000 connections, 200 descriptors: {open} are open, slowest probe {slowest:?}");
    ensure!(open < 150, "{open} descriptors are open");
    scene.queues.publish(hits::load(0..500, 500)).await?;
    eventually("hits are stored", SOON, async || scene.matomo.stored() == 500).await?;
    ensure!(worker.sum("retried_total").await? == 0.0, "{}", worker.log());
    ensure!(worker.sum("broker_sessions_total").await? == 1.0, "{}", worker.log());
    drop(crowd);
    worker.stop().await
}

pub(crate) async fn an_idle_connection_is_closed(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[]).await?;
    let mut stream = TcpStream::connect(address(&worker)?).await?;
    stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await?;
    let mut answer = String::new();
    let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer));
    read.await.context("the connection stays open")??;
    ensure!(answer.starts_with("HTTP/1.1 200") && answer.contains("alive"), "{answer}");
    // A request that does not come, or not to its end.
    for sent in ["", "GET /livez HTTP/1.1\r\nHo"] {
        let mut stream = TcpStream::connect(self::address(&worker)?).await?;
        stream.write_all(sent.as_bytes()).await?;
        let read =
            tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut answer));
        read.await.context("the connection stays open")??;
    }
    worker.stop().await
}

pub(crate) async fn a_page_is_shown_under_our_own_name_only(scene: Scene) -> anyhow::Result<()> {
    let worker = scene.worker(&[("HTTP_HOSTS", "relay.example.fr")]).await?;
    let address = address(&worker)?;
    let status = async |path: &str, host: &str| {
        let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        let answer = ask(&address, &request).await?;
        anyhow::Ok(answer.split(' ').nth(1).context("a status")?.to_owned())
    };
    for path in ["/", "/status.json", "/metrics", "/books.json", "/status.js"] {
        for host in [&address, "localhost:8080", "[::1]", "relay.example.fr:443"] {
            ensure!(status(path, host).await? == "200", "{path} of {host}");
        }
        for host in ["evil.example", "localhost.evil.example:8080", "127.0.0.1.nip.io"] {
            ensure!(status(path, host).await? == "421", "{path} of {host}");
        }
    }
    for probe in ["/livez", "/readyz"] {
        ensure!(status(probe, "whatever").await? == "200", "{probe}");
    }
    worker.stop().await
}
