//! `dnma-relay validate`: checks a file of hits against the plan before anything is sent.

use std::hash::RandomState;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::input::{Input, InputRecord};
use super::plan::PlanSource;
use super::{Lang, Unusable};
use crate::domain::hit::{self, RawHit};
use crate::domain::max_age::MaxAge;
use crate::domain::plan::Plan;
use crate::domain::rule::Rule;
use crate::domain::tenant::Sender;
use crate::domain::validate::{CheckedHit, Context, Violation, validate};
use crate::domain::visits::Visits;

mod chart;
mod counts;
mod html;
mod print;
mod statistics;

use counts::ViolationCounts;
use statistics::FileStatistics;

/// The command line options of `validate`.
#[derive(Debug, Args)]
pub struct ValidateOptions {
    /// File of hits; - for standard input
    file: String,
    /// Text groups equal violations; json has one object a hit and a summary at the end; html is
    /// one page to read and to send
    #[arg(long, value_enum, default_value_t)]
    format: Format,
    /// Language of the messages
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
    /// Site for hits without idsite, as MATOMO_SITE_ID does
    #[arg(long)]
    site_id: Option<String>,
    #[command(flatten)]
    source: PlanSource,
}

/// The formats of the result.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
    Html,
}

/// How many visitors' visit dimensions are remembered.
const VISITORS: usize = 100_000;

/// After how many hits the clock is read again: a call for each hit would cost more than it is
/// worth.
const CLOCK_EVERY: u64 = 1_000;

/// Reads every hit, and prints what is wrong.
///
/// # Errors
/// Fails for a file that cannot be read, and for an output that cannot be written to.
pub fn run(options: &ValidateOptions) -> anyhow::Result<ExitCode> {
    let plan = options.source.read().map_err(Unusable)?;
    let mut input = Input::open(&options.file).map_err(Unusable)?;
    input.show_progress()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut visits = Visits::new(VISITORS, RandomState::new());
    let mut counts = ViolationCounts::new(input.unit());
    let mut statistics = FileStatistics::new(&plan);
    let mut now = Timestamp::now();
    while let Some(record) = input
        .next()
        .with_context(|| format!("{} could be read only up to hit {}", options.file, counts.hits))?
    {
        if counts.hits.is_multiple_of(CLOCK_EVERY) {
            now = Timestamp::now();
        }
        let (number, seen_at) = (record.number, record.received_at.unwrap_or(now));
        let html = options.format == Format::Html;
        let mut on_readable = |hit: &RawHit<'_>, checked: Option<&CheckedHit<'_>>| {
            if html {
                statistics.add(&plan, hit, checked, seen_at);
                statistics.received += u64::from(record.received_at.is_some());
            }
        };
        let violations = check(&plan, &record, seen_at, options, &mut visits, &mut on_readable);
        if options.format == Format::Json {
            print::hit(&plan, number, &violations, options.lang.into(), &mut out)?;
        }
        if html {
            statistics.count_violations(&plan, &violations);
        }
        counts.add(&plan, number, &violations, options.lang.into());
    }
    input.finish();
    match options.format {
        Format::Text => print::text(&counts, &plan, options.lang.into(), &mut out)?,
        Format::Json => print::summary(&counts, &plan, options.lang.into(), &mut out)?,
        Format::Html => {
            html::write(&counts, &statistics, &plan, options.lang.into(), now, &mut out)?
        }
    }
    out.flush()?;
    Ok(if counts.with_errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Checks one hit, and calls `on_readable` if it can be read. Returns every violation.
fn check(
    plan: &Plan,
    record: &InputRecord<'_>,
    seen_at: Timestamp,
    options: &ValidateOptions,
    visits: &mut Visits,
    on_readable: &mut dyn FnMut(&RawHit<'_>, Option<&CheckedHit<'_>>),
) -> Vec<Violation> {
    let body = match &record.body {
        Ok(body) => body,
        Err(broken) => {
            return vec![Violation {
                value: Some(broken.clone()),
                ..Violation::of_message(Rule::Malformed)
            }];
        }
    };
    match hit::decode(body, record.content_type) {
        Err(error) => vec![Violation::from(error)],
        Ok(hit) => {
            // How old the hits of a file are says nothing about how old they would be when sent, so
            // none is too old.
            let default_site = options.site_id.as_deref();
            let context = Context {
                first_seen: seen_at,
                default_site,
                sent_at: None,
                has_token: true,
                max_age: MaxAge::default(),
                sender: Sender::Unchecked,
                routing_key: None,
            };
            let mut verdict = validate(plan, &hit, context);
            if let Some(checked) = &verdict.hit {
                let snapshot = visits.snapshot(plan, checked);
                verdict.violations.extend(visits.changed(plan, &snapshot));
                visits.keep(snapshot);
            }
            on_readable(&hit, verdict.hit.as_ref());
            verdict.violations
        }
    }
}
