//! CSV with a header of Matomo parameter names: each row becomes the JSON object that a message
//! would carry. It is read as Excel saves it in France too: with semicolons, `sep=;`, the line ends
//! of Windows and Mac, names in capitals, blank rows, and in Windows-1252.

use std::borrow::Cow;
use std::cell::Cell;
use std::rc::Rc;

use csv::{ByteRecord, Reader, ReaderBuilder};
use encoding_rs::WINDOWS_1252;
use memchr::memchr_iter;

use super::line_ends::UnixLines;
use super::{InputRecord, InputText, JSON};

/// The reader of tables.
pub(super) struct Table {
    /// The CSV reader.
    rows: Reader<UnixLines>,
    /// How many bytes have been read for the latest row.
    row_bytes: Rc<Cell<usize>>,
    /// How many lines stand before the header.
    lines_before: u64,
    /// The parameter name of each column.
    names: Vec<String>,
    /// The cells of the latest row.
    row: ByteRecord,
    /// The latest row as a message.
    body: Vec<u8>,
}

/// How a table is laid out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct TableLayout {
    /// What separates the cells.
    delimiter: u8,
    /// How many bytes the line has that tells Excel the delimiter (`sep=;`), its end included.
    hint_bytes: usize,
}

/// Finds the layout, if the first line is a header: names, and among them the visitor or the site,
/// in any case. A line `sep=;` may stand before it.
pub(super) fn layout(text: &[u8]) -> Option<TableLayout> {
    let (first, rest) = split_line(text);
    let hint = match *first.strip_prefix(b"\"").and_then(|f| f.strip_suffix(b"\"")).unwrap_or(first)
    {
        [b's' | b'S', b'e' | b'E', b'p' | b'P', b'=', delimiter] => Some(delimiter),
        _ => None,
    };
    let hint_bytes = hint.map_or(0, |_| text.len() - rest.len());
    let header = if hint.is_some() { split_line(rest).0 } else { first }.trim_ascii();
    if header.iter().any(|byte| matches!(byte, b'{' | b'=' | b'?')) {
        return None;
    }
    let is_header = |delimiter: &u8| {
        let mut cells = header.split(|byte| byte == delimiter).map(|cell| {
            let cell = cell.trim_ascii();
            cell.strip_prefix(b"\"").and_then(|cell| cell.strip_suffix(b"\"")).unwrap_or(cell)
        });
        header.contains(delimiter)
            && cells.any(|cell| {
                [b"uid".as_slice(), b"idsite"].iter().any(|name| cell.eq_ignore_ascii_case(name))
            })
    };
    let delimiter = hint.into_iter().chain([b',', b';', b'\t']).find(is_header)?;
    Some(TableLayout { delimiter, hint_bytes })
}

/// Splits a text after its first line. The line is given without its end, the rest after it.
fn split_line(text: &[u8]) -> (&[u8], &[u8]) {
    let end = text.iter().position(|byte| matches!(byte, b'\n' | b'\r')).unwrap_or(text.len());
    let (line, rest) = text.split_at(end);
    let rest = rest.strip_prefix(b"\r\n").or(rest.get(1..)).unwrap_or_default();
    (line, rest)
}

impl Table {
    /// Reads a table from a text, beginning with its header.
    pub(super) fn new(mut text: InputText, layout: TableLayout) -> anyhow::Result<Self> {
        text.consume(layout.hint_bytes);
        let row_bytes = Rc::new(Cell::new(0));
        let mut rows = ReaderBuilder::new()
            .delimiter(layout.delimiter)
            .flexible(true)
            .from_reader(UnixLines::new(text, row_bytes.clone()));
        let names = rows.byte_headers()?;
        let is_utf8 = is_utf8(names);
        // The names of all parameters are in lower case.
        let name = |cell| decoded(cell, is_utf8).trim().to_ascii_lowercase();
        let names = names.iter().map(name).collect();
        Ok(Self {
            rows,
            row_bytes,
            lines_before: u64::from(layout.hint_bytes > 0),
            names,
            row: ByteRecord::new(),
            body: Vec::new(),
        })
    }

    /// Reads the next row that is not blank. An empty cell is a field that the hit leaves out.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<InputRecord<'_>>> {
        let begins = loop {
            self.row_bytes.set(0);
            let begins = self.rows.position().line();
            if !self.rows.read_byte_record(&mut self.row)? {
                return Ok(None);
            }
            if self.row.iter().any(|cell| !cell.trim_ascii().is_empty()) {
                break begins;
            }
        };
        // The row ends where the reader stands, and began as many lines before as its cells have
        // line ends. Blank lines, which the reader skips, may stand before it. A quote that nobody
        // closes takes the end of the last line into its cell.
        let ends: usize = self.row.iter().map(|cell| memchr_iter(b'\n', cell).count()).sum();
        let line = self.rows.position().line().saturating_sub(1 + ends as u64).max(begins);
        let number = line + self.lines_before;
        // Empty cells beyond the header say nothing.
        let last = self.row.iter().rposition(|cell| !cell.is_empty());
        let is_fitting = self.row.len() >= self.names.len() && last < Some(self.names.len());
        let body = if is_fitting {
            self.encode().map(|()| self.body.as_slice())
        } else {
            Err(format!("{} cells where the header has {}", self.row.len(), self.names.len()))
        };
        Ok(Some(InputRecord { number, body, content_type: Some(JSON), received_at: None }))
    }

    /// Writes the row as a JSON object.
    fn encode(&mut self) -> Result<(), String> {
        self.body.clear();
        let is_utf8 = is_utf8(&self.row);
        for (name, cell) in self.names.iter().zip(&self.row).filter(|(_, cell)| !cell.is_empty()) {
            let cell = decoded(cell, is_utf8);
            self.body.push(if self.body.is_empty() { b'{' } else { b',' });
            for (text, end) in [(name.as_str(), b':'), (cell.as_ref(), b' ')] {
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

/// Whether every cell of a row is UTF-8.
fn is_utf8(row: &ByteRecord) -> bool {
    row.iter().all(|cell| std::str::from_utf8(cell).is_ok())
}

/// Decodes a cell. In a row that is not UTF-8, it is Windows-1252, as Excel saves CSV in France.
fn decoded(cell: &[u8], is_utf8: bool) -> Cow<'_, str> {
    if is_utf8 {
        String::from_utf8_lossy(cell)
    } else {
        WINDOWS_1252.decode_without_bom_handling(cell).0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(text: &'static [u8]) -> Vec<(u64, Result<String, String>)> {
        let layout = layout(text).expect("a header");
        let mut table = Table::new(Box::new(text), layout).expect("a header");
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
        let at = |delimiter, hint_bytes| Some(TableLayout { delimiter, hint_bytes });
        for (text, expected) in [
            ("idsite,uid,url\n1,x,y", at(b',', 0)),
            ("\"uid\";\"dimension9\"\r\n", at(b';', 0)),
            ("IDSITE;UID;URL\r1;x;https://x/?a=b\r", at(b';', 0)),
            ("sep=;\r\nuid;idsite\r\n", at(b';', 7)),
            ("\"sep=|\"\nuid|idsite\n", at(b'|', 8)),
            ("SEP=\t\ruid\tidsite\r", at(b'\t', 6)),
            ("sep=,\nuid;idsite\n", at(b';', 6)),
        ] {
            assert_eq!(layout(text.as_bytes()), expected, "{text}");
        }
        for text in
            ["{\"uid\":1,\"b\":2}", "?uid=1,2", "uid", "a,b,c", "192.0.2.1 - uid, [x]", "sep=;"]
        {
            assert_eq!(layout(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_row_is_a_message_and_a_broken_row_stops_nothing() {
        let found = rows(b"uid;dimension9;ua\nu1;\"a;\nb\";\nu2;x\nu3;y;z\n");
        assert_eq!(found[0], (2, Ok(r#"{"uid":"u1" ,"dimension9":"a;\nb" }"#.to_owned())));
        assert_eq!(found[1], (4, Err("2 cells where the header has 3".to_owned())));
        assert_eq!(found[2].0, 5);
    }

    #[test]
    fn a_row_is_numbered_by_the_line_that_it_begins_on() {
        for end in ["\n", "\r\n", "\r"] {
            let text =
                ["sep=;", "UID;Dimension9", "", "u1;\"a", "b\"", ";", "u2;x", "u3"].join(end);
            let numbers: Vec<u64> =
                rows(text.into_bytes().leak()).into_iter().map(|(number, _)| number).collect();
            assert_eq!(numbers, [4, 7, 8], "{end:?}");
        }
        let open = rows(b"uid,dimension1\n\"u1\",\"x\"\n\"\nu2");
        assert_eq!(open.iter().map(|row| row.0).collect::<Vec<_>>(), [2, 3]);
    }

    #[test]
    fn a_table_is_read_as_excel_saves_it() {
        let read =
            |text: &'static [u8]| -> Vec<_> { rows(text).into_iter().map(|row| row.1).collect() };
        let expected = [Ok(r#"{"uid":"u1" ,"dimension9":"Relevé d’œuvres" }"#.to_owned())];
        assert_eq!(
            read("UID;DIMENSION9\r\nu1;Relevé d’œuvres\r\n;\r\n ; \r\n".as_bytes()),
            expected
        );
        assert_eq!(read(b"UID;DIMENSION9;\ru1;Relev\xe9 d\x92\x9cuvres;\r;;\r"), expected);
        assert_eq!(read("uid;dimension9\nu1;Relevé d’œuvres;;\n".as_bytes()), expected);
    }

    #[test]
    fn an_open_quote_does_not_fill_the_memory() {
        let endless = Box::new(std::io::BufReader::new(std::io::Read::chain(
            "uid,a\n\"".as_bytes(),
            std::io::repeat(b'x'),
        )));
        let layout = TableLayout { delimiter: b',', hint_bytes: 0 };
        let mut table = Table::new(endless, layout).expect("a header");
        assert!(table.next().expect_err("endless").to_string().contains("quote"));
    }
}
