//! Time and memory of each step, for [`HITS`](steps::HITS) hits in a row: `make micro`.

mod steps;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};

use steps::{Desk, HITS, STEPS};

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = STEPS)]
fn a_hundred_hits(bencher: Bencher<'_, '_>, step: &str) {
    let desk = Desk::new().expect("the built-in plan");
    bencher.counter(ItemsCount::new(HITS)).bench(|| desk.repeat(step, HITS).expect("a step"));
}
