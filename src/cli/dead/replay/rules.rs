//! What decides which dead hits a replay sends.

use crate::domain::dead::Dead;
use crate::domain::dead::filter::Filter;
use crate::domain::dead::fix;
use crate::domain::dead::outlook::{Outlook, ReplayTerms, Sendable, Urgency, outlook};
use crate::service::amqp::dead_letter::DeadLetter;
use crate::service::rules::Rules;
use crate::service::rules::source::RuleSet;

/// What a replay chooses and evaluates hits by.
pub(super) struct ReplayRules<'r> {
    /// What a relay would check the hits by, and the fixes.
    pub(super) terms: ReplayTerms<'r>,
    /// What says whose hit it is.
    pub(super) rules: &'r Rules,
    /// The plan and the tenants in force.
    pub(super) rule_set: &'r RuleSet,
    /// Which hits are chosen.
    pub(super) filter: &'r Filter,
    /// Whether hits are sent that would be rejected or parked again.
    pub(super) unchecked: bool,
}

impl ReplayRules<'_> {
    /// Returns the AMQP user who sent the hit, as far as the broker or a relay has verified it.
    pub(super) fn tenant<'l>(
        &self,
        dead_letter: &'l DeadLetter,
        dead: &'l Dead<'_>,
    ) -> Option<&'l str> {
        self.rules.verified(dead_letter.message.user(), dead.tenant.as_deref())
    }

    /// Decides what would become of a hit, and how it is sent if it is.
    pub(super) fn evaluate(
        &self,
        dead_letter: &DeadLetter,
        dead: &Dead<'_>,
    ) -> (Outlook, Option<Sendable>) {
        let sender = self.rule_set.sender(self.tenant(dead_letter, dead));
        let outlook = outlook(&self.terms, dead, sender);
        let sendable = match &outlook {
            Outlook::Deliverable(sendable) => Some(sendable.clone()),
            Outlook::Rejected(_) | Outlook::TooOld if self.unchecked => {
                let first_seen = dead.first_failed_at.or(dead.sent_at);
                let fixed = dead.hit.as_ref().ok().and_then(|hit| {
                    fix::apply_fixes(self.terms.plan, self.terms.fixes, hit, first_seen)
                });
                Some(Sendable {
                    fixed,
                    urgency: Urgency::of(
                        first_seen.unwrap_or(self.terms.now),
                        self.terms.max_age,
                        self.terms.now,
                    ),
                })
            }
            Outlook::Rejected(_) | Outlook::TooOld => None,
        };
        (outlook, sendable)
    }
}
