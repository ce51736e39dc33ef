//! Makes a text that came from outside fit for people to look at: on a terminal, in a table, in a
//! spreadsheet. Whoever prints such a text lets it pass through here, whatever it was before.

use std::borrow::Cow;

/// What stands in the place of a character that is not printed.
const REPLACEMENT: char = '\u{fffd}';

/// Whether a character is not for reading: a control character (C0, DEL or C1), which commands a
/// terminal; a mark or override of the writing direction, which makes a text look like another
/// (CVE-2021-42574); a separator of lines or paragraphs; a tag or another invisible format
/// character. A soft hyphen and the joiners of scripts and emojis are for reading.
pub fn is_hidden(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{61c}'
                | '\u{180e}'
                | '\u{200b}'
                | '\u{200e}'..='\u{200f}'
                | '\u{2028}'..='\u{202e}'
                | '\u{2060}'..='\u{206f}'
                | '\u{feff}'
                | '\u{fff9}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// Returns a text of one line in which each character that [is not for reading](is_hidden) is
/// replaced by U+FFFD.
pub fn printable(text: &str) -> Cow<'_, str> {
    without(text, is_hidden)
}

/// Does the same with a text that may have several lines.
pub fn printable_lines(text: &str) -> Cow<'_, str> {
    without(text, |c| is_hidden(c) && c != '\n')
}

/// Returns a text as a cell of a spreadsheet may hold it: printable, and with an apostrophe before
/// what a spreadsheet would take for a formula and carry out.
pub fn spreadsheet_cell(text: &str) -> Cow<'_, str> {
    let text = printable(text);
    // A spreadsheet skips blanks, and takes the wide forms of the signs for the signs.
    let is_formula = text
        .trim_start()
        .starts_with(['=', '+', '-', '@', '\u{ff1d}', '\u{ff0b}', '\u{ff0d}', '\u{ff20}']);
    if is_formula { Cow::Owned(format!("'{text}")) } else { text }
}

/// Replaces some characters of a text.
fn without(text: &str, is_replaced: impl Fn(char) -> bool + Copy) -> Cow<'_, str> {
    if text.contains(is_replaced) {
        Cow::Owned(text.replace(is_replaced, REPLACEMENT.encode_utf8(&mut [0; 4])))
    } else {
        Cow::Borrowed(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_commands_a_terminal_or_turns_a_text_round() {
        for hidden in ('\0'..' ').chain(['\u{7f}']).chain('\u{80}'..'\u{a0}').chain([
            '\u{61c}',
            '\u{200e}',
            '\u{200f}',
            '\u{202a}',
            '\u{202e}',
            '\u{2066}',
            '\u{2069}',
            '\u{2028}',
            '\u{2029}',
            '\u{feff}',
            '\u{e0041}',
        ]) {
            assert_eq!(printable(&format!("a{hidden}b")), "a\u{fffd}b", "{hidden:?}");
        }
        for read in ["Travail à faire", "10\u{202f}% : été", "👩\u{200d}🎓", "a\u{ad}b", ""]
        {
            assert_eq!(printable(read), read);
        }
        assert_eq!(printable_lines("a\nb\r\u{1b}c"), "a\nb\u{fffd}\u{fffd}c");
    }

    #[test]
    fn a_spreadsheet_finds_no_formula() {
        for (text, cell) in [
            ("=1+1", "'=1+1"),
            ("+33", "'+33"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            (" \u{a0}=A1", "' \u{a0}=A1"),
            ("\u{ff1d}A1", "'\u{ff1d}A1"),
            ("\t=A1", "\u{fffd}=A1"),
            ("ALPHA=1", "ALPHA=1"),
            ("", ""),
        ] {
            assert_eq!(spreadsheet_cell(text), cell);
        }
    }
}
