//! Opening a connection to the broker with the [`StreamFilter`](super::filter) in it.
//!
//! TCP and TLS are the client library's own, with its roots, its client certificates and its
//! options of the socket. Only what it would read from is put behind the filter, and handed to it
//! as a plain stream. For that the library needs a runtime whose TCP stream is of that type.

use std::io::{self, Read, Write};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use async_rs::traits::Reactor;
use async_rs::util::RuntimeParts;
use async_rs::{Runtime, Tokio};
use futures_util::Stream;
use futures_util::io::{AsyncRead, AsyncWrite, Cursor};
use lapin::tcp::{AMQPUriTcpExt, AsyncTcpStream, OwnedTLSConfig};
use lapin::uri::AMQPUri;
use lapin::{Connection, ConnectionProperties};

use super::filter::Bounds;
use super::filtered::Filtered;

/// A stream to the broker, encrypted or not.
type Below = AsyncTcpStream<<Tokio as Reactor>::TcpStream>;

/// Timers and connections of tokio, with the filter over each connection.
#[derive(Debug, Clone)]
struct FilteringReactor {
    tokio: Tokio,
    bounds: Bounds,
}

/// Connects through the filter. `max_body` is the bytes of a body beyond which it is left out; the
/// largest frame is what the URI asks for.
///
/// # Errors
/// What the library tells of DNS, TCP, TLS or the handshake.
pub async fn connect_filtered(
    uri: AMQPUri,
    tls: OwnedTLSConfig,
    properties: ConnectionProperties,
    max_body: u64,
) -> lapin::Result<Connection> {
    let bounds = Bounds { max_body, frame_max: uri.query.frame_max.unwrap_or_default() };
    let reactor = FilteringReactor { tokio: Tokio::current(), bounds };
    let below = Runtime::new(Tokio::current());
    let open = async move |uri: AMQPUri, _: Runtime<_>| {
        let stream: Below = uri.connect_with_config_async(tls.as_ref(), &below).await?;
        Ok(AsyncTcpStream::Plain(Filtered::new(stream, bounds)))
    };
    let runtime = Runtime::new(RuntimeParts::new(Runtime::new(Tokio::current()), reactor));
    Connection::connector(uri, runtime, open, properties).await
}

impl Reactor for FilteringReactor {
    type TcpStream = Filtered<Below>;
    type Sleep = <Tokio as Reactor>::Sleep;

    /// The library does not ask for this. The bounds of the trait's method name a trait that is
    /// private, so this one has fewer.
    fn register<H: Read + Write + Send + 'static>(
        &self,
        _: H,
    ) -> io::Result<impl AsyncRead + AsyncWrite + Send + Unpin + 'static> {
        Err::<Cursor<Vec<u8>>, _>(io::ErrorKind::Unsupported.into())
    }

    fn sleep(&self, duration: Duration) -> Self::Sleep {
        self.tokio.sleep(duration)
    }

    fn interval(&self, duration: Duration) -> impl Stream<Item = Instant> + Send + 'static {
        self.tokio.interval(duration)
    }

    fn tcp_connect_addr(
        &self,
        address: SocketAddr,
    ) -> impl Future<Output = io::Result<Self::TcpStream>> + Send + 'static {
        let connecting = self.tokio.tcp_connect_addr(address);
        let bounds = self.bounds;
        async move { Ok(Filtered::new(AsyncTcpStream::Plain(connecting.await?), bounds)) }
    }
}
