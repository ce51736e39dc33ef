//! `dead export`: whole hits into a file that `validate` and `publish` read back.

use std::fs::OpenOptions;
use std::io::{BufWriter, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use serde_json::json;

use super::choice::Choice;
use super::digest::{self, Digest};
use super::{reading, stop};
use crate::cli::input::exported;
use crate::service::config::Broker;

/// Options of `dead export`.
#[derive(Debug, Args)]
pub struct Options {
    /// File to write, which must not exist yet
    file: PathBuf,
    #[command(flatten)]
    choice: Choice,
    /// One JSON object instead of a sentence
    #[arg(long)]
    json: bool,
}

/// Exports.
///
/// # Errors
/// A configuration mistake, a broker that goes away, or a file that exists or cannot be written to.
pub(super) async fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let settings = Broker::from_env()?;
    let filter = options.choice.filter();
    let letters = reading::open(&settings, &options.choice).await?;
    let mut file = Export::create(&options.file)?;
    let mut digests = Vec::new();
    let seen = reading::look(&letters, &options.choice, &filter, &stop::on_signal()?, |letter, dead| {
        let digest = Digest::of(letter.body());
        digests.push(digest);
        let headers = letter.headers().map(|(name, value)| (name.to_owned(), value)).collect();
        let line = exported::Line {
            version: exported::VERSION,
            queue: dead.grave.code().into(),
            id: digest.hex().into(),
            routing_key: letter.key().into(),
            content_type: letter.content_type().map(Into::into),
            timestamp: letter.timestamp(),
            headers,
            body: exported::Body::of(letter.body()),
        };
        serde_json::to_writer(&mut file, &line).map_err(std::io::Error::from)?;
        writeln!(file)?;
        Ok(())
    })
    .await?;
    letters.close().await;
    if seen.chosen == 0 {
        std::fs::remove_file(&options.file)?;
        eprintln!("no hit is chosen, of {}: no file was written", seen.read);
        return Ok(ExitCode::FAILURE);
    }
    file.finish().with_context(|| format!("{} cannot be written", options.file.display()))?;
    let set = digest::of_set(digests);
    let mut out = std::io::stdout().lock();
    if options.json {
        writeln!(out, "{}", json!({"file": options.file, "hits": seen.chosen, "read": seen.read, "set_sha256": set}))?;
    } else {
        writeln!(
            out,
            "{} of {} hits written to {}, visitors included; they are still in their queues",
            seen.chosen,
            seen.read,
            options.file.display()
        )?;
    }
    Ok(ExitCode::SUCCESS)
}

enum Export {
    Plain(BufWriter<std::fs::File>),
    Packed(GzEncoder<BufWriter<std::fs::File>>),
}

impl Export {
    /// A new file that its owner alone can read: it holds personal data.
    fn create(path: &Path) -> anyhow::Result<Self> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = BufWriter::new(file.with_context(|| format!("{} cannot be created", path.display()))?);
        let packed = path.extension().is_some_and(|extension| extension.eq_ignore_ascii_case("gz"));
        Ok(if packed { Self::Packed(GzEncoder::new(file, Compression::default())) } else { Self::Plain(file) })
    }

    /// Everything is on the disk.
    fn finish(self) -> std::io::Result<()> {
        let file = match self {
            Self::Plain(file) => file,
            Self::Packed(file) => file.finish()?,
        };
        file.into_inner()?.sync_all()
    }
}

impl Write for Export {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        match self {
            Self::Plain(file) => file.write(bytes),
            Self::Packed(file) => file.write(bytes),
        }
    }

    fn flush(&mut self) -> std::io::Result<()> {
        match self {
            Self::Plain(file) => file.flush(),
            Self::Packed(file) => file.flush(),
        }
    }
}
