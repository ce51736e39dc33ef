//! `dead export`: whole hits into a file that `validate` and `publish` read back.

use std::fs::File;
use std::io::{BufWriter, ErrorKind, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;
use tempfile::NamedTempFile;

use super::choice::Choice;
use super::digest::{self, Digest};
use super::reading;
use crate::cli::input::exported;
use crate::cli::stop;
use crate::service::config::BrokerSettings;

/// The command line options of `dead export`.
#[derive(Debug, Args)]
pub struct DeadExportOptions {
    /// File to write, which must not exist yet unless --force is given; - for standard output
    file: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// One JSON object instead of a sentence
    #[arg(long)]
    json: bool,
    /// Replace a file of that name, and what an export that was killed has left
    #[arg(long)]
    force: bool,
}

/// Writes the chosen hits to a file.
///
/// # Errors
/// Fails for a configuration mistake, a broker that goes away, and a file that exists already or
/// cannot be written to.
pub(super) async fn run(options: &DeadExportOptions) -> anyhow::Result<ExitCode> {
    let settings = BrokerSettings::from_env()?;
    let filter = options.choice.filter();
    let client = reading::open(&settings, &options.choice).await?;
    let mut file = Export::create(&options.file, options.force)?;
    let mut choice = options.choice.clone();
    choice.prints_rows = file.part.is_none();
    let failed = || format!("{} cannot be written", options.file.display());
    let (mut digests, mut left_out) = (Vec::new(), 0_u64);
    let counts = reading::for_each_chosen(
        &client,
        &choice,
        &filter,
        &stop::on_signal()?,
        |dead_letter, dead| {
            let parts = dead_letter.message.unreadable();
            if parts.is_some_and(|parts| parts.body_left_out().is_some()) {
                left_out += 1;
                return Ok(());
            }
            let digest = Digest::of(dead_letter.message.body());
            digests.push(digest);
            let headers = dead_letter
                .message
                .headers()
                .map(|(name, value)| (name.to_owned(), value))
                .collect();
            let line = exported::ExportedLine {
                version: exported::VERSION,
                queue: dead.dead_queue.code().into(),
                id: digest.hex().into(),
                broker_reason: dead.broker_move.as_ref().map(|moved| moved.reason.code().into()),
                routing_key: dead_letter.message.routing_key().into(),
                content_type: dead_letter.message.content_type().map(Into::into),
                timestamp: dead_letter.message.timestamp(),
                headers,
                body: exported::ExportedBody::of(dead_letter.message.body()),
            };
            writeln!(file.out, "{}", crate::cli::json::compact(&line)?).with_context(failed)
        },
    )
    .await?;
    client.close().await;
    if counts.chosen == 0 {
        eprintln!("no hit is chosen, of {}: no file was written", counts.read);
        return Ok(ExitCode::FAILURE);
    }
    let is_file = file.part.is_some();
    file.finish(&options.file, options.force).with_context(failed)?;
    let written = counts.chosen - left_out;
    let set = digest::of_set(digests);
    let mut out = std::io::stdout().lock();
    if !is_file {
        eprintln!(
            "{} of {} hits written, visitors included; they are still in their queues; the set is \
             {set}",
            written, counts.read
        );
    } else if options.json {
        let summary = json!({
            "file": options.file,
            "hits": written,
            "read": counts.read,
            "set_sha256": set,
        });
        writeln!(out, "{summary}")?;
    } else {
        writeln!(
            out,
            "{} of {} hits written to {}, visitors included; they are still in their queues",
            written,
            counts.read,
            options.file.display()
        )?;
    }
    if left_out > 0 {
        eprintln!(
            "{left_out} of the chosen messages are too large to be exported, and are only in their \
             queues"
        );
        return Ok(ExitCode::FAILURE);
    }
    Ok(ExitCode::SUCCESS)
}

/// A file that is being written. Under its own name it is there when it is whole, or not at all:
/// somebody may delete the hits once they have a copy.
struct Export {
    /// Where the lines go.
    out: Output,
    /// The unfinished file, whose name has `.part` at the end. Dropping it deletes it. `None` on
    /// standard output.
    part: Option<NamedTempFile>,
}

/// A writer that packs what it is given, or does not.
enum Output {
    Plain(BufWriter<Box<dyn Write>>),
    Packed(GzEncoder<BufWriter<Box<dyn Write>>>),
}

impl Export {
    /// Creates the file so that its owner alone can read it, for it holds personal data. Only with
    /// `force` a file that is there already is replaced.
    fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        if path.as_os_str() == "-" {
            anyhow::ensure!(
                !std::io::stdout().is_terminal(),
                "standard output is a terminal: whole hits go to a file or a pipe"
            );
            return Ok(Self {
                out: Output::Plain(BufWriter::new(Box::new(std::io::stdout()))),
                part: None,
            });
        }
        let is_there = path.symlink_metadata().is_ok();
        anyhow::ensure!(
            force || !is_there,
            "{} is there already: choose another name, or replace it with --force",
            path.display()
        );
        let part = part_of(path, force)?;
        let out: BufWriter<Box<dyn Write>> = BufWriter::new(Box::new(part.as_file().try_clone()?));
        let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        let out = if packed {
            Output::Packed(GzEncoder::new(out, Compression::default()))
        } else {
            Output::Plain(out)
        };
        Ok(Self { out, part: Some(part) })
    }

    /// Writes everything to the disk, and gives the file its name, which nobody else may have taken
    /// since.
    fn finish(self, path: &Path, force: bool) -> std::io::Result<()> {
        let mut out = match self.out {
            Output::Plain(out) => out,
            Output::Packed(out) => out.finish()?,
        };
        out.flush()?;
        let Some(part) = self.part else { return Ok(()) };
        part.as_file().sync_all()?;
        let named = if force { part.persist(path) } else { part.persist_noclobber(path) };
        named?;
        // The name has to outlast a crash as the hits do.
        File::open(folder_of(path))?.sync_all()
    }
}

/// Creates the unfinished file. One that is there already belongs to an export that runs, or to one
/// that was killed, or to somebody else.
fn part_of(path: &Path, force: bool) -> anyhow::Result<NamedTempFile> {
    let name = path.file_name().with_context(|| format!("{} is no file", path.display()))?;
    let mut name = name.to_owned();
    name.push(".part");
    let part = folder_of(path).join(&name);
    if force {
        match std::fs::remove_file(&part) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error.into()),
            Ok(()) | Err(_) => {}
        }
    }
    // The name has no part by chance, and the file is created only if there is none of this name.
    let made = tempfile::Builder::new().prefix(&name).rand_bytes(0).tempfile_in(folder_of(path));
    made.with_context(|| match part.symlink_metadata() {
        Ok(_) => format!(
            "{} is there already: another export writes it, or was killed; --force replaces it",
            part.display()
        ),
        Err(_) => format!("{} cannot be created", part.display()),
    })
}

/// Returns the folder of a file.
fn folder_of(path: &Path) -> &Path {
    let folder = path.parent().unwrap_or(Path::new("."));
    if folder.as_os_str().is_empty() { Path::new(".") } else { folder }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(out) => out.write(bytes),
            Self::Packed(out) => out.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(out) => out.flush(),
            Self::Packed(out) => out.flush(),
        }
    }
}
