//! What the rounds told: medians, their spread, and ratios of one round, as text, Markdown and
//! JSON.

use serde::Serialize;

use super::contestant::{CEILING, Contestant, Kind};
use super::run::Measured;

/// A median and the values around it.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub least: f64,
    pub most: f64,
}

/// What one contestant did.
#[derive(Debug, Clone, Serialize)]
pub struct Row {
    pub name: &'static str,
    /// `ceiling`, `relay` or `peer`.
    pub kind: &'static str,
    pub bulk: usize,
    pub hits_per_second: Spread,
    /// Its rate over the ceiling's of the same round.
    pub of_ceiling: Option<Spread>,
    /// Its rate over what the sink can take.
    pub of_sink: Option<Spread>,
    /// The part of the time in which a slot of the sink had nothing to do.
    pub sink_idle: Option<Spread>,
    pub hits_per_request: Option<Spread>,
    pub cpu_microseconds_per_hit: Spread,
    pub memory_mib: Spread,
    pub seconds_to_first_hit: Option<Spread>,
}

impl Spread {
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().collect();
        values.sort_by(f64::total_cmp);
        let half = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values.get(half).copied()
        } else {
            half.checked_sub(1).map(|low| (values[low] + values[half]) / 2.0)
        };
        Some(Self { median: median?, least: *values.first()?, most: *values.last()? })
    }
}

/// `rounds[r][c]` is what contestant `c` did in round `r`.
pub fn rows(contestants: &[Contestant], rounds: &[Vec<Measured>]) -> Vec<Row> {
    let ceiling = contestants.iter().position(|contestant| contestant.name == CEILING);
    let row = |(place, contestant): (usize, &Contestant)| {
        let of =
            |what: fn(&Measured) -> f64| Spread::of(rounds.iter().map(|round| what(&round[place])));
        let ratios = rounds.iter().map(|round| {
            round[place].rate / ceiling.map_or(f64::NAN, |ceiling| round[ceiling].rate)
        });
        let limit = contestant.sink.limit(contestant.bulk);
        Some(Row {
            name: contestant.name,
            kind: match contestant.kind {
                Kind::Ceiling { .. } => "ceiling",
                Kind::Relay { .. } => "relay",
                Kind::Peer(_) => "peer",
            },
            bulk: contestant.bulk,
            hits_per_second: of(|measured| measured.rate)?,
            of_ceiling: ceiling.and_then(|_| Spread::of(ratios)),
            of_sink: limit
                .and_then(|limit| Spread::of(rounds.iter().map(|round| round[place].rate / limit))),
            sink_idle: Spread::of(rounds.iter().filter_map(|round| round[place].idle)),
            hits_per_request: Spread::of(
                rounds.iter().map(|round| round[place].bulk).filter(|bulk| bulk.is_finite()),
            ),
            cpu_microseconds_per_hit: of(|measured| measured.cpu)?,
            memory_mib: of(|measured| measured.memory)?,
            seconds_to_first_hit: Spread::of(rounds.iter().filter_map(|round| round[place].first)),
        })
    };
    contestants.iter().enumerate().filter_map(row).collect()
}

/// Median, least and most with so many decimals.
fn shown(Spread { median, least, most }: &Spread, decimals: usize) -> String {
    if median.is_nan() {
        "too short".to_owned()
    } else {
        format!("{median:.decimals$} ({least:.decimals$}–{most:.decimals$})")
    }
}

fn cells(row: &Row) -> [String; 7] {
    let ratio = match (&row.of_sink, &row.of_ceiling) {
        (Some(of_sink), _) => format!("{} of the sink", shown(of_sink, 2)),
        (None, Some(of_ceiling)) => shown(of_ceiling, 2),
        (None, None) => String::new(),
    };
    [
        row.name.to_owned(),
        shown(&row.hits_per_second, 0),
        ratio,
        row.hits_per_request.map_or_else(String::new, |bulk| format!("{:.1}", bulk.median)),
        shown(&row.cpu_microseconds_per_hit, 1),
        format!("{:.0}", row.memory_mib.median),
        row.seconds_to_first_hit.map_or_else(String::new, |first| format!("{:.2}", first.median)),
    ]
}

const HEAD: [&str; 7] = [
    "",
    "hits/s",
    "of the ceiling",
    "hits a request",
    "CPU s per million hits",
    "MiB at most",
    "first hit, s",
];

pub fn text(rows: &[Row]) -> String {
    let lines: Vec<[String; 7]> =
        std::iter::once(HEAD.map(str::to_owned)).chain(rows.iter().map(cells)).collect();
    let width = |column: usize| {
        lines.iter().map(|line| line[column].chars().count()).max().unwrap_or_default()
    };
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let line = |line: &[String; 7]| {
        let cells = line.iter().zip(&widths).enumerate();
        let padded = cells.map(|(column, (cell, width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
    };
    lines.iter().map(line).collect()
}

pub fn markdown(rows: &[Row]) -> String {
    let line = |cells: [String; 7]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "---:|".repeat(HEAD.len() - 1));
    line(HEAD.map(str::to_owned))
        + &rule
        + &rows.iter().map(|row| line(cells(row))).collect::<String>()
}
