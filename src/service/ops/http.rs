//! `/livez` (a deadline), `/readyz` (a latch), `/metrics`, `/books.json` and the status page, on
//! `HTTP_LISTEN`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::middleware::from_fn_with_state;
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use super::status::StatusCollector;
use crate::service::books::Ledger;
use crate::service::telemetry::Metrics;

mod connections;
mod guard;
mod status_page;

pub use connections::{listen, serve};
pub use guard::Guard;

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

/// All routes. The probes are answered to everybody: they say nothing, and whoever asks may not
/// know a name of ours.
pub fn router(
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    status_collector: Arc<StatusCollector>,
    ledger: Arc<Ledger>,
    guard: Guard,
) -> Router {
    let guard = Arc::new(guard);
    let pages = Router::new()
        .route("/metrics", get(scrape).with_state(metrics))
        .merge(status_page::routes(status_collector))
        .merge(books(ledger))
        .layer(from_fn_with_state(guard.clone(), guard::within_bounds))
        .layer(from_fn_with_state(guard, guard::only_for_us));
    let probes = Router::new().route("/livez", get(livez)).route("/readyz", get(readyz));
    probes.with_state(health).merge(pages)
}

async fn livez(State(health): State<Arc<Health>>) -> Response {
    if health.is_alive() {
        "alive\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "stalled\n").into_response()
    }
}

async fn readyz(State(health): State<Arc<Health>>) -> Response {
    if health.ready.load(Ordering::Relaxed) {
        "ready\n".into_response()
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "not connected to RabbitMQ yet\n").into_response()
    }
}

async fn scrape(State(metrics): State<Arc<Metrics>>) -> Response {
    let content_type = "application/openmetrics-text; version=1.0.0; charset=utf-8";
    ([(header::CONTENT_TYPE, content_type)], metrics.text()).into_response()
}

/// `/books.json`: what `dnma-relay books` adds up.
fn books(ledger: Arc<Ledger>) -> Router {
    let answer = async |State(ledger): State<Arc<Ledger>>| match serde_json::to_vec(&ledger.books())
    {
        Ok(json) => ([(header::CONTENT_TYPE, "application/json")], json).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    };
    Router::new().route("/books.json", get(answer)).with_state(ledger)
}
