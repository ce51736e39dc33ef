//! A Matomo that is slow: what replicas with a limiter each get out of it, against the best setting
//! that never changes, and against what it can do at all.

use dnma_relay::domain::limiter::{Limit, LoadSignal};
use proptest::prelude::*;

use super::queueing::Server;
use super::replicas::{self, Policy, Report, Scene};

const LANES: usize = 8;
const BULK: usize = 50;

/// Times are in seconds.
fn server(slots: usize, per_request: f64, per_hit: f64) -> Server {
    Server { slots, per_request, per_hit, longest_queue: None, changes: vec![], spread: 0.05 }
}

fn scene(server: Server, replicas: usize, timeout: f64) -> Scene {
    Scene {
        server,
        starts: (0..replicas).map(|index| 0.1 * index as f64).collect(),
        lanes: LANES,
        bulk: BULK,
        timeout,
        delays: vec![timeout * 4.0 / 3.0, timeout * 8.0 / 3.0],
        policy: Policy::Limiter,
        lasts: 100.0,
        seed: 1,
    }
}

/// The share of its own limit that the server delivered between two times.
fn share(scene: &Scene, report: &Report, from: f64, to: f64) -> f64 {
    let lanes = scene.lanes * scene.starts.len();
    let limit = scene.server.could_serve(lanes, scene.bulk, from, to);
    report.hits(LoadSignal::Answered, from, to) as f64 / limit
}

fn lost(report: &Report) -> usize {
    report.hits(LoadSignal::Lost, 0.0, f64::INFINITY)
}

/// When a scene has settled, in seconds.
const SETTLED: f64 = 10.0;

/// The best share of a setting that never changes, loses and refuses nothing, and whose answers
/// stay below a latency with 95 of 100.
fn best_fixed(scene: &Scene, p95: f64) -> f64 {
    let mut best: f64 = 0.0;
    for requests in [1, 2, 4, 8] {
        for hits in [1, 2, 3, 5, 10, 20, 50] {
            let policy = Policy::Fixed(Limit { requests, hits });
            let fixed = Scene { policy, ..scene.clone() };
            let report = replicas::run(fixed);
            let refused = report.hits(LoadSignal::Refused, 0.0, f64::INFINITY);
            if lost(&report) + refused == 0 && report.latency(0.95, SETTLED, scene.lasts) < p95 {
                best = best.max(share(scene, &report, SETTLED, scene.lasts));
            }
        }
    }
    best
}

/// No copies, nothing parked, quick answers, and the full rate. Returns the share of the limit.
fn holds_the_line(scene: &Scene) -> f64 {
    let report = replicas::run(scene.clone());
    let (timeout, lasts) = (scene.timeout, scene.lasts);
    let ours = share(scene, &report, SETTLED, lasts);
    let p95 = report.latency(0.95, SETTLED, lasts);
    println!(
        "share {ours:.3}, lost {}, refused {}, p50 {:.3} s, p95 {p95:.3} s",
        lost(&report),
        report.hits(LoadSignal::Refused, 0.0, lasts),
        report.latency(0.5, SETTLED, lasts)
    );
    assert_eq!((lost(&report), report.parked), (0, 0));
    assert!(p95 < timeout / 5.0, "p95 {p95} s");
    assert!(ours >= 0.85, "{ours} of the limit");
    ours
}

#[test]
fn two_at_a_time_20_ms_a_hit() {
    let scene = scene(server(2, 0.010, 0.020), 4, 6.0);
    let (ours, best) = (holds_the_line(&scene), best_fixed(&scene, f64::INFINITY));
    println!("best {best:.3}");
    assert!(ours >= 0.95 * best, "{ours}, the best fixed setting {best}");
}

#[test]
fn two_at_a_time_100_ms_a_hit() {
    let scene = scene(server(2, 0.010, 0.100), 4, 6.0);
    let (ours, best) = (holds_the_line(&scene), best_fixed(&scene, f64::INFINITY));
    println!("best {best:.3}");
    assert!(ours >= 0.95 * best, "{ours}, the best fixed setting {best}");
}

/// A setting with more hits a request reaches more, at answers beyond a fifth of the timeout: two
/// replicas with one hit each under way wait 1.1 s of 1.2 s. So it is compared with the best that
/// keeps this.
#[test]
fn one_at_a_time_500_ms_a_hit() {
    let scene = scene(server(1, 0.050, 0.500), 2, 6.0);
    let (ours, best) = (holds_the_line(&scene), best_fixed(&scene, scene.timeout / 5.0));
    println!("best with short answers {best:.3}, any {:.3}", best_fixed(&scene, f64::INFINITY));
    assert!(ours >= 0.95 * best, "{ours}, the best fixed setting {best}");
}

#[test]
fn a_full_pool_of_processes() {
    let server = Server { longest_queue: Some(6), ..server(2, 0.010, 0.020) };
    let scene = scene(server, 4, 6.0);
    let (ours, best) = (holds_the_line(&scene), best_fixed(&scene, f64::INFINITY));
    println!("best {best:.3}");
    assert!(ours >= 0.95 * best, "{ours}, the best fixed setting {best}");
}

/// `MATOMO_API=single`.
#[test]
fn one_hit_a_request() {
    for per_hit in [0.002, 0.020, 0.100] {
        holds_the_line(&Scene { bulk: 1, ..scene(server(2, 0.010, per_hit), 4, 6.0) });
    }
}

/// So fast that only refusals hold the replicas back.
#[test]
fn a_small_pool_of_fast_processes_refuses_little() {
    let server = Server { longest_queue: Some(6), ..server(2, 0.002, 0.0002) };
    let scene = Scene { lasts: 60.0, ..scene(server, 4, 6.0) };
    holds_the_line(&scene);
    let report = replicas::run(scene.clone());
    let refused = report.hits(LoadSignal::Refused, SETTLED, scene.lasts) as f64;
    let delivered = report.hits(LoadSignal::Answered, SETTLED, scene.lasts) as f64;
    assert!(refused < 0.01 * delivered, "{refused} of {delivered}");
}

#[test]
fn a_stall_costs_what_was_under_way() {
    let (stalls, ends) = (30.0, 50.0);
    let changes = vec![(stalls, f64::INFINITY), (ends, 1.0)];
    let scene = scene(Server { changes, ..server(4, 0.010, 0.020) }, 4, 6.0);
    let report = replicas::run(scene.clone());
    let back = share(&scene, &report, ends + 10.0, scene.lasts);
    let began_in = |from: f64, to: f64| {
        let all = report.ended.iter().filter(|ended| ended.outcome == LoadSignal::Lost);
        all.filter(move |ended| from <= ended.began && ended.began < to).map(|ended| ended.hits)
    };
    let under_way: usize = began_in(0.0, stalls).sum();
    let probes: Vec<usize> = began_in(stalls, ends).collect();
    println!("under way {under_way}, during the stall {probes:?}, back at {back:.3}");
    assert!(back > 0.9, "{back}");
    assert_eq!(began_in(ends, f64::INFINITY).count(), 0, "lost after the stall");
    assert_eq!(report.parked, 0);
    // Those that free lanes sent before the silence was noticed, and then single hits.
    assert!(under_way <= 160, "{under_way}");
    assert!(probes.iter().sum::<usize>() <= 40, "{probes:?}");
}

/// After a change of speed the limit is reached again 10 s after what was under way at the change
/// is served.
fn follows_a_change(server: &Server, timeout: f64) {
    const CHANGE: f64 = 40.0;
    for factor in [50.0, 0.02] {
        let base = if factor > 1.0 { factor } else { 1.0 };
        let server = Server {
            per_request: server.per_request / base,
            per_hit: server.per_hit / base,
            changes: vec![(CHANGE, factor)],
            ..server.clone()
        };
        let scene = Scene { lasts: CHANGE + 60.0 + 3.0 * timeout, ..scene(server, 4, timeout) };
        let report = replicas::run(scene.clone());
        let from = report.dead_until.max(CHANGE);
        assert!(from + 40.0 < scene.lasts, "nothing left to measure");
        let back = share(&scene, &report, from + 10.0, from + 40.0);
        let late = report.ended.iter().any(|e| e.outcome == LoadSignal::Lost && e.began > from);
        println!("{factor}: lost {}, served until {from:.1} s, {back:.3}", lost(&report));
        assert!(back >= 0.9, "{back} of the limit after a change by {factor}");
        assert!(!late, "lost although nothing was in its way");
        assert_eq!(report.parked, 0);
    }
}

#[test]
fn a_change_of_speed_by_50_is_followed() {
    follows_a_change(&server(2, 0.010, 0.100), 6.0);
    follows_a_change(&server(4, 0.010, 0.050), 6.0);
    follows_a_change(&server(2, 0.010, 0.100), 65.0);
}

/// The shares of four replicas, of whom the last joins the others later, as parts of a fair one:
/// from 30 s after that on, for 30 s.
fn shares_after_joining(server: &Server, timeout: f64, seed: u64) -> Vec<f64> {
    const JOINS: f64 = 30.0;
    let (from, to) = (JOINS + 30.0, JOINS + 60.0);
    let mut scene = Scene { lasts: to, seed, ..scene(server.clone(), 4, timeout) };
    scene.starts[3] = JOINS;
    let report = replicas::run(scene);
    assert_eq!(lost(&report), 0);
    let fair = report.hits(LoadSignal::Answered, from, to) as f64 / 4.0;
    let shares: Vec<f64> =
        (0..4).map(|replica| report.delivered_by(replica, from, to) as f64 / fair).collect();
    println!("{shares:.2?}");
    shares
}

#[test]
fn one_replica_that_joins_three_gets_its_share() {
    let servers = [server(2, 0.010, 0.020), server(2, 0.010, 0.100), server(16, 0.010, 0.100)];
    for (server, seed) in servers.iter().flat_map(|server| (1..4).map(move |seed| (server, seed))) {
        let shares = shares_after_joining(server, 6.0, seed);
        assert!(shares.iter().all(|share| (0.75..=1.25).contains(share)), "{shares:?}");
    }
    // With the usual timeout an answer may take seconds: in 30 s each has six to eight requests,
    // so that one more or less is much of a share.
    for seed in 1..4 {
        let shares = shares_after_joining(&servers[1], 65.0, seed);
        assert!(shares.iter().all(|share| (0.55..=1.45).contains(share)), "{shares:?}");
    }
}

#[test]
fn full_speed_costs_nothing() {
    let sinks = [server(64, 0.002, 0.0001), server(8, 0.004, 0.0005), server(4, 0.0069, 0.002)];
    for server in sinks {
        let ours = Scene { lasts: 10.0, ..scene(server, 1, 65.0) };
        let report = replicas::run(ours.clone());
        let policy = Policy::Fixed(Limit { requests: LANES, hits: BULK });
        let fixed = replicas::run(Scene { policy, ..ours.clone() });
        let (ours, fixed) = (share(&ours, &report, 0.0, 10.0), share(&ours, &fixed, 0.0, 10.0));
        let full = report.ended.iter().find(|ended| ended.hits == BULK).expect("a full bulk");
        println!("{ours:.3} and {fixed:.3}, full after {:.3} s", full.began);
        assert!(ours >= 0.97 * fixed, "{ours} and {fixed}");
    }
}

fn any_server() -> impl Strategy<Value = Server> {
    (1..65_usize, 0.0..3.0_f64, 0.02..0.3_f64).prop_map(|(slots, power, overhead)| {
        let per_hit = 0.001 * 10_f64.powf(power);
        server(slots, per_hit * overhead, per_hit)
    })
}

/// Where one hit of each replica takes long already, no limit helps.
fn is_crowded(server: &Server, replicas: usize, timeout: f64) -> bool {
    replicas as f64 / server.slots as f64 * server.work(1) > timeout / 10.0
}

fn cases() -> ProptestConfig {
    let usual = ProptestConfig::default();
    let cases = usual.cases / 8;
    ProptestConfig { cases, failure_persistence: None, max_shrink_iters: 50, ..usual }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn every_matomo_gets_what_it_can_take(
        server in any_server(),
        replicas in 1..17_usize,
        seed in any::<u64>(),
    ) {
        prop_assume!(!is_crowded(&server, replicas, 65.0));
        let slow = if server.per_hit > 0.02 { 1.0 } else { 0.1 };
        let (from, lasts) = (100.0 * slow, 250.0 * slow);
        let scene = Scene { lasts, seed, ..scene(server, replicas, 65.0) };
        let report = replicas::run(scene.clone());
        let ours = share(&scene, &report, from, lasts);
        let p95 = report.latency(0.95, from, lasts);
        prop_assert_eq!(lost(&report), 0);
        prop_assert!(p95 < 13.0, "p95 {} s", p95);
        prop_assert!(ours >= 0.85, "{} of the limit", ours);
    }

    #[test]
    fn trouble_costs_what_it_meets(
        server in any_server(),
        replicas in 1..17_usize,
        factor in prop_oneof![2 => 2.0..50.0_f64, 1 => Just(f64::INFINITY)],
        trouble in 1.0..100.0_f64,
        queue in prop::option::of(4..20_usize),
        seed in any::<u64>(),
    ) {
        const BEGINS: f64 = 30.0;
        const TIMEOUT: f64 = 20.0;
        let finite = if factor.is_finite() { factor } else { 1.0 };
        let server = Server { per_request: server.per_request / 10.0,
            per_hit: server.per_hit / 10.0,
            slots: server.slots.min(12), ..server };
        prop_assume!(!is_crowded(&server, replicas, TIMEOUT / finite));
        let ends = BEGINS + trouble;
        let changes = vec![(BEGINS, factor), (ends, 1.0)];
        let server = Server { changes, longest_queue: queue, ..server };
        let scene = Scene { lasts: ends + 60.0, seed, ..scene(server, replicas, TIMEOUT) };
        let report = replicas::run(scene.clone());
        let over = report.dead_until.max(ends);
        for ended in report.ended.iter().filter(|ended| ended.outcome == LoadSignal::Lost) {
            prop_assert!(ended.began + TIMEOUT > BEGINS && ended.began <= over, "{:?}", ended);
        }
        // Nobody sends faster than so many lanes can, whatever the processes could take.
        let before = share(&scene, &report, BEGINS / 2.0, BEGINS);
        let back = share(&scene, &report, over + 10.0, scene.lasts);
        let is_back = over + 20.0 > scene.lasts || back >= 0.9 * before && back >= 0.8;
        prop_assert!(is_back, "{} of the limit, and {} before", back, before);
    }
}
