//! Files of hits, one a line: opened, read in bounded memory, and with a progress bar.

use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::io::{AsyncBufRead, AsyncBufReadExt, BufReader};

use crate::domain::hit;

/// A file of any size, or standard input, read line by line.
pub(super) struct Lines {
    input: Box<dyn AsyncBufRead + Unpin>,
    bytes: Option<u64>,
    progress: ProgressBar,
    line: Vec<u8>,
    number: u64,
}

impl Lines {
    /// Opens a file, or standard input for `-`. The progress bar is hidden until [`Lines::show_progress`].
    pub(super) async fn open(path: &str) -> anyhow::Result<Self> {
        let (input, bytes): (Box<dyn AsyncBufRead + Unpin>, _) = if path == "-" {
            (Box::new(BufReader::new(tokio::io::stdin())), None)
        } else {
            let file = tokio::fs::File::open(path).await.with_context(|| format!("{path} cannot be read"))?;
            let metadata = file.metadata().await?;
            anyhow::ensure!(!metadata.is_dir(), "{path} is a directory");
            (Box::new(BufReader::with_capacity(256 * 1024, file)), Some(metadata.len()))
        };
        Ok(Self { input, bytes, progress: ProgressBar::hidden(), line: Vec::new(), number: 0 })
    }

    /// From here on there is progress to show; drawn on a terminal only.
    pub(super) fn show_progress(&mut self) -> anyhow::Result<()> {
        self.progress = match self.bytes {
            Some(bytes) => ProgressBar::new(bytes)
                .with_style(ProgressStyle::with_template("{bar:30} {percent:>3} %  {msg}  {elapsed} of about {duration}")?),
            None => ProgressBar::new_spinner().with_style(ProgressStyle::with_template("{spinner} {msg}  {elapsed}")?),
        };
        Ok(())
    }

    /// The next line that is not blank, trimmed, with its number from 1; none at the end.
    pub(super) async fn next(&mut self) -> anyhow::Result<Option<(u64, &[u8])>> {
        loop {
            self.line.clear();
            let read = self.read().await?;
            if read == 0 {
                return Ok(None);
            }
            self.number += 1;
            self.progress.inc(u64::try_from(read)?);
            if !self.line.trim_ascii().is_empty() {
                return Ok(Some((self.number, self.line.trim_ascii())));
            }
        }
    }

    /// Says something beside the progress bar.
    pub(super) fn tell(&self, message: String) {
        self.progress.set_message(message);
    }

    /// The bar goes away.
    pub(super) fn finish(&self) {
        self.progress.finish_and_clear();
    }

    /// Reads one line, keeping no more of it than shows that it is too long. Returns the bytes read, 0 at the end.
    async fn read(&mut self) -> std::io::Result<usize> {
        let mut read = 0;
        loop {
            let chunk = self.input.fill_buf().await?;
            let end = chunk.iter().position(|byte| *byte == b'\n');
            let taken = end.map_or(chunk.len(), |end| end + 1);
            let room = (hit::MAX_BYTES + 2).saturating_sub(self.line.len());
            self.line.extend(chunk.iter().take(taken.min(room)));
            self.input.consume(taken);
            read += taken;
            if end.is_some() || taken == 0 {
                return Ok(read);
            }
        }
    }
}
