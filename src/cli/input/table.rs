//! CSV with a header of Matomo parameter names: each row becomes the JSON object that a message
//! would carry.

use std::cell::Cell;
use std::io::Read;
use std::rc::Rc;

use csv::{ByteRecord, Reader, ReaderBuilder};

use super::{InputRecord, InputText, JSON};
use crate::domain::hit;

/// The reader of tables.
pub(super) struct Table {
    /// The CSV reader.
    rows: Reader<RowMeter>,
    /// How many bytes have been read for the latest row.
    row_bytes: Rc<Cell<usize>>,
    /// The parameter name of each column.
    names: Vec<String>,
    /// The cells of the latest row.
    row: ByteRecord,
    /// The latest row as a message.
    body: Vec<u8>,
}

/// How many bytes one row may take: a quote that is never closed must not fill the memory.
const MAX_ROW_BYTES: usize = 16 * hit::MAX_BYTES;

/// Counts the bytes that are read for a row, and fails when they are too many.
struct RowMeter {
    /// The text from which it reads.
    text: InputText,
    /// How many bytes have been read for the latest row.
    row_bytes: Rc<Cell<usize>>,
}

impl Read for RowMeter {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.text.read(buffer)?;
        self.row_bytes.set(self.row_bytes.get() + read);
        if self.row_bytes.get() > MAX_ROW_BYTES {
            return Err(std::io::Error::other(format!(
                "a row of over {MAX_ROW_BYTES} bytes: is a quote not closed?"
            )));
        }
        Ok(read)
    }
}

/// Finds the delimiter, if the first line is a header: names, and among them the visitor or the
/// site.
pub(super) fn delimiter(text: &[u8]) -> Option<u8> {
    let header = text.split(|byte| *byte == b'\n').next()?.trim_ascii();
    if header.iter().any(|byte| matches!(byte, b'{' | b'=' | b'?')) {
        return None;
    }
    let is_header = |delimiter: &u8| {
        let mut cells = header.split(|byte| byte == delimiter).map(|cell| cell.trim_ascii());
        header.contains(delimiter)
            && cells.any(|cell| matches!(cell, b"uid" | b"idsite" | b"\"uid\"" | b"\"idsite\""))
    };
    [b',', b';', b'\t'].into_iter().find(is_header)
}

impl Table {
    /// Reads a table from a text, beginning with its header.
    pub(super) fn new(text: InputText, delimiter: u8) -> anyhow::Result<Self> {
        let row_bytes = Rc::new(Cell::new(0));
        let mut rows = ReaderBuilder::new()
            .delimiter(delimiter)
            .from_reader(RowMeter { text, row_bytes: row_bytes.clone() });
        let names = rows.headers()?.iter().map(|name| name.trim().to_owned()).collect();
        Ok(Self { rows, row_bytes, names, row: ByteRecord::new(), body: Vec::new() })
    }

    /// Reads the next row. An empty cell is a field that the hit leaves out.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<InputRecord<'_>>> {
        self.row_bytes.set(0);
        let broken = match self.rows.read_byte_record(&mut self.row) {
            Ok(false) => return Ok(None),
            Ok(true) => None,
            Err(error) => match error.kind() {
                csv::ErrorKind::UnequalLengths { expected_len, len, .. } => {
                    Some(format!("{len} cells where the header has {expected_len}"))
                }
                _ => return Err(error.into()),
            },
        };
        let number = self.row.position().map_or(0, csv::Position::line);
        let body = match broken.map_or_else(|| self.encode(), Err) {
            Ok(()) => Ok(self.body.as_slice()),
            Err(broken) => Err(broken),
        };
        Ok(Some(InputRecord { number, body, content_type: Some(JSON), received_at: None }))
    }

    /// Writes the row as a JSON object.
    fn encode(&mut self) -> Result<(), String> {
        self.body.clear();
        for (name, cell) in self.names.iter().zip(&self.row).filter(|(_, cell)| !cell.is_empty()) {
            let cell = std::str::from_utf8(cell).map_err(|_| "not UTF-8".to_owned())?;
            self.body.push(if self.body.is_empty() { b'{' } else { b',' });
            for (text, end) in [(name.as_str(), b':'), (cell, b' ')] {
                serde_json::to_writer(&mut self.body, text).map_err(|error| error.to_string())?;
                self.body.push(end);
            }
        }
        if self.body.is_empty() {
            self.body.push(b'{');
        }
        self.body.push(b'}');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &'static str, delimiter: u8) -> Vec<(u64, Result<String, String>)> {
        let mut table = Table::new(Box::new(text.as_bytes()), delimiter).expect("a header");
        let mut rows = Vec::new();
        while let Some(record) = table.next().expect("reads") {
            rows.push((
                record.number,
                record.body.map(|body| String::from_utf8_lossy(body).into_owned()),
            ));
        }
        rows
    }

    #[test]
    fn a_header_is_known_by_its_names() {
        assert_eq!(delimiter(b"idsite,uid,url\n1,x,y"), Some(b','));
        assert_eq!(delimiter("\"uid\";\"dimension9\"\r\n".as_bytes()), Some(b';'));
        for text in ["{\"uid\":1,\"b\":2}", "?uid=1,2", "uid", "a,b,c", "192.0.2.1 - uid, [x]"] {
            assert_eq!(delimiter(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_row_is_a_message_and_a_broken_row_stops_nothing() {
        let found = rows("uid;dimension9;ua\nu1;\"a;\nb\";\nu2;x\nu3;y;z\n", b';');
        assert_eq!(found[0], (2, Ok(r#"{"uid":"u1" ,"dimension9":"a;\nb" }"#.to_owned())));
        assert_eq!(found[1], (4, Err("2 cells where the header has 3".to_owned())));
        assert_eq!(found[2].0, 5);
    }

    #[test]
    fn an_open_quote_does_not_fill_the_memory() {
        let endless = Box::new(std::io::BufReader::new(std::io::Read::chain(
            "uid,a\n\"".as_bytes(),
            std::io::repeat(b'x'),
        )));
        let mut table = Table::new(endless, b',').expect("a header");
        assert!(table.next().expect_err("endless").to_string().contains("quote"));
    }
}
