//! Checks hits against the national tagging plan with the library alone: no RabbitMQ, no Matomo, no
//! network. For developers of an ENT who want to check what they are about to publish.
//!
//! ```sh
//! cargo run --no-default-features --example check_hits -- hits.ndjson
//! cargo run --no-default-features --example check_hits -- --lang fr < hits.ndjson
//! ```
//!
//! The input has one hit per line, in a form that the relay takes from a queue: a JSON object of
//! Matomo parameters, a query string, or a URL. Each violation is printed with the number of its
//! line, its severity, the stable code of its rule, its field, and a sentence. The exit code is 1
//! if the relay would reject a hit under `VALIDATION=filter`, its default, and 2 if the input
//! cannot be read.

use std::error::Error;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write};
use std::process::ExitCode;

use dnma_relay::domain::hit;
use dnma_relay::domain::plan::Plan;
use dnma_relay::domain::rule::Language;
use dnma_relay::domain::validate::{Context, Validation, Violation, validate};
use jiff::Timestamp;

const USAGE: &str = "usage: check_hits [--lang en|fr] [FILE]";

/// What the command line asks for.
struct Options {
    /// The file to read; standard input if there is none, or if it is `-`.
    file: Option<String>,
    /// The language of the sentences.
    language: Language,
}

/// How many hits were checked, and what was found.
#[derive(Default)]
struct Summary {
    /// All hits of the input.
    hits: u64,
    /// Hits that break a rule, warnings included.
    with_violations: u64,
    /// Hits that the relay would reject.
    rejected: u64,
}

fn main() -> ExitCode {
    match run() {
        Ok(Summary { rejected: 0, .. }) => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("check_hits: {error}");
            ExitCode::from(2)
        }
    }
}

/// Reads the input to its end, and prints what is wrong with each hit.
fn run() -> Result<Summary, Box<dyn Error>> {
    let options = options(std::env::args().skip(1))?;
    let plan = Plan::built_in()?;
    let input: Box<dyn BufRead> = match options.file.as_deref() {
        None | Some("-") => Box::new(io::stdin().lock()),
        Some(path) => {
            let file = File::open(path).map_err(|error| format!("{path}: {error}"))?;
            Box::new(BufReader::new(file))
        }
    };
    let mut output = io::stdout().lock();
    let mut summary = Summary::default();
    for (number, line) in (1..).zip(input.split(b'\n')) {
        let line = line?;
        if line.trim_ascii().is_empty() {
            continue;
        }
        let (violations, passes) = check(&plan, &line, Timestamp::now());
        summary.hits += 1;
        summary.with_violations += u64::from(!violations.is_empty());
        summary.rejected += u64::from(!passes);
        for violation in &violations {
            print(&mut output, number, violation, &plan, options.language)?;
        }
    }
    let Summary { hits, with_violations, rejected } = summary;
    writeln!(
        output,
        "{hits} hits checked against the plan {}: {with_violations} with violations, {rejected} \
         would be rejected",
        plan.version
    )?;
    Ok(summary)
}

/// What a hit breaks, and whether the relay would deliver it.
fn check(plan: &Plan, message: &[u8], now: Timestamp) -> (Vec<Violation>, bool) {
    let hit = match hit::decode(message, None) {
        Ok(hit) => hit,
        Err(error) => return (vec![Violation::from(error)], false),
    };
    // The age of a file is not the age that its hits have when they are published, so hits over 24
    // h old are not reported: they count as hits of a relay that has a token for them.
    let context = Context { has_token: true, ..Context::at(now) };
    let verdict = validate(plan, &hit, context);
    let passes = verdict.hit.is_some() && Validation::Filter.passes(plan, &verdict.violations);
    (verdict.violations, passes)
}

/// Prints a violation as a line of its own.
fn print(
    output: &mut impl Write,
    number: u64,
    violation: &Violation,
    plan: &Plan,
    language: Language,
) -> io::Result<()> {
    writeln!(
        output,
        "line {number}: {} {} {}: {}",
        plan.severity(violation.rule).code(),
        violation.rule.code(),
        violation.field.as_deref().unwrap_or("-"),
        violation.message(plan, language)
    )
}

/// Reads the arguments of the command line.
fn options(mut arguments: impl Iterator<Item = String>) -> Result<Options, String> {
    let mut options = Options { file: None, language: Language::English };
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--lang" => {
                options.language = match arguments.next().as_deref() {
                    Some("en") => Language::English,
                    Some("fr") => Language::French,
                    _ => return Err(USAGE.to_owned()),
                }
            }
            option if option.starts_with("--") => return Err(USAGE.to_owned()),
            _ if options.file.is_some() => return Err(USAGE.to_owned()),
            _ => options.file = Some(argument),
        }
    }
    Ok(options)
}
