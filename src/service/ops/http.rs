//! `/livez` (a deadline), `/readyz` (a latch), `/metrics`, `/books.json` and the status page, on
//! `HTTP_LISTEN`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::status::StatusCollector;
use crate::service::books::Ledger;
use crate::service::telemetry::Metrics;

mod status_page;

/// The supervisor renews its deadline every half second; silent for this long, it hangs.
const STALLED: Duration = Duration::from_secs(30);

/// What the probes ask.
#[derive(Debug)]
pub struct Health {
    started: Instant,
    alive_at: AtomicU64,
    ready: AtomicBool,
}

impl Default for Health {
    fn default() -> Self {
        Self { started: Instant::now(), alive_at: AtomicU64::new(0), ready: AtomicBool::new(false) }
    }
}

impl Health {
    /// The supervisor is alive.
    pub fn renew(&self) {
        self.alive_at.store(self.elapsed(), Ordering::Relaxed);
    }

    /// The first session with the broker stands. It stays ready: a broker that goes away is not
    /// cured by a restart.
    pub fn latch_ready(&self) {
        self.ready.store(true, Ordering::Relaxed);
    }

    fn elapsed(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn is_alive(&self) -> bool {
        let silent = self.elapsed().saturating_sub(self.alive_at.load(Ordering::Relaxed));
        Duration::from_millis(silent) < STALLED
    }
}

type Shared = (Arc<Health>, Arc<Metrics>);

/// All routes.
pub fn router(
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    status_collector: Arc<StatusCollector>,
) -> Router {
    let probes = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(scrape));
    probes.with_state((health, metrics)).merge(status_page::routes(status_collector))
}

async fn livez(State((health, _)): State<Shared>) -> Response {
    if health.is_alive() {
        "alive\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stalled\n").into_response()
    }
}

async fn readyz(State((health, _)): State<Shared>) -> Response {
    if health.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not connected to RabbitMQ yet\n").into_response()
    }
}

async fn scrape(State((_, metrics)): State<Shared>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.text()).into_response()
}

/// `/books.json`: what `dnma-relay books` adds up.
pub fn books(ledger: Arc<Ledger>) -> Router {
    let answer = async |State(ledger): State<Arc<Ledger>>| match serde_json::to_vec(&ledger.books())
    {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    Router::new().route("/books.json", get(answer)).with_state(ledger)
}
