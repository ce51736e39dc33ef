//! `dnma-relay healthcheck`: for a container without a shell.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::workers::reachable;
use crate::service::config::Settings;

/// Shorter than any patience of those who ask (Docker's is 30 s, ours in the image 5 s).
const TIMEOUT: Duration = Duration::from_secs(3);

/// The start of the answer of a relay that lives. Nothing beyond it is read.
const ALIVE: &[u8] = b"HTTP/1.1 200 ";

/// Asks `/livez` of the relay that runs with this environment.
///
/// # Errors
/// A configuration mistake, or no answer in time that says it lives.
pub async fn run() -> anyhow::Result<ExitCode> {
    let address = reachable(Settings::http_listen_from_env()?);
    let asked = tokio::time::timeout(TIMEOUT, ask(address)).await;
    let answer = asked
        .with_context(|| format!("{address} does not answer within {} s", TIMEOUT.as_secs()))?;
    let answer = answer.with_context(|| format!("no relay answers on {address}"))?;
    ensure!(answer == ALIVE, "the relay on {address} hangs");
    Ok(ExitCode::SUCCESS)
}

async fn ask(address: SocketAddr) -> std::io::Result<[u8; ALIVE.len()]> {
    let mut stream = TcpStream::connect(address).await?;
    stream
        .write_all(
            format!("GET /livez HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n")
                .as_bytes(),
        )
        .await?;
    let mut answer = [0; ALIVE.len()];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}
