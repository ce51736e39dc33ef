//! A stand-in Matomo over real HTTP. It answers as a real Matomo 5 was measured to, situation by
//! situation, and keeps a ledger of all that it stored. No part of the shipped program.

use std::collections::{HashMap, HashSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, Method, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::net::TcpListener;

use super::{listen, listen_anywhere};

mod pool;
mod replies;

pub use pool::Pool;

use replies::{GIF, HTML, counts, gif, html};

/// What Matomo is going through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Situation {
    Fine,
    DatabaseDown,
    DatabaseDiesMidBulk,
    Deadlock,
    /// A deadlock on a table of Matomo's own, after the last hit: everything is stored.
    AllButCommitted,
    /// The same, and nothing is stored.
    NoTransaction,
    /// PHP's notices come before each answer.
    Notices,
    /// A count that a cache gives before the true one.
    TwoCounts,
    LockWait,
    TrackerOff,
    NotInstalled,
    PhpFatal,
    BadGateway,
    Maintenance,
    /// The proxy gives up; Matomo goes on and commits.
    GatewayTimeout,
    TooLarge,
    Redirect,
    TooManyRequests(u64),
    Forbidden,
    QueuedTracking,
    NoContent,
    LoginPage,
    /// Stores, and answers too late.
    Slow(Duration),
    /// Stores, and the connection breaks in the middle of the answer.
    Broken,
    /// Stores everything, and counts one hit more.
    CountsWrong,
    /// Something in its place that takes whatever comes.
    TakesAll,
    /// A body without end.
    Endless,
    /// A gibibyte, as announced.
    Gibibyte,
    /// 128 MiB in 128 KiB, compressed.
    Bomb,
    /// A body that comes byte by byte, for good.
    Dripping,
    /// 4 MiB of headers.
    HugeHeaders,
}

/// What is wrong with one visitor's hits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HitFault {
    /// An exception that rolls back the whole bulk.
    Exception,
    /// Counted as invalid.
    Invalid,
    /// A request with it has no answer.
    Silence,
}

/// A hit that was stored.
#[derive(Debug, Clone)]
pub struct Stored {
    pub id: String,
    pub uid: String,
    pub at: Instant,
    pub parameters: HashMap<String, String>,
}

/// A request that was answered.
#[derive(Debug, Clone, Copy)]
pub struct Answer {
    pub at: Instant,
    pub took: Duration,
    pub hits: usize,
    /// The client had left, so the hits are in doubt.
    pub too_late: bool,
}

#[derive(Debug)]
pub struct Ledger {
    pub situation: Situation,
    pub stored: Vec<Stored>,
    /// Every sending of every hit, stored or not.
    pub attempts: Vec<(Instant, String)>,
    pub requests: u64,
    /// Requests that carried a visitor of whom another request was under way.
    pub overlaps: u64,
    /// Hits whose time Matomo replaced by its own.
    pub moved: u64,
    /// Requests that used a token which did not do.
    pub failed_tokens: u64,
    pub faults: HashMap<String, HitFault>,
    pub sites: HashSet<String>,
    pub token: Option<String>,
    /// The age in seconds from which on it wants the token.
    pub max_age: i64,
    /// Sites for which it has no rights.
    pub foreign_sites: HashSet<String>,
    /// `bulk_requests_require_authentication`.
    pub bulks_need_token: bool,
    /// `invalid_indices` is only for superusers.
    pub superuser: bool,
    pub per_request: Duration,
    pub per_hit: Duration,
    /// Processes that answer, if there are not as many as anybody wants.
    pub pool: Option<Arc<Pool>>,
    /// The User-Agent header of every request.
    pub user_agents: Vec<Option<String>>,
    /// The names of all headers that ever came.
    pub header_names: HashSet<String>,
    /// Requests that are being answered, and the most that ever were at once.
    pub under_way: u32,
    pub most_under_way: u32,
    /// When each request was answered, how many hits it had, and how long it took.
    pub answers: Vec<Answer>,
    /// Hits that were stored although the answer did not say so: each may come again.
    pub doubted: u64,
    in_flight: HashMap<String, usize>,
}

pub struct Matomo {
    ledger: Arc<Mutex<Ledger>>,
    address: SocketAddr,
    server: Option<tokio::task::JoinHandle<()>>,
}

impl Matomo {
    pub async fn start() -> anyhow::Result<Self> {
        let listener = listen_anywhere().await?;
        let ledger = Ledger {
            situation: Situation::Fine,
            stored: Vec::new(),
            attempts: Vec::new(),
            requests: 0,
            overlaps: 0,
            moved: 0,
            failed_tokens: 0,
            faults: HashMap::new(),
            sites: HashSet::from(["1".to_owned()]),
            token: None,
            max_age: 86_400,
            foreign_sites: HashSet::new(),
            bulks_need_token: false,
            superuser: false,
            per_request: Duration::ZERO,
            per_hit: Duration::ZERO,
            pool: None,
            user_agents: Vec::new(),
            header_names: HashSet::new(),
            under_way: 0,
            most_under_way: 0,
            answers: Vec::new(),
            doubted: 0,
            in_flight: HashMap::new(),
        };
        let mut matomo = Self {
            ledger: Arc::new(Mutex::new(ledger)),
            address: listener.local_addr()?,
            server: None,
        };
        matomo.serve(listener);
        Ok(matomo)
    }

    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no test panics with the ledger in hand")
    }

    pub fn set(&self, situation: Situation) {
        if situation == Situation::Bomb {
            LazyLock::force(&replies::BOMB);
        }
        self.ledger().situation = situation;
    }

    pub fn stored(&self) -> usize {
        self.ledger().stored.len()
    }

    /// How often each hit was stored.
    pub fn copies(&self) -> HashMap<String, usize> {
        let mut copies = HashMap::new();
        for stored in &self.ledger().stored {
            *copies.entry(stored.id.clone()).or_default() += 1;
        }
        copies
    }

    fn serve(&mut self, listener: TcpListener) {
        let app = Router::new()
            .fallback(answer)
            .layer(DefaultBodyLimit::max(16 << 20))
            .with_state(self.ledger.clone());
        self.server = Some(tokio::spawn(async move {
            axum::serve(listener, app).await.expect("the stand-in Matomo serves");
        }));
    }

    /// Nobody listens any more. Connections that are open stay so until they are answered.
    pub fn stop_listening(&mut self) {
        if let Some(server) = self.server.take() {
            server.abort();
        }
    }

    pub async fn listen_again(&mut self) -> anyhow::Result<()> {
        self.serve(listen(self.address).await?);
        Ok(())
    }
}

/// PHP goes on with a request whose client has left, so it has a task of its own.
async fn answer(
    State(ledger): State<Arc<Mutex<Ledger>>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let client = Arc::new(Client::default());
    let _waiting = client.clone().waits();
    let handled = tokio::spawn(handle(ledger, client, method, uri, headers, body));
    handled.await.unwrap_or_else(|_| html(500, ""))
}

/// Whoever sent a request.
#[derive(Default)]
struct Client {
    left: AtomicBool,
}

/// Dropped when the answer is sent, or when nobody waits for it.
struct Waiting(Arc<Client>);

impl Client {
    fn waits(self: Arc<Self>) -> Waiting {
        Waiting(self)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        self.0.left.store(true, Ordering::Relaxed);
    }
}

async fn handle(
    ledger: Arc<Mutex<Ledger>>,
    client: Arc<Client>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let text = String::from_utf8_lossy(&body).into_owned();
    let bulk = text.contains("\"requests\"");
    let (hits, token) = if bulk { bulk_hits(&text) } else { single_hit(&method, &uri, &text) };
    if hits.is_empty() {
        let situation = ledger.lock().expect("ledger").situation;
        return match situation {
            Situation::NotInstalled | Situation::Redirect | Situation::LoginPage => {
                ledger.lock().expect("ledger").respond(situation, bulk, &hits, None)
            }
            Situation::QueuedTracking => html(200, ""),
            _ if bulk => counts(200, "success", 0, &[], false),
            _ => html(200, HTML),
        };
    }
    let agent = headers
        .get(header::USER_AGENT)
        .map(|agent| String::from_utf8_lossy(agent.as_bytes()).into_owned());
    ledger
        .lock()
        .expect("ledger")
        .header_names
        .extend(headers.keys().map(|name| name.as_str().to_owned()));
    let arrived = Instant::now();
    let (situation, pause) = arrive(&ledger, &hits, agent);
    let pool = ledger.lock().expect("ledger").pool.clone();
    let mut process = match &pool {
        Some(pool) => Some(pool.process(arrived).await),
        None => None,
    };
    if matches!(process, Some(None)) {
        leave(&ledger, &hits);
        return html(502, "<html>502 Bad Gateway</html>");
    }
    let is_silent = {
        let ledger = ledger.lock().expect("ledger");
        visitors(&hits).iter().any(|uid| ledger.faults.get(*uid) == Some(&HitFault::Silence))
    };
    if is_silent {
        return std::future::pending().await;
    }
    // This is the time that the stand-in takes for the work.
    match &mut process {
        Some(Some(process)) => process.work(pause).await,
        _ => tokio::time::sleep(pause).await,
    }
    let (response, late) = {
        let mut ledger = ledger.lock().expect("ledger");
        let response = ledger.respond(situation, bulk, &hits, token.as_deref());
        let late = if let Situation::Slow(late) = situation { late } else { Duration::ZERO };
        (response, late)
    };
    // This is how late its answer comes.
    tokio::time::sleep(late).await;
    leave(&ledger, &hits);
    let answer = Answer {
        at: Instant::now(),
        took: arrived.elapsed(),
        hits: hits.len(),
        too_late: client.left.load(Ordering::Relaxed),
    };
    ledger.lock().expect("ledger").answers.push(answer);
    response
}

type Hit = HashMap<String, String>;

fn bulk_hits(text: &str) -> (Vec<Hit>, Option<String>) {
    let body: Value = serde_json::from_str(text).unwrap_or_default();
    let as_text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let hits = body["requests"].as_array().into_iter().flatten().filter_map(Value::as_object);
    let hits = hits.map(|hit| hit.iter().map(|(k, v)| (k.clone(), as_text(v))).collect()).collect();
    (hits, body["token_auth"].as_str().map(str::to_owned))
}

fn single_hit(method: &Method, uri: &Uri, text: &str) -> (Vec<Hit>, Option<String>) {
    let query = if method == Method::GET { uri.query().unwrap_or_default() } else { text };
    let mut hit: Hit = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let token = hit.remove("token_auth");
    (if hit.is_empty() { Vec::new() } else { vec![hit] }, token)
}

fn visitors(hits: &[Hit]) -> HashSet<&str> {
    hits.iter().filter_map(|hit| hit.get("uid")).map(String::as_str).collect()
}

fn arrive(ledger: &Mutex<Ledger>, hits: &[Hit], agent: Option<String>) -> (Situation, Duration) {
    let mut ledger = ledger.lock().expect("ledger");
    ledger.user_agents.push(agent);
    ledger.requests += 1;
    ledger.under_way += 1;
    ledger.most_under_way = ledger.most_under_way.max(ledger.under_way);
    for hit in hits {
        let id = hit.get("action_name").cloned().unwrap_or_default();
        ledger.attempts.push((Instant::now(), id));
    }
    for visitor in visitors(hits) {
        let others = ledger.in_flight.entry(visitor.to_owned()).or_default();
        *others += 1;
        if *others > 1 {
            ledger.overlaps += 1;
        }
    }
    let hits = u32::try_from(hits.len()).expect("few hits");
    (ledger.situation, ledger.per_request + ledger.per_hit * hits)
}

fn leave(ledger: &Mutex<Ledger>, hits: &[Hit]) {
    let mut ledger = ledger.lock().expect("ledger");
    ledger.under_way -= 1;
    for visitor in visitors(hits) {
        if let Some(count) = ledger.in_flight.get_mut(visitor) {
            *count -= 1;
            if *count == 0 {
                ledger.in_flight.remove(visitor);
            }
        }
    }
}

impl Ledger {
    fn respond(
        &mut self,
        situation: Situation,
        bulk: bool,
        hits: &[Hit],
        token: Option<&str>,
    ) -> Response {
        match situation {
            Situation::Fine => return self.track(bulk, hits, token),
            Situation::DatabaseDown if bulk => return counts(500, "error", 0, &[], false),
            Situation::DatabaseDown => return gif(400, HTML),
            Situation::DatabaseDiesMidBulk => {
                return html(
                    200,
                    "Error:SQLSTATE[HY000]: General error: 2006 MySQL server has gone away",
                );
            }
            Situation::Deadlock => return counts(500, "error", hits.len() / 2, &[], false),
            Situation::AllButCommitted if !bulk => return gif(400, HTML),
            Situation::NoTransaction => return html(200, "Error:There is no active transaction"),
            Situation::TwoCounts if !bulk => return html(200, "two answers"),
            Situation::TrackerOff if bulk => return counts(200, "success", 0, &[], false),
            Situation::TrackerOff => return gif(503, ""),
            Situation::NotInstalled => {
                return html(
                    200,
                    "As Matomo is not installed yet, the Tracking API cannot proceed.",
                );
            }
            Situation::PhpFatal => return html(500, ""),
            Situation::BadGateway => return html(502, "<html>502 Bad Gateway</html>"),
            Situation::TooLarge => return html(413, "<html>413 Request Entity Too Large</html>"),
            Situation::Redirect => {
                return (StatusCode::FOUND, [(header::LOCATION, "/elsewhere.php")], "")
                    .into_response();
            }
            Situation::TooManyRequests(seconds) => {
                return (
                    StatusCode::TOO_MANY_REQUESTS,
                    [(header::RETRY_AFTER, seconds.to_string())],
                    "",
                )
                    .into_response();
            }
            Situation::Forbidden => return html(403, "<html>403 Forbidden</html>"),
            Situation::LoginPage => return html(200, "<html><form>Please sign in</form></html>"),
            Situation::Endless => return replies::endless(),
            Situation::Gibibyte => return replies::gibibyte(),
            Situation::Bomb => return replies::bomb(),
            Situation::Dripping => return replies::dripping(),
            Situation::HugeHeaders => return replies::huge_headers(),
            Situation::LockWait => {
                let Some((_, rest)) = hits.split_first() else { return html(200, HTML) };
                self.store(rest);
                self.doubted += rest.len() as u64;
                return if bulk {
                    counts(200, "success", rest.len(), &[], false)
                } else {
                    gif(400, HTML)
                };
            }
            // Maintenance mode closes the user interface, not the tracker.
            Situation::Maintenance
            | Situation::GatewayTimeout
            | Situation::QueuedTracking
            | Situation::NoContent
            | Situation::TakesAll
            | Situation::AllButCommitted
            | Situation::Notices
            | Situation::TwoCounts
            | Situation::CountsWrong
            | Situation::Slow(_)
            | Situation::Broken => {}
        }
        self.store(hits);
        if matches!(
            situation,
            Situation::GatewayTimeout
                | Situation::Slow(_)
                | Situation::Broken
                | Situation::AllButCommitted
                | Situation::TwoCounts
                | Situation::CountsWrong
        ) {
            self.doubted += hits.len() as u64;
        }
        match situation {
            Situation::GatewayTimeout => html(504, "<html>504 Gateway Time-out</html>"),
            Situation::QueuedTracking => (
                [(header::CONTENT_TYPE, "image/gif"), (header::CONTENT_ENCODING, "none")],
                GIF.to_vec(),
            )
                .into_response(),
            Situation::NoContent => StatusCode::NO_CONTENT.into_response(),
            Situation::Broken => replies::broken(),
            Situation::AllButCommitted => counts(500, "error", hits.len(), &[], false),
            Situation::Notices => replies::after_notices(bulk, hits.len()),
            Situation::TwoCounts => replies::two_counts(hits.len()),
            Situation::CountsWrong => counts(200, "success", hits.len() + 1, &[], false),
            _ if bulk => counts(200, "success", hits.len(), &[], false),
            _ => gif(200, ""),
        }
    }

    /// A Matomo in good health: the whole bulk or nothing, but for hits that it counts as invalid.
    fn track(&mut self, bulk: bool, hits: &[Hit], token: Option<&str>) -> Response {
        if token.is_some() && self.failed_tokens > 20 {
            return counts(500, "error", 0, &[], false);
        }
        let fault = |hit: &Hit| hit.get("uid").and_then(|uid| self.faults.get(uid)).copied();
        if hits.iter().any(|hit| fault(hit) == Some(HitFault::Exception)) {
            return if bulk { counts(500, "error", 0, &[], false) } else { gif(400, HTML) };
        }
        let good_token = token.is_some() && token == self.token.as_deref();
        if bulk && self.bulks_need_token && !good_token {
            return counts(500, "error", 0, &[], false);
        }
        let foreign = |hit: &Hit| hit.get("idsite").is_some_and(|s| self.foreign_sites.contains(s));
        let refuses = |hit: &Hit| age(hit) >= self.max_age && (!good_token || foreign(hit));
        let invalid: Vec<usize> = (0..hits.len())
            .filter(|index| {
                let hit = &hits[*index];
                let site = hit.get("idsite").is_some_and(|site| self.sites.contains(site));
                !site || fault(hit) == Some(HitFault::Invalid) || refuses(hit)
            })
            .collect();
        if token.is_some() && hits.iter().any(refuses) {
            self.failed_tokens += 1;
        }
        let good: Vec<Hit> = (0..hits.len())
            .filter(|index| !invalid.contains(index))
            .map(|index| hits[index].clone())
            .collect();
        self.store(&good);
        let named = self.superuser && token.is_some();
        if bulk && !invalid.is_empty() && !named {
            self.doubted += good.len() as u64;
        }
        match (bulk, invalid.is_empty()) {
            (true, _) => counts(200, "success", good.len(), &invalid, named),
            (false, true) => gif(200, ""),
            (false, false) => gif(400, HTML),
        }
    }

    fn store(&mut self, hits: &[Hit]) {
        for hit in hits {
            if hit.get("rec").is_none_or(|rec| rec != "1") {
                continue;
            }
            if age(hit) < 0 {
                self.moved += 1;
            }
            self.stored.push(Stored {
                id: hit.get("action_name").cloned().unwrap_or_default(),
                uid: hit.get("uid").cloned().unwrap_or_default(),
                at: Instant::now(),
                parameters: hit.clone(),
            });
        }
    }
}

/// Seconds since the hit's time; one that is no whole number of seconds counts as the future, since
/// Matomo moves both.
fn age(hit: &Hit) -> i64 {
    let now = jiff::Timestamp::now().as_second();
    hit.get("cdt").and_then(|cdt| cdt.parse::<i64>().ok()).map_or(-1, |cdt| now - cdt)
}
