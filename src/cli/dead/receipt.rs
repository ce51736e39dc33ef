//! The receipt of a replay or a purge: who did what to how many hits, and to which ones, without a
//! word of what they say.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::choice::Choice;
use super::digest::{self, Digest};
use crate::cli::json;
use crate::domain::dead::filter::Filter;
use crate::domain::dead::fix::Fix;
use crate::service::amqp::dead_letter::DeadLetterClient;
use crate::service::config::BrokerSettings;

/// How often the receipt is saved while the command works.
const SAVE_INTERVAL: Duration = Duration::from_secs(1);

/// A receipt, and the file that it is kept in.
#[derive(Debug)]
pub(super) struct Receipt {
    /// What it says.
    content: ReceiptContent,
    /// The hits that were moved or deleted.
    digests: Vec<Digest>,
    /// The file; `None` if the receipt goes to standard output alone.
    file: Option<File>,
    /// When the file was last written.
    saved: Instant,
    /// The path of the file, or `-`.
    path: PathBuf,
    /// Whether the receipt goes to standard output at the end, and nothing else does.
    pub(super) is_printed: bool,
}

/// The receipt as JSON.
#[derive(Debug, Serialize)]
struct ReceiptContent {
    /// The command: `replay` or `purge`.
    receipt: &'static str,
    /// The name of this replay or purge, unique by time and chance.
    id: String,
    /// The version of the program.
    version: &'static str,
    /// Who gave the command.
    who: Operator,
    /// The address of the broker.
    broker: String,
    /// The prefix of the queue names.
    queue_prefix: String,
    /// The queues that were chosen.
    queues: Vec<&'static str>,
    /// The filter that chose the hits.
    filter: Filter,
    /// The most hits of each queue, if `--max` was given.
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    /// What a replay changed in the hits.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixes: Vec<Fix>,
    /// The most hits per second of a replay.
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    /// When the command began.
    started_at: Timestamp,
    /// When the command was done, or stopped; `None` while it works.
    finished_at: Option<Timestamp>,
    /// Whether everything is done that was chosen and could be done.
    complete: bool,
    /// Why not everything was done.
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    /// Hits, by what was done to them or why they stayed.
    counts: BTreeMap<String, u64>,
    /// The name of the set of hits that were moved or deleted, once it is known. `dead export`
    /// makes the same name of the same hits.
    set_sha256: Option<String>,
}

/// Who gave the command.
#[derive(Debug, Serialize)]
struct Operator {
    /// The user of this machine.
    user: Option<String>,
    /// The name of this machine.
    host: Option<String>,
    /// The user of `AMQP_URL`.
    amqp_user: String,
}

impl Receipt {
    /// Creates the receipt before anything is touched: what cannot be written down is not done. The
    /// path `-` stands for standard output, where the receipt is printed at the end.
    pub(super) fn begin(
        what: &'static str,
        (path, json): (Option<&PathBuf>, bool),
        choice: &Choice,
        filter: &Filter,
        settings: &BrokerSettings,
        client: &DeadLetterClient,
    ) -> anyhow::Result<Self> {
        let started_at = Timestamp::now();
        let id = format!("{}-{:04x}", started_at.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>());
        let path = path.cloned().unwrap_or_else(|| format!("dnma-relay-{what}-{id}.json").into());
        let file = if path.as_os_str() == "-" {
            None
        } else {
            // It names the operator and the hits.
            let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&path);
            let remedy = || {
                format!(
                    "the receipt {} cannot be created, so nothing was done: --receipt FILE names \
                     another, - prints it",
                    path.display()
                )
            };
            Some(file.with_context(remedy)?)
        };
        let variable = |names: &[&str]| {
            names.iter().find_map(|name| std::env::var(name).ok()).filter(|value| !value.is_empty())
        };
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname")
            .ok()
            .map(|name| name.trim().to_owned());
        let content = ReceiptContent {
            receipt: what,
            id,
            version: env!("CARGO_PKG_VERSION"),
            who: Operator { user: variable(&["USER", "LOGNAME"]), host, amqp_user: client.user() },
            broker: client.address().to_owned(),
            queue_prefix: settings.prefix.clone(),
            queues: choice.dead_queues().iter().map(|dead_queue| dead_queue.code()).collect(),
            filter: filter.clone(),
            max: choice.max,
            fixes: Vec::new(),
            rate: None,
            started_at,
            finished_at: None,
            complete: false,
            stopped: Some("not finished".to_owned()),
            counts: BTreeMap::new(),
            set_sha256: None,
        };
        let mut receipt = Self {
            content,
            digests: Vec::new(),
            is_printed: json || file.is_none(),
            file,
            saved: Instant::now(),
            path,
        };
        receipt.save()?;
        Ok(receipt)
    }

    /// Adds the options that only a replay has.
    pub(super) fn set_replay_options(&mut self, fixes: &[Fix], rate: u32) {
        self.content.fixes = fixes.to_vec();
        self.content.rate = Some(rate);
    }

    /// Returns the name of this replay or purge.
    pub(super) fn id(&self) -> &str {
        &self.content.id
    }

    /// Returns the path of the file.
    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Adds hits to a count: what was done to them, or why they stayed.
    pub(super) fn count(&mut self, what: &str, hits: u64) {
        *self.content.counts.entry(what.to_owned()).or_default() += hits;
    }

    /// Returns a count.
    pub(super) fn count_of(&self, what: &str) -> u64 {
        self.content.counts.get(what).copied().unwrap_or_default()
    }

    /// Records that this hit was moved or deleted.
    pub(super) fn add_hit(&mut self, hit: Digest) {
        self.digests.push(hit);
    }

    /// Saves the receipt if the last time is long enough ago, should this process die.
    pub(super) fn save_if_due(&mut self) -> anyhow::Result<()> {
        if self.saved.elapsed() > SAVE_INTERVAL { self.save() } else { Ok(()) }
    }

    /// Saves how far the command has come.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        self.saved = Instant::now();
        let Some(file) = &mut self.file else { return Ok(()) };
        let text = json::pretty(&self.content)?;
        let written = file
            .rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| writeln!(file, "{text}"))
            .and_then(|()| file.sync_all());
        written.with_context(|| format!("the receipt {} cannot be written", self.path.display()))
    }

    /// Saves the receipt for the last time. `stopped` says why not everything was done.
    pub(super) fn close(&mut self, stopped: Option<String>) -> anyhow::Result<()> {
        self.content.finished_at = Some(Timestamp::now());
        self.content.complete = stopped.is_none();
        self.content.stopped = stopped;
        self.content.set_sha256 = Some(digest::of_set(std::mem::take(&mut self.digests)));
        self.save()?;
        if self.is_printed {
            writeln!(std::io::stdout().lock(), "{}", json::pretty(&self.content)?)?;
        }
        Ok(())
    }
}
