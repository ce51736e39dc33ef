//! The settings that a hit is judged by, for commands that look after dead hits.

use jiff::Timestamp;

use super::{Broker, ConfigError, process_environment, read};
use crate::domain::dead::fix::Fix;
use crate::domain::dead::outlook::ReplayTerms;
use crate::domain::plan::Plan;
use crate::domain::validate::Validation;
use crate::service::rules::source::Source;

/// What a relay would judge a hit by, and the broker: for commands that look after dead hits.
#[derive(Debug, Clone)]
pub struct ReplaySettings {
    /// Broker and topology.
    pub broker: Broker,
    /// Reference lists and tenants.
    pub rules: Source,
    /// Which violations reject a hit.
    pub validation: Validation,
    /// `idsite` of hits that carry none.
    pub site_id: Option<String>,
    /// Hits over 24 h old can be delivered.
    pub has_token: bool,
}

impl ReplaySettings {
    /// Reads the process environment; where Matomo is does not matter.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake of these.
    pub fn from_env() -> Result<Self, ConfigError> {
        read::replay_settings(process_environment())
    }

    /// How a dead hit is judged now, mended by these fixes.
    pub fn terms<'j>(&'j self, plan: &'j Plan, fixes: &'j [Fix]) -> ReplayTerms<'j> {
        ReplayTerms {
            plan,
            validation: self.validation,
            default_site: self.site_id.as_deref(),
            has_token: self.has_token,
            now: Timestamp::now(),
            fixes,
        }
    }
}
