//! The status page: its words are in the template, its numbers in a [`Status`].

use std::borrow::Borrow;

use askama::Template;

use crate::domain::prose::{duration, number, share, spaced};
use crate::domain::rule::Language;
use crate::domain::status::{FailureCount, Fate, Hour, ShardStatus, Status};

/// The report's style, and a little more.
pub const STYLE: &str = concat!(
    include_str!("../../../../templates/report.css"),
    include_str!("../../../../templates/status.css")
);

/// Fetches the page anew and puts it in place.
pub const SCRIPT: &str = include_str!("../../../../templates/status.js");

#[derive(Debug, Template)]
#[template(path = "status.html")]
struct StatusPage<'s> {
    status: &'s Status,
    language: Language,
}

/// The page.
///
/// # Errors
/// When the template fails.
pub fn render(status: &Status, language: Language) -> Result<String, askama::Error> {
    StatusPage { status, language }.render()
}

/// What the template says, in one of two languages.
impl StatusPage<'_> {
    fn t(&self, english: &str, french: &str) -> String {
        spaced(self.language.of(english, french), self.language)
    }

    fn number(&self, count: impl Borrow<u64>) -> String {
        number(*count.borrow(), self.language)
    }

    /// A depth, or that there is no such queue.
    fn depth(&self, hits: impl Borrow<Option<u64>>) -> String {
        hits.borrow()
            .map_or_else(|| self.t("missing", "absente"), |hits| number(hits, self.language))
    }

    fn lasting(&self, seconds: impl Borrow<u64>) -> String {
        duration(*seconds.borrow(), self.language)
    }

    fn age(&self, seconds: impl Borrow<Option<u64>>) -> String {
        seconds.borrow().map_or_else(|| "–".to_owned(), |seconds| duration(seconds, self.language))
    }

    /// The state's code, by which a change is told from a new number.
    fn state(&self) -> String {
        format!("{:?}", self.status.state)
    }

    /// How grave the state is: also told in words.
    fn class(&self) -> &'static str {
        match self.status.state {
            state if state.is_wrong() => "error",
            state if state.is_doubtful() => "warning",
            _ => "fine",
        }
    }

    /// Hits per second with a digit where it says something.
    fn rate(&self) -> String {
        let rate = self.status.hour.rate();
        let text = if rate < 10.0 { format!("{rate:.1}") } else { format!("{rate:.0}") };
        let text = if self.language == Language::French { text.replace('.', ",") } else { text };
        format!("{text}\u{a0}/\u{202f}s")
    }

    fn rejected_share(&self) -> String {
        let Hour { delivered, retried, parked, rejected, .. } = self.status.hour;
        share(rejected, delivered + retried + parked + rejected, self.language)
    }

    /// Place and height of each minute's bar, of 600 by 100.
    fn bars(&self) -> Vec<(usize, u64)> {
        let minutes = &self.status.hour.minutes;
        let most = minutes.iter().copied().max().unwrap_or_default().max(1);
        let first = 60_usize.saturating_sub(minutes.len());
        minutes
            .iter()
            .enumerate()
            .map(|(place, hits)| ((first + place) * 10, (hits * 100).div_ceil(most)))
            .filter(|(_, height)| *height > 0)
            .collect()
    }

    fn busiest(&self) -> u64 {
        self.status.hour.minutes.iter().copied().max().unwrap_or_default()
    }

    fn holder(&self, shard: &ShardStatus) -> String {
        match (&shard.holder, shard.consumers) {
            (Some(_), _) => self.t("this worker", "cet agent"),
            (None, 0) => self.t("nobody", "personne"),
            (None, _) => self.t("a worker", "un agent"),
        }
    }

    fn fate(&self, cause: &FailureCount) -> String {
        match cause.fate {
            Fate::Retried => self.t("tried again", "nouvel essai"),
            Fate::Parked => self.t("parked", "mis de côté"),
            Fate::Rejected => self.t("rejected", "rejeté"),
        }
    }
}
