//! Which RabbitMQ answers. It says so in the first frame of every connection, which the client
//! library keeps to itself. So this reads that frame on a connection of its own, and closes it
//! before signing in.

use std::io;
use std::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;

use super::connect::tls;
use crate::service::config::{BrokerSettings, BrokerUrl};

/// A broker that does not name itself within this is not asked again.
const VERSION_TIMEOUT: Duration = Duration::from_secs(10);

/// What a client says first (AMQP 0-9-1, §4.2.2).
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Type, channel and size, before the payload (§4.2.3), in bytes.
const FRAME_HEADER: usize = 7;

/// The most bytes of the frame that names the broker; RabbitMQ's has about 500.
const MAX_FRAME: u32 = 64 * 1024;

/// How a broker names itself.
#[derive(Debug)]
pub struct ServerVersion {
    /// `RabbitMQ`, or another product.
    pub product: String,
    /// For example `4.0.5`.
    pub version: String,
}

/// Asks the broker at this address, which must be one of the settings'; `None` when it does not
/// name itself.
pub async fn server_version(settings: &BrokerSettings, shown: &str) -> Option<ServerVersion> {
    let url = settings.urls.iter().find(|url| url.to_string() == shown)?;
    let tls = tls(settings).await.ok()?;
    let properties = tokio::time::timeout(VERSION_TIMEOUT, ask(url, &tls)).await.ok()?.ok()?;
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    };
    Some(ServerVersion { product: text("product")?, version: text("version")? })
}

async fn ask(url: &BrokerUrl, tls: &OwnedTLSConfig) -> io::Result<FieldTable> {
    let uri: AMQPUri = url.expose().parse().map_err(|_| io::ErrorKind::InvalidInput)?;
    let runtime = lapin::runtime::default_runtime().map_err(io::Error::other)?;
    let mut stream = uri.connect_with_config_async(tls.as_ref(), &runtime).await?;
    stream.write_all(PROTOCOL_HEADER).await?;
    stream.flush().await?;
    let mut header = [0; FRAME_HEADER];
    stream.read_exact(&mut header).await?;
    let [.., a, b, c, d] = header;
    let size = u32::from_be_bytes([a, b, c, d]);
    if size > MAX_FRAME {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut payload = Vec::new();
    stream.take(size.into()).read_to_end(&mut payload).await?;
    match parse_class(payload.as_slice()) {
        Ok((_, AMQPClass::Connection(connection::AMQPMethod::Start(start)))) => {
            Ok(start.server_properties)
        }
        _ => Err(io::ErrorKind::InvalidData.into()),
    }
}
