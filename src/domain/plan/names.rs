//! The index of a field by its name, which is looked up for every parameter of every hit.
//!
//! Names are told apart by their last byte. With a hash map, checking a hit takes a quarter more
//! instructions (`make instructions`).

/// How many last bytes have a list of their own; those beyond ASCII share one with them.
const ENDINGS: usize = 128;

/// The names by their last byte: most of the plan's names are alone with theirs, and no more than
/// four share one.
#[derive(Debug, Clone)]
pub(super) struct FieldNames(Vec<Vec<(String, usize)>>);

impl FieldNames {
    /// A set without names.
    pub(super) fn new() -> Self {
        Self(vec![Vec::new(); ENDINGS])
    }

    /// Adds a name, unless it is there already. Returns whether it was added.
    pub(super) fn insert(&mut self, name: &str, index: usize) -> bool {
        let is_new = self.get(name).is_none();
        if let Some(alike) = self.0.get_mut(ending(name)).filter(|_| is_new) {
            alike.push((name.to_owned(), index));
        }
        is_new
    }

    /// The index of the field of this name.
    pub(super) fn get(&self, name: &str) -> Option<usize> {
        let alike = self.0.get(ending(name))?;
        alike.iter().find(|(known, _)| known == name).map(|(_, index)| *index)
    }
}

fn ending(name: &str) -> usize {
    usize::from(name.bytes().last().unwrap_or_default()) % ENDINGS
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_and_nothing_else() {
        let mut names = FieldNames::new();
        let all = ["dimension1", "dimension11", "url", "", "é", "i"];
        for (index, name) in all.iter().enumerate() {
            assert!(names.insert(name, index), "{name}");
            assert!(!names.insert(name, index + 1), "{name} twice");
        }
        for (index, name) in all.iter().enumerate() {
            assert_eq!(names.get(name), Some(index), "{name}");
        }
        for other in ["dimension", "dimension21", "1", "l", "URL", "è", ")"] {
            assert_eq!(names.get(other), None, "{other}");
        }
    }
}
