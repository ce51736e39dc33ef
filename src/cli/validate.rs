//! `dnma-relay validate`: a verdict on a file of hits before anything is sent.

use std::hash::RandomState;
use std::io::Write;
use std::process::ExitCode;

use anyhow::Context as _;
use clap::{Args, ValueEnum};
use jiff::Timestamp;

use super::Lang;
use super::Unusable;
use super::input::{Input, InputRecord};
use super::plan::PlanSource;
use crate::domain::hit::{self, RawHit};
use crate::domain::plan::Plan;
use crate::domain::rule::Rule;
use crate::domain::tenant::Sender;
use crate::domain::validate::{CheckedHit, Context, Violation, validate};
use crate::domain::visits::Visits;

mod chart;
mod html;
mod print;
mod survey;
mod tally;

use survey::Survey;
use tally::ViolationCounts;

/// Options of `validate`.
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
    which: PlanSource,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
enum Format {
    #[default]
    Text,
    Json,
    Html,
}

/// Visitors whose visit dimensions are remembered.
const VISITORS: usize = 100_000;

/// How often the clock is read: a call for each hit would cost more than it tells.
const CLOCK_EVERY: u64 = 1_000;

/// Reads every hit, and prints what is wrong.
///
/// # Errors
/// A file that cannot be read, or an output that cannot be written to.
pub fn run(options: &ValidateOptions) -> anyhow::Result<ExitCode> {
    let plan = options.which.read().map_err(Unusable)?;
    let mut input = Input::open(&options.file).map_err(Unusable)?;
    input.show_progress()?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    let mut visits = Visits::new(VISITORS, RandomState::new());
    let mut tally = ViolationCounts::new(input.counts());
    let mut survey = Survey::new(&plan);
    let mut now = Timestamp::now();
    while let Some(record) = input
        .next()
        .with_context(|| format!("{} could be read only up to hit {}", options.file, tally.hits))?
    {
        if tally.hits.is_multiple_of(CLOCK_EVERY) {
            now = Timestamp::now();
        }
        let (number, seen_at) = (record.number, record.received_at.unwrap_or(now));
        let html = options.format == Format::Html;
        let mut surveyed = |hit: &RawHit<'_>, checked: Option<&CheckedHit<'_>>| {
            if html {
                survey.add(&plan, hit, checked, seen_at);
                survey.received += u64::from(record.received_at.is_some());
            }
        };
        let violations = check(&plan, &record, seen_at, options, &mut visits, &mut surveyed);
        if options.format == Format::Json {
            print::hit(&plan, number, &violations, options.lang.into(), &mut out)?;
        }
        if html {
            survey.judge(&plan, &violations);
        }
        tally.add(&plan, number, &violations, options.lang.into());
    }
    input.finish();
    match options.format {
        Format::Text => print::text(&tally, &plan, options.lang.into(), &mut out)?,
        Format::Json => print::summary(&tally, &plan, options.lang.into(), &mut out)?,
        Format::Html => html::write(&tally, &survey, &plan, options.lang.into(), now, &mut out)?,
    }
    out.flush()?;
    Ok(if tally.with_errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn check(
    plan: &Plan,
    record: &InputRecord<'_>,
    seen_at: Timestamp,
    options: &ValidateOptions,
    visits: &mut Visits,
    surveyed: &mut dyn FnMut(&RawHit<'_>, Option<&CheckedHit<'_>>),
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
            // A file is no queue: how old its hits are says nothing of how old they would be when
            // sent.
            let default_site = options.site_id.as_deref();
            let context = Context {
                first_seen: seen_at,
                default_site,
                sent_at: None,
                has_token: true,
                sender: Sender::Unchecked,
            };
            let mut verdict = validate(plan, &hit, context);
            if let Some(checked) = &verdict.hit {
                let snapshot = visits.snapshot(plan, checked);
                verdict.violations.extend(visits.changed(plan, &snapshot));
                visits.keep(snapshot);
            }
            surveyed(&hit, verdict.hit.as_ref());
            verdict.violations
        }
    }
}
