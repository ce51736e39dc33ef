//! The result as one page for people, to read and to send. It has no script, fetches nothing, and
//! holds no personal data.

use std::borrow::Borrow;
use std::io::Write;

use askama::Template;
use jiff::Timestamp;

use super::chart::{self, TimeChart};
use super::counts::{ViolationCounts, not_checked};
use super::statistics::{self, FileStatistics, LAG_CLASSES};
use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Severity};

mod coverage;
mod findings;
mod words;

use coverage::{CoveredField, covered};
use findings::{ReportFinding, findings};
use words::spaced;

/// How many values of one kind the page holds, so that it stays small enough to send.
const MAX_VALUES: usize = 5_000;

/// The page. Its words are in the template.
#[derive(Debug, Template)]
#[template(path = "report.html")]
struct ReportPage<'p> {
    /// The language of the page.
    language: Language,
    /// How many hits have violations.
    counts: &'p ViolationCounts,
    /// The statistics of the file.
    statistics: &'p FileStatistics,
    /// The version of the plan.
    version: &'p str,
    /// The version of the program.
    program: &'p str,
    /// When the page was made.
    made: Timestamp,
    /// Hits that could be read.
    readable: u64,
    /// Hits with errors, with warnings only, and with neither.
    whole: BarPieces,
    /// The sections of the plan.
    sections: Vec<ReportSection<'p>>,
    /// The errors that were found.
    errors: Vec<ReportFinding>,
    /// The warnings that were found.
    warnings: Vec<ReportFinding>,
    /// The values of each field with a list.
    coverage: Vec<CoveredField<'p>>,
    /// The first and the last second of the hours that have hits.
    period: Option<(Timestamp, Timestamp)>,
    /// The chart of hits over time; `None` if no hit has a readable time.
    time: Option<TimeChart>,
    /// A sentence for each field whose list is not loaded.
    not_checked: Vec<String>,
}

/// Hits with errors, with warnings only, and with neither, as parts of one bar: each with its start
/// and its length.
type BarPieces = [(u64, u64); 3];

/// How many hits break the plan in a section.
#[derive(Debug)]
struct ReportSection<'p> {
    /// The number of the section.
    number: &'p str,
    /// The title of the section.
    title: &'p str,
    /// Hits with at least one error in the section.
    with_errors: u64,
    /// Hits with warnings in the section, and no error.
    with_warnings: u64,
    /// The hits with errors, with warnings only, and with neither.
    bar: BarPieces,
}

/// A list of which a part is shown.
#[derive(Debug)]
struct ShownList<T> {
    /// What is shown at once.
    first: Vec<T>,
    /// What is shown on demand.
    more: Vec<T>,
    /// How many values the page does not hold.
    left_out: usize,
}

/// Writes the page.
pub(super) fn write(
    counts: &ViolationCounts,
    statistics: &FileStatistics,
    plan: &Plan,
    language: Language,
    now: Timestamp,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let sections = plan.sections().iter().zip(&statistics.sections).map(
        |(section, statistics::SectionCounts { with_errors, with_warnings, .. })| {
            let fine = counts.hits.saturating_sub(with_errors + with_warnings);
            let bar = chart::stack([*with_errors, *with_warnings, fine]);
            ReportSection {
                number: &section.number,
                title: section.title(language),
                with_errors: *with_errors,
                with_warnings: *with_warnings,
                bar,
            }
        },
    );
    let mut coverage: Vec<CoveredField<'_>> =
        statistics.coverage.iter().map(|coverage| covered(plan, coverage)).collect();
    // What a reader asks for first; what nothing can be said of comes last.
    coverage.sort_by_key(|covered| match covered.list {
        None => 0,
        Some("services") => 1,
        Some("profils") => 2,
        Some(_) if covered.checked => 3,
        Some(_) => 4,
    });
    let at = |hour: &i64, second: i64| {
        Timestamp::from_second(hour.saturating_mul(3_600).saturating_add(second)).ok()
    };
    let hours = statistics.hours.first_key_value().zip(statistics.hours.last_key_value());
    let page = ReportPage {
        language,
        counts,
        statistics,
        version: &plan.version,
        program: env!("CARGO_PKG_VERSION"),
        made: now,
        readable: statistics.lags.iter().sum(),
        whole: chart::stack([counts.with_errors, counts.with_warnings, counts.fine()]),
        sections: sections.collect(),
        errors: findings(counts, statistics, plan, language, Severity::Error),
        warnings: findings(counts, statistics, plan, language, Severity::Warning),
        coverage,
        period: hours.and_then(|((first, _), (last, _))| at(first, 0).zip(at(last, 3_599))),
        time: TimeChart::of(&statistics.hours),
        not_checked: not_checked(plan)
            .iter()
            .map(|violation| spaced(&violation.message(plan, language), language))
            .collect(),
    };
    page.write_into(out)?;
    Ok(())
}

/// What the template calls.
impl ReportPage<'_> {
    /// Chooses the text of the page's language.
    fn t(&self, english: &str, french: &str) -> String {
        spaced(self.language.of(english, french), self.language)
    }

    /// Writes a number with its noun, which is given in the singular and the plural of both
    /// languages. In French, 0 is singular.
    fn count(
        &self,
        count: impl Borrow<u64>,
        one: &str,
        several: &str,
        un: &str,
        plusieurs: &str,
    ) -> String {
        let singular =
            *count.borrow() == 1 || (*count.borrow() == 0 && self.language == Language::French);
        let noun =
            if singular { self.language.of(one, un) } else { self.language.of(several, plusieurs) };
        format!("{}\u{a0}{noun}", self.number(count))
    }

    /// Writes a number.
    fn number(&self, number: impl Borrow<u64>) -> String {
        words::number(*number.borrow(), self.language)
    }

    /// Writes a share of all hits.
    fn share(&self, part: impl Borrow<u64>) -> String {
        words::share(*part.borrow(), self.counts.hits, self.language)
    }

    /// Writes a time.
    fn time(&self, time: &Timestamp) -> String {
        time.strftime(self.language.of("%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M")).to_string()
    }

    /// Writes a date.
    fn date(&self, time: &Timestamp) -> String {
        time.strftime(self.language.of("%Y-%m-%d", "%d/%m/%Y")).to_string()
    }

    /// Writes the time at which an hour begins.
    fn hour(&self, hour: impl Borrow<i64>) -> String {
        Timestamp::from_second(hour.borrow().saturating_mul(3_600))
            .map(|time| self.time(&time))
            .unwrap_or_default()
    }

    /// Returns the length of a bar.
    fn length(&self, part: impl Borrow<u64>, whole: impl Borrow<u64>) -> u64 {
        chart::length(*part.borrow(), *whole.borrow())
    }

    /// Pairs the pieces of a bar with the classes that colour them.
    fn painted(&self, pieces: &BarPieces) -> impl Iterator<Item = (&'static str, (u64, u64))> {
        ["error", "warning", "fine"].into_iter().zip(*pieces)
    }

    /// Writes how long a column of the chart is.
    fn step(&self, hours: &i64) -> String {
        match hours {
            1..24 => format!("{hours} h"),
            24..168 => self.count((hours / 24).unsigned_abs(), "day", "days", "jour", "jours"),
            _ => self.count((hours / 168).unsigned_abs(), "week", "weeks", "semaine", "semaines"),
        }
    }

    /// Returns how many hits have a time that is one or two hours ahead.
    fn local(&self) -> u64 {
        self.statistics.lags.iter().take(2).sum()
    }

    /// Returns how many hits the largest class of lags has.
    fn longest_lag(&self) -> u64 {
        self.statistics.lags.iter().copied().max().unwrap_or_default()
    }

    /// Writes the name of a class of lags.
    fn lag(&self, class: &usize) -> String {
        let (english, french) = LAG_NAMES.get(*class).copied().unwrap_or_default();
        self.t(english, french)
    }

    /// Writes what the values of a list are.
    fn covers(&self, list: &Option<&str>) -> String {
        match *list {
            None => self.t("Schools (UAI)", "Établissements (UAI)"),
            Some("services") => self.t("Services", "Services"),
            Some("profils") => self.t("Profiles", "Profils"),
            Some("types") => self.t("Kinds of service", "Types de service"),
            Some("technologies") => self.t("Technologies", "Technologies"),
            Some("exploitants") => self.t("Operators (exploitants)", "Exploitants"),
            Some("plateformes") => self.t("Platforms", "Plateformes"),
            Some("outils") => self.t("Tools", "Outils"),
            Some(other) => other.to_owned(),
        }
    }
}

/// The names of the classes of [`FileStatistics::lags`].
const LAG_NAMES: [(&str, &str); LAG_CLASSES] = [
    ("2 h ahead: local time in summer", "2 h d'avance : heure locale d'été"),
    ("1 h ahead: local time in winter", "1 h d'avance : heure locale d'hiver"),
    ("in the future by something else", "dans le futur, autrement"),
    ("under 10 s", "moins de 10 s"),
    ("10 s to 1 min", "10 s à 1 min"),
    ("1 to 10 min", "1 à 10 min"),
    ("10 min to 1 h", "10 min à 1 h"),
    ("1 to 24 h", "1 à 24 h"),
    ("24 h and more", "24 h et plus"),
    ("no readable time", "aucune heure lisible"),
];

impl<T> ShownList<T> {
    /// Splits a list: so many values are shown at once.
    fn of(mut all: Vec<T>, shown: usize) -> Self {
        let left_out = all.len().saturating_sub(MAX_VALUES);
        all.truncate(MAX_VALUES);
        // A single value is shown at once rather than on demand.
        let more = if all.len() > shown + 1 { all.split_off(shown) } else { Vec::new() };
        Self { first: all, more, left_out }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_that_would_open_alone_is_shown() {
        let rest = |count: usize| ShownList::of(vec![(); count], 20);
        assert_eq!((rest(21).first.len(), rest(21).more.len()), (21, 0));
        assert_eq!((rest(22).first.len(), rest(22).more.len()), (20, 2));
        assert_eq!(
            (rest(MAX_VALUES + 3).more.len(), rest(MAX_VALUES + 3).left_out),
            (MAX_VALUES - 20, 3)
        );
    }
}
