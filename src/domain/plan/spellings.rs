//! The values of a list by how they are written, to find the one that was probably meant by a
//! wrong one.
//!
//! A sender whose every hit has a wrong value must not slow down the hits of others. In a list of
//! 40,000 values, to compare with all of them takes 7 ms. So a wrong value is compared with those
//! alone that stand beside it in the order of their letters, once from the front and once from the
//! back: a value that was mistyped in one place is the same before it or behind it.

/// How many values are compared with a wrong one, at most. A shorter list is compared as a whole.
const MAX_COMPARED: usize = 128;

/// How many characters of a wrong value are compared.
const MAX_CHARACTERS: usize = 60;

/// How similar a value must be to be suggested, of 1.
const MIN_SIMILARITY: f64 = 0.8;

/// The values in upper case, and in two orders.
#[derive(Debug, Clone, Default)]
pub(super) struct Spellings {
    /// Each value in upper case, in the list's order.
    upper: Vec<String>,
    /// Their places, in the order of the letters from the front.
    forwards: Vec<usize>,
    /// Their places, in the order of the letters from the back.
    backwards: Vec<usize>,
}

impl Spellings {
    /// Sorts the values of a list.
    pub(super) fn of(values: &[String]) -> Self {
        let upper: Vec<String> = values.iter().map(|value| value.to_uppercase()).collect();
        if upper.len() <= MAX_COMPARED {
            return Self { upper, ..Self::default() };
        }
        let text = |place: &usize| upper.get(*place).map(String::as_str).unwrap_or_default();
        let mut forwards: Vec<usize> = (0..upper.len()).collect();
        let mut backwards = forwards.clone();
        forwards.sort_unstable_by(|a, b| text(a).cmp(text(b)));
        backwards.sort_unstable_by(|a, b| text(a).chars().rev().cmp(text(b).chars().rev()));
        Self { upper, forwards, backwards }
    }

    /// Returns the place of the most similar value, the last of equals; `None` if none is similar.
    pub(super) fn nearest(&self, wrong: &str) -> Option<usize> {
        let wrong = wrong.trim().chars().take(MAX_CHARACTERS).collect::<String>().to_uppercase();
        let mut places: Vec<usize> = if self.upper.len() <= MAX_COMPARED {
            (0..self.upper.len()).collect()
        } else {
            let text = |place: &usize| self.upper.get(*place).map_or("", String::as_str);
            let front = self.forwards.partition_point(|place| text(place) < wrong.as_str());
            let back = self
                .backwards
                .partition_point(|place| text(place).chars().rev().lt(wrong.chars().rev()));
            [around(&self.forwards, front), around(&self.backwards, back)].concat()
        };
        places.sort_unstable();
        let similarity = |place: usize| {
            let value = self.upper.get(place)?;
            let similarity = strsim::jaro_winkler(&wrong, value);
            (similarity > MIN_SIMILARITY).then_some((similarity, place))
        };
        let found = places.into_iter().filter_map(similarity);
        found.max_by(|(a, _), (b, _)| a.total_cmp(b)).map(|(_, place)| place)
    }
}

/// Returns the places beside one in an order.
fn around(order: &[usize], at: usize) -> &[usize] {
    let first = at.saturating_sub(MAX_COMPARED / 4).min(order.len());
    let end = at.saturating_add(MAX_COMPARED / 4).min(order.len());
    order.get(first..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nearest<'v>(values: &'v [String], wrong: &str) -> Option<&'v str> {
        Spellings::of(values).nearest(wrong).map(|place| values[place].as_str())
    }

    /// Names that look like those of a list, all different.
    fn names(count: u32) -> Vec<String> {
        let name = |n: u32| {
            let mixed = n.wrapping_mul(2_654_435_761);
            let letters =
                (0..12).map(|at| char::from(b'A' + (mixed.rotate_left(at * 5) % 26) as u8));
            format!("{}{n}", letters.collect::<String>())
        };
        (0..count).map(name).collect()
    }

    #[test]
    fn what_was_mistyped_is_found_in_a_long_list_as_in_a_short_one() {
        for count in [20, 40_000] {
            let mut values = names(count);
            values.extend(["CAHIER_TEXTES", "Pronote", "ÉCOLE_DIRECTE"].map(str::to_owned));
            for (wrong, meant) in [
                ("CAHIER_DE_TEXTES", "CAHIER_TEXTES"),
                (" pronotes ", "Pronote"),
                ("XAHIER_TEXTES", "CAHIER_TEXTES"),
                ("AHIER_TEXTES", "CAHIER_TEXTES"),
                ("école directe", "ÉCOLE_DIRECTE"),
            ] {
                assert_eq!(nearest(&values, wrong), Some(meant), "{wrong} of {count}");
            }
            assert_eq!(nearest(&values, "€€€€"), None);
        }
        assert_eq!(nearest(&[], "A"), None);
        assert_eq!(nearest(&["AB".to_owned(), "ab".to_owned()], "ABC"), Some("ab"));
    }

    #[test]
    fn a_wrong_value_costs_the_same_in_a_long_list() {
        let spellings = Spellings::of(&names(40_000));
        for wrong in ["", "A", "ZZZZZZ", &"Q".repeat(10_000)] {
            let compared = |order: &[usize], at| around(order, at).len();
            let at = spellings.forwards.len();
            for place in [0, at / 2, at] {
                assert!(compared(&spellings.forwards, place) <= MAX_COMPARED / 2);
            }
            let _found = spellings.nearest(wrong);
        }
    }
}
