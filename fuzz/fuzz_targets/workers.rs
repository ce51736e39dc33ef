//! Whatever answers in a worker's place, `top` and `books` show it or say that they cannot: no
//! figure makes them panic, and no text commands a terminal.
#![no_main]

use std::sync::LazyLock;

use cli::top::WorkerStatus;
use dnma_relay::domain;
use dnma_relay::domain::books::{BalanceRecord, Books, QueueReadings, Queues, Statement};
use dnma_relay::domain::printable::{is_hidden, printable, spreadsheet_cell};
use dnma_relay::domain::rule::Language;
use dnma_relay::domain::status::Status;
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;
use serde_json::{Map, Value as Json, json};

/// The source of the program, since the light library shows nothing.
#[allow(dead_code, reason = "the target shows no colours")]
#[path = "../../src/cli"]
mod cli {
    pub(crate) mod top {
        mod screen;

        use crate::domain::rule::Language;
        use crate::domain::status::Status;

        /// What a worker answered, as `top` keeps it.
        pub(crate) struct WorkerStatus {
            pub(crate) address: String,
            pub(crate) status: Result<Status, String>,
        }

        /// The lines that `top` shows.
        pub(crate) fn lines(answers: &[WorkerStatus], language: Language) -> Vec<String> {
            let lines = screen::lines(answers, language, usize::MAX);
            lines.into_iter().map(|line| line.text).collect()
        }
    }
}

/// An answer of each kind, with every field. The bytes put other values in place of these.
static ANSWERS: LazyLock<[Json; 2]> = LazyLock::new(|| {
    let queue = json!({"name": "q", "hits": 1});
    let limit = json!({"requests": 1, "hits": 1});
    let shard = json!({
        "name": "q", "hits": 1, "consumers": 1, "holder": "w", "oldest_seconds": 1,
        "unread_seconds": 1
    });
    let status = json!({
        "at": "2026-11-24T08:00:00Z", "worker": "w", "version": "1", "plan": "2.01",
        "up_seconds": 1, "state": "delivering", "headline": "h", "notes": ["n"],
        "broker": {
            "connected": true, "blocked": false, "sessions": 1, "away_seconds": 1, "missing": 0,
            "refusing": [{"name": "q", "hits": 1}]
        },
        "matomo": {
            "away_seconds": 1, "reason": "timeout", "hint": "h", "http_status": 502,
            "next_try_seconds": 1, "has_token": true, "limit": limit, "most": limit
        },
        "in_flight": 1,
        "pace": {
            "hits_per_second": 1.5,
            "lanes": {"hits": 1.0, "max_rate": 1.0, "room": 1.0, "answer": 1.0}
        },
        "bottleneck": "matomo",
        "hour": {
            "seconds": 1, "received": 1, "delivered": 1, "retried": 1, "parked": 1, "rejected": 1,
            "minutes": [1, 2], "still_seconds": 1
        },
        "queues": {
            "read_seconds_ago": 1, "shards": [shard], "retries": [queue], "parked": queue,
            "rejected": queue
        },
        "forecast": {"drained_seconds": 1, "limit_seconds": 1},
        "causes": [{"fate": "parked", "code": "timeout", "hits": 1, "hint": "h"}],
        "settings": [{"name": "N", "value": "v"}]
    });
    let books = json!({
        "worker": "w", "started_at": "2026-11-24T08:00:00Z", "at": "2026-11-24T09:00:00Z",
        "accounts": [{
            "exploitant": "e", "plateforme": "p", "idsite": "1", "received": 1, "came_back": 1,
            "redelivered": 1, "replayed_parked": 1, "replayed_rejected": 1, "delivered": 1,
            "delivered_before": 1, "rejected": {"required": 1}, "retried": 1, "parked": 1,
            "released": 1, "in_flight": 1, "doubtful": 1
        }]
    });
    // Otherwise nothing but the way a reply is refused would be tried.
    serde_json::from_value::<Status>(status.clone()).expect("a status");
    serde_json::from_value::<Books>(books.clone()).expect("books");
    [status, books]
});

fuzz_target!(|data: &[u8]| {
    let Some((mode, data)) = data.split_first() else { return };
    let replies: Vec<Vec<u8>> = if mode % 4 == 0 {
        data.split(|byte| *byte == b'\n').take(4).map(<[u8]>::to_vec).collect()
    } else {
        let mut data = data;
        let answer = &ANSWERS[usize::from(mode % 2)];
        let workers = 1 + mode / 4 % 3;
        (0..workers).map(|_| changed(answer, &mut data).to_string().into_bytes()).collect()
    };
    top(&replies);
    books(&replies);
});

/// What `top` does with replies.
fn top(replies: &[Vec<u8>]) {
    let read = |reply: &Vec<u8>| WorkerStatus {
        address: "192.0.2.1:8080".to_owned(),
        status: serde_json::from_slice(reply).map_err(|error| error.to_string()),
    };
    let answers: Vec<WorkerStatus> = replies.iter().map(read).collect();
    for language in [Language::English, Language::French] {
        for line in cli::top::lines(&answers, language) {
            assert!(!line.contains(is_hidden), "{line:?}");
        }
    }
}

/// What `books` does with replies: with what it reads as the present, and as the former books.
fn books(replies: &[Vec<u8>]) {
    let workers: Vec<Books> =
        replies.iter().filter_map(|reply| serde_json::from_slice(reply).ok()).collect();
    let Some(first) = workers.first().cloned() else { return };
    // As deep as a figure is large, so that the comparison sees such depths too.
    let deep = first.accounts.first().map_or(0, |account| account.figures.received);
    let depths = Queues { waiting: deep, retry: deep, parked: 0, rejected: deep };
    let readings = QueueReadings { before: Queues::default(), after: depths };
    let former = BalanceRecord::new(Timestamp::UNIX_EPOCH, vec![first], None);
    let record = BalanceRecord::new(Timestamp::UNIX_EPOCH, workers, Some(readings));
    for former in [None, Some(&former), Some(&record)] {
        told(&record.balance(former));
    }
    let written = serde_json::to_vec(&record).expect("writes");
    let read: BalanceRecord = serde_json::from_slice(&written).expect("reads what it wrote");
    assert_eq!(read.workers, record.workers);
}

/// What is printed of a balance.
fn told(statement: &Statement) {
    let _closes = statement.total.closes();
    for gap in &statement.gaps {
        assert!(!printable(&gap.to_string()).contains(is_hidden));
    }
    for line in &statement.accounts {
        let _closes = line.row.closes();
        for name in [&line.name.exploitant, &line.name.plateforme, &line.name.idsite] {
            let cell = spreadsheet_cell(name);
            assert!(!cell.starts_with(['=', '+', '-', '@']) && !cell.contains(is_hidden));
        }
    }
    let _json = serde_json::to_string(statement).expect("writes");
}

/// The same answer with some of its values changed, as the bytes say.
fn changed(value: &Json, data: &mut &[u8]) -> Json {
    match value {
        Json::Object(fields) => {
            let fields = fields.iter().map(|(name, value)| (name.clone(), changed(value, data)));
            Json::Object(fields.collect::<Map<_, _>>())
        }
        Json::Array(values) => {
            let times = byte(data) % 4;
            let all = std::iter::repeat_n(values, usize::from(times)).flatten();
            Json::Array(all.map(|value| changed(value, data)).collect())
        }
        leaf => match (byte(data) % 16, leaf) {
            (0..6, leaf) => leaf.clone(),
            (6, _) => Json::Null,
            (7, Json::Number(_)) => json!(u64::MAX),
            (8, Json::Number(_)) => json!(i64::MAX),
            (9, Json::Number(_)) => json!(0),
            (10, Json::Number(_)) => json!(1e308),
            (_, Json::Number(_)) => {
                let bytes = take(data, 8);
                json!(bytes.iter().fold(0_u64, |sum, byte| sum << 8 | u64::from(*byte)))
            }
            (7..12, Json::String(_)) => {
                let length = usize::from(byte(data));
                json!(String::from_utf8_lossy(take(data, length)))
            }
            (_, Json::Bool(_)) => json!(byte(data) % 2 == 0),
            (_, leaf) => leaf.clone(),
        },
    }
}

fn byte(data: &mut &[u8]) -> u8 {
    take(data, 1).first().copied().unwrap_or_default()
}

fn take<'d>(data: &mut &'d [u8], count: usize) -> &'d [u8] {
    let (taken, rest) = data.split_at(count.min(data.len()));
    *data = rest;
    taken
}
