//! The options that choose the dead hits of a command.

use clap::{Args, ValueEnum};
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::Offset;

use crate::domain::answer::Reason;
use crate::domain::dead::filter::Filter;
use crate::domain::dead::{BrokerReason, DeadQueue, UNKNOWN};
use crate::domain::envelope::REASON_PLAN;
use crate::domain::rule::Rule;

/// The filters that all commands have. Several values of one option are alternatives; different
/// options must all hold.
#[derive(Debug, Clone, Args)]
pub(super) struct Choice {
    /// Which queue
    #[arg(long, value_enum, default_value_t, help_heading = "Which hits")]
    queue: QueueChoice,
    /// Code of the failure (timeout, refused, …) or of the rule (missing, not-in-list, …)
    #[arg(long, value_name = "CODE", help_heading = "Which hits")]
    reason: Vec<String>,
    /// Field at fault, by the RFTI's name
    #[arg(long, help_heading = "Which hits")]
    field: Vec<String>,
    /// Matomo's site
    #[arg(long, value_name = "SITE", help_heading = "Which hits")]
    idsite: Vec<String>,
    /// Value of dimension3
    #[arg(long, value_name = "NAME", help_heading = "Which hits")]
    exploitant: Vec<String>,
    /// Value of dimension4
    #[arg(long, value_name = "NAME", help_heading = "Which hits")]
    plateforme: Vec<String>,
    /// School: one of those in dimension1
    #[arg(long, help_heading = "Which hits")]
    uai: Vec<String>,
    /// HTTP status of the last failure
    #[arg(long, help_heading = "Which hits")]
    status: Vec<u16>,
    /// How often it was sent
    #[arg(long, value_name = "COUNT", help_heading = "Which hits")]
    attempt: Vec<u32>,
    /// Failed at this time or later: 2026-11-24T08:00:00Z, 2026-11-24 08:00 (UTC), or so long ago
    /// (2h, 3days). A hit that tells no time is in no period
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Which hits")]
    since: Option<Timestamp>,
    /// Failed before this time
    #[arg(long, value_name = "TIME", value_parser = parse_time, help_heading = "Which hits")]
    until: Option<Timestamp>,
    /// No more than so many of each queue, the first that lie there
    #[arg(long, value_name = "COUNT", help_heading = "Which hits")]
    pub(super) max: Option<u64>,
    /// The queues have no low delivery limit: somebody looked, since the broker does not tell
    #[arg(long, help_heading = "Which hits")]
    pub(super) trust_limit: bool,
    /// Whether the command prints each hit as it reads it.
    #[arg(skip)]
    pub(super) prints_rows: bool,
}

/// The queues that can be chosen.
#[derive(Debug, Clone, Copy, Default, ValueEnum)]
enum QueueChoice {
    /// Could not be delivered
    Parked,
    /// Break the plan
    Rejected,
    /// Both
    #[default]
    All,
}

impl Choice {
    /// Returns the same choice for a command that prints each hit as it reads it.
    pub(super) fn for_rows(&self, max: Option<u64>) -> Self {
        Self { prints_rows: true, max, ..self.clone() }
    }

    /// Returns the queues in the order in which they are read.
    pub(super) fn dead_queues(&self) -> &'static [DeadQueue] {
        match self.queue {
            QueueChoice::Parked => &[DeadQueue::Parked],
            QueueChoice::Rejected => &[DeadQueue::Rejected],
            QueueChoice::All => &[DeadQueue::Parked, DeadQueue::Rejected],
        }
    }

    /// Returns the filter. A code that this version does not know is pointed out, for it may be
    /// misspelt.
    pub(super) fn filter(&self) -> Filter {
        let codes = || {
            Rule::ALL
                .iter()
                .map(|rule| rule.code())
                .chain(Reason::ALL.iter().map(|reason| reason.code()))
                .chain(BrokerReason::ALL.iter().map(|reason| reason.code()))
                .chain([UNKNOWN, REASON_PLAN])
        };
        for given in self.reason.iter().filter(|given| !codes().any(|code| code == given.as_str()))
        {
            let nearest =
                codes().min_by_key(|code| strsim::osa_distance(code, given)).unwrap_or_default();
            eprintln!("note: {given} is no reason that this version knows; is {nearest} meant?");
        }
        if let (Some(since), Some(until)) = (self.since, self.until)
            && since >= until
        {
            eprintln!("note: --since is not before --until, so no hit is chosen");
        }
        let Self {
            reason,
            field,
            idsite,
            exploitant,
            plateforme,
            uai,
            status,
            attempt,
            since,
            until,
            ..
        } = self.clone();
        Filter { reason, field, idsite, exploitant, plateforme, uai, status, attempt, since, until }
    }
}

/// Reads a time, or a duration that says how long ago it was.
fn parse_time(text: &str) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return Offset::UTC.to_timestamp(time).map_err(|error| error.to_string());
    }
    let ago =
        humantime::parse_duration(text).ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok());
    ago.ok_or_else(|| {
        "neither a time (2026-11-24T08:00:00Z, 2026-11-24 08:00) nor a duration (2h, 3days)"
            .to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_moment_or_so_long_ago() {
        let of = |text| parse_time(text).map(|time| time.as_second());
        assert_eq!(of("2024-11-25T16:40:35+01:00"), Ok(1_732_549_235));
        assert_eq!(of("2024-11-25 15:40:35"), Ok(1_732_549_235));
        assert_eq!(of("2024-11-25"), Ok(1_732_492_800));
        let ago = Timestamp::now().as_second() - of("2h").expect("a duration");
        assert!((7_199..=7_201).contains(&ago), "{ago}");
        assert!(of("yesterday").is_err());
    }
}
