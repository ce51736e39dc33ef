//! JSON objects one after the other, each over as many lines as it likes: as people write them, and
//! as `jq` prints them.

use std::io::BufRead;

use serde::de::IgnoredAny;

use super::array::Scan;
use super::{InputRecord, InputText, JSON};
use crate::domain::hit;

/// The reader of objects.
pub(super) struct Objects {
    /// The text from which it reads.
    text: InputText,
    /// The latest object.
    object: Vec<u8>,
    /// How many objects have been read.
    number: u64,
}

/// Whether an object begins here and goes on in the next line. One that ends in its line is for
/// [`lines`](super::lines).
pub(super) fn begins(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    let Some(end) = text.iter().position(|byte| *byte == b'\n') else { return false };
    let (first, rest) = text.split_at(end);
    // After a line that was cut off, the next one begins anew.
    let goes_on = rest
        .iter()
        .find(|byte| !byte.is_ascii_whitespace())
        .is_some_and(|byte| matches!(byte, b'"' | b'}'));
    first.starts_with(b"{")
        && goes_on
        && serde_json::from_slice::<IgnoredAny>(first).is_err_and(|error| error.is_eof())
}

impl Objects {
    /// Reads objects from a text.
    pub(super) fn new(text: InputText) -> Self {
        Self { text, object: Vec::new(), number: 0 }
    }

    /// Reads the next object. One that is too long is cut, but not so short that it seems valid.
    pub(super) fn next(&mut self) -> anyhow::Result<Option<InputRecord<'_>>> {
        self.object.clear();
        let mut scan = Scan::default();
        loop {
            let chunk = self.text.fill_buf()?;
            if chunk.is_empty() {
                anyhow::ensure!(
                    self.object.is_empty(),
                    "the JSON object after hit {} is not closed",
                    self.number
                );
                return Ok(None);
            }
            let (mut used, mut closed) = (0, false);
            for byte in chunk {
                if self.object.is_empty() && *byte != b'{' {
                    // Files that were put together may have commas between them.
                    anyhow::ensure!(
                        byte.is_ascii_whitespace() || *byte == b',',
                        "something other than a JSON object follows hit {}",
                        self.number
                    );
                    used += 1;
                    continue;
                }
                used += 1;
                // What ends an element of an array ends no object: brackets alone do.
                let _end_of_element = scan.ends(*byte);
                if self.object.len() <= hit::MAX_BYTES {
                    self.object.push(*byte);
                }
                closed = scan.is_outside();
                if closed {
                    break;
                }
            }
            self.text.consume(used);
            if closed {
                break;
            }
        }
        self.number += 1;
        Ok(Some(InputRecord {
            number: self.number,
            body: Ok(&self.object),
            content_type: Some(JSON),
            received_at: None,
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn objects(text: &'static str) -> Result<Vec<String>, String> {
        let mut objects =
            Objects::new(Box::new(std::io::BufReader::with_capacity(3, text.as_bytes())));
        let mut found = Vec::new();
        while let Some(record) = objects.next().map_err(|error| error.to_string())? {
            found.push(String::from_utf8_lossy(record.body.expect("a body")).into_owned());
        }
        Ok(found)
    }

    #[test]
    fn an_object_may_go_over_lines() {
        assert!(begins(b"{\n \"uid\": 1\n}") && begins(b" {\"a\":1,\n\"b\":2}"));
        for other in [
            "{\"a\":1}\n{\"a\":2}\n",
            "{\"a\":1\n{\"a\":2}\n",
            "{\"a\":1}",
            "{not JSON\n",
            "idsite=1\n",
            "[\n{",
            "",
        ] {
            assert!(!begins(other.as_bytes()), "{other}");
        }
        let found = objects("{\n\"a\": \"}{\"\n}\n{\"b\":{}}, {\n}\n").expect("objects");
        assert_eq!(found, ["{\n\"a\": \"}{\"\n}", "{\"b\":{}}", "{\n}"]);
        assert!(objects("{\n\"a\":1").expect_err("open").contains("after hit 0 is not closed"));
        assert!(objects("{\n}\nx").expect_err("more").contains("follows hit 1"));
    }
}
