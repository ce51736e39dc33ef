//! The rules in force. Their files are read again when they change, as a mounted ConfigMap does; a
//! broken new version is refused loudly while the old one stays in force.

use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use super::telemetry::Metrics;
use crate::domain::tenant::Tenants;

pub mod source;

use source::{RuleSet, RulesError, Source, Stamp};

/// How often the files are looked at. A change counts when it has stood for as long, so that half a
/// copy is not taken.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);

/// How long the files may take. They are small, so that a longer time means that they hang.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// The rules in force, shared by everybody who applies them.
#[derive(Debug)]
pub struct Rules {
    source: Source,
    /// What the files looked like before they were first read.
    loaded: Stamp,
    current: RwLock<Arc<RuleSet>>,
}

impl Rules {
    /// The rules as they are now.
    ///
    /// # Errors
    /// [`RulesError`] for the first file that is wrong.
    pub fn load(source: Source) -> Result<Self, RulesError> {
        let loaded = source.stamp();
        let rule_set = Arc::new(source.read()?);
        Ok(Self { source, loaded, current: RwLock::new(rule_set) })
    }

    /// The rules in force.
    pub fn current(&self) -> Arc<RuleSet> {
        self.current.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The user whose name the broker verified, or that a relay, whose name it verified, wrote down
    /// when it moved the hit.
    pub fn verified<'u>(
        &self,
        user: Option<&'u str>,
        moved_for: Option<&'u str>,
    ) -> Option<&'u str> {
        if user.is_some_and(|user| self.source.own_users.iter().any(|own| own == user)) {
            moved_for
        } else {
            user
        }
    }

    /// Says what is in force, and what is not checked.
    pub fn log(&self, metrics: &Metrics) {
        log(&self.current(), metrics, "in force");
    }

    /// Reads the files again whenever they change; for as long as it is polled.
    pub async fn follow(self: Arc<Self>, metrics: Arc<Metrics>) {
        let mut tick = tokio::time::interval(LOOK_INTERVAL);
        let (mut taken, mut seen) = (self.loaded.clone(), Stamp::new());
        loop {
            tick.tick().await;
            let now = self.off_the_runtime(&metrics, Source::stamp).await;
            let Some(now) = now else {
                metrics.rules_valid.set(0);
                (taken, seen) = (Stamp::new(), Stamp::new());
                continue;
            };
            // Still being written, or an old acquaintance.
            if now != seen || now == taken {
                seen = now;
                continue;
            }
            taken = now;
            let Some(read) = self.off_the_runtime(&metrics, Source::read).await else {
                metrics.rules_valid.set(0);
                // Whatever is there now is read when it can be.
                (taken, seen) = (Stamp::new(), Stamp::new());
                continue;
            };
            match read {
                Ok(rule_set) => {
                    let rule_set = Arc::new(rule_set);
                    log(&rule_set, &metrics, "read again and in force");
                    *self.current.write().unwrap_or_else(PoisonError::into_inner) = rule_set;
                    metrics.rules_valid.set(1);
                }
                Err(error) => {
                    metrics.rules_valid.set(0);
                    if matches!(error, RulesError::Unreadable { .. }) {
                        // Nobody's version, but a hindrance: tried again.
                        (taken, seen) = (Stamp::new(), Stamp::new());
                    }
                    tracing::error!(
                        "the new rules are refused, the old ones stay in force: {error}"
                    );
                }
            }
        }
    }

    /// Does something with the files on another thread. `None` if it hangs, as a network file
    /// system does whose server is gone: one thread hangs with it, and the next is not begun before
    /// that one has ended.
    async fn off_the_runtime<T: Send + 'static>(
        &self,
        metrics: &Metrics,
        act: impl FnOnce(&Source) -> T + Send + 'static,
    ) -> Option<T> {
        let source = self.source.clone();
        let mut acting = tokio::task::spawn_blocking(move || act(&source));
        if let Ok(done) = tokio::time::timeout(READ_TIMEOUT, &mut acting).await {
            return done.ok();
        }
        tracing::error!(
            "the files of REFERENCE_LISTS and TENANTS cannot be read within {} s: the rules stay \
             as they are",
            READ_TIMEOUT.as_secs()
        );
        // Now, and not when it has ended, which may be never.
        metrics.rules_valid.set(0);
        let _late = acting.await;
        None
    }
}

fn log(rule_set: &RuleSet, metrics: &Metrics, what: &str) {
    let mut missing = Vec::new();
    for list in rule_set.plan.lists() {
        metrics.list_values(&list.name, list.values().len());
        if !list.is_loaded() && rule_set.plan.is_checked(list) {
            missing.push(list.name.as_str());
        }
    }
    tracing::info!(
        plan = rule_set.plan.version,
        not_loaded = missing.join(","),
        tenants = rule_set.tenants.as_ref().map(Tenants::count),
        "rules {what}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_believed_of_the_broker_or_of_a_relay() {
        let source = Source { own_users: vec!["relay".to_owned()], ..Source::default() };
        let rules = Rules::load(source).expect("loads");
        assert_eq!(
            rules.verified(Some("ent"), Some("other")),
            Some("ent"),
            "a forged header counts for nothing"
        );
        assert_eq!(rules.verified(None, Some("other")), None);
        assert_eq!(rules.verified(Some("relay"), Some("ent")), Some("ent"));
        assert_eq!(rules.verified(Some("relay"), None), None);
    }
}
