//! Files of hits in every form that an ENT has them in. A file is recognised by its content, read
//! in bounded memory, and shown with a progress bar.
//!
//! Each form has a file of its own: [`lines`] (NDJSON, query strings, URLs), [`access_log`] (lines
//! of access logs), [`exported`] (lines of `dead export`), [`array`] (a JSON array), [`objects`]
//! (JSON objects over several lines), [`table`] (CSV). Each gives one [`InputRecord`] after the
//! other; gzip and UTF-16 are decoded on the way.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};

use anyhow::Context as _;
use flate2::bufread::MultiGzDecoder;
use indicatif::{ProgressBar, ProgressStyle};
use jiff::Timestamp;

mod access_log;
mod array;
mod encoding;
pub(crate) mod exported;
mod line_ends;
mod lines;
mod objects;
mod table;

use array::Array;
use lines::Lines;
use objects::Objects;
use table::Table;

/// One hit as a message would carry it.
#[derive(Debug)]
pub(super) struct InputRecord<'r> {
    /// The line of the file, or the place in the array, from 1.
    pub(super) number: u64,
    /// The message, or a sentence that says why there is none.
    pub(super) body: Result<&'r [u8], String>,
    /// The content type that a publisher would give it.
    pub(super) content_type: Option<&'static str>,
    /// When somebody received the hit, if the file says so.
    pub(super) received_at: Option<Timestamp>,
}

/// A file of any size, or standard input.
pub(super) struct Input {
    /// The reader of the form that was recognised.
    form: InputForm,
    /// The size of the file; `None` for standard input.
    bytes: Option<u64>,
    /// The progress bar.
    progress: ProgressBar,
}

/// The reader of each form.
enum InputForm {
    Lines(Lines),
    Array(Array),
    Objects(Objects),
    Table(Box<Table>),
}

/// The text of a file, unpacked.
type InputText = Box<dyn BufRead>;

/// The content type of a JSON object.
const JSON: &str = "application/json";
/// The content type of a query string.
const QUERY: &str = "application/x-www-form-urlencoded";

/// How many bytes are read to recognise the form.
const BUFFER: usize = 256 * 1024;

impl Input {
    /// Opens a file, or standard input for `-`. The progress bar is hidden until
    /// [`Input::show_progress`].
    pub(super) fn open(path: &str) -> anyhow::Result<Self> {
        let progress = ProgressBar::hidden();
        let (raw, bytes): (Box<dyn Read>, _) = if path == "-" {
            (Box::new(std::io::stdin().lock()), None)
        } else {
            let file = File::open(path).with_context(|| format!("{path} cannot be read"))?;
            let metadata = file.metadata()?;
            anyhow::ensure!(!metadata.is_dir(), "{path} is a directory");
            (Box::new(file), Some(metadata.len()))
        };
        Self::over(raw, bytes, progress)
    }

    /// Reads a stream of so many bytes, if that is known.
    fn over(raw: Box<dyn Read>, bytes: Option<u64>, progress: ProgressBar) -> anyhow::Result<Self> {
        let mut raw = BufReader::with_capacity(BUFFER, progress.wrap_read(raw));
        let packed = raw.fill_buf()?.starts_with(&[0x1f, 0x8b]);
        let text: InputText = if packed {
            Box::new(BufReader::with_capacity(BUFFER, MultiGzDecoder::new(raw)))
        } else {
            Box::new(raw)
        };
        let mut text = encoding::as_utf8(text)?;
        let begin = text.fill_buf()?;
        let form = if array::begins(begin) {
            InputForm::Array(Array::new(text))
        } else if objects::begins(begin) {
            InputForm::Objects(Objects::new(text))
        } else if let Some(layout) = table::layout(begin) {
            InputForm::Table(Box::new(Table::new(text, layout)?))
        } else {
            InputForm::Lines(Lines::new(text))
        };
        Ok(Self { form, bytes, progress })
    }

    /// Shows the progress bar from now on, if standard error is a terminal.
    pub(super) fn show_progress(&mut self) -> anyhow::Result<()> {
        self.progress.set_draw_target(indicatif::ProgressDrawTarget::stderr());
        match self.bytes {
            Some(bytes) => {
                self.progress.set_length(bytes);
                self.progress.set_style(ProgressStyle::with_template(
                    "{bar:30} {percent:>3} %  {msg}  {elapsed} of about {duration}",
                )?);
            }
            None => {
                self.progress.set_style(ProgressStyle::with_template("{spinner} {msg}  {elapsed}")?)
            }
        }
        Ok(())
    }

    /// Reads the next hit; returns `None` at the end.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<InputRecord<'_>>> {
        match &mut self.form {
            InputForm::Lines(lines) => lines.next(),
            InputForm::Array(array) => array.next(),
            InputForm::Objects(objects) => objects.next(),
            InputForm::Table(table) => table.next(),
        }
    }

    /// Returns what [`InputRecord::number`] counts: lines or hits.
    pub(super) fn unit(&self) -> &'static str {
        if matches!(self.form, InputForm::Array(_) | InputForm::Objects(_)) {
            "hit"
        } else {
            "line"
        }
    }

    /// Shows a message beside the progress bar.
    pub(super) fn show_message(&self, message: String) {
        self.progress.set_message(message);
    }

    /// Removes the progress bar.
    pub(super) fn finish(&self) {
        self.progress.finish_and_clear();
    }
}

#[cfg(test)]
mod tests;
