//! The tenants: which AMQP user may send for which exploitants, platforms and sites.
//!
//! The broker itself verifies a message's `user_id` (RabbitMQ refuses a publish that claims another
//! user), so an ENT cannot write into another's figures. Without this data nothing is checked.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use super::data::{self, DataError};
use super::plan::{FieldRole, Plan};

/// The tenants, by their AMQP user.
#[derive(Debug, Clone)]
pub struct Tenants(BTreeMap<String, Tenant>);

/// An AMQP user, and what it may send.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Tenant {
    /// The AMQP user, as the broker knows it.
    user: String,
    /// The values of `dimension3` that it may send; `*` stands for any.
    exploitants: Vec<String>,
    /// The values of `dimension4` that it may send; `*` stands for any.
    plateformes: Vec<String>,
    /// The values of `idsite` that it may send; `*` stands for any.
    idsites: Vec<SiteId>,
    /// The values of fields that its hits may leave out, by the RFTI's name.
    #[serde(default)]
    defaults: BTreeMap<String, String>,
}

/// A site, which is written as a number or as text.
#[derive(Debug, Clone, Deserialize)]
#[serde(untagged)]
enum SiteId {
    Number(u32),
    Text(String),
}

/// Who sent a hit.
#[derive(Debug, Clone, Copy, Default)]
pub enum Sender<'t> {
    /// There are no tenants, so that nobody checks who sent it.
    #[default]
    Unchecked,
    /// The message has no AMQP user, or one that is no tenant's.
    Unknown,
    /// This tenant sent it.
    Tenant(&'t Tenant),
}

/// Why the tenants were refused.
#[derive(Debug, Error)]
pub enum TenantsError {
    /// The data is not TOML, or has a key that is not known, or lacks one.
    #[error(transparent)]
    Syntax(#[from] DataError),
    /// There is no tenant, so that nobody could send anything.
    #[error("holds no [[tenants]]")]
    Empty,
    /// A user is given twice, so that which one is meant would be a guess.
    #[error("user {0} is given twice")]
    Twice(String),
    /// A list of a tenant is empty, so that it could send nothing.
    #[error("user {user}: {key} is empty; write [\"*\"] for any")]
    Nothing {
        /// The user of the tenant.
        user: String,
        /// The list.
        key: &'static str,
    },
    /// The plan has no such field, or the field cannot have a default.
    #[error("user {user}: {field} cannot have a default")]
    Default {
        /// The user of the tenant.
        user: String,
        /// The field.
        field: String,
    },
    /// The tenant may not send its own default.
    #[error("user {user}: the default of {field} is not among the values that the user may send")]
    DefaultOutside {
        /// The user of the tenant.
        user: String,
        /// The field.
        field: String,
    },
    /// The user is the relay's own, which marks the hits that come back from the retry queues.
    #[error("user {0} is the relay's own: an ENT needs a user of its own")]
    Own(String),
}

/// The data as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantsFile {
    /// The tenants in the order of the file.
    tenants: Vec<Tenant>,
}

/// Stands for any value.
const ANY: &str = "*";

impl Tenants {
    /// Reads the data. `own` are the relay's AMQP users.
    ///
    /// # Errors
    /// Returns a [`TenantsError`] for the first mistake.
    pub fn parse(text: &str, plan: &Plan, own: &[String]) -> Result<Self, TenantsError> {
        let file: TenantsFile = data::read(text)?;
        let mut tenants = BTreeMap::new();
        for tenant in file.tenants {
            tenant.check(plan, own)?;
            let user = tenant.user.clone();
            if tenants.insert(user.clone(), tenant).is_some() {
                return Err(TenantsError::Twice(user));
            }
        }
        if tenants.is_empty() { Err(TenantsError::Empty) } else { Ok(Self(tenants)) }
    }

    /// Finds the sender by the AMQP user that the broker has verified.
    pub fn sender(&self, user: Option<&str>) -> Sender<'_> {
        user.and_then(|user| self.0.get(user)).map_or(Sender::Unknown, Sender::Tenant)
    }

    /// Returns how many tenants there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl Tenant {
    /// Looks for mistakes in the data of a tenant.
    fn check(&self, plan: &Plan, own: &[String]) -> Result<(), TenantsError> {
        let user = || self.user.clone();
        if own.contains(&self.user) {
            return Err(TenantsError::Own(user()));
        }
        let lists = [
            ("exploitants", self.exploitants.is_empty()),
            ("plateformes", self.plateformes.is_empty()),
            ("idsites", self.idsites.is_empty()),
        ];
        if let Some((key, _)) = lists.into_iter().find(|(_, empty)| *empty) {
            return Err(TenantsError::Nothing { user: user(), key });
        }
        for (field, value) in &self.defaults {
            let error = || (user(), field.clone());
            // A visitor or a time that many hits share would be wrong figures.
            let index = plan.index(field).filter(|index| {
                ![FieldRole::User, FieldRole::Time]
                    .iter()
                    .any(|p| plan.role_index(*p) == Some(*index))
            });
            let Some(index) = index else {
                let (user, field) = error();
                return Err(TenantsError::Default { user, field });
            };
            let role = Self::GUARDED.into_iter().find(|role| plan.role_index(*role) == Some(index));
            if role.is_some_and(|role| !self.may_send(role, value)) {
                let (user, field) = error();
                return Err(TenantsError::DefaultOutside { user, field });
            }
        }
        Ok(())
    }

    /// The fields of which a tenant may send certain values only.
    pub(super) const GUARDED: [FieldRole; 3] =
        [FieldRole::Exploitant, FieldRole::Plateforme, FieldRole::Site];

    /// Whether a hit of this tenant may have this value in the field of this role.
    pub(super) fn may_send(&self, role: FieldRole, value: &str) -> bool {
        let among = |values: &[String]| values.iter().any(|legal| legal == value || legal == ANY);
        match role {
            FieldRole::Exploitant => among(&self.exploitants),
            FieldRole::Plateforme => among(&self.plateformes),
            FieldRole::Site => self.idsites.iter().any(|id| match id {
                SiteId::Number(number) => value.parse() == Ok(*number),
                SiteId::Text(text) => text == value || text == ANY,
            }),
            _ => true,
        }
    }

    /// Iterates over the fields that its hits may leave out, each with the value that is sent then.
    pub(super) fn defaults(&self) -> impl Iterator<Item = (&str, &str)> {
        self.defaults.iter().map(|(field, value)| (field.as_str(), value.as_str()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALPHA: &str = r#"
        [[tenants]]
        user = "ent-alpha"
        exploitants = ["ALPHA"]
        plateformes = ["*"]
        idsites = [1, "2"]
        defaults = { dimension3 = "ALPHA", idsite = "1" }
    "#;

    fn parse(text: &str) -> Result<Tenants, TenantsError> {
        Tenants::parse(text, &Plan::built_in().expect("plan"), &["relay".to_owned()])
    }

    #[test]
    fn a_tenant_may_send_what_is_listed() {
        let tenants = parse(ALPHA).expect("parses");
        assert_eq!(tenants.count(), 1);
        let Sender::Tenant(alpha) = tenants.sender(Some("ent-alpha")) else { panic!("not found") };
        assert!(
            alpha.may_send(FieldRole::Exploitant, "ALPHA")
                && !alpha.may_send(FieldRole::Exploitant, "BETA")
        );
        assert!(alpha.may_send(FieldRole::Plateforme, "anything"));
        assert!(
            alpha.may_send(FieldRole::Site, "1")
                && alpha.may_send(FieldRole::Site, "2")
                && !alpha.may_send(FieldRole::Site, "3")
        );
        assert!(matches!(tenants.sender(Some("ent-beta")), Sender::Unknown));
        assert!(matches!(tenants.sender(None), Sender::Unknown));
    }

    #[test]
    fn each_list_of_a_tenant_guards_its_own_field() {
        let text = r#"
            [[tenants]]
            user = "a"
            exploitants = ["E1", "E2"]
            plateformes = ["P"]
            idsites = [1, "two"]
            [[tenants]]
            user = "b"
            exploitants = ["*"]
            plateformes = ["P", "*"]
            idsites = ["*"]
        "#;
        let tenants = parse(text).expect("parses");
        assert_eq!(tenants.count(), 2);
        let of = |user| match tenants.sender(Some(user)) {
            Sender::Tenant(tenant) => tenant,
            other => panic!("{other:?}"),
        };
        use FieldRole::{Exploitant, Plateforme, Site, User};
        for (role, value, expected) in [
            (Exploitant, "E1", true),
            (Exploitant, "E2", true),
            (Exploitant, "P", false),
            (Exploitant, "*", false),
            (Exploitant, "e1", false),
            (Plateforme, "P", true),
            (Plateforme, "E1", false),
            (Plateforme, "", false),
            (Site, "1", true),
            (Site, "two", true),
            (Site, "2", false),
            (Site, "E1", false),
            (User, "anybody", true),
        ] {
            assert_eq!(of("a").may_send(role, value), expected, "{role:?} {value}");
            assert!(of("b").may_send(role, value), "any {role:?}: {value}");
        }
    }

    #[test]
    fn a_default_stands_for_a_field_that_says_neither_who_nor_when() {
        let defaults = r#"{ dimension3 = "ALPHA", idsite = "1" }"#;
        for (given, expected) in [
            (r#"{ dimension8 = "NOTES" }"#, Ok(vec![("dimension8", "NOTES")])),
            (r#"{ dimension4 = "x" }"#, Ok(vec![("dimension4", "x")])),
            (r#"{ idsite = "2", dimension3 = "ALPHA" }"#, {
                Ok(vec![("dimension3", "ALPHA"), ("idsite", "2")])
            }),
            ("{}", Ok(vec![])),
            (
                r#"{ idsite = "3" }"#,
                Err("user ent-alpha: the default of idsite is not among the values that the user \
                     may send"),
            ),
            (r#"{ uid = "x" }"#, Err("user ent-alpha: uid cannot have a default")),
            (r#"{ cdt = "1732549235" }"#, Err("user ent-alpha: cdt cannot have a default")),
        ] {
            let tenants = parse(&ALPHA.replace(defaults, given)).map_err(|error| error.to_string());
            let found = tenants.as_ref().map(|tenants| match tenants.sender(Some("ent-alpha")) {
                Sender::Tenant(alpha) => alpha.defaults().collect(),
                other => panic!("{other:?}"),
            });
            assert_eq!(found.map_err(String::as_str), expected, "{given}");
        }
    }

    #[test]
    fn what_is_wrong_with_the_data_is_named() {
        for (from, to, expected) in [
            ("exploitants = [\"ALPHA\"]", "exploitant = [\"ALPHA\"]", "unknown field `exploitant`"),
            ("exploitants = [\"ALPHA\"]", "exploitants = []", "exploitants is empty"),
            ("plateformes = [\"*\"]", "plateformes = []", "plateformes is empty"),
            ("idsites = [1, \"2\"]", "idsites = []", "idsites is empty"),
            (
                "dimension3 = \"ALPHA\"",
                "dimension3 = \"BETA\"",
                "the default of dimension3 is not among",
            ),
            ("dimension3 = \"ALPHA\"", "uid = \"x\"", "uid cannot have a default"),
            ("dimension3 = \"ALPHA\"", "dimension33 = \"x\"", "dimension33 cannot have a default"),
            ("user = \"ent-alpha\"", "user = \"relay\"", "the relay's own"),
        ] {
            let error = parse(&ALPHA.replace(from, to)).expect_err(to).to_string();
            assert!(error.contains(expected), "{error}");
        }
        let twice = format!("{ALPHA}{ALPHA}");
        assert!(parse(&twice).expect_err("twice").to_string().contains("twice"));
        assert!(parse("tenants = []").expect_err("none").to_string().contains("[[tenants]]"));
    }
}
