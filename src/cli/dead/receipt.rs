//! What a replay or purge leaves behind: who did what to how many hits, and to which, without a
//! word of what they say.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use jiff::Timestamp;
use serde::Serialize;

use super::choice::Choice;
use super::digest::{self, Digest};
use crate::domain::dead::filter::Filter;
use crate::domain::dead::fix::Fix;
use crate::service::broker::DeadLetterClient;
use crate::service::config::Broker;

/// How old a receipt on disk is at most, while something is done.
const SAVE_EVERY: Duration = Duration::from_secs(1);

/// A receipt, and the file that it is kept in.
#[derive(Debug)]
pub(super) struct Receipt {
    text: ReceiptContent,
    digests: Vec<Digest>,
    file: Option<File>,
    saved: Instant,
    path: PathBuf,
    /// It goes to standard output at the end, and nothing else does.
    pub(super) is_printed: bool,
}

#[derive(Debug, Serialize)]
struct ReceiptContent {
    receipt: &'static str,
    id: String,
    version: &'static str,
    who: Who,
    broker: String,
    queue_prefix: String,
    queues: Vec<&'static str>,
    filter: Filter,
    #[serde(skip_serializing_if = "Option::is_none")]
    max: Option<u64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    fixes: Vec<Fix>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rate: Option<u32>,
    started_at: Timestamp,
    finished_at: Option<Timestamp>,
    /// All that was chosen and could be done is done.
    complete: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    stopped: Option<String>,
    /// Hits, by what was done to them or why they stayed.
    counts: BTreeMap<String, u64>,
    /// Name of the set of hits that were moved or deleted, once it is known: see `dead export`.
    set_sha256: Option<String>,
}

#[derive(Debug, Serialize)]
struct Who {
    user: Option<String>,
    host: Option<String>,
    amqp_user: String,
}

impl Receipt {
    /// Takes its place before anything is touched: what cannot be written down is not done. `-` is
    /// standard output, at the end.
    pub(super) fn begin(
        what: &'static str,
        (path, json): (Option<&PathBuf>, bool),
        choice: &Choice,
        filter: &Filter,
        settings: &Broker,
        client: &DeadLetterClient,
    ) -> anyhow::Result<Self> {
        let started_at = Timestamp::now();
        let id = format!("{}-{:04x}", started_at.strftime("%Y%m%dT%H%M%SZ"), rand::random::<u16>());
        let path = path.cloned().unwrap_or_else(|| format!("dnma-relay-{what}-{id}.json").into());
        let file = if path.as_os_str() == "-" {
            None
        } else {
            let file = OpenOptions::new().write(true).create_new(true).open(&path);
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
        let text = ReceiptContent {
            receipt: what,
            id,
            version: env!("CARGO_PKG_VERSION"),
            who: Who { user: variable(&["USER", "LOGNAME"]), host, amqp_user: client.user() },
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
            text,
            digests: Vec::new(),
            is_printed: json || file.is_none(),
            file,
            saved: Instant::now(),
            path,
        };
        receipt.save()?;
        Ok(receipt)
    }

    /// What a replay does beside.
    pub(super) fn mending(&mut self, fixes: &[Fix], rate: u32) {
        self.text.fixes = fixes.to_vec();
        self.text.rate = Some(rate);
    }

    pub(super) fn id(&self) -> &str {
        &self.text.id
    }

    pub(super) fn path(&self) -> &std::path::Path {
        &self.path
    }

    /// Hits that something holds of.
    pub(super) fn count(&mut self, what: &str, hits: u64) {
        *self.text.counts.entry(what.to_owned()).or_default() += hits;
    }

    pub(super) fn counted(&self, what: &str) -> u64 {
        self.text.counts.get(what).copied().unwrap_or_default()
    }

    /// This hit was moved, or deleted.
    pub(super) fn done_to(&mut self, hit: Digest) {
        self.digests.push(hit);
    }

    /// Writes down how far it has come from time to time, should this process die.
    pub(super) fn keep_up(&mut self) -> anyhow::Result<()> {
        if self.saved.elapsed() > SAVE_EVERY { self.save() } else { Ok(()) }
    }

    /// Writes down how far it has come.
    pub(super) fn save(&mut self) -> anyhow::Result<()> {
        self.saved = Instant::now();
        let Some(file) = &mut self.file else { return Ok(()) };
        let text = serde_json::to_string_pretty(&self.text)?;
        let written = file
            .rewind()
            .and_then(|()| file.set_len(0))
            .and_then(|()| writeln!(file, "{text}"))
            .and_then(|()| file.sync_all());
        written.with_context(|| format!("the receipt {} cannot be written", self.path.display()))
    }

    /// Closes it. `stopped`: why not everything was done.
    pub(super) fn close(&mut self, stopped: Option<String>) -> anyhow::Result<()> {
        self.text.finished_at = Some(Timestamp::now());
        self.text.complete = stopped.is_none();
        self.text.stopped = stopped;
        self.text.set_sha256 = Some(digest::of_set(std::mem::take(&mut self.digests)));
        self.save()?;
        if self.is_printed {
            writeln!(std::io::stdout().lock(), "{}", serde_json::to_string_pretty(&self.text)?)?;
        }
        Ok(())
    }
}
