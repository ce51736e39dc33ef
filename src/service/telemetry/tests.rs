//! Each fate counts once, and the label sets are closed.

use std::collections::BTreeSet;
use std::time::Duration;

use super::*;
use crate::domain::answer::{Failure, Interpretation};
use crate::domain::plan::Plan;
use crate::domain::settle::Settlement;
use crate::domain::validate::Violation;

/// Every metric with the names of its labels: what dashboards and alarms are built on.
const NAMES: [&str; 34] = [
    "broker_blocked",
    "broker_sessions_total",
    "broker_up",
    "breaker_state{state}",
    "build_info{version}",
    "bulk_hits",
    "bulk_limit",
    "delivered_total{how}",
    "doubtful_total{reason}",
    "exploitant_checked_total{exploitant}",
    "exploitant_rejected_total{exploitant}",
    "hit_age_seconds",
    "in_flight",
    "lanes{waits_for}",
    "list_values{list}",
    "max_age_seconds",
    "near_limit_total",
    "oldest_hit_seconds",
    "outage_seconds",
    "parked_total{reason}",
    "received_total",
    "refused_hits{queue}",
    "refused_publishes_total",
    "rejected_total{rule}",
    "released_total",
    "request_seconds{outcome}",
    "requests_limit",
    "retried_total{attempt,reason}",
    "rules_valid",
    "shards_active",
    "shards_subscribed",
    "topology_missing",
    "violations_total{rule}",
    "waiting_hits{queue}",
];

fn failure(reason: Reason) -> Failure {
    Failure { reason, status: None }
}

fn violation(rule: Rule) -> Violation {
    Violation { rule, field: None, value: None, suggestion: None, max: None, length: None }
}

/// The value of a series, which is named as in the text, without the prefix.
fn value(metrics: &Metrics, series: &str) -> Option<f64> {
    let text = metrics.text();
    let value = text
        .lines()
        .find_map(|line| line.strip_prefix("dnma_relay_")?.strip_prefix(series)?.strip_prefix(' '));
    value.map(|value| value.parse().expect("a number"))
}

/// The series of a text, without its values.
fn series(metrics: &Metrics) -> BTreeSet<String> {
    let text = metrics.text();
    let lines = text.lines().filter(|line| !line.starts_with('#'));
    lines.map(|line| line.rsplit_once(' ').expect("a value").0.to_owned()).collect()
}

#[test]
fn the_names_are_those_that_dashboards_know() {
    let metrics = Metrics::new(2);
    metrics.list_values("exploitants", 3);
    let names: BTreeSet<String> = series(&metrics)
        .iter()
        .map(|series| {
            let series = series.strip_prefix("dnma_relay_").expect("the prefix");
            let (name, labels) = series.split_once('{').unwrap_or((series, ""));
            let labels = labels.trim_end_matches('}').split(',');
            let labels: Vec<&str> = labels
                .filter_map(|label| Some(label.split_once('=')?.0))
                .filter(|label| *label != "le")
                .collect();
            let parts = ["_bucket", "_sum", "_count"];
            let name = parts.iter().find_map(|part| name.strip_suffix(part)).unwrap_or(name);
            let labels = labels.join(",");
            if labels.is_empty() { name.to_owned() } else { format!("{name}{{{labels}}}") }
        })
        .collect();
    assert_eq!(names, NAMES.map(str::to_owned).into());
}

#[test]
fn every_metric_starts_at_zero() {
    let metrics = Metrics::new(2);
    let ones = ["build_info", "breaker_state{state=\"closed\"}", "rules_valid"];
    for line in metrics.text().lines().filter(|line| !line.starts_with('#')) {
        let (series, value) = line.rsplit_once(' ').expect("a value");
        let series = series.trim_start_matches("dnma_relay_");
        let expected = if ones.iter().any(|one| series.starts_with(one)) { "1" } else { "0" };
        assert_eq!(value.trim_end_matches(".0"), expected, "{series}");
    }
    for how in ["stored", "queued", "duplicate"] {
        assert_eq!(value(&metrics, &format!("delivered_total{{how=\"{how}\"}}")), Some(0.0));
    }
    for reason in Reason::ALL.iter().map(|reason| reason.code()) {
        for attempt in 0..=2 {
            let labels = format!("attempt=\"{attempt}\",reason=\"{reason}\"");
            assert_eq!(value(&metrics, &format!("retried_total{{{labels}}}")), Some(0.0));
        }
        assert_eq!(value(&metrics, &format!("parked_total{{reason=\"{reason}\"}}")), Some(0.0));
    }
    for rule in Rule::ALL.iter().map(|rule| rule.code()) {
        for name in ["rejected", "violations"] {
            assert_eq!(value(&metrics, &format!("{name}_total{{rule=\"{rule}\"}}")), Some(0.0));
        }
    }
}

#[test]
fn each_fate_counts_once() {
    let metrics = Metrics::new(2);
    let plan = Plan::built_in().expect("plan");
    let parked = failure(Reason::TooOld);
    let fates = [
        (Settlement::Delivered(Delivered::Stored), "delivered_total{how=\"stored\"}"),
        (Settlement::Delivered(Delivered::Queued), "delivered_total{how=\"queued\"}"),
        (Settlement::Delivered(Delivered::Duplicate), "delivered_total{how=\"duplicate\"}"),
        (
            Settlement::Retry { step: 0, attempts: 1, failure: failure(Reason::Timeout) },
            "retried_total{attempt=\"1\",reason=\"timeout\"}",
        ),
        (Settlement::Park { attempts: 2, failure: parked }, "parked_total{reason=\"too-old\"}"),
        (
            Settlement::Reject { violations: vec![violation(Rule::Missing)] },
            "rejected_total{rule=\"missing\"}",
        ),
        (Settlement::Release, "released_total"),
    ];
    let many = fates.len() as u64;
    for (settled, (fate, series)) in (1..).zip(&fates) {
        metrics.received();
        assert_eq!(metrics.counts().in_flight, 1);
        metrics.settled(&plan, fate);
        metrics.no_longer_in_flight();
        assert_eq!(value(&metrics, series), Some(1.0), "{series}");
        let counts = metrics.counts();
        assert_eq!(
            (counts.received, counts.settled(), counts.in_flight),
            (settled, settled, 0),
            "{series}"
        );
    }
    let counts = metrics.counts();
    assert_eq!((counts.received, counts.delivered, counts.released), (many, 3, 1));
}

#[test]
fn a_forged_attempt_opens_no_label() {
    let metrics = Metrics::new(2);
    let plan = Plan::built_in().expect("plan");
    let before = series(&metrics);
    for attempts in [3, 1_000_000, u32::MAX] {
        let failure = failure(Reason::BadGateway);
        metrics.settled(&plan, &Settlement::Retry { step: 1, attempts, failure });
    }
    assert_eq!(series(&metrics), before);
    let last = "retried_total{attempt=\"2\",reason=\"bad-gateway\"}";
    assert_eq!(value(&metrics, last), Some(3.0));
}

#[test]
fn an_answer_counts_its_request_and_the_hits_in_doubt() {
    let metrics = Metrics::new(2);
    let before = series(&metrics);
    let status = 200;
    let answers = [
        (Interpretation::Stored { queued: false }, "stored"),
        (Interpretation::Refused { places: Some(vec![0]), status }, "refused"),
        (Interpretation::Refused { places: None, status }, "refused"),
        (Interpretation::Suspect(failure(Reason::ServerError)), "suspect"),
        (Interpretation::SuspectAmbiguous(failure(Reason::BadGateway)), "suspect"),
        (Interpretation::Ambiguous(failure(Reason::ServerError)), "ambiguous"),
        (Interpretation::Down(failure(Reason::Unreachable)), "down"),
        (Interpretation::DownAmbiguous(failure(Reason::Timeout)), "down"),
        (Interpretation::DownAmbiguous(failure(Reason::ConnectionLost)), "down"),
        (Interpretation::DownAmbiguous(failure(Reason::GatewayTimeout)), "down"),
        (Interpretation::Ambiguous(failure(Reason::CountMismatch)), "ambiguous"),
    ];
    for (interpretation, outcome) in &answers {
        let requests = format!("request_seconds_count{{outcome=\"{outcome}\"}}");
        let earlier = value(&metrics, &requests).expect("at zero");
        metrics.answered(interpretation, 7, Duration::from_millis(20));
        assert_eq!(value(&metrics, &requests), Some(earlier + 1.0), "{interpretation:?}");
    }
    for reason in DOUBTS {
        let doubtful = format!("doubtful_total{{reason=\"{}\"}}", reason.code());
        assert_eq!(value(&metrics, &doubtful), Some(7.0), "{doubtful}");
    }
    assert_eq!(series(&metrics), before);
    assert_eq!(value(&metrics, "bulk_hits_count"), Some(answers.len() as f64));
}

#[test]
fn the_breaker_is_in_one_state() {
    let metrics = Metrics::new(2);
    for (state, label) in
        [(State::Open, "open"), (State::HalfOpen, "half_open"), (State::Closed, "closed")]
    {
        metrics.breaker(state);
        for each in ["closed", "open", "half_open"] {
            let series = format!("breaker_state{{state=\"{each}\"}}");
            assert_eq!(value(&metrics, &series), Some(f64::from(u8::from(each == label))));
        }
    }
}
