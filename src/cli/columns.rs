//! The layout of tables for people.

use crate::domain::printable::printable;

/// Makes each column as wide as its widest cell. The first `words` columns are aligned to the left;
/// of the others, those that have a number in the last line are aligned to the right.
pub(super) fn in_columns(lines: &[Vec<String>], words: usize) -> Vec<String> {
    let count = lines.first().map_or(0, Vec::len);
    let column = |place: usize| lines.iter().filter_map(move |line| line.get(place));
    let widths: Vec<usize> = (0..count)
        .map(|place| column(place).map(|cell| cell.chars().count()).max().unwrap_or(0))
        .collect();
    let is_number = |cell: &String| {
        !cell.is_empty() && cell.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-')
    };
    let numbers: Vec<bool> = (0..count)
        .map(|place| {
            place >= words && lines.last().and_then(|line| line.get(place)).is_some_and(is_number)
        })
        .collect();
    let cell = |((cell, width), number): ((&String, &usize), &bool)| {
        if *number { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
    };
    lines
        .iter()
        .map(|line| line.iter().zip(&widths).zip(&numbers).map(cell).collect::<Vec<_>>().join("  "))
        .map(|line| printable(&line).into_owned())
        .collect()
}
