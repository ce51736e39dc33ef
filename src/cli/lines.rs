//! Files of hits, one a line: opened, read in bounded memory, and with a progress bar.

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use crate::domain::hit;

/// A file of any size, or standard input.
pub(super) type Input = Box<dyn AsyncBufRead + Unpin>;

/// Opens a file, or standard input for `-`; with its length where that is known.
pub(super) async fn open(path: &str) -> anyhow::Result<(Input, Option<u64>)> {
    if path == "-" {
        return Ok((Box::new(BufReader::new(tokio::io::stdin())), None));
    }
    let file = tokio::fs::File::open(path).await.with_context(|| format!("{path} cannot be read"))?;
    let metadata = file.metadata().await?;
    anyhow::ensure!(!metadata.is_dir(), "{path} is a directory");
    let bytes = metadata.len();
    Ok((Box::new(BufReader::with_capacity(256 * 1024, file)), Some(bytes)))
}

/// Reads one line, keeping no more of it than shows that it is too long. Returns the bytes read, 0 at the end.
pub(super) async fn read(input: &mut (dyn AsyncBufRead + Unpin), line: &mut Vec<u8>) -> std::io::Result<usize> {
    let mut read = 0;
    loop {
        let chunk = input.fill_buf().await?;
        let end = chunk.iter().position(|byte| *byte == b'\n');
        let taken = end.map_or(chunk.len(), |end| end + 1);
        let room = (hit::MAX_BYTES + 2).saturating_sub(line.len());
        line.extend(chunk.iter().take(taken.min(room)));
        input.consume(taken);
        read += taken;
        if end.is_some() || taken == 0 {
            return Ok(read);
        }
    }
}

/// Drawn on a terminal only.
pub(super) fn progress_bar(bytes: Option<u64>) -> anyhow::Result<ProgressBar> {
    let bar = match bytes {
        Some(bytes) => ProgressBar::new(bytes)
            .with_style(ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed} of about {duration}")?),
        None => ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}  {elapsed}")?),
    };
    Ok(bar)
}
