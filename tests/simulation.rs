//! The pure core under thousands of random histories with virtual time: the lanes, site memory and
//! breaker that the service drives, with retry queues around them, against a Matomo whose weather
//! changes.
//!
//! What a test with real processes shows in half a minute for one history, this shows in
//! milliseconds. A failing history is shrunk and printed.
#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    unreachable_pub,
    reason = "a test that fails may panic"
)]

#[path = "simulation/chance.rs"]
mod chance;
#[path = "simulation/matomo.rs"]
mod matomo;
#[path = "simulation/queueing.rs"]
mod queueing;
#[path = "simulation/replicas.rs"]
mod replicas;
#[path = "simulation/sharing.rs"]
mod sharing;
#[path = "simulation/slow.rs"]
mod slow;
#[path = "simulation/world.rs"]
mod world;

use std::time::Duration;

use dnma_relay::domain::breaker::SUSPECT_RUN;
use matomo::{Spell, Weather};
use proptest::prelude::*;
use world::{Fate, History, World};

const SECONDS: fn(u64) -> Duration = Duration::from_secs;

fn weather() -> impl Strategy<Value = Weather> {
    prop_oneof![
        3 => Just(Weather::Fine),
        6 => clear(5_000),
        1 => Just(Weather::Redirect),
        1 => Just(Weather::GatewayTimeout),
        1 => Just(Weather::TimedOut),
        1 => Just(Weather::Broken),
        1 => Just(Weather::LockWait),
    ]
}

/// Outages in which nothing is stored.
fn clear(longest_retry_after: u64) -> impl Strategy<Value = Weather> {
    prop_oneof![
        Just(Weather::Unreachable),
        Just(Weather::BadGateway),
        Just(Weather::DatabaseDown),
        Just(Weather::TrackerOff),
        Just(Weather::LoginPage),
        (0..longest_retry_after).prop_map(Weather::TooManyRequests),
    ]
}

fn spell() -> impl Strategy<Value = Spell> {
    (weather(), 1..3_000_u64)
        .prop_map(|(weather, seconds)| Spell { weather, lasts: SECONDS(seconds) })
}

fn history() -> impl Strategy<Value = History> {
    let hits = prop::collection::vec((0..600_u64, 0..12_u8), 1..150);
    let crashes = prop::collection::vec(0..4_000_u64, 0..3);
    (
        hits,
        prop::collection::vec(spell(), 0..6),
        1..5_usize,
        1..12_usize,
        crashes,
        0..3_u8,
        any::<bool>(),
    )
        .prop_map(|(hits, spells, lanes, bulk, crashes, poison, superuser)| History {
            hits: hits
                .into_iter()
                .chain(trickle(&spells))
                .map(|(at, visitor)| (SECONDS(at), visitor))
                .collect(),
            spells,
            lanes,
            bulk,
            crashes: crashes.into_iter().map(SECONDS).collect(),
            // Visitors below this make Matomo fail, and those of the next number are refused.
            poison,
            superuser,
            delays: vec![SECONDS(600), SECONDS(1_200)],
        })
}

/// A good hit every five minutes, until the longest retry after the last spell is over: while
/// nothing but hits that Matomo cannot store comes in, nobody can tell them from an outage, and
/// they wait.
fn trickle(spells: &[Spell]) -> impl Iterator<Item = (u64, u8)> {
    let end: u64 = spells.iter().map(|spell| spell.lasts.as_secs()).sum();
    (0..end + 12_000).step_by(300).map(|at| (at, u8::MAX))
}

/// `PROPTEST_CASES` asks for more.
fn config() -> ProptestConfig {
    let usual = ProptestConfig::default();
    ProptestConfig {
        cases: usual.cases * 4,
        failure_persistence: None,
        max_shrink_iters: usual.max_shrink_iters.min(2_000),
        ..usual
    }
}

proptest! {
    #![proptest_config(config())]

    /// Whatever the weather: nothing is lost, nothing is sent again that surely was stored,
    /// attempts are bounded, a visitor's hits are in one request at a time, and the line always
    /// comes to rest.
    #[test]
    fn every_history_ends_with_the_books_closed(history in history()) {
        let poisonous = history.poison;
        let end = World::new(history).run();
        for hit in &end.hits {
            match hit.fate {
                Fate::Delivered => {
                    prop_assert!(hit.stored > 0, "acked, and not in Matomo: {hit:?}");
                }
                Fate::Parked => {
                    prop_assert_eq!(hit.attempts, 3, "parked with retries left: {:?}", hit);
                }
                Fate::UnderWay => prop_assert!(false, "lost or stuck: {:?}", hit),
            }
            prop_assert!(hit.attempts <= 3, "more attempts than the schedule has: {hit:?}");
            prop_assert!(hit.stored <= 1 + hit.doubts, "stored again without a doubt: {hit:?}");
            let most = 3 + hit.crashes + hit.singled;
            prop_assert!(hit.doubts <= most, "stored without bound: {hit:?}");
            if hit.visitor < poisonous {
                prop_assert_eq!(hit.stored, 0, "a hit that Matomo cannot store: {:?}", hit);
            }
        }
        prop_assert_eq!(end.overlaps, 0, "one visitor in two requests");
    }

    /// An outage in which nothing is stored, of any length: it spends the retries of what met it,
    /// and of nothing else, parks nothing, and ends soon after Matomo is back.
    #[test]
    fn an_outage_costs_only_what_met_it(
        kind in clear(5),
        calm in 0..300_u64,
        lasts in 1..20_000_u64,
        lanes in 1..9_usize,
        bulk in 1..51_usize,
        hits in prop::collection::vec((0..600_u64, any::<u8>()), 1..400),
    ) {
        let spells = vec![
            Spell { weather: Weather::Fine, lasts: SECONDS(calm) },
            Spell { weather: kind, lasts: SECONDS(lasts) },
        ];
        let hits: Vec<_> = hits.into_iter().map(|(at, visitor)| (SECONDS(at), visitor)).collect();
        let back = SECONDS(calm + lasts);
        let end = World::new(History {
            hits,
            spells,
            lanes,
            bulk,
            crashes: vec![],
            poison: 0,
            superuser: false,
            delays: vec![SECONDS(600), SECONDS(1_200)],
        }).run();
        let spent: u32 = end.hits.iter().map(|hit| hit.attempts).sum();
        // What was in flight, and the run of failures that one hit's fault could explain.
        let met = lanes * bulk + SUSPECT_RUN as usize;
        prop_assert!(
            spent as usize <= met,
            "{spent} retries spent, but at most {met} hits can have met the outage"
        );
        let parked = end.hits.iter().filter(|hit| hit.fate == Fate::Parked).count();
        // A 500 or 502 may be one hit's fault. In a quiet hour it takes that run to tell, and a hit
        // of the run can spend all.
        let may_be_a_hits = matches!(kind, Weather::BadGateway | Weather::DatabaseDown);
        let quiet = if may_be_a_hits { (SUSPECT_RUN as usize + lanes) / 3 } else { 0 };
        prop_assert!(parked <= quiet, "an outage parked {parked} hits");
        for hit in &end.hits {
            let once = u32::from(hit.fate == Fate::Delivered);
            prop_assert!(hit.stored == once, "lost or repeated: {hit:?}");
        }
        // The breaker's longest pause, the longest Retry-After of this weather, and the longest
        // delay, where all hits may be.
        if let Some(resumed) = end.first_stored_after(back) {
            prop_assert!(
                resumed <= back + SECONDS(1_200 + 7 + 5),
                "resumed {resumed:?}, Matomo was back at {back:?}"
            );
        }
        let rest = back.max(SECONDS(600)) + SECONDS(2_000);
        prop_assert!(end.at <= rest, "came to rest at {:?} only", end.at);
    }
}
