//! The line ends of a table. Windows ends a line with CR LF, and Excel for Mac with CR alone; the
//! CSV reader counts lines by LF only.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use super::InputText;
use crate::domain::hit;

/// How many bytes one row may take: a quote that is never closed must not fill the memory.
const MAX_ROW_BYTES: usize = 16 * hit::MAX_BYTES;

/// A text in which every line ends with LF, the last one too. It fails when too many bytes are read
/// for a row.
pub(super) struct UnixLines {
    /// The text from which it reads.
    text: InputText,
    /// How many bytes have been read for the latest row.
    row_bytes: Rc<Cell<usize>>,
    /// Whether the byte before was a CR.
    after_return: bool,
    /// Whether the line has begun that is being read.
    within_line: bool,
}

impl UnixLines {
    /// Reads from a text. `row_bytes` is set to zero by whoever begins a row.
    pub(super) fn new(text: InputText, row_bytes: Rc<Cell<usize>>) -> Self {
        Self { text, row_bytes, after_return: false, within_line: false }
    }
}

impl Read for UnixLines {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let (mut used, mut written) = (0, 0);
        while written == 0 && !buffer.is_empty() {
            let chunk = self.text.fill_buf()?;
            let at_end = chunk.is_empty();
            if at_end && !self.within_line {
                break;
            }
            let chunk = if at_end { b"\n" } else { chunk };
            let mut taken = 0;
            for byte in chunk.iter().take(buffer.len()) {
                taken += 1;
                let after_return = std::mem::replace(&mut self.after_return, *byte == b'\r');
                if *byte == b'\n' && after_return {
                    continue;
                }
                let byte = if *byte == b'\r' { b'\n' } else { *byte };
                self.within_line = byte != b'\n';
                if let Some(place) = buffer.get_mut(written) {
                    *place = byte;
                    written += 1;
                }
            }
            used += taken;
            if !at_end {
                self.text.consume(taken);
            }
        }
        self.row_bytes.set(self.row_bytes.get() + used);
        if self.row_bytes.get() > MAX_ROW_BYTES {
            return Err(std::io::Error::other(format!(
                "a row of over {MAX_ROW_BYTES} bytes: is a quote not closed?"
            )));
        }
        Ok(written)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn every_line_ends_with_a_line_feed() {
        for (text, expected) in [
            ("", ""),
            ("a", "a\n"),
            ("a\nb\n", "a\nb\n"),
            ("a\r\n\r\nb\r\n", "a\n\nb\n"),
            ("a\rb\r\rc", "a\nb\n\nc\n"),
            ("\r\n", "\n"),
            ("a\n\rb", "a\n\nb\n"),
        ] {
            for capacity in 1..4 {
                let reader = BufReader::with_capacity(capacity, text.as_bytes());
                let mut read = String::new();
                UnixLines::new(Box::new(reader), Rc::default())
                    .read_to_string(&mut read)
                    .expect("reads");
                assert_eq!(read, expected, "{text:?} by {capacity}");
            }
        }
    }
}
