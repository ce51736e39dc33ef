//! The verdict as one page for people, to read and to send: no script, nothing fetched, no personal
//! data.

use std::borrow::Borrow;
use std::io::Write;

use askama::Template;
use jiff::Timestamp;

use super::chart::{self, TimeChart};
use super::survey::{self, LAGS, Survey};
use super::tally::{ViolationCounts, not_checked};
use crate::domain::plan::Plan;
use crate::domain::rule::{Language, Severity};

mod coverage;
mod findings;
mod words;

use coverage::{CoveredField, covered};
use findings::{ReportFinding, findings};
use words::spaced;

/// Values that the page holds of one kind, so that it stays one to send.
const MOST: usize = 5_000;

/// The page; its words are in the template.
#[derive(Debug, Template)]
#[template(path = "report.html")]
struct ReportPage<'p> {
    language: Language,
    tally: &'p ViolationCounts,
    survey: &'p Survey,
    version: &'p str,
    program: &'p str,
    made: Timestamp,
    /// Hits that could be read.
    surveyed: u64,
    /// Errors, warnings, and the rest.
    whole: Pieces,
    sections: Vec<ReportSection<'p>>,
    errors: Vec<ReportFinding>,
    warnings: Vec<ReportFinding>,
    coverage: Vec<CoveredField<'p>>,
    period: Option<(Timestamp, Timestamp)>,
    time: Option<TimeChart>,
    not_checked: Vec<String>,
}

/// Hits with errors, with warnings only, and with neither, as parts of one bar.
type Pieces = [(u64, u64); 3];

/// How one section of the plan fares.
#[derive(Debug)]
struct ReportSection<'p> {
    number: &'p str,
    title: &'p str,
    with_errors: u64,
    with_warnings: u64,
    bar: Pieces,
}

/// What is shown at once, what opens on demand, and how many more there are.
#[derive(Debug)]
struct ShownList<T> {
    first: Vec<T>,
    more: Vec<T>,
    left_out: usize,
}

/// Writes the page.
pub(super) fn write(
    tally: &ViolationCounts,
    survey: &Survey,
    plan: &Plan,
    language: Language,
    now: Timestamp,
    out: &mut dyn Write,
) -> anyhow::Result<()> {
    let sections = plan.sections().iter().zip(&survey.sections).map(
        |(section, survey::SectionCounts { with_errors, with_warnings, .. })| {
            let fine = tally.hits.saturating_sub(with_errors + with_warnings);
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
        survey.coverage.iter().map(|coverage| covered(plan, coverage)).collect();
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
    let hours = survey.hours.first_key_value().zip(survey.hours.last_key_value());
    let page = ReportPage {
        language,
        tally,
        survey,
        version: &plan.version,
        program: env!("CARGO_PKG_VERSION"),
        made: now,
        surveyed: survey.lags.iter().sum(),
        whole: chart::stack([tally.with_errors, tally.with_warnings, tally.fine()]),
        sections: sections.collect(),
        errors: findings(tally, survey, plan, language, Severity::Error),
        warnings: findings(tally, survey, plan, language, Severity::Warning),
        coverage,
        period: hours.and_then(|((first, _), (last, _))| at(first, 0).zip(at(last, 3_599))),
        time: TimeChart::of(&survey.hours),
        not_checked: not_checked(plan)
            .iter()
            .map(|violation| spaced(&violation.message(plan, language), language))
            .collect(),
    };
    page.write_into(out)?;
    Ok(())
}

/// What the template says, in one of two languages.
impl ReportPage<'_> {
    fn t(&self, english: &str, french: &str) -> String {
        spaced(self.language.of(english, french), self.language)
    }

    /// A number with its noun, one and several of it, in both languages. In French, 0 is singular.
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

    fn number(&self, number: impl Borrow<u64>) -> String {
        words::number(*number.borrow(), self.language)
    }

    fn share(&self, part: impl Borrow<u64>) -> String {
        words::share(*part.borrow(), self.tally.hits, self.language)
    }

    fn time(&self, time: &Timestamp) -> String {
        time.strftime(self.language.of("%Y-%m-%d %H:%M", "%d/%m/%Y %H:%M")).to_string()
    }

    fn date(&self, time: &Timestamp) -> String {
        time.strftime(self.language.of("%Y-%m-%d", "%d/%m/%Y")).to_string()
    }

    fn hour(&self, hour: impl Borrow<i64>) -> String {
        Timestamp::from_second(hour.borrow().saturating_mul(3_600))
            .map(|time| self.time(&time))
            .unwrap_or_default()
    }

    fn length(&self, part: impl Borrow<u64>, whole: impl Borrow<u64>) -> u64 {
        chart::length(*part.borrow(), *whole.borrow())
    }

    fn painted(&self, pieces: &Pieces) -> impl Iterator<Item = (&'static str, (u64, u64))> {
        ["error", "warning", "fine"].into_iter().zip(*pieces)
    }

    /// What a column over time stands for.
    fn step(&self, hours: &i64) -> String {
        match hours {
            1..24 => format!("{hours} h"),
            24..168 => self.count((hours / 24).unsigned_abs(), "day", "days", "jour", "jours"),
            _ => self.count((hours / 168).unsigned_abs(), "week", "weeks", "semaine", "semaines"),
        }
    }

    /// Hits whose time is one or two hours ahead.
    fn local(&self) -> u64 {
        self.survey.lags.iter().take(2).sum()
    }

    fn longest_lag(&self) -> u64 {
        self.survey.lags.iter().copied().max().unwrap_or_default()
    }

    fn lag(&self, class: &usize) -> String {
        let (english, french) = LAG_NAMES.get(*class).copied().unwrap_or_default();
        self.t(english, french)
    }

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

/// The classes of [`Survey::lags`].
const LAG_NAMES: [(&str, &str); LAGS] = [
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
    fn of(mut all: Vec<T>, shown: usize) -> Self {
        let left_out = all.len().saturating_sub(MOST);
        all.truncate(MOST);
        // One that would open alone is shown at once.
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
        assert_eq!((rest(MOST + 3).more.len(), rest(MOST + 3).left_out), (MOST - 20, 3));
    }
}
