//! What a replay would do, by the plan in force here.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

use crate::domain::dead::mask::masked;
use crate::domain::dead::outlook::{Outlook, ReplayTerms, Sendable, Urgency};
use crate::domain::dead::{Dead, DeadQueue};
use crate::domain::hit;
use crate::domain::validate::rejecting_rule;

/// Changes that are shown as examples, one for each kind of change.
const MOST_EXAMPLES: usize = 10;

#[derive(Debug, Serialize)]
pub(super) struct ReplayForecast {
    #[serde(skip)]
    sets: BTreeMap<DeadQueue, u64>,
    chosen: u64,
    /// Would be delivered.
    replayed: u64,
    /// Of these, changed by a fix.
    mended: u64,
    /// Of these, past Matomo's 24 h line before the replay is over, were they not sent first.
    urgent: u64,
    /// Would be rejected, by the rule that would.
    rejected: BTreeMap<&'static str, u64>,
    /// Would be parked: over 24 h old, and no token.
    too_old: u64,
    rate: u32,
    seconds: u64,
    examples: BTreeMap<String, String>,
    /// How many hits are of the same second.
    #[serde(skip)]
    times: BTreeMap<Urgency, u64>,
}

impl ReplayForecast {
    pub(super) fn new(rate: u32) -> Self {
        Self {
            sets: BTreeMap::new(),
            chosen: 0,
            replayed: 0,
            mended: 0,
            urgent: 0,
            rejected: BTreeMap::new(),
            too_old: 0,
            rate,
            seconds: 0,
            examples: BTreeMap::new(),
            times: BTreeMap::new(),
        }
    }

    /// `going` is how the hit will be sent, if it will.
    pub(super) fn add(
        &mut self,
        terms: &ReplayTerms<'_>,
        dead: &Dead<'_>,
        outlook: &Outlook,
        going: Option<&Sendable>,
    ) {
        self.chosen += 1;
        *self.sets.entry(dead.dead_queue).or_default() += 1;
        match outlook {
            Outlook::Goes(_) => {}
            Outlook::Rejected(violations) => {
                *self.rejected.entry(rejecting_rule(terms.plan, violations).code()).or_default() +=
                    1
            }
            Outlook::TooOld => self.too_old += 1,
        }
        let Some(Sendable { mended, urgency }) = going else { return };
        self.replayed += 1;
        if let Some(mended) = mended {
            self.mended += 1;
            self.example(terms, dead, mended);
        }
        *self.times.entry(*urgency).or_default() += 1;
    }

    /// How long it takes, and how many must hurry, once all are added.
    pub(super) fn add_up(&mut self, now: Timestamp) {
        self.seconds = self.replayed.div_ceil(u64::from(self.rate));
        let seconds = self.seconds();
        self.urgent = self
            .times
            .iter()
            .filter(|(urgency, _)| urgency.crosses_within(seconds, now))
            .map(|(_, hits)| hits)
            .sum();
    }

    /// One for each field that changed.
    fn example(&mut self, terms: &ReplayTerms<'_>, dead: &Dead<'_>, mended: &[u8]) {
        let (Ok(before), Ok(after)) = (&dead.hit, hit::decode(mended, None)) else { return };
        for (name, _) in after.fields() {
            let (old, new) =
                (before.text(name).unwrap_or_default(), after.text(name).unwrap_or_default());
            if old != new
                && self.examples.len() < MOST_EXAMPLES
                && !self.examples.contains_key(name)
            {
                let told =
                    |value| masked(terms.plan, name, value).replace(char::is_control, "\u{fffd}");
                self.examples
                    .insert(name.to_owned(), format!("\"{}\" → \"{}\"", told(old), told(new)));
            }
        }
    }

    /// How many are chosen in each queue.
    pub(super) fn sets(&self) -> Vec<(DeadQueue, u64)> {
        self.sets.iter().map(|(dead_queue, chosen)| (*dead_queue, *chosen)).collect()
    }

    pub(super) fn chosen(&self) -> u64 {
        self.chosen
    }

    pub(super) fn goes(&self) -> u64 {
        self.replayed
    }

    /// How many must hurry.
    pub(super) fn urgent(&self) -> u64 {
        self.urgent
    }

    /// How long it takes at this rate.
    pub(super) fn seconds(&self) -> i64 {
        i64::try_from(self.seconds).unwrap_or(i64::MAX)
    }

    /// Chosen, and not sent.
    pub(super) fn stays(&self) -> u64 {
        self.chosen - self.replayed
    }

    /// Why those that stay do.
    pub(super) fn left(&self) -> Vec<(String, u64)> {
        if self.stays() == 0 {
            return Vec::new();
        }
        let rejected = self.rejected.iter().map(|(rule, hits)| (format!("left: {rule}"), *hits));
        rejected
            .chain((self.too_old > 0).then(|| ("left: too-old".to_owned(), self.too_old)))
            .collect()
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        if json {
            writeln!(out, "{}", serde_json::to_string_pretty(self)?)?;
            return Ok(());
        }
        writeln!(out, "{} hits chosen", self.chosen)?;
        let time = humantime::format_duration(Duration::from_secs(self.seconds));
        writeln!(
            out,
            "{} will be sent again, in about {time} at {} a second",
            self.replayed, self.rate
        )?;
        if self.mended > 0 {
            writeln!(out, "  {} of them mended:", self.mended)?;
        }
        for (field, change) in &self.examples {
            writeln!(out, "    {field} {change}")?;
        }
        if self.urgent > 0 {
            writeln!(
                out,
                "  {} of them would pass Matomo's limit of 24 h by then, and go first",
                self.urgent
            )?;
        }
        let fate = if self.stays() > 0 { "stay: they would be" } else { "will be" };
        for (rule, hits) in &self.rejected {
            writeln!(out, "{hits} {fate} rejected ({rule})")?;
        }
        if self.too_old > 0 {
            writeln!(
                out,
                "{} {fate} parked (over 24 h old, and no MATOMO_TOKEN_AUTH)",
                self.too_old
            )?;
        }
        Ok(())
    }
}
