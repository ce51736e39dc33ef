//! Which sites Matomo is known to accept.

use std::collections::HashSet;

use crate::domain::answer::Interpretation;

/// The most sites that are remembered. The hits of a sender that makes up more are sent one by one.
const MAX_SITES: usize = 10_000;

/// The most bytes of a site's name that is remembered. Matomo's are numbers.
const MAX_LENGTH: usize = 64;

/// Whether one more site may be remembered beside so many.
pub(super) fn can_remember(remembered: usize, idsite: &str) -> bool {
    remembered < MAX_SITES && idsite.len() <= MAX_LENGTH
}

/// The sites of which Matomo has stored a hit since the worker started. A hit for any other site
/// goes alone, so that a wrong `idsite` makes no other hit be sent twice.
#[derive(Debug, Default)]
pub struct SiteMemory {
    /// Each accepted site, as its hits name it.
    accepted: HashSet<String>,
}

impl SiteMemory {
    /// Whether hits of this site may share a request.
    pub fn accepts(&self, idsite: &str) -> bool {
        self.accepted.contains(idsite)
    }

    /// Takes in an answer to a request with hits of these sites.
    pub fn learn<'s>(
        &mut self,
        interpretation: &Interpretation,
        idsites: impl Iterator<Item = &'s str>,
    ) {
        match interpretation {
            Interpretation::Stored { .. } => {
                for idsite in idsites {
                    if !self.accepted.contains(idsite) && can_remember(self.accepted.len(), idsite)
                    {
                        self.accepted.insert(idsite.to_owned());
                    }
                }
            }
            Interpretation::Refused { .. } => {
                for idsite in idsites {
                    self.accepted.remove(idsite);
                }
            }
            Interpretation::Suspect(_)
            | Interpretation::SuspectAmbiguous(_)
            | Interpretation::Down(_)
            | Interpretation::DownAmbiguous(_)
            | Interpretation::Ambiguous(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::answer::{Failure, Reason};

    #[test]
    fn a_site_is_accepted_from_its_first_stored_hit_to_its_first_refusal() {
        let mut sites = SiteMemory::default();
        assert!(!sites.accepts("1"));
        sites.learn(&Interpretation::Stored { queued: false }, ["1", "2"].into_iter());
        assert!(sites.accepts("1") && sites.accepts("2"));
        let failure = Failure { reason: Reason::Timeout, status: None };
        sites.learn(&Interpretation::DownAmbiguous(failure), ["1"].into_iter());
        assert!(sites.accepts("1"), "a timeout tells nothing of a site");
        sites.learn(&Interpretation::Refused { places: None, status: 200 }, ["1"].into_iter());
        assert!(!sites.accepts("1") && sites.accepts("2"));
    }

    #[test]
    fn the_memory_is_bounded() {
        let mut sites = SiteMemory::default();
        let names: Vec<String> = (0..=MAX_SITES).map(|number| number.to_string()).collect();
        let stored = Interpretation::Stored { queued: true };
        sites.learn(&stored, names.iter().map(String::as_str));
        assert!(sites.accepts("0") && sites.accepts(&(MAX_SITES - 1).to_string()));
        assert!(!sites.accepts(&MAX_SITES.to_string()));
        sites.learn(&Interpretation::Refused { places: None, status: 200 }, ["0"].into_iter());
        sites.learn(&stored, [MAX_SITES.to_string().as_str()].into_iter());
        assert!(sites.accepts(&MAX_SITES.to_string()), "there is room again");
    }
}
