//! Where a field stands, by its name: asked for every parameter of every hit.

/// So many last bytes have a place of their own; those beyond ASCII share one with them.
const ENDINGS: usize = 128;

/// Names by their last byte: most of the plan's are alone with theirs, and no more than four share
/// one. To compare with these takes half the time of a hash.
#[derive(Debug, Clone)]
pub(super) struct Names(Vec<Vec<(String, usize)>>);

impl Names {
    /// None yet.
    pub(super) fn new() -> Self {
        Self(vec![Vec::new(); ENDINGS])
    }

    /// One more, unless it is there already; whether it was not.
    pub(super) fn insert(&mut self, name: &str, index: usize) -> bool {
        let is_new = self.get(name).is_none();
        if let Some(alike) = self.0.get_mut(ending(name)).filter(|_| is_new) {
            alike.push((name.to_owned(), index));
        }
        is_new
    }

    /// Where the field of this name stands.
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
        let mut names = Names::new();
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
