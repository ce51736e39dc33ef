//! Whose history of a message is believed: that which a relay signed with its own AMQP user.
//!
//! RabbitMQ refuses a publish whose `user_id` is not the user of its connection, so a message with
//! our own name in it was moved by a relay, and its `x-dnma-*` headers are true. Without that name
//! they are a sender's, who may write whatever they like.

use std::sync::atomic::{AtomicBool, Ordering};

use super::BrokerError;
use crate::service::config::BrokerSettings;

/// Whether relays sign what they move, and with which names.
#[derive(Debug)]
pub struct Signing {
    /// The users of `AMQP_URL`.
    own_users: Vec<String>,
    signs: AtomicBool,
}

impl Signing {
    /// Signs with the user of `AMQP_URL`, unless that is hidden in the client's certificate.
    pub fn new(settings: &BrokerSettings) -> Self {
        let own_users = settings.urls.iter().map(|url| url.user().to_owned()).collect();
        let signs = !settings.urls.iter().any(|url| url.hides_its_user());
        Self { own_users, signs: AtomicBool::new(signs) }
    }

    /// Whether a copy bears our own name.
    pub fn signs(&self) -> bool {
        self.signs.load(Ordering::Relaxed)
    }

    /// Whether a message of this `user_id` says the truth about its own history. Where relays
    /// cannot sign, everybody is believed.
    pub fn believes(&self, user: Option<&str>) -> bool {
        !self.signs() || user.is_some_and(|user| self.own_users.iter().any(|own| own == user))
    }

    /// Stops signing if this error says that the broker knows us by another name than `AMQP_URL`
    /// does (some OAuth and LDAP set-ups).
    pub fn stop_if_unknown(&self, error: &BrokerError) {
        if is_another_name(&error.to_string()) && self.signs.swap(false, Ordering::Relaxed) {
            tracing::warn!(
                %error,
                "RabbitMQ knows the relay by another name than AMQP_URL: hits are moved unsigned, \
                 and x-dnma-* headers are believed of any sender; put the broker's name for the \
                 relay into AMQP_URL"
            );
        }
    }
}

/// Whether the broker refused a publish because of its `user_id`.
fn is_another_name(error: &str) -> bool {
    error.contains("user_id property set to")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signing(signs: bool) -> Signing {
        Signing { own_users: vec!["relay".to_owned()], signs: AtomicBool::new(signs) }
    }

    #[test]
    fn only_our_own_name_vouches_for_a_history() {
        let signing = signing(true);
        assert!(signing.believes(Some("relay")));
        for user in [None, Some(""), Some("ent"), Some("RELAY")] {
            assert!(!signing.believes(user), "{user:?}");
        }
    }

    #[test]
    fn where_nobody_can_sign_everybody_is_believed() {
        assert!(signing(false).believes(None) && signing(false).believes(Some("ent")));
    }
}
