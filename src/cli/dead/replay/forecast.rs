//! The forecast of a replay: what it would do, by the plan in force here.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::cli::json;
use crate::domain::dead::mask::masked;
use crate::domain::dead::outlook::{Outlook, ReplayTerms, Sendable, Urgency};
use crate::domain::dead::{Dead, DeadQueue};
use crate::domain::hit;
use crate::domain::max_age::MaxAge;
use crate::domain::validate::rejecting_rule;

/// How many changes are shown as examples, one for each field.
const MAX_EXAMPLES: usize = 10;

/// What a replay would do.
#[derive(Debug, Serialize)]
pub(super) struct ReplayForecast {
    /// How many hits are chosen in each queue.
    #[serde(skip)]
    sets: BTreeMap<DeadQueue, u64>,
    /// Hits that are chosen.
    chosen: u64,
    /// Of these, the hits that would be sent.
    replayed: u64,
    /// Of the hits that would be sent, those that a fix would change.
    fixed: u64,
    /// Of the hits that would be sent, those that would pass Matomo's age limit before the
    /// replay is over, were they not sent first.
    urgent: u64,
    /// Hits that would be rejected, by the rule that would reject them.
    rejected: BTreeMap<&'static str, u64>,
    /// Hits that would be parked, because they are over the age limit and there is no token.
    too_old: u64,
    /// The most hits per second.
    rate: u32,
    /// How long the replay would take.
    seconds: u64,
    /// What the fixes would change, by field.
    examples: BTreeMap<String, String>,
    /// How many of the hits that would be sent are equally urgent.
    #[serde(skip)]
    times: BTreeMap<Urgency, u64>,
}

impl ReplayForecast {
    /// Makes the forecast of a replay of nothing, at this rate.
    pub(super) fn new(rate: u32) -> Self {
        Self {
            sets: BTreeMap::new(),
            chosen: 0,
            replayed: 0,
            fixed: 0,
            urgent: 0,
            rejected: BTreeMap::new(),
            too_old: 0,
            rate,
            seconds: 0,
            examples: BTreeMap::new(),
            times: BTreeMap::new(),
        }
    }

    /// Adds a hit. `sendable` says how it will be sent, if it will.
    pub(super) fn add(
        &mut self,
        terms: &ReplayTerms<'_>,
        dead: &Dead<'_>,
        outlook: &Outlook,
        sendable: Option<&Sendable>,
    ) {
        self.chosen += 1;
        *self.sets.entry(dead.dead_queue).or_default() += 1;
        match outlook {
            Outlook::Deliverable(_) => {}
            Outlook::Rejected(violations) => {
                *self.rejected.entry(rejecting_rule(terms.plan, violations).code()).or_default() +=
                    1
            }
            Outlook::TooOld => self.too_old += 1,
        }
        let Some(Sendable { fixed, urgency }) = sendable else { return };
        self.replayed += 1;
        if let Some(fixed) = fixed {
            self.fixed += 1;
            self.add_examples(terms, dead, fixed);
        }
        *self.times.entry(*urgency).or_default() += 1;
    }

    /// Works out how long the replay takes and how many hits are urgent, once all are added.
    pub(super) fn add_up(&mut self, max_age: MaxAge, now: Timestamp) {
        self.seconds = self.replayed.div_ceil(u64::from(self.rate));
        let seconds = self.seconds();
        self.urgent = self
            .times
            .iter()
            .filter(|(urgency, _)| urgency.crosses_within(seconds, max_age, now))
            .map(|(_, hits)| hits)
            .sum();
    }

    /// Adds an example for each field that changed, unless there is one.
    fn add_examples(&mut self, terms: &ReplayTerms<'_>, dead: &Dead<'_>, fixed: &[u8]) {
        let (Ok(before), Ok(after)) = (&dead.hit, hit::decode(fixed, None)) else { return };
        for (name, _) in after.fields() {
            let (old, new) =
                (before.text(name).unwrap_or_default(), after.text(name).unwrap_or_default());
            if old != new && self.examples.len() < MAX_EXAMPLES && !self.examples.contains_key(name)
            {
                let displayed = |value| masked(terms.plan, name, value, &dead.visitors());
                let is_known = terms.plan.index(name).is_some();
                self.examples.insert(
                    if is_known { name.to_owned() } else { dead.shown(name) },
                    format!("\"{}\" → \"{}\"", displayed(old), displayed(new)),
                );
            }
        }
    }

    /// Returns how many hits are chosen in each queue.
    pub(super) fn sets(&self) -> Vec<(DeadQueue, u64)> {
        self.sets.iter().map(|(dead_queue, chosen)| (*dead_queue, *chosen)).collect()
    }

    /// Returns how many hits are chosen.
    pub(super) fn chosen(&self) -> u64 {
        self.chosen
    }

    /// Returns how many hits will be sent.
    pub(super) fn sendable(&self) -> u64 {
        self.replayed
    }

    /// Returns how many hits must be sent first.
    pub(super) fn urgent(&self) -> u64 {
        self.urgent
    }

    /// Returns how many seconds the replay takes at its rate.
    pub(super) fn seconds(&self) -> i64 {
        i64::try_from(self.seconds).unwrap_or(i64::MAX)
    }

    /// Returns how many of the chosen hits will not be sent.
    pub(super) fn staying(&self) -> u64 {
        self.chosen - self.replayed
    }

    /// Returns how many hits will not be sent, by the reason.
    pub(super) fn staying_by_reason(&self) -> Vec<(String, u64)> {
        if self.staying() == 0 {
            return Vec::new();
        }
        let rejected = self.rejected.iter().map(|(rule, hits)| (format!("left: {rule}"), *hits));
        rejected
            .chain((self.too_old > 0).then(|| ("left: too-old".to_owned(), self.too_old)))
            .collect()
    }

    /// Prints the forecast, as sentences or as JSON.
    pub(super) fn print(&self, as_json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if as_json {
            writeln!(out, "{}", json::pretty(self)?)?;
            return Ok(());
        }
        writeln!(out, "{} hits chosen", self.chosen)?;
        let time = humantime::format_duration(Duration::from_secs(self.seconds));
        writeln!(
            out,
            "{} will be sent again, in about {time} at {} a second",
            self.replayed, self.rate
        )?;
        if self.fixed > 0 {
            writeln!(out, "  {} of them fixed:", self.fixed)?;
        }
        for (field, change) in &self.examples {
            writeln!(out, "    {field} {change}")?;
        }
        if self.urgent > 0 {
            writeln!(
                out,
                "  {} of them would pass Matomo's age limit by then, and go first",
                self.urgent
            )?;
        }
        let fate = if self.staying() > 0 { "stay: they would be" } else { "will be" };
        for (rule, hits) in &self.rejected {
            writeln!(out, "{hits} {fate} rejected ({rule})")?;
        }
        if self.too_old > 0 {
            writeln!(
                out,
                "{} {fate} parked (over MATOMO_MAX_AGE old, and no MATOMO_TOKEN_AUTH)",
                self.too_old
            )?;
        }
        Ok(())
    }
}
