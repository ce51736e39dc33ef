//! `dnma-relay top`: one or several workers at a glance, live.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Args;
use crossterm::event::{Event, EventStream, KeyCode, KeyModifiers};
use crossterm::{cursor, execute, queue, style, terminal};
use futures_util::StreamExt;
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use url::Url;

use super::Lang;
use super::healthcheck::reachable;
use crate::domain::rule::Language;
use crate::service::config::Settings;
use crate::service::peers::{Answer, Peers};

mod screen;

/// Between two looks.
const EVERY: Duration = Duration::from_secs(2);

/// Options of `top`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where a worker answers; may be repeated. A name with several addresses, such as a headless service of Kubernetes, is all
    /// of them [default: the worker that runs with this environment]
    #[arg(long, value_name = "URL", value_parser = address)]
    url: Vec<Url>,
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

/// Shows the workers until `q`, Ctrl-C or SIGTERM; prints once where the output is no terminal.
///
/// # Errors
/// A configuration mistake, an output that cannot be written to, or (once) no worker that answers.
pub async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let language = options.lang.into();
    let mut urls = options.url.clone();
    if urls.is_empty() {
        urls.push(format!("http://{}/", reachable(Settings::http_listen_from_env()?)).parse().context("HTTP_LISTEN")?);
    }
    let peers = Peers::new(urls)?;
    let live = !options.once && !options.json && std::io::stdout().is_terminal() && std::io::stdin().is_terminal();
    if live {
        return watch(&peers, language).await.map(|()| ExitCode::SUCCESS);
    }
    let answers = peers.ask(language).await;
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", serde_json::to_string_pretty(&object(&answers, language))?)?;
    } else {
        let width = terminal::size().map_or(120, |(columns, _)| usize::from(columns.max(40)));
        for line in screen::lines(&answers, language, width) {
            writeln!(out, "{}", line.text)?;
        }
    }
    let answered = answers.iter().any(|answer| answer.status.is_ok());
    Ok(if answered { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn object(answers: &[Answer], language: Language) -> serde_json::Value {
    let workers: Vec<_> = answers.iter().filter_map(|answer| answer.status.as_ref().ok()).collect();
    let silent = answers.iter().filter_map(|answer| Some(json!({"address": answer.address, "why": answer.status.as_ref().err()?})));
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

    fn draw(&self, lines: &[screen::Line]) -> std::io::Result<()> {
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

async fn watch(peers: &Peers, language: Language) -> anyhow::Result<()> {
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
            fresh = async { tick.tick().await; peers.ask(language).await } => answers = fresh,
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

/// `http://relay:8080`, or short `relay`.
fn address(text: &str) -> anyhow::Result<Url> {
    let full = if text.contains("://") { text.to_owned() } else { format!("http://{text}") };
    let mut url: Url = full.parse().context("not an address")?;
    ensure!(matches!(url.scheme(), "http" | "https") && url.has_host(), "an http or https address is needed");
    ensure!(url.username().is_empty() && url.password().is_none(), "a user and password have no use here");
    if !text.contains("://") && url.port().is_none() {
        url.set_port(Some(8_080)).ok().context("not an address")?;
    }
    if !url.path().ends_with('/') {
        url.set_path(&format!("{}/", url.path()));
    }
    Ok(url)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_alone_is_a_worker_on_its_usual_port() {
        for (given, meant) in [
            ("relay", "http://relay:8080/"),
            ("relay:9000", "http://relay:9000/"),
            ("https://relay.example.fr/dnma", "https://relay.example.fr/dnma/"),
            ("http://[::1]:8080", "http://[::1]:8080/"),
        ] {
            assert_eq!(address(given).expect("an address").as_str(), meant);
        }
        for wrong in ["", "ftp://relay", "http://user:secret@relay/"] {
            assert!(address(wrong).is_err(), "{wrong}");
        }
    }
}
