//! The settings that a hit is judged by, for commands that look after dead hits.

use jiff::Timestamp;

use super::read::{complete, read};
use super::settings::SettingsDraft;
use super::variable::Part;
use super::{BrokerSettings, ConfigError, process_environment};
use crate::domain::dead::fix::Fix;
use crate::domain::dead::outlook::ReplayTerms;
use crate::domain::max_age::MaxAge;
use crate::domain::plan::Plan;
use crate::domain::validate::Validation;
use crate::service::rules::source::Source;

/// What a relay would judge a hit by, and the broker: for commands that look after dead hits.
#[derive(Debug, Clone)]
pub struct ReplaySettings {
    /// The broker, its topology and the dead-letter schedule.
    pub broker: BrokerSettings,
    /// The files of the reference lists and of the tenants.
    pub rules: Source,
    /// Which violations of the plan reject a hit.
    pub validation: Validation,
    /// The `idsite` of hits that carry none.
    pub site_id: Option<String>,
    /// Whether there is a token, so that hits over the age limit can be delivered.
    pub has_token: bool,
    /// The age from which on Matomo wants the token.
    pub max_age: MaxAge,
}

impl ReplaySettings {
    /// Reads the process environment. Where Matomo is does not matter.
    ///
    /// # Errors
    /// [`ConfigError`] with every mistake of these.
    pub fn from_env() -> Result<Self, ConfigError> {
        let parts = [Part::Broker, Part::Judgement];
        let SettingsDraft { broker, matomo, rules, validation, .. } =
            read(process_environment(), &parts)?.settings;
        let settings = || {
            Some(Self {
                broker: broker.complete()?,
                rules: rules?,
                validation: validation?,
                site_id: matomo.site_id?,
                has_token: matomo.token?.is_some(),
                max_age: matomo.max_age?,
            })
        };
        complete(settings())
    }

    /// The terms on which a dead hit is checked now, with these fixes applied.
    pub fn terms<'j>(&'j self, plan: &'j Plan, fixes: &'j [Fix]) -> ReplayTerms<'j> {
        ReplayTerms {
            plan,
            validation: self.validation,
            default_site: self.site_id.as_deref(),
            has_token: self.has_token,
            max_age: self.max_age,
            now: Timestamp::now(),
            fixes,
        }
    }
}
