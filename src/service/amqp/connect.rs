//! One connection to RabbitMQ: opened at the first address that answers, with the
//! [filter](super::filter) in it, and closed in good order.

use std::path::Path;
use std::time::Duration;

use lapin::tcp::{OwnedIdentity, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::BrokerError;
use super::filter::MAX_BODY;
use super::filtered_connect::connect_filtered;
use crate::service::config::{BrokerSettings, BrokerUrl};

/// A broker that does not answer within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);

/// How long the set-up of a session may take: a few dozen round trips, on a broker that is busy
/// electing leaders.
pub(super) const SET_UP_TIMEOUT: Duration = Duration::from_secs(60);

/// Closing is a courtesy; a broker that is away does not answer it.
pub(super) const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Seconds after which a silent peer is gone. RabbitMQ advises 5 to 20.
const HEARTBEAT: u16 = 20;

/// Bytes of the frames of a connection that publishes. The client library keeps buffers of 64
/// frames per connection, and our headers, which must fit into one, stay below 48 KiB.
pub(super) const PUBLISH_FRAME: u32 = 65_536;

/// Connects to the first address that answers. Returns the connection, and the address without
/// user and password. `frame` limits the size of frames, in bytes.
///
/// # Errors
/// [`BrokerError::Connect`] with the last address's reason, or [`BrokerError::File`].
pub async fn connect(
    settings: &BrokerSettings,
    name: &str,
    frame: Option<u32>,
) -> Result<(Connection, String), BrokerError> {
    let tls = tls(settings).await?;
    let mut last =
        BrokerError::Connect { shown: String::new(), reason: "AMQP_URL is empty".to_owned() };
    for url in &settings.urls {
        let shown = url.to_string();
        let outcome = tokio::time::timeout(CONNECT_TIMEOUT, open(url, &tls, name, frame)).await;
        let reason = match outcome {
            Ok(Ok(connection)) => return Ok((connection, shown)),
            Ok(Err(reason)) => reason,
            Err(_) => format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()),
        };
        last = BrokerError::Connect { shown, reason };
    }
    Err(last)
}

async fn open(
    url: &BrokerUrl,
    tls: &OwnedTLSConfig,
    name: &str,
    frame: Option<u32>,
) -> Result<Connection, String> {
    let mut uri: AMQPUri =
        url.expose().parse().map_err(|_| "AMQP_URL is not an AMQP address".to_owned())?;
    uri.query.heartbeat.get_or_insert(HEARTBEAT);
    uri.query.frame_max = uri.query.frame_max.or(frame);
    let properties = ConnectionProperties::default().with_connection_name(name.into());
    let connected = connect_filtered(uri, tls.clone(), properties, MAX_BODY).await;
    connected.map_err(|error| error.to_string())
}

/// Reads the certificates that `AMQP_*_FILE` name.
///
/// # Errors
/// [`BrokerError::File`].
pub async fn tls(settings: &BrokerSettings) -> Result<OwnedTLSConfig, BrokerError> {
    let read = async |path: &Path| {
        let bytes = tokio::fs::read(path).await;
        bytes.map_err(|source| BrokerError::File { path: path.display().to_string(), source })
    };
    let cert_chain = match &settings.ca_file {
        Some(path) => Some(String::from_utf8_lossy(&read(path).await?).into_owned()),
        None => None,
    };
    let identity = match &settings.client_identity {
        Some((certificate, key)) => {
            Some(OwnedIdentity::PKCS8 { pem: read(certificate).await?, key: read(key).await? })
        }
        None => None,
    };
    Ok(OwnedTLSConfig { identity, cert_chain })
}

/// Closes a connection. A broker that is away does not answer.
pub async fn close(connection: &Connection) {
    if !connection.status().connected() {
        return;
    }
    let closing = connection.close(200, "goodbye".into());
    if !matches!(tokio::time::timeout(CLOSE_TIMEOUT, closing).await, Ok(Ok(()))) {
        tracing::debug!("a connection was gone before it was closed");
    }
}
