//! The connections to `HTTP_LISTEN`: how many there may be, and for how long each.
//!
//! Whoever can reach the port can open connections and send nothing, or slowly, or read nothing of
//! an answer. None of that may take descriptors and memory from the hits, or keep a probe waiting.
//! So connections are few and short, and a new one is always accepted: the oldest makes room.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::pin::pin;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

/// How many connections there may be at once. Probes, a Prometheus and some readers of the status
/// page need a few dozen.
const MAX_CONNECTIONS: usize = 256;

/// The part of the process's descriptors that these connections may take, at most; the others are
/// for the broker, Matomo and files.
const SHARE_OF_DESCRIPTORS: u64 = 4;

/// How long a client may take to send its request.
const HEADER_TIMEOUT: Duration = Duration::from_secs(5);

/// How old a connection becomes. Nearly every answer is sent within a millisecond.
const MAX_AGE: Duration = Duration::from_secs(15);

/// How long an answer that is under way then may take.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// How many bytes of a request are kept. Its headers have to fit, and no page takes a body.
const MAX_REQUEST_BYTES: usize = 16 * 1024;

/// How many connections are accepted before those that are there get their turn, and hits theirs.
const ACCEPTED_AT_ONCE: usize = 16;

/// How long nothing is accepted when the system refuses a connection.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How many connections may wait to be accepted. With more, the system forgets one that comes, and
/// its client asks again after a second, for which a probe does not wait.
const BACKLOG: u32 = 4_096;

/// Listens on an address.
///
/// # Errors
/// Fails if the address is taken, or is none of this machine's.
pub fn listen(address: SocketAddr) -> std::io::Result<TcpListener> {
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Answers on the listener until `stop`, and then until the answers under way are sent.
pub async fn serve(listener: TcpListener, app: Router, stop: CancellationToken) {
    let (mut open, max) = (OpenConnections::default(), max_connections());
    let mut accepted = 0_usize;
    loop {
        let connection = tokio::select! {
            () = stop.cancelled() => break,
            connection = listener.accept() => connection,
        };
        open.forget_ended();
        match connection {
            Ok((stream, _)) => {
                if open.in_order.len() >= max {
                    open.close_oldest();
                }
                open.add(converse(stream, app.clone(), stop.clone()));
                // Each that comes is attended to once before others take its place: what it asks
                // has mostly come with it.
                accepted = accepted.wrapping_add(1);
                if accepted.is_multiple_of(ACCEPTED_AT_ONCE) {
                    tokio::task::yield_now().await;
                }
            }
            Err(error) => {
                // The client is gone already, or the process is out of descriptors.
                tracing::debug!("no connection on HTTP_LISTEN: {error}");
                open.close_oldest();
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
    drop(listener);
    // One that was closed to make room counts as ended.
    while open.tasks.join_next().await.is_some() {}
}

/// Returns how many connections there may be with the process's limit of descriptors.
fn max_connections() -> usize {
    let descriptors = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let share = usize::try_from(descriptors / SHARE_OF_DESCRIPTORS).unwrap_or(usize::MAX);
    share.clamp(1, MAX_CONNECTIONS)
}

/// The connections that are open.
#[derive(Debug, Default)]
struct OpenConnections {
    /// A task for each.
    tasks: JoinSet<()>,
    /// The tasks, the oldest first.
    in_order: VecDeque<AbortHandle>,
}

impl OpenConnections {
    /// Adds a connection.
    fn add(&mut self, connection: impl Future<Output = ()> + Send + 'static) {
        self.in_order.push_back(self.tasks.spawn(connection));
    }

    /// Forgets the connections that have ended.
    fn forget_ended(&mut self) {
        while self.tasks.try_join_next().is_some() {}
        self.in_order.retain(|task| !task.is_finished());
    }

    /// Closes the connection that has had the most time.
    fn close_oldest(&mut self) {
        if let Some(oldest) = self.in_order.pop_front() {
            oldest.abort();
        }
    }
}

/// Answers one request on a connection, unless that takes too long or everything is to stop. A
/// second one would have to be waited for, and a hundred at once would be answered before anybody
/// else's.
async fn converse(stream: TcpStream, app: Router, stop: CancellationToken) {
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .keep_alive(false)
        .max_buf_size(MAX_REQUEST_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(app));
    let mut connection = pin!(connection);
    tokio::select! {
        _ended = connection.as_mut() => return,
        () = stop.cancelled() => {}
        () = sleep(MAX_AGE) => {}
    }
    connection.as_mut().graceful_shutdown();
    let _cut_off = timeout(CLOSE_TIMEOUT, connection).await;
}
