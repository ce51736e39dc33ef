//! `REFERENCE_LISTS` and `TENANTS`: where they are, and whether they can be read.

use std::path::PathBuf;

use super::Check;
use crate::service::config::Broker;
use crate::service::rules::source::Source;

impl Check {
    /// The files are read here once, so that a broken one is a mistake like any other.
    pub(super) fn rules(
        &mut self,
        lists: Option<String>,
        tenants: Option<String>,
        broker: Option<&Broker>,
    ) -> Source {
        let own_users = broker
            .into_iter()
            .flat_map(|broker| &broker.urls)
            .map(|url| url.user().to_owned())
            .collect();
        let path = |path: Option<String>| path.map(|path| PathBuf::from(path.trim()));
        let source = Source { lists: path(lists), tenants: path(tenants), own_users };
        let plan = source.plan();
        let lists = source.lists.clone().filter(|_| plan.is_ok());
        if let Err(error) = plan {
            self.report("REFERENCE_LISTS", error.to_string());
        }
        let external = |broker: &Broker| {
            broker
                .urls
                .iter()
                .any(|url| url.expose().to_ascii_lowercase().contains("auth_mechanism=external"))
        };
        if source.tenants.is_some() && broker.is_some_and(external) {
            self.report(
                "TENANTS",
                "needs a user name in AMQP_URL: with auth_mechanism=external nobody but the \
                 broker knows the relay's own",
            );
        }
        // With the built-in plan, should the lists be broken: each has its own mistakes.
        if let Err(error) = (Source { lists, ..source.clone() }).read() {
            self.report("TENANTS", error.to_string());
        }
        source
    }
}
