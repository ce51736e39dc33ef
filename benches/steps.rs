//! The steps that every hit costs, on the hits of a school: decode, validate, encode, and the three
//! together.

use std::hint::black_box;

use anyhow::Context as _;
use dnma_relay::domain::hit::{self, RawHit};
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::request::{self, Api};
use dnma_relay::domain::validate::{self, CheckedHit, Context};
use jiff::Timestamp;

#[path = "../tests/it/support/hits.rs"]
#[allow(dead_code, missing_docs, reason = "shared with the tests")]
mod hits;

/// The time of every hit.
const THEN: i64 = 1_732_549_235;

/// Hits that are taken in turn.
pub const HITS: usize = 100;

/// What the steps work on, and where they stand.
pub struct Desk {
    plan: Plan,
    messages: Vec<Vec<u8>>,
    first_seen: Timestamp,
}

impl Desk {
    /// The built-in plan and [`HITS`] hits that break no rule.
    pub fn new() -> anyhow::Result<Self> {
        let message = |number: usize| {
            hits::valid_at(&hits::visitor(number), &format!("page-{number}"), THEN)
                .to_string()
                .into_bytes()
        };
        Ok(Self {
            plan: Plan::built_in()?,
            messages: (0..HITS).map(message).collect(),
            first_seen: Timestamp::from_second(THEN + 1)?,
        })
    }

    fn message(&self, turn: usize) -> &[u8] {
        &self.messages[turn % HITS]
    }

    fn decode(&self, turn: usize) -> RawHit<'_> {
        hit::decode(self.message(turn), None).expect("a hit")
    }

    fn validate<'h>(&self, raw: &'h RawHit<'_>) -> CheckedHit<'h> {
        let verdict = validate::validate(&self.plan, raw, Context::at(self.first_seen));
        assert!(verdict.violations.is_empty(), "{:?}", verdict.violations);
        verdict.hit.expect("can be sent")
    }

    fn encode(&self, hit: &CheckedHit<'_>) -> Vec<u8> {
        request::encode(Api::Bulk, &self.plan, hit)
    }

    /// Does a step so many times.
    ///
    /// # Errors
    /// When there is no such step.
    pub fn repeat(&self, step: &str, times: usize) -> anyhow::Result<()> {
        let raws: Vec<RawHit<'_>> = (0..HITS).map(|turn| self.decode(turn)).collect();
        let checked: Vec<CheckedHit<'_>> = raws.iter().map(|raw| self.validate(raw)).collect();
        for turn in 0..times {
            let (raw, hit) =
                raws.get(turn % HITS).zip(checked.get(turn % HITS)).context("a hit")?;
            match step {
                "decode" => drop(black_box(self.decode(turn))),
                "validate" => drop(black_box(self.validate(raw))),
                "encode" => drop(black_box(self.encode(hit))),
                "whole" => drop(black_box(self.encode(&self.validate(&self.decode(turn))))),
                other => anyhow::bail!("no step {other}"),
            }
        }
        Ok(())
    }
}

/// Every step.
pub const STEPS: [&str; 4] = ["decode", "validate", "encode", "whole"];
