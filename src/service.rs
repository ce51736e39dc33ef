//! The half that does: sockets, clocks, the broker and Matomo.
//!
//! [`Service::build`] and [`Service::run`] are all that the program and the tests need.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

pub mod activity;
pub mod backoff;
pub mod books;
pub mod broker;
pub mod config;
pub mod examine;
pub mod gate;
pub mod http;
pub mod intake;
pub mod lane;
pub mod logging;
pub mod matomo;
pub mod relay;
pub mod rules;
pub mod session_end;
pub mod settler;
pub mod status;
pub mod telemetry;
pub mod topology;

use books::Ledger;
use broker::Session;
use config::Settings;
use http::Health;
use relay::Relay;
use rules::Rules;
use settler::{Stored, WorkerContext};
use status::StatusCollector;
use telemetry::Metrics;
use topology::Topology;

/// Beyond one request that is in flight: confirms, acks and goodbyes.
const DRAIN_MARGIN: Duration = Duration::from_secs(10);

/// For answers on the HTTP address that are under way.
const GOODBYE: Duration = Duration::from_secs(2);

/// A worker, ready to run.
#[derive(Debug)]
pub struct Service {
    settings: Settings,
    office: Arc<WorkerContext>,
    relay: Arc<Relay>,
    health: Arc<Health>,
    status_collector: Arc<StatusCollector>,
    listener: TcpListener,
}

impl Service {
    /// Binds the HTTP address and prepares everything that can fail without the broker.
    ///
    /// # Errors
    /// When `HTTP_LISTEN` is taken, or certificates cannot be loaded.
    pub async fn build(settings: Settings) -> anyhow::Result<Self> {
        // A second installation (two services in one process) is refused, and the first one serves
        // both.
        let _installed_before = rustls::crypto::ring::default_provider().install_default();
        let topology = Topology::new(&settings.broker);
        let (metrics, worker) = (Metrics::new(topology.steps()), worker_name());
        let office = Arc::new(WorkerContext {
            ledger: Arc::new(Ledger::new(worker.clone(), metrics.clone())),
            metrics,
            topology,
            rules: Arc::new(Rules::load(settings.rules.clone())?),
            worker,
            stored: Stored::new(settings.broker.prefetch.into()),
        });
        office.rules.tell(&office.metrics);
        let relay = Arc::new(Relay::new(&settings, office.clone())?);
        let status_collector =
            Arc::new(StatusCollector::new(&settings, office.clone(), relay.clone()));
        let address = settings.http_listen;
        let listener = TcpListener::bind(address)
            .await
            .with_context(|| format!("HTTP_LISTEN: cannot listen on {address}"))?;
        Ok(Self { settings, office, relay, health: Arc::default(), status_collector, listener })
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
            self.office.metrics.clone(),
            self.status_collector.clone(),
        );
        let app = app.merge(http::books(self.office.ledger.clone()));
        let http_stop = shutdown.clone();
        // The probes are answered until the drain is over, so that nobody restarts a worker that is
        // draining.
        let drained = CancellationToken::new();
        let http_drained = drained.clone();
        let http = tokio::spawn(async move {
            let served = axum::serve(self.listener, app)
                .with_graceful_shutdown(http_drained.cancelled_owned())
                .await;
            if served.is_err() {
                http_stop.cancel();
            }
            served
        });
        // Ends with this future: following files needs no goodbye.
        let followed = self.office.rules.clone().follow(self.office.metrics.clone());
        let limit = self.settings.matomo.timeout + DRAIN_MARGIN;
        let sessions = supervise(
            &self.settings,
            &self.office,
            &self.relay,
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
            () = deadline => Err(anyhow::anyhow!("draining took longer than {} s: hits in flight come back and may be stored twice", limit.as_secs())),
        };
        drained.cancel();
        // A client that is in no hurry does not hold up the end.
        if let Ok(served) = tokio::time::timeout(GOODBYE, http).await {
            served.context("the HTTP server")?.context("the HTTP server failed")?;
        }
        outcome
    }
}

/// Session after session, with a pause that grows while the broker is away.
async fn supervise(
    settings: &Settings,
    office: &Arc<WorkerContext>,
    relay: &Arc<Relay>,
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
        let (mut failures, mut told) = (0, String::new());
        while !shutdown.is_cancelled() {
            let opened = tokio::select! {
                () = shutdown.cancelled() => return,
                opened = Session::open(&settings.broker, office.clone()) => opened,
            };
            match opened {
                Ok(session) => {
                    let began = std::time::Instant::now();
                    told.clear();
                    serve(session, office, relay, health, status_collector, shutdown).await;
                    // A session that fell over at once is a failure like any other.
                    failures =
                        if began.elapsed() > Duration::from_secs(30) { 0 } else { failures + 1 };
                }
                Err(error) => {
                    failures += 1;
                    let text = error.to_string();
                    if text == told {
                        tracing::warn!(
                            attempt = failures,
                            "still no session with RabbitMQ, for the same reason: trying again"
                        );
                    } else {
                        tracing::error!(
                            attempt = failures,
                            "no session with RabbitMQ: {text}: trying again"
                        );
                        told = text;
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

async fn serve(
    session: Session,
    office: &WorkerContext,
    relay: &Arc<Relay>,
    health: &Health,
    status_collector: &StatusCollector,
    shutdown: &CancellationToken,
) {
    office.metrics.broker_up.set(1);
    office.metrics.broker_sessions.inc();
    health.latch_ready();
    let session = Arc::new(session);
    tokio::select! {
        () = relay.serve(&session, shutdown) => {}
        never = status_collector.watch(&session) => match never {},
    }
    if let Some(reason) = session.lost.reason() {
        tracing::warn!(
            "lost the session with RabbitMQ ({reason}): unacked hits are back in their queues, \
             connecting again"
        );
    }
    // Every task of the session has ended, so this is the last reference.
    if let Some(session) = Arc::into_inner(session) {
        session.close().await;
    }
}

/// Unique among replicas, and the same for the life of the process.
fn worker_name() -> String {
    let host = std::env::var("HOSTNAME")
        .ok()
        .or_else(|| std::fs::read_to_string("/proc/sys/kernel/hostname").ok());
    let host = host
        .as_deref()
        .map(str::trim)
        .filter(|host| !host.is_empty())
        .unwrap_or("relay")
        .to_owned();
    format!("{host}-{}", std::process::id())
}
