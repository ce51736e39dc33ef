//! One hit a line: a JSON object, a query string or URL, a line of a web server's access log, or
//! one of `dead export`.

use memchr::memchr;

use super::access_log::{self, LoggedCall};
use super::encoding::BYTE_ORDER_MARK;
use super::exported::{self, ExportedMessage};
use super::{InputRecord, InputText, QUERY};
use crate::domain::hit;

/// The reader of lines.
pub(super) struct Lines {
    /// The text from which it reads.
    text: InputText,
    /// The latest line.
    line: Vec<u8>,
    /// How many lines have been read.
    number: u64,
    /// The body of the latest line, if it was one of an export or of a log.
    body: Vec<u8>,
}

impl Lines {
    /// Reads lines from a text.
    pub(super) fn new(text: InputText) -> Self {
        Self { text, line: Vec::new(), number: 0, body: Vec::new() }
    }

    /// Reads the next line that is not blank.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<InputRecord<'_>>> {
        loop {
            self.line.clear();
            if !self.read()? {
                return Ok(None);
            }
            self.number += 1;
            if !self.line.trim_ascii().is_empty() {
                break;
            }
        }
        let line = self.line.trim_ascii();
        // Files that were put together may each have a mark.
        let line = line.strip_prefix(BYTE_ORDER_MARK).unwrap_or(line);
        let number = self.number;
        if exported::begins(line) {
            return Ok(Some(match exported::read(line) {
                Ok(ExportedMessage { body, content_type, received_at }) => {
                    self.body = body;
                    InputRecord { number, body: Ok(&self.body), content_type, received_at }
                }
                Err(broken) => {
                    InputRecord { number, body: Err(broken), content_type: None, received_at: None }
                }
            }));
        }
        let is_object = line.starts_with(b"{");
        let logged = if is_object { access_log::of_json(line) } else { access_log::of_text(line) };
        let (body, content_type, received_at) = match logged {
            // Nothing but its content type says that a line of plain parameters is a query string.
            None => {
                let is_query = !matches!(line, [b'{' | b'[' | b'"', ..]);
                (Ok(line), (is_query && memchr(b'=', line).is_some()).then_some(QUERY), None)
            }
            Some(Ok(LoggedCall { target, received_at })) => {
                self.body = target;
                (Ok(self.body.as_slice()), Some(QUERY), received_at)
            }
            Some(Err(broken)) => (Err(broken.to_owned()), None, None),
        };
        Ok(Some(InputRecord { number, body, content_type, received_at }))
    }

    /// Reads one line, and keeps no more of it than shows that it is too long. Returns `false` at
    /// the end of the text.
    fn read(&mut self) -> std::io::Result<bool> {
        let mut read = false;
        loop {
            let chunk = self.text.fill_buf()?;
            if chunk.is_empty() {
                return Ok(read);
            }
            read = true;
            let end = memchr(b'\n', chunk);
            let taken = end.map_or(chunk.len(), |end| end + 1);
            let max_bytes = if exported::begins(&self.line)
                || exported::begins(chunk) && self.line.is_empty()
            {
                exported::MAX_LINE_BYTES
            } else {
                hit::MAX_BYTES
            };
            let room = (max_bytes + 2).saturating_sub(self.line.len());
            self.line.extend_from_slice(chunk.get(..taken.min(room)).unwrap_or_default());
            self.text.consume(taken);
            if end.is_some() {
                return Ok(true);
            }
        }
    }
}
