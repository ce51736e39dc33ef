//! The half that does: sockets, clocks, the broker and Matomo.
//!
//! [`Service::build`] and [`Service::run`] are all that the program and the tests need.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod amqp;
pub mod backoff;
pub mod books;
pub mod config;
pub mod examine;
pub mod ops;
pub mod rules;
pub mod telemetry;
pub mod worker;

use amqp::BrokerError;
use amqp::restore::keep_topology;
use amqp::session::Session;
use amqp::signing::Signing;
use amqp::topology::Topology;
use books::Ledger;
use config::{BrokerSettings, Settings};
use ops::http::{self, Guard, Health};
use ops::status::StatusCollector;
use rules::Rules;
use telemetry::Metrics;
use worker::Worker;
use worker::context::WorkerContext;
use worker::stored::Stored;

/// What draining may take beyond one request that is in flight: confirms, acks and closing.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// How long answers on the HTTP address that are under way may take at the end.
const HTTP_CLOSE_TIMEOUT: Duration = Duration::from_secs(2);

/// How far the pause before the next session grows when sessions begin and end at once: to about a
/// second. It grows further only while there is no session to be had.
const SHORT_SESSIONS: u32 = 3;

/// Makes one implementation of TLS that of the whole process, for the broker and for Matomo. To be
/// called once, before any connection.
pub fn install_tls_provider() {
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("this process had a TLS implementation already");
    }
}

/// A relay that is ready to run.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    context: Arc<WorkerContext>,
    worker: Arc<Worker>,
    /// What the probes of `HTTP_LISTEN` ask.
    health: Arc<Health>,
    status_collector: Arc<StatusCollector>,
    /// Bound to `HTTP_LISTEN`.
    listener: TcpListener,
}

impl Service {
    /// Binds the HTTP address and prepares everything that can fail without the broker.
    ///
    /// # Errors
    /// When `HTTP_LISTEN` is taken, or certificates cannot be loaded.
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        let topology = Topology::new(&settings.broker);
        let (metrics, name) = (Metrics::new(topology.steps()), worker_name());
        let context = Arc::new(WorkerContext {
            ledger: Arc::new(Ledger::new(name.clone(), metrics.clone())),
            metrics,
            topology,
            signing: Signing::new(&settings.broker),
            rules: Arc::new(Rules::load(settings.rules.clone())?),
            worker: name,
            stored: Stored::new(settings.broker.prefetch.into()),
        });
        context.rules.log(&context.metrics);
        let worker = Arc::new(Worker::new(&settings, context.clone())?);
        let status_collector =
            Arc::new(StatusCollector::new(&settings, context.clone(), worker.clone()));
        let address = settings.http_listen;
        let listener = http::listen(address)
            .with_context(|| format!("HTTP_LISTEN: cannot listen on {address}"))?;
        Ok(Self { settings, context, worker, health: Arc::default(), status_collector, listener })
    }

    /// Where `/metrics` is, once built: the port may have been 0.
    ///
    /// # Errors
    /// When the system does not tell.
    pub fn http_address(&self) -> std::io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Works until `shutdown`, through any number of sessions with the broker, and drains.
    ///
    /// # Errors
    /// When draining took longer than one request may take: hits in flight come back from the
    /// broker and may be stored twice.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        let app = http::router(
            self.health.clone(),
            self.context.metrics.clone(),
            self.status_collector.clone(),
            self.context.ledger.clone(),
            Guard::new(&self.settings.http_hosts, &host_name()),
        );
        // The probes are answered until the drain is over, so that nobody restarts a worker that is
        // draining.
        let drained = CancellationToken::new();
        let http = tokio::spawn(http::serve(self.listener, app, drained.clone()));
        // Ends with this future: following files needs no goodbye.
        let followed = self.context.rules.clone().follow(self.context.metrics.clone());
        let limit = self.settings.matomo.timeout + DRAIN_MARGIN;
        let sessions = supervise(
            &self.settings,
            &self.context,
            &self.worker,
            &self.health,
            &self.status_collector,
            &shutdown,
        );
        let deadline = async {
            shutdown.cancelled().await;
            tokio::time::sleep(limit).await;
        };
        let outcome = tokio::select! {
            () = sessions => Ok(()),
            () = followed => Ok(()),
            () = deadline => Err(anyhow::anyhow!(
                "draining took longer than {} s: hits in flight come back and may be stored twice",
                limit.as_secs()
            )),
        };
        drained.cancel();
        // A client that is in no hurry does not hold up the end.
        if let Ok(served) = tokio::time::timeout(HTTP_CLOSE_TIMEOUT, http).await {
            served.context("the HTTP server")?;
        }
        outcome
    }
}

/// Goes through session after session, with a pause that grows while the broker is away.
async fn supervise(
    settings: &Settings,
    context: &Arc<WorkerContext>,
    worker: &Arc<Worker>,
    health: &Arc<Health>,
    status_collector: &StatusCollector,
    shutdown: &CancellationToken,
) {
    let renewing = async {
        loop {
            health.renew();
            status_collector.sample();
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    };
    let working = async {
        let (mut failures, mut logged) = (0, String::new());
        while !shutdown.is_cancelled() {
            let opened = tokio::select! {
                () = shutdown.cancelled() => return,
                opened = open_session(settings, context) => opened,
            };
            match opened {
                Ok(session) => {
                    let began = std::time::Instant::now();
                    logged.clear();
                    let broker = &settings.broker;
                    serve(session, broker, context, worker, health, status_collector, shutdown)
                        .await;
                    // The broker is there: whatever ends session after session, the hits of others
                    // do not wait long for it.
                    let is_long = began.elapsed() > Duration::from_secs(30);
                    failures = if is_long { 0 } else { (failures + 1).min(SHORT_SESSIONS) };
                }
                Err(error) => {
                    failures += 1;
                    let text = error.to_string();
                    if text == logged {
                        tracing::warn!(
                            attempt = failures,
                            "still no session with RabbitMQ, for the same reason: trying again"
                        );
                    } else {
                        tracing::error!(
                            attempt = failures,
                            "no session with RabbitMQ: {text}: trying again"
                        );
                        logged = text;
                    }
                }
            }
            if failures > 0 {
                tokio::select! {
                    () = shutdown.cancelled() => return,
                    () = tokio::time::sleep(backoff::reconnect(failures - 1)) => {}
                }
            }
        }
    };
    tokio::select! {
        () = working => {}
        () = renewing => {}
    }
}

async fn open_session(
    settings: &Settings,
    context: &WorkerContext,
) -> Result<Session, BrokerError> {
    let WorkerContext { topology, worker, metrics, .. } = context;
    Session::open(&settings.broker, topology, worker, metrics).await
}

async fn serve(
    session: Session,
    settings: &BrokerSettings,
    context: &WorkerContext,
    worker: &Arc<Worker>,
    health: &Health,
    status_collector: &StatusCollector,
    shutdown: &CancellationToken,
) {
    context.metrics.broker_up.set(1);
    context.metrics.broker_sessions.inc();
    health.latch_ready();
    let session = Arc::new(session);
    tokio::select! {
        () = worker.serve(&session, shutdown) => {}
        never = status_collector.watch(&session) => match never {},
        never = keep_topology(&session, settings, &context.metrics) => match never {},
        never = note_loss(&session, &context.metrics) => match never {},
    }
    disconnected(&context.metrics);
    if let Some(reason) = session.end.reason() {
        tracing::warn!(
            "lost the session with RabbitMQ ({reason}): unacked hits are back in their queues, \
             connecting again"
        );
    }
    // The tasks of a round have ended, and each gave its reference up: this is the last one. Should
    // one be left after all, the connections close with it.
    if let Some(session) = Arc::into_inner(session) {
        session.close().await;
    }
}

/// Notes the loss of a session at once: what is in flight then may take a while to end.
async fn note_loss(session: &Session, metrics: &Metrics) -> Infallible {
    session.end.wait().await;
    disconnected(metrics);
    std::future::pending().await
}

fn disconnected(metrics: &Metrics) {
    metrics.broker_up.set(0);
    metrics.broker_blocked.set(0);
}

/// The most characters of the host's name in the name of a worker: the tag of a consumer has room
/// for 255 bytes.
const HOST_LENGTH: usize = 60;

/// A name that is unique among replicas, and the same for the life of the process.
fn worker_name() -> String {
    let host: String = host_name().chars().take(HOST_LENGTH).collect();
    format!("{host}-{}", std::process::id())
}

/// The name of this machine or pod.
fn host_name() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    host.as_deref().map(str::trim).filter(|host| !host.is_empty()).unwrap_or("relay").to_owned()
}
