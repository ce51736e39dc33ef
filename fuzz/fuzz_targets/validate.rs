//! Whatever can be read is checked, told in both languages and encoded, and what was encoded reads
//! the same.
#![no_main]

use std::sync::LazyLock;

use dnma_relay::domain::hit::decode;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::request::{Api, encode};
use dnma_relay::domain::rule::Language;
use dnma_relay::domain::validate::{Context, validate};
use jiff::Timestamp;
use libfuzzer_sys::fuzz_target;

static PLAN: LazyLock<Plan> = LazyLock::new(|| Plan::built_in().expect("the built-in plan"));

fuzz_target!(|body: &[u8]| {
    let Ok(hit) = decode(body, None) else { return };
    let verdict = validate(&PLAN, &hit, Context::at(Timestamp::UNIX_EPOCH));
    for violation in &verdict.violations {
        let _texts =
            (violation.report(&PLAN, Language::English), violation.report(&PLAN, Language::French));
    }
    let Some(checked) = verdict.hit else { return };
    let mut json = encode(Api::Bulk, &PLAN, &checked);
    json.push(b'}');
    let query = encode(Api::Single, &PLAN, &checked);
    let json = decode(&json, Some("application/json")).expect("a bulk's hit is a hit");
    let query = decode(&query, Some("application/x-www-form-urlencoded"))
        .expect("a single request's query is a hit");
    // In a query a surrounding space is a part of the value as well.
    assert_eq!(json, query);
});
