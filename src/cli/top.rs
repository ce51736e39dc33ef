//! `dnma-relay top`: the state of one or several workers, shown live.

use std::collections::HashSet;
use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use crossterm::event::{Event, EventStream, KeyCode, KeyModifiers};
use crossterm::{cursor, execute, queue, style, terminal};
use futures_util::StreamExt;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};

use super::Lang;
use super::workers::{self, Workers};
use crate::domain::rule::Language;
use crate::domain::status::Status;

mod screen;

/// The time between two updates.
const UPDATE_INTERVAL: Duration = Duration::from_secs(2);

/// The command line options of `top`.
#[derive(Debug, Args)]
pub struct TopOptions {
    #[command(flatten)]
    workers: Workers,
    /// Print once and end; exit code 1 if no worker answers
    #[arg(long)]
    once: bool,
    /// One JSON object: the whole, each worker, and those that do not answer
    #[arg(long)]
    json: bool,
    /// Language of the texts
    #[arg(long, value_enum, default_value_t)]
    lang: Lang,
}

/// The status of one worker.
#[derive(Debug)]
struct WorkerStatus {
    /// The host and port that was asked.
    address: String,
    /// What it replied, or a sentence that says why there is no status.
    status: Result<Status, String>,
}

/// Shows the workers until `q`, Ctrl-C or SIGTERM; prints once where the output is no terminal.
///
/// # Errors
/// Fails for a configuration mistake, and for an output that cannot be written to.
pub async fn run(options: &TopOptions) -> anyhow::Result<ExitCode> {
    let language = options.lang.into();
    let live = !options.once
        && !options.json
        && std::io::stdout().is_terminal()
        && std::io::stdin().is_terminal();
    if live {
        return watch(&options.workers, language).await.map(|()| ExitCode::SUCCESS);
    }
    let answers = ask(&options.workers, language).await?;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", super::json::pretty(&object(&answers, language))?)?;
    } else {
        // A file or a pipe has no edge to cut at.
        let width = terminal::size().ok().filter(|_| std::io::stdout().is_terminal());
        let width = width.map_or(usize::MAX, |(columns, _)| usize::from(columns.max(40)));
        for line in screen::lines(&answers, language, width) {
            writeln!(out, "{}", line.text)?;
        }
    }
    let answered = answers.iter().any(|answer| answer.status.is_ok());
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Asks all workers at the same time. A worker that answers on two addresses is listed once.
async fn ask(workers: &Workers, language: Language) -> anyhow::Result<Vec<WorkerStatus>> {
    let read = |body: Vec<u8>| {
        let unreadable = language.of(
            "tells no status that this version can read",
            "donne un état que cette version ne sait pas lire",
        );
        serde_json::from_slice::<Status>(&body).map_err(|_| unreadable.to_owned())
    };
    let replies =
        workers::ask_all(workers, language.of("status.json?lang=en", "status.json?lang=fr"))
            .await?;
    let silent = |reason| format!("{} ({reason})", language.of("does not answer", "ne répond pas"));
    let status = |workers::WorkerReply { address, body }| WorkerStatus {
        address,
        status: body.map_err(silent).and_then(read),
    };
    let mut answers: Vec<WorkerStatus> = replies.into_iter().map(status).collect();
    let mut seen = HashSet::new();
    answers.retain(|answer| {
        answer.status.as_ref().map_or(true, |status| seen.insert(status.worker.clone()))
    });
    Ok(answers)
}

/// Makes the JSON object of `--json`.
fn object(answers: &[WorkerStatus], language: Language) -> serde_json::Value {
    let workers: Vec<_> = answers.iter().filter_map(|answer| answer.status.as_ref().ok()).collect();
    let silent = answers.iter().filter_map(|answer| {
        Some(json!({"address": answer.address, "why": answer.status.as_ref().err()?}))
    });
    json!({
        "whole": screen::whole(answers, language),
        "workers": workers,
        "silent": silent.collect::<Vec<_>>(),
    })
}

/// The alternate screen of the terminal. Dropping it gives the terminal back as it was.
struct Screen;

impl Screen {
    /// Switches the terminal to raw mode and to its alternate screen.
    fn open() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on the terminal has to be given back, whatever fails.
        let screen = Self;
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

    /// Draws the lines from the top, and clears the rest.
    fn draw(&self, lines: &[screen::ScreenLine]) -> std::io::Result<()> {
        let (_, rows) = terminal::size()?;
        let mut out = std::io::stdout().lock();
        let colours = std::env::var_os("NO_COLOR").is_none();
        for (row, line) in (0..rows).zip(lines.iter().map(Some).chain(std::iter::repeat(None))) {
            queue!(out, cursor::MoveTo(0, row))?;
            if let Some(line) = line {
                if colours && let Some(colour) = line.colour {
                    queue!(out, style::SetForegroundColor(colour))?;
                }
                queue!(out, style::Print(&line.text), style::ResetColor)?;
            }
            queue!(out, terminal::Clear(terminal::ClearType::UntilNewLine))?;
        }
        out.flush()
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _left = execute!(std::io::stdout(), terminal::LeaveAlternateScreen, cursor::Show);
        let _cooked = terminal::disable_raw_mode();
    }
}

/// Shows the workers until the user ends it.
async fn watch(workers: &Workers, language: Language) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let screen = Screen::open()?;
    let mut events = EventStream::new();
    let mut tick = tokio::time::interval(UPDATE_INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut answers = Vec::new();
    loop {
        tokio::select! {
            _ = terminated.recv() => return Ok(()),
            event = events.next() => match event {
                Some(Ok(event)) if ends(&event) => return Ok(()),
                Some(Ok(_)) => {}
                // Without a keyboard nobody could end it.
                Some(Err(error)) => return Err(error.into()),
                None => return Ok(()),
            },
            fresh = async { tick.tick().await; ask(workers, language).await } => answers = fresh?,
        }
        let (columns, _) = terminal::size()?;
        screen.draw(&screen::lines(&answers, language, columns.into()))?;
    }
}

/// Whether this key ends the command: `q`, Esc, or Ctrl-C, which is a key like any other in raw
/// mode.
fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
}
