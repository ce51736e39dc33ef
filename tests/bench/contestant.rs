//! Who is measured, and under what circumstances.

use super::peers::Peer;
use super::sink::Behaviour;

/// Prefetch of each worker, over all shards, as the relay's default is for this bulk.
pub const BULK: usize = 50;

#[derive(Debug, Clone)]
pub struct Contestant {
    pub name: &'static str,
    pub kind: Kind,
    /// Hits a request.
    pub bulk: usize,
    /// Hits a run.
    pub hits: usize,
    /// One in so many hits breaks the plan; 0: none.
    pub broken: usize,
    pub sink: Behaviour,
}

#[derive(Debug, Clone)]
pub enum Kind {
    /// Bare lapin, with so many hits an ack.
    Ceiling {
        every: usize,
    },
    Relay {
        replicas: usize,
        vars: Vec<(&'static str, &'static str)>,
    },
    Peer(Peer),
}

/// What everything else is measured against.
pub const CEILING: &str = "bare lapin, acks together";
pub const RELAY: &str = "relay, bulk 50";
pub const SLOW: &str = "relay, slow sink";

/// All of them, with `hits` a run for those that are fast.
pub fn all(hits: usize, peers: &[Peer]) -> Vec<Contestant> {
    let slowly = (hits / 8).max(200);
    // Half a minute: what one relay holds at a time is little beside it, so the shards are full
    // while it is measured.
    let at_the_slow_sink = hits / 2;
    let fine = Behaviour::default();
    let of = |name, kind, bulk, hits| Contestant { name, kind, bulk, hits, broken: 0, sink: fine };
    let relay = |name, bulk, vars: &[(&'static str, &'static str)]| {
        of(name, Kind::Relay { replicas: 1, vars: vars.to_vec() }, bulk, hits)
    };
    let mut all = vec![
        of(CEILING, Kind::Ceiling { every: 50 }, 0, hits),
        of("bare lapin, acks one by one", Kind::Ceiling { every: 1 }, 0, hits),
        relay(RELAY, 50, &[]),
        Contestant {
            kind: Kind::Relay { replicas: 3, vars: Vec::new() },
            ..relay("relay, bulk 50, three replicas", 50, &[])
        },
        relay("relay, bulk 100", 100, &[("MATOMO_BULK_SIZE", "100")]),
        relay("relay, bulk 10", 10, &[("MATOMO_BULK_SIZE", "10")]),
        relay("relay, bulk 1", 1, &[("MATOMO_BULK_SIZE", "1")]),
        relay("relay, MATOMO_API=single", 1, &[("MATOMO_API", "single")]),
        Contestant { broken: 50, ..relay("relay, 2 % rejected", 50, &[]) },
        Contestant { broken: 1, ..relay("relay, all rejected", 50, &[]) },
        Contestant {
            sink: Behaviour { refuse_first: true, ..fine },
            ..relay("relay, every hit retried once", 50, &[("RETRY_DELAYS", "1s,1s")])
        },
        Contestant { sink: Behaviour::slow(), hits: at_the_slow_sink, ..relay(SLOW, 50, &[]) },
    ];
    for peer in peers {
        all.push(of(peer.one_by_one(), Kind::Peer(*peer), 1, slowly));
        all.push(of(peer.in_bulk(), Kind::Peer(*peer), BULK, slowly));
    }
    all
}
