//! The encoding of a file. UTF-16, which PowerShell and Excel write, becomes UTF-8 on the way; a
//! byte order mark is left out.

use std::io::{BufRead, Read};

use encoding_rs::{CoderResult, Decoder, UTF_16BE, UTF_16LE};

use super::{BUFFER, InputText};

/// The byte order mark of UTF-8.
pub(super) const BYTE_ORDER_MARK: &[u8] = "\u{feff}".as_bytes();

/// Gives a text that is UTF-8 if it was UTF-16. Text in any other encoding stays as it is.
pub(super) fn as_utf8(mut text: InputText) -> std::io::Result<InputText> {
    let encoding = match text.fill_buf()? {
        [0xff, 0xfe, ..] => UTF_16LE,
        [0xfe, 0xff, ..] => UTF_16BE,
        // Without a mark, the zero of the first character tells: in every form it is ASCII.
        [b' '..=b'~', 0, ..] => UTF_16LE,
        [0, b' '..=b'~', ..] => UTF_16BE,
        begin => {
            if begin.starts_with(BYTE_ORDER_MARK) {
                text.consume(BYTE_ORDER_MARK.len());
            }
            return Ok(text);
        }
    };
    let decoder = encoding.new_decoder_with_bom_removal();
    let decoded = vec![0; BUFFER];
    Ok(Box::new(Utf16Text { text, decoder, decoded, at: 0, end: 0, ended: false }))
}

/// Reads a text of UTF-16 as UTF-8. What is no character becomes `�`.
struct Utf16Text {
    /// The text from which it reads.
    text: InputText,
    /// What is known of a character whose end has not been read.
    decoder: Decoder,
    /// Room for what is decoded.
    decoded: Vec<u8>,
    /// Where in it what has not been read begins.
    at: usize,
    /// Where it ends.
    end: usize,
    /// Whether the end of the text was decoded.
    ended: bool,
}

impl BufRead for Utf16Text {
    fn fill_buf(&mut self) -> std::io::Result<&[u8]> {
        while self.at >= self.end && !self.ended {
            let chunk = self.text.fill_buf()?;
            let is_last = chunk.is_empty();
            let (result, read, written, _) =
                self.decoder.decode_to_utf8(chunk, &mut self.decoded, is_last);
            self.text.consume(read);
            (self.at, self.end) = (0, written);
            self.ended = is_last && result == CoderResult::InputEmpty;
        }
        Ok(self.decoded.get(self.at..self.end).unwrap_or_default())
    }

    fn consume(&mut self, used: usize) {
        self.at = self.end.min(self.at + used);
    }
}

impl Read for Utf16Text {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.fill_buf()?.read(buffer)?;
        self.consume(read);
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn a_text_is_utf_8_whatever_it_was() {
        let text = "uid;é\u{1f600}\n";
        let encoded = |mark: bool, to_bytes: fn(u16) -> [u8; 2]| -> Vec<u8> {
            let units = mark.then_some(0xfeff).into_iter().chain(text.encode_utf16());
            units.flat_map(to_bytes).collect()
        };
        for bytes in [
            text.as_bytes().to_vec(),
            [BYTE_ORDER_MARK, text.as_bytes()].concat(),
            encoded(true, u16::to_le_bytes),
            encoded(true, u16::to_be_bytes),
            encoded(false, u16::to_le_bytes),
            encoded(false, u16::to_be_bytes),
        ] {
            for capacity in [3, 64] {
                let source = std::io::Cursor::new(bytes.clone());
                let mut read = String::new();
                as_utf8(Box::new(BufReader::with_capacity(capacity, source)))
                    .expect("opens")
                    .read_to_string(&mut read)
                    .expect("UTF-8");
                assert_eq!(read, text);
            }
        }
    }

    #[test]
    fn half_a_character_and_no_character_end_the_text_too() {
        for (bytes, expected) in [(&[0xff, 0xfe, b'a', 0, b'b'][..], "a\u{fffd}"), (&[], "")] {
            let mut read = String::new();
            let mut text = as_utf8(Box::new(std::io::Cursor::new(bytes))).expect("opens");
            text.read_to_string(&mut read).expect("UTF-8");
            assert_eq!(read, expected);
        }
    }
}
