use super::*;
use crate::domain::books::{Account, Arrival};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).expect("a time")
}

fn name(exploitant: &str) -> AccountName {
    AccountName {
        exploitant: exploitant.to_owned(),
        plateforme: "P".to_owned(),
        idsite: "1".to_owned(),
    }
}

fn books(worker: &str, started_at: i64, now: i64, figures: Figures) -> Books {
    let accounts = vec![Account { name: name("A"), figures }];
    Books { worker: worker.to_owned(), started_at: at(started_at), at: at(now), accounts }
}

fn record(now: i64, workers: Vec<Books>, queues: Option<Queues>) -> BalanceRecord {
    BalanceRecord::new(
        at(now),
        workers,
        queues.map(|queues| QueueReadings { before: queues, after: queues }),
    )
}

/// So many hits that came for the first time and are delivered.
fn delivered(hits: u64) -> Figures {
    Figures { received: hits, delivered: hits, ..Figures::default() }
}

/// One hit parked, two in a retry, one rejected, six delivered.
fn mixed() -> Figures {
    let rejected = BTreeMap::from([("malformed".into(), 1)]);
    Figures {
        received: 12,
        came_back: 2,
        delivered: 6,
        retried: 4,
        parked: 1,
        rejected,
        ..Figures::default()
    }
}

const MIXED: Queues = Queues { waiting: 0, retry: 2, parked: 1, rejected: 1 };

#[test]
fn workers_add_up_and_close() {
    let statement =
        record(9, vec![books("w1", 1, 9, mixed()), books("w2", 2, 9, delivered(5))], Some(MIXED))
            .balance(None);
    assert_eq!(statement.gaps, []);
    assert!(statement.compared);
    assert_eq!(statement.since, Some(Since::Start(at(1))));
    let [line] = &statement.accounts[..] else { panic!("one account") };
    assert_eq!(line.rejected_by, BTreeMap::from([("malformed".into(), 1)]));
    assert_eq!(line.row, statement.total);
    let expected = StatementRow {
        entered: 15,
        delivered: 11,
        rejected: 1,
        parked: 1,
        to_retry: 2,
        ..StatementRow::default()
    };
    assert_eq!(statement.total, expected);
    assert!(expected.closes() && !StatementRow { entered: 16, ..expected }.closes());
}

#[test]
fn a_worker_that_was_asked_twice_counts_once() {
    let record =
        record(9, vec![books("w1", 1, 8, delivered(5)), books("w1", 1, 9, delivered(6))], None);
    assert_eq!(record.balance(None).total.delivered, 6);
}

#[test]
fn a_period_has_a_beginning() {
    let former = record(9, vec![books("w1", 1, 9, mixed())], Some(MIXED));
    let mut figures = mixed();
    // Both retries come back and are delivered; one more hit is in flight, one more rejected.
    figures +=
        &Figures { received: 4, came_back: 2, delivered: 2, in_flight: 1, ..Figures::default() };
    figures +=
        &Figures { rejected: BTreeMap::from([("too-long".into(), 1)]), ..Figures::default() };
    let now = record(
        20,
        vec![books("w1", 1, 20, figures)],
        Some(Queues { retry: 0, rejected: 2, ..MIXED }),
    );
    let statement = now.balance(Some(&former));
    assert_eq!(statement.gaps, []);
    assert_eq!(statement.since, Some(Since::Former(at(9))));
    let expected = StatementRow {
        carried: 2,
        entered: 2,
        delivered: 2,
        rejected: 1,
        in_flight: 1,
        ..StatementRow::default()
    };
    assert_eq!(statement.total, expected);
    assert!(expected.closes());
    assert_eq!(
        statement.accounts[0].rejected_by,
        BTreeMap::from([("too-long".into(), 1)]),
        "those of the period alone"
    );
}

#[test]
fn a_hit_that_an_operator_sends_again_enters_once() {
    let former = record(9, vec![books("w1", 1, 9, mixed())], Some(MIXED));
    let mut figures = mixed();
    // The parked one is delivered now, and the rejected one rejected again.
    figures += &Figures {
        received: 2,
        replayed_parked: 1,
        replayed_rejected: 1,
        delivered: 1,
        ..Figures::default()
    };
    figures +=
        &Figures { rejected: BTreeMap::from([("malformed".into(), 1)]), ..Figures::default() };
    let now = record(20, vec![books("w1", 1, 20, figures)], Some(Queues { parked: 0, ..MIXED }));
    for (former, carried) in [(Some(&former), 2), (None, 0)] {
        let statement = now.balance(former);
        assert_eq!(statement.gaps, []);
        assert_eq!((statement.total.replayed, statement.total.carried), (2, carried));
        assert!(statement.total.closes());
    }
    assert_eq!(now.balance(Some(&former)).total.entered, 0);
    // Out of a queue that nobody counted, and all of it is sent again.
    let foreign = Figures { received: 7, replayed_parked: 7, delivered: 7, ..Figures::default() };
    let statement =
        record(9, vec![books("w1", 1, 9, foreign)], Some(Queues::default())).balance(None);
    assert_eq!((statement.gaps, statement.total.entered, statement.total.replayed), (vec![], 0, 7));
}

#[test]
fn workers_that_are_gone_or_began_anew_are_named() {
    let workers = vec![
        books("gone", 1, 9, delivered(1)),
        books("again", 1, 9, delivered(2)),
        books("stays", 1, 9, delivered(3)),
    ];
    let former = record(9, workers, None);
    let workers = vec![
        books("again", 12, 20, delivered(4)),
        books("stays", 1, 20, delivered(8)),
        books("early", 5, 20, delivered(16)),
        books("late", 15, 20, delivered(32)),
    ];
    let statement = record(20, workers, None).balance(Some(&former));
    let names: Vec<String> = statement.gaps.iter().map(ToString::to_string).collect();
    assert_eq!(statement.gaps.len(), 3, "{names:?}");
    assert!(
        matches!(&statement.gaps[0], Gap::Restarted { worker, .. } if worker == "again"),
        "{names:?}"
    );
    assert!(
        matches!(&statement.gaps[1], Gap::Gone { worker, .. } if worker == "gone"),
        "{names:?}"
    );
    assert!(
        matches!(&statement.gaps[2], Gap::New { worker, .. } if worker == "early"),
        "{names:?}"
    );
    assert_eq!(
        names[0],
        "worker again was started at 1970-01-01T00:00:12Z: what it counted before, since \
         1970-01-01T00:00:09Z, is gone"
    );
    assert_eq!(
        statement.total.delivered,
        4 + 5 + 16 + 32,
        "of a worker that goes on, the period alone"
    );
    assert!(!statement.compared);
}

#[test]
fn a_queue_that_says_otherwise_is_named() {
    let balance =
        |queues| record(9, vec![books("w1", 1, 9, mixed())], Some(queues)).balance(None).gaps;
    assert_eq!(
        balance(Queues { parked: 3, ..MIXED }),
        [Gap::More { place: QueueKind::Parked, hits: 2 }]
    );
    assert_eq!(
        balance(Queues { rejected: 0, ..MIXED }),
        [Gap::Fewer { place: QueueKind::Rejected, hits: 1 }]
    );
    assert_eq!(
        balance(Queues { retry: 0, ..MIXED }),
        [Gap::Fewer { place: QueueKind::Retry, hits: 2 }]
    );
    assert_eq!(
        balance(Queues { retry: 0, waiting: 2, ..MIXED }),
        [],
        "released by the retry queue, and not taken yet"
    );
    assert_eq!(
        balance(Queues { retry: 4, ..MIXED }),
        [Gap::More { place: QueueKind::Retry, hits: 2 }]
    );
    // Parked while the workers were asked.
    let looks = QueueReadings {
        before: Queues { parked: 0, ..MIXED },
        after: Queues { parked: 2, ..MIXED },
    };
    assert_eq!(
        BalanceRecord::new(at(9), vec![books("w1", 1, 9, mixed())], Some(looks)).balance(None).gaps,
        []
    );
}

#[test]
fn an_account_that_does_not_close_is_a_bug() {
    let statement = record(
        9,
        vec![books("w1", 1, 9, Figures { received: 3, delivered: 2, ..Figures::default() })],
        None,
    )
    .balance(None);
    assert_eq!(
        statement.gaps[0].to_string(),
        "worker w1, A/P/1: 3 hits received, 2 accounted for: please report this"
    );
}

#[test]
fn hits_of_a_worker_that_is_gone_enter_here() {
    let mut figures = Figures::default();
    for arrival in [Arrival::CameBack, Arrival::Redelivered, Arrival::First] {
        figures.receive(arrival);
    }
    let row = StatementRow::of(&figures);
    assert_eq!(row, StatementRow { entered: 3, in_flight: 3, ..StatementRow::default() });
    assert!(row.closes());
    // An ack was lost with its connection: the same hit, delivered once.
    let again = Figures {
        received: 2,
        redelivered: 1,
        delivered: 2,
        delivered_before: 1,
        ..Figures::default()
    };
    assert_eq!(
        StatementRow::of(&again),
        StatementRow { entered: 1, delivered: 1, ..StatementRow::default() }
    );
    // Given back, and taken again.
    let again =
        Figures { received: 2, redelivered: 1, delivered: 1, released: 1, ..Figures::default() };
    assert_eq!(
        StatementRow::of(&again),
        StatementRow { entered: 1, delivered: 1, ..StatementRow::default() }
    );
}

#[test]
fn what_was_asked_is_read_again() {
    let record = record(9, vec![books("w1", 1, 9, mixed())], Some(MIXED));
    let json = serde_json::to_string(&record).expect("writes");
    assert_eq!(serde_json::from_str::<BalanceRecord>(&json).expect("reads"), record);
}
