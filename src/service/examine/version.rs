//! Which RabbitMQ answers. It says so in the first frame of every connection, which the client
//! library keeps to itself: so this reads that frame on a connection of its own, and hangs up
//! before signing in.

use std::io;
use std::time::Duration;

use futures_util::{AsyncReadExt, AsyncWriteExt};
use lapin::protocol::{AMQPClass, connection, parse_class};
use lapin::tcp::{AMQPUriTcpExt, OwnedTLSConfig};
use lapin::types::{AMQPValue, FieldTable};
use lapin::uri::AMQPUri;

use super::Finding;
use crate::service::config::BrokerUrl;

const PATIENCE: Duration = Duration::from_secs(10);

/// What a client says first (AMQP 0-9-1, §4.2.2).
const PROTOCOL_HEADER: &[u8] = b"AMQP\x00\x00\x09\x01";

/// Type, channel and size, before the payload (§4.2.3).
const FRAME_HEADER: usize = 7;

/// Bytes of the frame that names the broker; RabbitMQ's has about 500.
const MOST: u32 = 64 * 1024;

/// The version, and what is to be known of it; none when the broker does not tell.
pub(super) async fn examine(url: &BrokerUrl, tls: &OwnedTLSConfig) -> Option<Finding> {
    let properties = tokio::time::timeout(PATIENCE, ask(url, tls)).await.ok()?.ok()?;
    let text = |name: &str| match properties.inner().get(name) {
        Some(AMQPValue::LongString(text)) => Some(text.to_string()),
        _ => None,
    };
    Some(judge(&text("product")?, &text("version")?))
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
    if size > MOST {
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

/// What was measured of each version, or read in its source.
fn judge(product: &str, version: &str) -> Finding {
    const SUBJECT: &str = "broker.version";
    let mut numbers = version.split(['.', '-', '+', '~']).map(|part| part.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0_u32);
    let at = (number(), number(), number());
    let text = format!("{product} {version}");
    if product != "RabbitMQ" {
        return Finding::note(SUBJECT, text, "the relay is tested with RabbitMQ");
    }
    match at {
        (0..=2, ..) | (3, 0..=9, _) => Finding::wrong(
            SUBJECT,
            text,
            "the relay needs RabbitMQ 3.10 or later: retry queues hand on at least once only from \
             there on",
        ),
        (3, ..) => Finding::note(
            SUBJECT,
            format!("{text}: a worker that joins later is a hot standby until another leaves"),
            "with RabbitMQ 4 workers share out the shards at once",
        ),
        (4, 3, ..=5) => Finding::note(
            SUBJECT,
            format!(
                "{text}: a shard can stand still after the broker's consumer timeout \
                 (rabbitmq-server#17317)"
            ),
            "RabbitMQ 4.3.6 mends it",
        ),
        _ => Finding::fine(SUBJECT, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::examine::Outcome;

    #[test]
    fn each_version_is_judged_by_what_is_known_of_it() {
        for (version, expected) in [
            ("3.9.29", Outcome::Wrong),
            ("3.10.8", Outcome::Note),
            ("3.13.7", Outcome::Note),
            ("4.0.5", Outcome::Fine),
            ("4.3.0-rc.1", Outcome::Note),
            ("4.3.5", Outcome::Note),
            ("4.3.6", Outcome::Fine),
            ("5.0", Outcome::Fine),
        ] {
            assert_eq!(judge("RabbitMQ", version).outcome, expected, "{version}");
        }
        assert_eq!(judge("Another", "1.0").outcome, Outcome::Note);
    }
}
