//! The lines that `top` shows.

use crossterm::style::Color;

use super::WorkerStatus;
use crate::domain::printable::printable;
use crate::domain::prose::{duration, number, share, spaced};
use crate::domain::rule::Language;
use crate::domain::status::{Fate, Hour, QueuesStatus, RelayState, ShardStatus, Status};

/// One line. Its colour says nothing that the text does not say too.
#[derive(Debug)]
pub(super) struct ScreenLine {
    /// The text, without control characters.
    pub(super) text: String,
    /// The colour, if it is not the terminal's own.
    pub(super) colour: Option<Color>,
}

/// Merges the statuses of all workers that answer; returns `None` if none does.
pub(super) fn whole(answers: &[WorkerStatus], language: Language) -> Option<Status> {
    let statuses: Vec<Status> =
        answers.iter().filter_map(|answer| answer.status.as_ref().ok()).cloned().collect();
    Status::merge(&statuses).map(|status| status.described(language))
}

/// Returns the lines of the screen, none of them wider than `width`.
pub(super) fn lines(answers: &[WorkerStatus], language: Language, width: usize) -> Vec<ScreenLine> {
    let mut lines = Vec::new();
    if let Some(status) = whole(answers, language) {
        lines
            .push(ScreenLine { text: status.headline.clone(), colour: Some(colour(status.state)) });
        lines.extend(status.notes.iter().map(|note| plain(note.clone())));
        lines.push(plain(String::new()));
        lines.push(plain(numbers(&status, language)));
        lines.push(plain(requests(&status, language)));
        lines.push(plain(bars(&status.hour.minutes)));
        if let Some(queues) = &status.queues {
            lines.push(plain(String::new()));
            lines.extend(tables(queues, language).into_iter().map(plain));
        }
        if !status.causes.is_empty() {
            lines.push(plain(String::new()));
            lines.extend(causes(&status, language).into_iter().map(plain));
        }
        lines.push(plain(String::new()));
    }
    lines.push(heading(language.of("WORKER", "AGENT"), language.of("STATE", "ÉTAT")));
    for answer in answers {
        let (name, text, colour) = match &answer.status {
            Ok(status) => (&status.worker, &status.headline, colour(status.state)),
            Err(why) => (&answer.address, why, Color::Red),
        };
        lines.push(ScreenLine { text: format!("{name:<40} {text}"), colour: Some(colour) });
    }
    for line in &mut lines {
        // A text of somebody else's must not command the terminal.
        line.text = printable(&line.text).chars().take(width).collect();
    }
    lines
}

/// Makes the heading of a table.
fn heading(left: &str, right: &str) -> ScreenLine {
    plain(format!("{left:<40} {right}"))
}

/// Makes a line without a colour.
const fn plain(text: String) -> ScreenLine {
    ScreenLine { text, colour: None }
}

/// Chooses the colour of a state.
const fn colour(state: RelayState) -> Color {
    if state.is_wrong() {
        Color::Red
    } else if state.is_doubtful() {
        Color::Yellow
    } else {
        Color::Green
    }
}

/// Writes the figures of the last hour in one line.
fn numbers(status: &Status, language: Language) -> String {
    let Hour { delivered, rejected, .. } = status.hour;
    let count = |count| number(count, language);
    let rate = format!("{:.1}/s", status.hour.rate());
    let ready =
        status.queues.as_ref().map_or_else(|| "–".to_owned(), |queues| count(queues.ready()));
    let oldest = age(status.queues.as_ref().and_then(QueuesStatus::oldest_seconds), language);
    let rejects = share(rejected, status.hour.settled(), language);
    let t = |english, french| language.of(english, french);
    format!(
        "{} {} ({rate})   {} {ready}   {} {}   {} {oldest}   {} {} ({rejects})",
        t("delivered, last hour:", "transmis, dernière heure :"),
        count(delivered),
        t("waiting:", "en attente :"),
        t("in flight:", "en cours :"),
        count(status.in_flight),
        t("oldest:", "le plus ancien :"),
        t("rejected:", "rejetés :"),
        count(rejected),
    )
}

/// Writes what is under way at Matomo in one line.
fn requests(status: &Status, language: Language) -> String {
    let (limit, most) = (status.matomo.limit, status.matomo.most);
    let (rate, answer) = (status.pace.hits_per_second, status.pace.lanes.answer);
    let now = match language {
        Language::English => format!(
            "now: {rate:.1} hits/s   requests under way: {answer:.1} of {} ({} at most), with {} \
             hits ({} at most)",
            limit.requests, most.requests, limit.hits, most.hits
        ),
        Language::French => format!(
            "maintenant : {rate:.1} hits/s   requêtes en cours : {answer:.1} sur {} (au plus {}), \
             de {} hits (au plus {})",
            limit.requests, most.requests, limit.hits, most.hits
        ),
    };
    spaced(&now, language)
}

/// Draws a bar for each minute of the last hour.
fn bars(minutes: &[u64]) -> String {
    let highest = minutes.iter().copied().max().unwrap_or_default().max(1);
    let bar = |hits: &u64| match hits.saturating_mul(8).div_ceil(highest) {
        0 => '·',
        1 => '▁',
        2 => '▂',
        3 => '▃',
        4 => '▄',
        5 => '▅',
        6 => '▆',
        7 => '▇',
        _ => '█',
    };
    format!("{:>60}", minutes.iter().map(bar).collect::<String>())
}

/// Lists the queues with their depths.
fn tables(queues: &QueuesStatus, language: Language) -> Vec<String> {
    let t = |english, french| language.of(english, french);
    let depth = |hits: Option<u64>| {
        hits.map_or_else(|| t("missing", "absente").to_owned(), |hits| number(hits, language))
    };
    let mut rows = vec![format!(
        "{:<40} {:>10} {:>12}  {}",
        t("QUEUE", "FILE"),
        "HITS",
        t("OLDEST", "ANCIEN"),
        t("READ BY", "LUE PAR")
    )];
    rows.extend(queues.shards.iter().map(|shard| {
        let (depth, age) = (depth(shard.queue.hits), age(shard.oldest_seconds, language));
        format!("{:<40} {depth:>10} {age:>12}  {}", shard.queue.name, holder(shard, language))
    }));
    let others = queues.retries.iter().chain([&queues.parked, &queues.rejected]);
    rows.extend(others.map(|queue| format!("{:<40} {:>10}", queue.name, depth(queue.hits))));
    rows
}

/// Says which worker reads a shard, as far as it is known.
fn holder(shard: &ShardStatus, language: Language) -> String {
    match (&shard.holder, shard.consumers) {
        (Some(worker), _) => worker.clone(),
        (None, 0) => language.of("nobody", "personne").to_owned(),
        (None, _) => language.of("a worker", "un agent").to_owned(),
    }
}

/// Writes an age, or a dash where it is not known.
fn age(seconds: Option<u64>, language: Language) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| duration(seconds, language))
}

/// Lists why hits were not delivered.
fn causes(status: &Status, language: Language) -> Vec<String> {
    let t = |english, french| language.of(english, french);
    let fate = |fate| match fate {
        Fate::Retried => t("tried again", "nouvel essai"),
        Fate::Parked => t("parked", "mis de côté"),
        Fate::Rejected => t("rejected", "rejeté"),
    };
    let mut rows = vec![format!(
        "{:<26} {:<13} {:>10}  {}",
        t("LAST 24 H", "24 DERNIÈRES H"),
        "",
        "HITS",
        t("MEANING", "SENS")
    )];
    rows.extend(status.causes.iter().map(|cause| {
        let hits = number(cause.hits, language);
        format!("{:<26} {:<13} {hits:>10}  {}", cause.code, fate(cause.fate), cause.hint)
    }));
    rows
}
