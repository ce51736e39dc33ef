//! What stands between this configuration and a relay that works: one [`Finding`] after the other,
//! each with its remedy. Nothing here changes the broker, and Matomo stores nothing unless it is
//! asked to.

use serde::Serialize;

use super::config::Settings;

mod broker;
mod matomo;
mod message_size;
mod version;

/// How a question was answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// As it should be.
    Fine,
    /// It works, but not as well as it could; or nobody could tell.
    Note,
    /// The relay would not work.
    Wrong,
}

/// One question and its answer.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// What was looked at, a stable code.
    pub subject: &'static str,
    /// How it is.
    pub outcome: Outcome,
    /// In words.
    pub text: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remedy: Option<String>,
}

impl Finding {
    fn fine(subject: &'static str, text: impl Into<String>) -> Self {
        Self { subject, outcome: Outcome::Fine, text: text.into(), remedy: None }
    }

    fn note(subject: &'static str, text: impl Into<String>, remedy: &str) -> Self {
        Self { subject, outcome: Outcome::Note, text: text.into(), remedy: Some(remedy.to_owned()) }
    }

    fn wrong(subject: &'static str, text: impl Into<String>, remedy: &str) -> Self {
        Self {
            subject,
            outcome: Outcome::Wrong,
            text: text.into(),
            remedy: Some(remedy.to_owned()),
        }
    }
}

/// Asks the broker and Matomo. With `test_site` two hits for that site are stored in Matomo: the
/// second, over the age limit, only where there is a token.
pub async fn examine(settings: &Settings, test_site: Option<u32>) -> Vec<Finding> {
    let (mut findings, matomo) = tokio::join!(
        broker::examine(&settings.broker),
        matomo::examine(&settings.matomo, test_site)
    );
    findings.extend(matomo);
    findings
}
