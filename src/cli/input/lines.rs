//! One hit a line: a JSON object, a query string or URL, a line of a web server's access log, or
//! one of `dead export`.

use std::io::BufRead;

use jiff::Timestamp;
use jiff::fmt::strtime;
use memchr::{memchr, memmem};

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
    /// The body of the latest line, if it was one of an export.
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
        if line.starts_with(b"{") {
            return Ok(Some(InputRecord {
                number,
                body: Ok(line),
                content_type: None,
                received_at: None,
            }));
        }
        let (body, received_at) = logged_call(line).unwrap_or((line, None));
        // Nothing but its content type says that a line of plain parameters is a query string.
        let content_type =
            (!body.starts_with(b"[") && memchr(b'=', body).is_some()).then_some(QUERY);
        Ok(Some(InputRecord { number, body: Ok(body), content_type, received_at }))
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

/// Finds the call of matomo.php in a line of an access log, and when it came
/// (`… [25/Nov/2024:16:11:42 +0000] "GET /matomo.php?idsite=1… HTTP/1.1" 204 …`).
fn logged_call(line: &[u8]) -> Option<(&[u8], Option<Timestamp>)> {
    let start = memmem::find(line, b"\"GET ")?;
    let (before, rest) = (line.get(..start)?, line.get(start + 5..)?);
    let end = rest.iter().position(|byte| *byte == b' ' || *byte == b'"').unwrap_or(rest.len());
    let call = rest.get(..end).filter(|call| memmem::find(call, b".php?").is_some())?;
    Some((call, logged_time(before)))
}

/// Reads the time that an access log has in brackets.
fn logged_time(before: &[u8]) -> Option<Timestamp> {
    let begin = memchr(b'[', before)? + 1;
    let end = memchr(b']', before)?;
    let text = std::str::from_utf8(before.get(begin..end)?).ok()?;
    strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_is_found_in_an_access_log_with_its_time() {
        let line = concat!(
            r#"192.0.2.1 - - [25/Nov/2024:17:11:42 +0100] "#,
            r#""GET /matomo.php?idsite=1&uid=x HTTP/1.1" 204 0 "-" "curl""#
        );
        let line = line.as_bytes();
        let (call, time) = logged_call(line).expect("a call");
        assert_eq!(call, b"/matomo.php?idsite=1&uid=x");
        assert_eq!(time.map(|time| time.as_second()), Some(1_732_551_102));
        assert_eq!(logged_call(br#"{"action_name":"\"GET it"}"#), None);
        assert_eq!(logged_call(b"GET"), None);
    }
}
