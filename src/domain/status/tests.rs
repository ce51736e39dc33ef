use super::*;
use crate::domain::answer::Reason;
use crate::domain::plan::Plan;
use crate::domain::rule::Rule;

pub(super) fn queue(name: &str, hits: u64) -> QueueStatus {
    QueueStatus { name: name.to_owned(), hits: Some(hits) }
}

/// A worker that delivers.
pub(super) fn status(worker: &str) -> Status {
    let shard = |index: u64, hits| ShardStatus {
        queue: queue(&format!("q.{index}"), hits),
        consumers: 1,
        ..ShardStatus::default()
    };
    Status {
        at: "2026-11-24T12:10:00Z".parse().expect("a time"),
        worker: worker.to_owned(),
        version: "1".to_owned(),
        plan: "2.01".to_owned(),
        up_seconds: 100,
        state: RelayState::Starting,
        headline: String::new(),
        notes: Vec::new(),
        broker: BrokerStatus { connected: true, sessions: 1, ..BrokerStatus::default() },
        matomo: MatomoStatus::default(),
        in_flight: 10,
        pace: DeliveryRate::default(),
        bottleneck: None,
        hour: Hour {
            seconds: 3_600,
            received: 7_210,
            delivered: 7_200,
            minutes: vec![1, 2, 3],
            ..Hour::default()
        },
        queues: Some(QueuesStatus {
            shards: vec![shard(0, 100), shard(1, 50)],
            retries: vec![queue("q.retry.600s", 5)],
            parked: queue("q.parked", 0),
            rejected: queue("q.rejected", 0),
            read_seconds_ago: 3,
        }),
        forecast: Forecast::default(),
        causes: Vec::new(),
        settings: Vec::new(),
    }
}

fn headline(status: Status) -> String {
    status.described(Language::English).headline.replace('\u{a0}', " ")
}

#[test]
fn the_most_severe_fact_comes_first() {
    assert_eq!(headline(status("a")), "Delivering");

    let mut backlog = status("a");
    backlog.queues.as_mut().expect("queues").shards[0].queue.hits = Some(50_000);
    assert_eq!(headline(backlog.clone()), "Delivering, and catching up: 50,065 hits wait");

    let mut rejecting = backlog.clone();
    rejecting.hour.rejected = 800;
    assert_eq!(
        headline(rejecting.clone()),
        "Delivering, but 10 % of the hits of the last hour break the plan"
    );

    let mut stuck = rejecting.clone();
    stuck.hour.still_seconds = 600;
    assert_eq!(stuck.clone().described(Language::English).state, RelayState::Stuck);

    let mut blocked = stuck.clone();
    blocked.broker.blocked = true;
    assert_eq!(blocked.clone().described(Language::English).state, RelayState::BrokerBlocked);

    let mut away = blocked.clone();
    away.matomo.away_seconds = Some(720);
    assert_eq!(
        headline(away.clone()),
        "Matomo has been down for 12 min: 50,065 hits wait, nothing is lost"
    );
    assert_eq!(
        away.clone().described(Language::French).headline,
        "Matomo est en panne depuis 12\u{a0}min\u{a0}: 50\u{202f}065 hits attendent, rien n'est \
         perdu"
    );

    away.broker.connected = false;
    away.broker.away_seconds = Some(59);
    assert_eq!(
        headline(away.clone()),
        "No session with RabbitMQ for 59 s: hits wait there, nothing is lost"
    );
    away.broker.sessions = 0;
    assert_eq!(away.described(Language::English).state, RelayState::Starting);
}

#[test]
fn few_rejects_and_a_short_handover_are_no_news() {
    let mut calm = status("a");
    calm.hour = Hour { delivered: 10, rejected: 19, ..Hour::default() };
    assert_eq!(
        calm.clone().described(Language::English).state,
        RelayState::Delivering,
        "19 rejects"
    );
    calm.hour = Hour { delivered: 9_500, rejected: 500, ..Hour::default() };
    assert_eq!(calm.clone().described(Language::English).state, RelayState::Delivering, "5 %");
    calm.queues.as_mut().expect("queues").shards[0].unread_seconds = Some(59);
    assert_eq!(calm.clone().described(Language::English).state, RelayState::Delivering);
    calm.queues.as_mut().expect("queues").shards[0].unread_seconds = Some(60);
    let described = calm.described(Language::English);
    assert_eq!(described.state, RelayState::Stuck);
    assert!(described.notes[0].contains("q.0"), "{:?}", described.notes);
}

#[test]
fn an_outage_says_why_and_how_much_time_is_left() {
    let mut away = status("a");
    away.matomo = MatomoStatus {
        away_seconds: Some(720),
        reason: Some("bad-gateway".to_owned()),
        hint: Some(hint_of_reason(Reason::BadGateway, Language::English)),
        http_status: Some(502),
        next_try_seconds: Some(30),
        has_token: false,
        ..MatomoStatus::default()
    };
    away.forecast.limit_seconds = Some(32_400);
    let notes = away.described(Language::English).notes.join("\n").replace('\u{a0}', " ");
    assert_eq!(
        notes,
        "Why: bad-gateway (HTTP 502). The proxy does not reach PHP: look at php-fpm on Matomo's \
         server.\nA single hit tries again in 30 s.\nThe oldest hit that waits meets the 24 h \
         limit in 9 h 00 min."
    );
}

#[test]
fn the_limit_that_is_named_is_the_one_that_is_set() {
    let mut late = status("a");
    late.matomo.max_age_seconds = MaxAge::new(std::time::Duration::from_secs(3_600));
    late.forecast.limit_seconds = Some(600);
    let notes = |status: &Status| {
        status.clone().described(Language::English).notes.join(" ").replace('\u{a0}', " ")
    };
    assert_eq!(notes(&late), "", "there is time enough");
    late.forecast.limit_seconds = Some(599);
    assert_eq!(notes(&late), "The oldest hit that waits meets the 1 h limit in 9 min.");
    late.forecast.limit_seconds = Some(0);
    assert!(notes(&late).starts_with("The oldest hits are over 1 h old"), "{}", notes(&late));
}

#[test]
fn a_forecast_names_the_hour() {
    let mut backlog = status("a");
    backlog.forecast = Forecast { drained_seconds: Some(7_800), limit_seconds: Some(32_400) };
    assert_eq!(
        backlog.described(Language::English).notes.join("").replace('\u{a0}', " "),
        "Drained in about 2 h 10 min at this rate, at 14:20 UTC; the 24 h limit is 9 h 00 min \
         away."
    );
}

#[test]
fn of_two_workers_each_knows_its_own_shards() {
    let (mut a, mut b) = (status("a"), status("b"));
    fn shards(status: &mut Status) -> &mut Vec<ShardStatus> {
        &mut status.queues.as_mut().expect("queues").shards
    }
    for (status, own) in [(&mut a, 0), (&mut b, 1)] {
        let name = status.worker.clone();
        shards(status)[own].holder = Some(name);
    }
    shards(&mut b)[1].oldest_seconds = Some(60);
    shards(&mut b)[0].queue.hits = Some(70);
    b.queues.as_mut().expect("queues").read_seconds_ago = 1;
    b.hour.minutes = vec![10];
    let cause = |hits| FailureCount {
        fate: Fate::Rejected,
        code: "missing".to_owned(),
        hits,
        hint: String::new(),
    };
    (a.causes, b.causes) = (vec![cause(1)], vec![cause(2)]);
    let whole = Status::merge(&[a, b]).expect("one");
    assert_eq!((whole.in_flight, whole.hour.delivered, whole.causes), (20, 14_400, vec![cause(3)]));
    assert_eq!(whole.hour.minutes, [1, 2, 13]);
    let queues = whole.queues.expect("queues");
    let holders: Vec<_> = queues.shards.iter().map(|shard| shard.holder.as_deref()).collect();
    assert_eq!(
        (holders, queues.ready(), queues.oldest_seconds()),
        (vec![Some("a"), Some("b")], 120, Some(60)),
        "the later reading"
    );
    assert_eq!(Status::merge(&[]), None);
}

#[test]
fn matomo_is_away_when_it_is_for_all_that_have_a_session() {
    let (mut a, mut b, mut offline) = (status("a"), status("b"), status("c"));
    offline.broker.connected = false;
    a.matomo.away_seconds = Some(100);
    let away = |statuses: &[Status]| Status::merge(statuses).expect("one").matomo.away_seconds;
    assert_eq!(away(&[a.clone(), b.clone()]), None);
    assert_eq!(away(&[offline.clone(), a.clone()]), Some(100));
    b.matomo.away_seconds = Some(50);
    assert_eq!(away(&[a, b, offline]), Some(50));
}

#[test]
fn every_reason_and_rule_has_a_hint_in_both_languages() {
    let plan = Plan::built_in().expect("the plan");
    for language in [Language::English, Language::French] {
        for rule in Rule::ALL {
            let hint = hint_of_rule(&plan, *rule, language);
            assert!(
                !hint.is_empty() && (!hint.contains('{') || *rule == Rule::NotAnObject),
                "{hint}"
            );
        }
        for reason in Reason::ALL {
            assert!(hint_of_reason(*reason, language).ends_with('.'), "{reason:?}");
        }
    }
    assert_eq!(
        hint_of_rule(&plan, Rule::NotInList, Language::English),
        "\"…\" is not a value of …, and none comes near."
    );
    assert!(
        hint_of_rule(&plan, Rule::NotAnObject, Language::English).ends_with("{parameter: value}.")
    );
}

#[test]
fn what_is_written_is_read_back() {
    let described = status("a").described(Language::French);
    let text = serde_json::to_string(&described).expect("JSON");
    assert_eq!(serde_json::from_str::<Status>(&text).expect("a status"), described);
}

#[test]
fn what_a_full_queue_and_a_deleted_one_mean_is_said_in_both_languages() {
    let mut full = status("a");
    full.broker.refusing = vec![RefusingQueue { name: "dnma.hits.parked".to_owned(), hits: 1_200 }];
    let english = full.clone().described(Language::English);
    assert_eq!(english.state, RelayState::QueueFull);
    assert!(english.headline.contains("dnma.hits.parked") && english.headline.contains("1,200"));
    let french = full.clone().described(Language::French).headline;
    assert!(french.contains("dnma.hits.parked") && french.contains("200 attendent"), "{french}");
    let merged = Status::merge(&[full.clone(), full.clone()]).expect("two");
    assert_eq!(
        merged.broker.refusing,
        [RefusingQueue { name: "dnma.hits.parked".to_owned(), hits: 2_400 }]
    );
    full.broker.missing = 1;
    assert_eq!(full.described(Language::English).state, RelayState::BrokerIncomplete);
}

#[test]
fn no_figure_of_another_program_overflows() {
    let mut hostile = status("a");
    hostile.in_flight = u64::MAX;
    let most = u64::MAX;
    hostile.hour =
        Hour { delivered: most, retried: most, parked: most, rejected: most, ..Hour::default() };
    hostile.broker.refusing =
        vec![RefusingQueue { name: "dnma.hits.parked".to_owned(), hits: most }; 2];
    for queues in hostile.queues.iter_mut() {
        for shard in &mut queues.shards {
            shard.queue.hits = Some(most);
        }
        queues.retries = vec![queue("q.retry.600s", most); 2];
    }
    assert_eq!((hostile.waiting(), hostile.hour.settled()), (most, most));
    for language in [Language::English, Language::French] {
        assert!(!hostile.clone().described(language).headline.is_empty());
    }
    assert!(Status::merge(&[hostile.clone(), hostile]).is_some());
}
