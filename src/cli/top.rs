//! `dnma-relay top`: one or several workers at a glance, live.

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

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Options of `top`.
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

/// What one worker said.
#[derive(Debug)]
struct WorkerStatus {
    /// Host and port.
    address: String,
    /// Its status, or why there is none.
    status: Result<Status, String>,
}

/// Shows the workers until `q`, Ctrl-C or SIGTERM; prints once where the output is no terminal.
///
/// # Errors
/// A configuration mistake, an output that cannot be written to, or (once) no worker that answers.
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
        writeln!(out, "{}", serde_json::to_string_pretty(&object(&answers, language))?)?;
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

/// Asks all at once. A worker that answers on two addresses is told once.
async fn ask(workers: &Workers, language: Language) -> anyhow::Result<Vec<WorkerStatus>> {
    let read = |body: Vec<u8>| {
        let unreadable = language.of(
            "tells no status that this version can read",
            "donne un état que cette version ne sait pas lire",
        );
        serde_json::from_slice::<Status>(&body).map_err(|_| unreadable.to_owned())
    };
    let said =
        workers::each(workers, language.of("status.json?lang=en", "status.json?lang=fr")).await?;
    let silent = |reason| format!("{} ({reason})", language.of("does not answer", "ne répond pas"));
    let answer = |workers::WorkerReply { address, said }| WorkerStatus {
        address,
        status: said.map_err(silent).and_then(read),
    };
    let mut answers: Vec<WorkerStatus> = said.into_iter().map(answer).collect();
    let mut seen = HashSet::new();
    answers.retain(|answer| {
        answer.status.as_ref().map_or(true, |status| seen.insert(status.worker.clone()))
    });
    Ok(answers)
}

fn object(answers: &[WorkerStatus], language: Language) -> serde_json::Value {
    let workers: Vec<_> = answers.iter().filter_map(|answer| answer.status.as_ref().ok()).collect();
    let silent = answers.iter().filter_map(|answer| {
        Some(json!({"address": answer.address, "why": answer.status.as_ref().err()?}))
    });
    json!({"whole": screen::whole(answers, language), "workers": workers, "silent": silent.collect::<Vec<_>>()})
}

/// A terminal of our own, given back as it was.
struct Screen;

impl Screen {
    fn open() -> std::io::Result<Self> {
        terminal::enable_raw_mode()?;
        // From here on there is something to give back.
        let screen = Self;
        execute!(std::io::stdout(), terminal::EnterAlternateScreen, cursor::Hide)?;
        Ok(screen)
    }

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

async fn watch(workers: &Workers, language: Language) -> anyhow::Result<()> {
    let mut terminated = signal(SignalKind::terminate())?;
    let screen = Screen::open()?;
    let mut events = EventStream::new();
    let mut tick = tokio::time::interval(EVERY);
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

/// `q`, Esc or Ctrl-C, which is a key like any other here.
fn ends(event: &Event) -> bool {
    let Event::Key(key) = event else { return false };
    matches!(key.code, KeyCode::Char('q') | KeyCode::Esc)
        || (key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL))
}
