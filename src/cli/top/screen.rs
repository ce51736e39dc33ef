//! What `top` shows, line by line.

use crossterm::style::Color;

use super::WorkerStatus;
use crate::domain::prose::{lasting, number, share};
use crate::domain::rule::Language;
use crate::domain::status::{Fate, Hour, QueuesStatus, RelayState, ShardStatus, Status};

/// One line, which carries no news by its colour alone.
#[derive(Debug)]
pub(super) struct ScreenLine {
    pub(super) text: String,
    pub(super) colour: Option<Color>,
}

/// All workers that answer, as one.
pub(super) fn whole(answers: &[WorkerStatus], language: Language) -> Option<Status> {
    let statuses: Vec<Status> =
        answers.iter().filter_map(|answer| answer.status.as_ref().ok()).cloned().collect();
    Status::merge(&statuses).map(|status| status.told(language))
}

/// The screen. No line is wider than `width`.
pub(super) fn lines(answers: &[WorkerStatus], language: Language, width: usize) -> Vec<ScreenLine> {
    let mut lines = Vec::new();
    if let Some(status) = whole(answers, language) {
        lines
            .push(ScreenLine { text: status.headline.clone(), colour: Some(colour(status.state)) });
        lines.extend(status.notes.iter().map(|note| plain(note.clone())));
        lines.push(plain(String::new()));
        lines.push(plain(numbers(&status, language)));
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
        // What came from elsewhere commands no terminal.
        line.text = line.text.chars().filter(|c| !c.is_control()).take(width).collect();
    }
    lines
}

fn heading(left: &str, right: &str) -> ScreenLine {
    plain(format!("{left:<40} {right}"))
}

const fn plain(text: String) -> ScreenLine {
    ScreenLine { text, colour: None }
}

const fn colour(state: RelayState) -> Color {
    if state.is_wrong() {
        Color::Red
    } else if state.is_doubtful() {
        Color::Yellow
    } else {
        Color::Green
    }
}

fn numbers(status: &Status, language: Language) -> String {
    let Hour { delivered, retried, parked, rejected, .. } = status.hour;
    let count = |count| number(count, language);
    let rate = format!("{:.1}/s", status.hour.rate());
    let ready =
        status.queues.as_ref().map_or_else(|| "–".to_owned(), |queues| count(queues.ready()));
    let oldest = age(status.queues.as_ref().and_then(QueuesStatus::oldest_seconds), language);
    let rejects = share(rejected, delivered + retried + parked + rejected, language);
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

/// A bar for each minute of the last hour.
fn bars(minutes: &[u64]) -> String {
    let most = minutes.iter().copied().max().unwrap_or_default().max(1);
    let bar = |hits: &u64| match (hits * 8).div_ceil(most) {
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

fn holder(shard: &ShardStatus, language: Language) -> String {
    match (&shard.holder, shard.consumers) {
        (Some(worker), _) => worker.clone(),
        (None, 0) => language.of("nobody", "personne").to_owned(),
        (None, _) => language.of("a worker", "un agent").to_owned(),
    }
}

fn age(seconds: Option<u64>, language: Language) -> String {
    seconds.map_or_else(|| "–".to_owned(), |seconds| lasting(seconds, language))
}

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
