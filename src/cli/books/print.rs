//! The balance for people, for machines, and for a spreadsheet.

use std::io::Write;

use anstyle::AnsiColor;
use serde::Serialize;

use crate::cli::columns::in_columns;
use crate::cli::json::pretty;
use crate::domain::books::{BalanceRecord, Since, Statement, StatementLine, StatementRow};
use crate::domain::printable::{printable, spreadsheet_cell};

/// How many characters of a name the table shows. The other formats have the whole name.
const MAX_NAME_CHARACTERS: usize = 30;

/// How many columns name the account: exploitant, plateforme and site.
const NAMES: usize = 3;

/// The title of a column, and the figure of a row that it shows.
type FigureColumn = (&'static str, fn(&StatementRow) -> i64);

/// All columns of figures, in their order.
const COLUMNS: [FigureColumn; 10] = [
    ("carried", |row| row.carried),
    ("entered", |row| row.entered),
    ("replayed", |row| row.replayed),
    ("delivered", |row| row.delivered),
    ("rejected", |row| row.rejected),
    ("parked", |row| row.parked),
    ("to retry", |row| row.to_retry),
    ("given back", |row| row.given_back),
    ("in flight", |row| row.in_flight),
    ("doubtful", |row| row.doubtful),
];

/// The columns that the table leaves out if they are 0 in every row, which they mostly are.
const RARE: [&str; 3] = ["carried", "replayed", "given back"];

/// Prints one JSON object, which `--since` reads back.
pub(super) fn json(record: &BalanceRecord, statement: &Statement) -> anyhow::Result<()> {
    /// The JSON object, of which `--since` reads the record.
    #[derive(Serialize)]
    struct BooksReport<'b> {
        closes: bool,
        #[serde(flatten)]
        statement: &'b Statement,
        #[serde(flatten)]
        record: &'b BalanceRecord,
    }
    let whole = BooksReport { closes: statement.gaps.is_empty(), statement, record };
    writeln!(std::io::stdout().lock(), "{}", pretty(&whole)?)?;
    Ok(())
}

/// Prints one line for each account.
pub(super) fn csv(statement: &Statement) -> anyhow::Result<()> {
    let mut out = csv::Writer::from_writer(std::io::stdout().lock());
    let cell = |text: &str| spreadsheet_cell(text).into_owned();
    let names = ["exploitant", "plateforme", "idsite"].into_iter().map(str::to_owned);
    out.write_record(
        names
            .chain(COLUMNS.map(|(title, _)| title.replace(' ', "_")))
            .chain(["rejected_by".to_owned()]),
    )?;
    for StatementLine { name, row, rejected_by } in &statement.accounts {
        let rules: Vec<String> =
            rejected_by.iter().map(|(rule, hits)| format!("{rule}={hits}")).collect();
        let names =
            [&name.exploitant, &name.plateforme, &name.idsite].map(|name| cell(name)).into_iter();
        out.write_record(
            names
                .chain(COLUMNS.map(|(_, value)| value(row).to_string()))
                .chain([cell(&rules.join(" "))]),
        )?;
    }
    out.flush()?;
    for gap in &statement.gaps {
        eprintln!("dnma-relay: {}", printable(&gap.to_string()));
    }
    Ok(())
}

/// Prints a table and sentences. `asked_broker` says whether the queues were to be read.
pub(super) fn table(
    record: &BalanceRecord,
    statement: &Statement,
    asked_broker: bool,
) -> anyhow::Result<()> {
    let mut out = anstream::stdout().lock();
    match record.workers.len() {
        0 => writeln!(out, "No worker answered.")?,
        1 => writeln!(out, "Books of 1 worker at {}{}", record.at, since(statement))?,
        count => writeln!(out, "Books of {count} workers at {}{}", record.at, since(statement))?,
    }
    if !statement.accounts.is_empty() {
        writeln!(out)?;
        for line in aligned(&statement.accounts, &statement.total) {
            writeln!(out, "{line}")?;
        }
        rejected(&mut out, &statement.accounts)?;
    }
    writeln!(out)?;
    match record.queues.map(|readings| readings.after) {
        Some(queues) => writeln!(
            out,
            "On the broker: {} waiting, {} in the retry queues, {} parked, {} rejected{}",
            queues.waiting,
            queues.retry,
            queues.parked,
            queues.rejected,
            if statement.compared {
                ""
            } else {
                " (not compared: the former books have no queues)"
            }
        )?,
        None if asked_broker => {}
        None => writeln!(out, "The queues were not looked at: AMQP_URL is not set")?,
    }
    let (green, red) = (AnsiColor::Green.on_default(), AnsiColor::Red.on_default());
    if statement.gaps.is_empty() {
        writeln!(out, "{green}The books close.{green:#}")?;
    } else {
        writeln!(out, "{red}The books do not close:{red:#}")?;
        for gap in &statement.gaps {
            writeln!(out, "- {}", printable(&gap.to_string()))?;
        }
        // Counters start at 0 with their worker, and that is often the reason.
        for books in &record.workers {
            let worker = printable(&books.worker);
            writeln!(out, "  worker {worker} counts since {}", books.started_at)?;
        }
    }
    Ok(())
}

/// Says since when the hits are counted.
fn since(statement: &Statement) -> String {
    match statement.since {
        Some(Since::Former(time)) => format!(", since the books of {time}"),
        Some(Since::Start(time)) => format!(", since {time}, when the first of them started"),
        None => String::new(),
    }
}

/// Lays out the table: a head, one line for each account, and their sum.
fn aligned(accounts: &[StatementLine], total: &StatementRow) -> Vec<String> {
    let is_shown = |(title, value): &FigureColumn| {
        !RARE.contains(title) || accounts.iter().any(|line| value(&line.row) != 0)
    };
    let columns: Vec<FigureColumn> = COLUMNS.into_iter().filter(is_shown).collect();
    let figures = |row: &StatementRow| {
        columns.iter().map(|(_, value)| value(row).to_string()).collect::<Vec<_>>()
    };
    let named = |names: [&str; 3]| names.map(shown).to_vec();
    let mut lines = vec![
        [
            named(["exploitant", "plateforme", "idsite"]),
            columns.iter().map(|(title, _)| (*title).to_owned()).collect(),
        ]
        .concat(),
    ];
    for StatementLine { name, row, .. } in accounts {
        lines.push(
            [named([&name.exploitant, &name.plateforme, &name.idsite]), figures(row)].concat(),
        );
    }
    lines.push([named(["total", "", ""]), figures(total)].concat());
    in_columns(&lines, NAMES)
}

/// Prints how many hits each rule rejected, by account.
fn rejected(out: &mut impl Write, accounts: &[StatementLine]) -> std::io::Result<()> {
    let of_account = |line: &StatementLine| {
        let names = [&line.name.exploitant, &line.name.plateforme, &line.name.idsite]
            .map(|name| shown(name));
        let rows = line
            .rejected_by
            .iter()
            .map(|(rule, hits)| [&names[..], &[shown(rule), hits.to_string()]].concat());
        rows.collect::<Vec<_>>()
    };
    let lines: Vec<Vec<String>> = accounts.iter().flat_map(of_account).collect();
    if !lines.is_empty() {
        writeln!(out, "\nRejected, by rule")?;
    }
    in_columns(&lines, NAMES).into_iter().try_for_each(|line| writeln!(out, "{line}"))
}

/// Returns a name as the table shows it: cut where the table would become too wide, and without
/// characters that a terminal takes for a command.
fn shown(name: &str) -> String {
    let mut shown: String = printable(name).chars().take(MAX_NAME_CHARACTERS).collect();
    if name.chars().nth(MAX_NAME_CHARACTERS).is_some() {
        shown.pop();
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::books::AccountName;

    fn line(exploitant: &str, row: StatementRow) -> StatementLine {
        let name = AccountName {
            exploitant: exploitant.to_owned(),
            plateforme: "P".to_owned(),
            idsite: "1".to_owned(),
        };
        StatementLine { name, row, rejected_by: Default::default() }
    }

    #[test]
    fn columns_are_as_wide_as_their_widest() {
        let row = StatementRow { entered: 1_234, delivered: 1_234, ..StatementRow::default() };
        let lines = aligned(&[line("ALPHA", row), line("É", StatementRow::default())], &row);
        let names = [
            "exploitant  plateforme  idsite  ",
            "ALPHA       P           1       ",
            "É           P           1       ",
            "total                           ",
        ];
        let figures = [
            "entered  delivered  rejected  parked  to retry  in flight  doubtful",
            "   1234       1234         0       0         0          0         0",
            "      0          0         0       0         0          0         0",
            "   1234       1234         0       0         0          0         0",
        ];
        let expected: Vec<String> =
            names.iter().zip(figures).map(|(name, figures)| format!("{name}{figures}")).collect();
        assert_eq!(lines, expected);
        let rare = aligned(&[line("ALPHA", StatementRow { given_back: 1, ..row })], &row);
        assert!(rare[0].contains("given back") && !rare[0].contains("carried"));
    }

    #[test]
    fn a_name_is_cut_and_commands_no_terminal() {
        assert_eq!(shown(&"a".repeat(31)), format!("{}…", "a".repeat(29)));
        assert_eq!(shown("a\u{1b}[2J"), "a\u{fffd}[2J");
    }
}
