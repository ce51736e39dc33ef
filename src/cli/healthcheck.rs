//! `dnma-relay healthcheck`: for a container without a shell.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{bail, ensure};

use super::workers::{client, local_address};
use crate::service::worker::matomo::cause;

/// How long the relay may take to answer. Those who run the check wait longer: Docker for 30 s,
/// our image for 5 s.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks `/livez` of the relay that runs with this environment.
///
/// # Errors
/// Fails for a configuration mistake, and unless a relay answers in time that it lives.
pub async fn run() -> anyhow::Result<ExitCode> {
    let address = local_address()?;
    // The address is one of this machine and without TLS: reading every certificate of the system
    // at each check would only cost time.
    let client = client(TIMEOUT).tls_certs_only([]).build()?;
    match client.get(format!("http://{address}/livez")).send().await {
        Ok(response) => ensure!(response.status() == 200, "the relay on {address} hangs"),
        Err(error) if error.is_timeout() => {
            bail!("{address} does not answer within {} s", TIMEOUT.as_secs())
        }
        Err(error) => bail!("no relay answers on {address}: {}", cause(&error)),
    }
    Ok(ExitCode::SUCCESS)
}
