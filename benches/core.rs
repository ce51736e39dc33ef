//! Time and memory of each step, for [`TIMES`] hits in a row: `make micro`.

mod steps;

use divan::counter::ItemsCount;
use divan::{AllocProfiler, Bencher};

use steps::{Desk, STEPS};

/// So many that what is made ready before them (the same steps, for [`HITS`](steps::HITS) hits) is
/// less than a hundredth.
const TIMES: usize = 100_000;

#[global_allocator]
static ALLOCATIONS: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

#[divan::bench(args = STEPS)]
fn a_hundred_thousand_hits(bencher: Bencher<'_, '_>, step: &str) {
    let desk = Desk::new().expect("the built-in plan");
    bencher.counter(ItemsCount::new(TIMES)).bench(|| desk.repeat(step, TIMES).expect("a step"));
}
