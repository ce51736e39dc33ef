use super::*;
use crate::domain::status::tests::{queue, status};
use crate::domain::status::{MatomoStatus, ShardStatus};

const MOST: Limit = Limit { requests: 8, hits: 50 };

/// A worker with eight lanes and a backlog in a shard that it reads.
fn behind(lanes: LaneUse) -> Status {
    let mut status = status("a");
    status.matomo = MatomoStatus { limit: MOST, most: MOST, ..MatomoStatus::default() };
    status.pace = DeliveryRate { hits_per_second: 320.4, lanes };
    let holder = Some("a".to_owned());
    let shard = ShardStatus { queue: queue("q.9", 5_000), holder, ..ShardStatus::default() };
    status.queues.get_or_insert_default().shards.push(shard);
    status
}

fn bottleneck(status: &Status) -> Option<Bottleneck> {
    status.clone().described(Language::English).bottleneck
}

fn note(status: &Status, language: Language) -> String {
    status.clone().described(language).notes.join("\n").replace(['\u{a0}', '\u{202f}'], " ")
}

#[test]
fn each_limit_is_told_by_what_the_lanes_wait_for() {
    let mut matomo = behind(LaneUse { room: 5.5, answer: 2.5, ..LaneUse::default() });
    matomo.matomo.limit = Limit { requests: 3, hits: 12 };
    assert_eq!(bottleneck(&matomo), Some(Bottleneck::Matomo));
    let english = note(&matomo, Language::English);
    assert!(english.contains("Matomo takes 320 hits/s and is the limit"), "{english}");
    assert!(english.contains("of 8 requests 3 may be under way, with 12 of 50 hits"), "{english}");
    let french = note(&matomo, Language::French);
    assert!(french.contains("Matomo prend 320 hits/s et c'est lui la limite"), "{french}");

    let few_hits = LaneUse { answer: 8.0, ..LaneUse::default() };
    let mut smaller = behind(few_hits);
    smaller.matomo.limit = Limit { requests: 8, hits: 20 };
    assert_eq!(bottleneck(&smaller), Some(Bottleneck::Matomo), "its requests are smaller");

    let max_rate = behind(LaneUse { max_rate: 6.0, answer: 2.0, ..LaneUse::default() });
    assert_eq!(bottleneck(&max_rate), Some(Bottleneck::MaxRate));
    assert!(note(&max_rate, Language::English).contains("MATOMO_MAX_RATE is the limit"));

    let mut broker = behind(LaneUse { hits: 7.0, answer: 1.0, ..LaneUse::default() });
    assert_eq!(bottleneck(&broker), Some(Bottleneck::Broker));
    assert!(note(&broker, Language::French).contains("RabbitMQ est la limite"));
    broker.queues.as_mut().expect("queues").shards[2].holder = None;
    assert_eq!(bottleneck(&broker), Some(Bottleneck::Shards), "another worker reads it");

    let settings = behind(few_hits);
    assert_eq!(bottleneck(&settings), Some(Bottleneck::Settings));
    assert!(note(&settings, Language::English).contains("all 8 requests"));
}

#[test]
fn nothing_limits_where_nothing_waits_or_nothing_flows() {
    let lanes = LaneUse { room: 8.0, ..LaneUse::default() };
    let mut calm = behind(lanes);
    calm.queues.as_mut().expect("queues").shards.pop();
    assert_eq!(bottleneck(&calm), None, "no backlog");
    let mut away = behind(lanes);
    away.matomo.away_seconds = Some(3);
    assert_eq!(bottleneck(&away), None, "an outage");
    assert_eq!(bottleneck(&behind(LaneUse::default())), None, "nothing is known yet");
}

#[test]
fn workers_are_seen_together() {
    let mut one = behind(LaneUse { room: 6.0, answer: 2.0, ..LaneUse::default() });
    one.matomo.limit = Limit { requests: 2, hits: 7 };
    one.pace.hits_per_second = 4.2;
    let both = Status::merge(&[one.clone(), one]).expect("two");
    assert_eq!(both.pace.lanes.room, 12.0);
    let english = note(&both, Language::English);
    assert!(english.contains("takes 8.4 hits/s"), "{english}");
    assert!(english.contains("of 16 requests 4 may be under way, with 7 of 50 hits"), "{english}");
}
