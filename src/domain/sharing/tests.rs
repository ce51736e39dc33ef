use super::*;

const ONE: Replicas = Replicas { all: 1, short: 0 };

fn held(shards: impl IntoIterator<Item = u16>) -> BTreeSet<u16> {
    shards.into_iter().collect()
}

/// Looks until the worker may give shards up.
fn settled(shards: &[u16], held: &BTreeSet<u16>, workers: Replicas) -> Sharing {
    let mut sharing = Sharing::default();
    for _ in 0..PAUSE {
        assert_eq!(sharing.look(shards, held, workers, 0.0).give_up, Vec::<u16>::new());
    }
    sharing
}

#[test]
fn three_replicas_claim_the_shards_and_one_leaving_moves_only_its_own() {
    let owner = |workers: &[&str], shard| {
        workers.iter().max_by_key(|w| claim(w, shard)).map(|w| (*w).to_owned())
    };
    let all = ["relay-0", "relay-1", "relay-2"];
    let before: Vec<_> = (0..64).map(|s| owner(&all, s)).collect();
    for worker in all {
        let held = before.iter().filter(|o| o.as_deref() == Some(worker)).count();
        assert!((8..=36).contains(&held), "{worker} holds {held} of 64");
    }
    for (shard, owned) in (0..64).zip(&before) {
        if owned.as_deref() != Some("relay-2") {
            assert_eq!(&owner(&all[..2], shard), owned, "shard {shard} stays");
        }
    }
}

#[test]
fn the_weakest_claims_go_once_the_others_wait_behind() {
    let shards = [5, 2, 7, 0, 1, 3, 6, 4];
    let all = held(0..8);
    let two = Replicas { all: 2, short: 1 };
    let mut sharing = settled(&shards, &all, two);
    assert_eq!(sharing.look(&shards, &all, two, 0.9).give_up, [4, 6, 3, 1]);
    let rest = held([5, 2, 7, 0]);
    // The fair state: nothing to do, at any look.
    let content = Replicas { short: 0, ..two };
    for _ in 0..2 * PAUSE + STAGES {
        assert_eq!(sharing.look(&shards, &rest, content, 0.0).give_up, Vec::<u16>::new());
    }
    for _ in 0..100 {
        assert_eq!(sharing.look(&shards, &rest, content, 0.0), Handover::default());
    }
}

/// The looks at which shards were subscribed to anew, and which.
fn behind(
    sharing: &mut Sharing,
    held: &BTreeSet<u16>,
    workers: Replicas,
) -> Vec<(usize, Vec<u16>)> {
    let shards = [5, 2, 7, 0, 1, 3, 6, 4];
    let looks = (0..40).map(|look| (look, sharing.look(&shards, held, workers, 0.9).wait_behind));
    looks.filter(|(_, shards)| !shards.is_empty()).collect()
}

#[test]
fn one_that_is_not_short_waits_behind_and_then_in_the_order_of_its_claims() {
    let half = held([2, 0, 3, 4]);
    let mut sharing = Sharing::default();
    let two = Replicas { all: 2, short: 0 };
    let in_order = [(16, vec![5]), (18, vec![7]), (20, vec![1]), (22, vec![6])];
    let mut places = vec![(BEHIND, vec![5, 7, 1, 6])];
    places.extend(in_order);
    assert_eq!(behind(&mut sharing, &half, two), places, "all shares are the same");
    // Another one joins and is short: behind it, and in no other order while it is.
    let three = Replicas { all: 3, short: 1 };
    let full = held([2, 0, 3]);
    let all = vec![5, 7, 1, 6, 4];
    assert_eq!(
        behind(&mut sharing, &full, three),
        [(BEHIND, all.clone()), (LAST, all)],
        "behind those who could take one more too"
    );
    let fair = held([2, 0]);
    let mut sharing = Sharing::default();
    assert_eq!(behind(&mut sharing, &fair, three), [(BEHIND, vec![5, 7, 1, 3, 6, 4])]);
}

#[test]
fn one_that_is_new_waits_in_the_order_of_its_claims() {
    let mut sharing = Sharing::default();
    let places = behind(&mut sharing, &held([]), Replicas { all: 2, short: 1 });
    let in_order = [5, 2, 7, 0, 1, 3, 6, 4].into_iter().enumerate();
    assert_eq!(places, in_order.map(|(look, shard)| (look, vec![shard])).collect::<Vec<_>>());
    assert_eq!(sharing.standing(), Standing::Short);
}

#[test]
fn one_that_is_short_keeps_its_place_and_all_it_has() {
    let mut sharing = Sharing::default();
    assert_eq!(behind(&mut sharing, &held([3]), Replicas { all: 2, short: 1 }), []);
    assert_eq!(sharing.standing(), Standing::Short);
}

/// Eight shards and five workers, of which four hold two each: one of them gives one up, and not
/// all four at once.
#[test]
fn the_larger_share_is_given_up_for_one_that_has_nothing() {
    let shards = [0, 1, 2, 3, 4, 5, 6, 7];
    let two = held([0, 4]);
    let five = Replicas { all: 5, short: 1 };
    let mut sharing = settled(&shards, &two, five);
    assert_eq!(sharing.look(&shards, &two, five, 0.26), Handover::default(), "another one's turn");
    for _ in 1..PAUSE {
        let step = sharing.look(&shards, &two, five, 0.0);
        assert!(step.give_up.is_empty(), "those that were chosen come first");
    }
    assert_eq!(sharing.look(&shards, &two, five, 0.24).give_up, [4]);
    let one = held([0]);
    assert_eq!(sharing.look(&shards, &one, five, 0.0), Handover::default(), "the smaller share");
}

#[test]
fn alone_a_worker_gives_nothing_up() {
    let shards = [0, 1, 2];
    let mut sharing = settled(&shards, &held(0..3), ONE);
    for workers in [ONE, Replicas { all: 0, short: 0 }, Replicas { all: 1, short: 7 }] {
        for _ in 0..=PAUSE {
            let step = sharing.look(&shards, &held(0..3), workers, 0.0);
            assert_eq!(step, Handover::default());
        }
    }
}

/// More workers than shards: the smaller share is nothing, so nobody is short.
#[test]
fn more_workers_than_shards_are_content() {
    let shards = [0, 1];
    let many = Replicas { all: 3, short: 0 };
    let mut none = Sharing::default();
    for _ in 0..=PAUSE {
        assert!(none.look(&shards, &held([]), many, 0.0).give_up.is_empty());
        assert_eq!(none.standing(), Standing::Fair);
    }
    let mut sharing = settled(&shards, &held([0, 1]), many);
    assert_eq!(sharing.look(&shards, &held([0, 1]), many, 0.9).give_up, [1]);
}
