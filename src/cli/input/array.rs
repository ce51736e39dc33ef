//! A JSON array of hits, which is cut into its elements without reading it as a whole.

use std::io::BufRead;

use super::{InputRecord, InputText, JSON};
use crate::domain::hit;

/// The reader of arrays.
pub(super) struct Array {
    /// The text from which it reads.
    text: InputText,
    /// The latest element, with the white space around it.
    element: Vec<u8>,
    /// How many elements have been read.
    number: u64,
    /// Whether the opening bracket has been read.
    opened: bool,
    /// Whether the closing bracket has been read.
    closed: bool,
}

/// Where in an element a scan byte by byte stands.
#[derive(Default)]
pub(super) struct Scan {
    /// How many brackets are open.
    depth: u32,
    /// Whether a string is open.
    in_text: bool,
    /// Whether the byte before was a backslash in a string.
    escaped: bool,
}

/// Whether this is the beginning of an array of objects. A line of an access log may begin with a
/// bracket too.
pub(super) fn begins(text: &[u8]) -> bool {
    let mut visible = text.iter().filter(|byte| !byte.is_ascii_whitespace());
    visible.next() == Some(&b'[') && matches!(visible.next(), None | Some(b'{' | b']'))
}

impl Array {
    /// Reads arrays from a text.
    pub(super) fn new(text: InputText) -> Self {
        Self { text, element: Vec::new(), number: 0, opened: false, closed: false }
    }

    /// Reads the next element. One that is too long is cut, but not so short that it seems valid.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<InputRecord<'_>>> {
        loop {
            if self.closed && !self.another()? {
                return Ok(None);
            }
            self.closed = self.read()?;
            // An array without elements has nothing before its bracket.
            if !self.closed || !self.element.trim_ascii().is_empty() {
                break;
            }
        }
        self.number += 1;
        let body = self.element.trim_ascii();
        Ok(Some(InputRecord {
            number: self.number,
            body: Ok(body),
            content_type: Some(JSON),
            received_at: None,
        }))
    }

    /// Reads one element, and returns whether it was the last.
    fn read(&mut self) -> anyhow::Result<bool> {
        self.element.clear();
        let mut scan = Scan::default();
        loop {
            let chunk = self.text.fill_buf()?;
            anyhow::ensure!(
                !chunk.is_empty(),
                "the JSON array is not closed after hit {}",
                self.number
            );
            let mut used = 0;
            let mut end = None;
            for byte in chunk {
                used += 1;
                if !self.opened {
                    self.opened = *byte == b'[';
                    continue;
                }
                if let Some(last) = scan.ends(*byte) {
                    end = Some(last);
                    break;
                }
                if self.element.len() <= hit::MAX_BYTES {
                    self.element.push(*byte);
                }
            }
            self.text.consume(used);
            if let Some(last) = end {
                return Ok(last);
            }
        }
    }

    /// Whether another array follows, as in files that were put one after the other.
    fn another(&mut self) -> anyhow::Result<bool> {
        loop {
            let chunk = self.text.fill_buf()?;
            if chunk.is_empty() {
                return Ok(false);
            }
            let blank = chunk.iter().take_while(|byte| byte.is_ascii_whitespace()).count();
            match chunk.get(blank) {
                None => {}
                Some(b'[') => {
                    (self.opened, self.closed) = (false, false);
                    return Ok(true);
                }
                Some(_) => anyhow::bail!(
                    "something other than an array follows the JSON array after hit {}",
                    self.number
                ),
            }
            self.text.consume(blank);
        }
    }
}

impl Scan {
    /// Whether no bracket is open, and no string.
    pub(super) fn is_outside(&self) -> bool {
        self.depth == 0 && !self.in_text
    }

    /// Takes a byte. Returns `None` if it does not end an element, and else whether that is the
    /// last one.
    pub(super) fn ends(&mut self, byte: u8) -> Option<bool> {
        if self.in_text {
            match byte {
                _ if self.escaped => self.escaped = false,
                b'\\' => self.escaped = true,
                b'"' => self.in_text = false,
                _ => {}
            }
            return None;
        }
        match byte {
            b'"' => self.in_text = true,
            b'{' | b'[' => self.depth = self.depth.saturating_add(1),
            b'}' | b']' if self.depth > 0 => self.depth -= 1,
            b']' => return Some(true),
            b',' if self.depth == 0 => return Some(false),
            _ => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn elements(text: &'static str) -> Result<Vec<String>, String> {
        let mut array = Array::new(Box::new(std::io::BufReader::with_capacity(3, text.as_bytes())));
        let mut elements = Vec::new();
        while let Some(record) = array.next().map_err(|error| error.to_string())? {
            elements.push(String::from_utf8_lossy(record.body.expect("a body")).into_owned());
        }
        Ok(elements)
    }

    #[test]
    fn elements_end_where_json_says() {
        assert!(begins(b" [\n {") && begins(b"[]") && !begins(b"[25/Nov/2024") && !begins(b"{"));
        let found = elements(" [ {\"a\":\"],\\\"}\"} , {\"b\":[1,{}]},3 ]\n").expect("an array");
        assert_eq!(found, ["{\"a\":\"],\\\"}\"}", "{\"b\":[1,{}]}", "3"]);
        assert_eq!(elements("[]"), Ok(vec![]));
        assert_eq!(
            elements("[1]\n[]\n [2,3] "),
            Ok(vec!["1".to_owned(), "2".to_owned(), "3".to_owned()])
        );
        assert!(elements("[1] 2").expect_err("more").contains("after hit 1"));
        assert!(elements("[{\"a\":1}").expect_err("open").contains("not closed"));
    }
}
