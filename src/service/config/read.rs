//! Environment → settings: one variable after the other, in the order of the table, and then what
//! several of them make together.

use std::collections::{HashMap, HashSet};

use super::draft::Draft;
use super::error::{ConfigError, Mistakes};
use super::table::VARIABLES;
use super::together::check_together;
use super::variable::{Fallback, Part, Variable};

/// Reads these parts of the settings.
pub(super) fn read(
    vars: impl IntoIterator<Item = (String, String)>,
    parts: &[Part],
) -> Result<Draft, ConfigError> {
    let environment = Environment::new(vars)?;
    let mut draft = Draft::default();
    let mut mistakes = Vec::new();
    for variable in VARIABLES.iter().filter(|variable| parts.contains(&variable.part)) {
        if let Err(Mistakes(texts)) = fill(&mut draft, variable, &environment) {
            mistakes.extend(texts.into_iter().map(|text| (variable.name, text)));
        }
    }
    if parts.contains(&Part::Broker) && !parts.contains(&Part::Worker) {
        fill_for_prefetch(&mut draft, &environment);
    }
    mistakes.extend(check_together(&mut draft, parts));
    if mistakes.is_empty() { Ok(draft) } else { Err(ConfigError::new(mistakes)) }
}

/// The settings that were made of a draft without a mistake; a field that no variable fills is a
/// mistake of the table's.
pub(super) fn complete<T>(settings: Option<T>) -> Result<T, ConfigError> {
    settings.ok_or_else(|| {
        ConfigError::new(vec![("settings", "a field is filled by no variable".to_owned())])
    })
}

/// The default of `QUEUE_PREFETCH` follows from these in every command, even in those that need
/// neither and that their mistakes therefore do not stop.
fn fill_for_prefetch(draft: &mut Draft, environment: &Environment) {
    for variable in VARIABLES
        .iter()
        .filter(|variable| matches!(variable.name, "MATOMO_CONCURRENCY" | "MATOMO_BULK_SIZE"))
    {
        let filled = fill(draft, variable, environment);
        if let (Err(_), Fallback::Text(default)) = (filled, variable.default) {
            // A default is no mistake.
            let _filled = (variable.parse)(default, draft);
        }
    }
}

/// Reads one variable, or its default, into the draft.
fn fill(draft: &mut Draft, variable: &Variable, environment: &Environment) -> Result<(), Mistakes> {
    let text = environment.text(variable)?;
    match (&text, variable.default) {
        (Some(text), _) => (variable.parse)(text, draft),
        (None, Fallback::Text(default)) => (variable.parse)(default, draft),
        (None, Fallback::Unset(_)) => (variable.parse)("", draft),
        (None, Fallback::Required(remedy)) => Err(remedy.into()),
    }
}

/// The environment as it stands: all text, so that reading it cannot fail at the first mistake.
struct Environment {
    /// Values that are not empty, by name in small letters.
    values: HashMap<String, String>,
    /// Names, in small letters, that stand there in different letters.
    ambiguous: HashSet<String>,
}

impl Environment {
    fn new(vars: impl IntoIterator<Item = (String, String)>) -> Result<Self, ConfigError> {
        let (mut names, mut ambiguous) = (HashSet::new(), HashSet::new());
        // An empty value means "not set": a chart or a compose file cannot leave a variable out.
        let vars = vars.into_iter().filter(|(name, value)| {
            let is_set = !value.trim().is_empty();
            if is_set && !names.insert(name.to_lowercase()) {
                ambiguous.insert(name.to_lowercase());
            }
            is_set
        });
        let values = envy::from_iter(vars)
            .map_err(|error| ConfigError::new(vec![("environment", error.to_string())]))?;
        Ok(Self { values, ambiguous })
    }

    /// The text of a variable, if it is set: its own or, of a secret, that of the file which
    /// `NAME_FILE` names. The text of a secret is in no message.
    fn text(&self, variable: &Variable) -> Result<Option<String>, Mistakes> {
        let name = variable.name;
        let value = self.value(name)?;
        if !variable.secret {
            return Ok(value.map(str::to_owned));
        }
        match (value, self.value(&format!("{name}_FILE"))?) {
            (Some(_), Some(_)) => {
                Err(format!("set together with {name}_FILE; keep one of the two").into())
            }
            (Some(value), None) => Ok(Some(value.trim().to_owned())),
            (None, Some(path)) => match std::fs::read_to_string(path) {
                Ok(text) if !text.trim().is_empty() => Ok(Some(text.trim().to_owned())),
                Ok(_) => Err(format!("{name}_FILE names {path}, which is empty").into()),
                Err(error) => {
                    Err(format!("{name}_FILE names {path}, which cannot be read: {error}").into())
                }
            },
            (None, None) => Ok(None),
        }
    }

    /// The value of a name, in whichever letters it is written.
    fn value(&self, name: &str) -> Result<Option<&str>, Mistakes> {
        let name = name.to_lowercase();
        if self.ambiguous.contains(&name) {
            let capitals = name.to_uppercase();
            return Err(format!("{capitals} and {name} are both set; keep one of the two").into());
        }
        Ok(self.values.get(&name).map(String::as_str))
    }
}

#[cfg(test)]
mod tests {
    use super::super::Settings;
    use super::*;

    fn pairs(vars: &[(&str, &str)]) -> Vec<(String, String)> {
        vars.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    fn prefetch(vars: &[(&str, &str)]) -> Option<u16> {
        read(pairs(vars), &[Part::Broker]).expect("the broker's side").settings.broker.prefetch
    }

    #[test]
    fn a_default_that_is_set_changes_nothing() {
        let required = ("MATOMO_URL", "https://matomo.example.fr/");
        let untouched = Settings::from_vars(pairs(&[required])).expect("complete").rows();
        for variable in VARIABLES {
            if let Fallback::Text(default) = variable.default {
                let set = pairs(&[required, (variable.name, default)]);
                let rows = Settings::from_vars(set).expect("complete").rows();
                assert_eq!(rows, untouched, "{}", variable.name);
            }
        }
    }

    #[test]
    fn names_are_read_in_either_case_and_an_empty_value_is_none() {
        let vars = pairs(&[("matomo_url", "https://m/"), ("Queue_Shards", "3"), ("TOPOLOGY", " ")]);
        let settings = Settings::from_vars(vars).expect("complete");
        assert_eq!(settings.broker.shards, 3);
        assert_eq!(settings.matomo.url.as_str(), "https://m/matomo.php");
    }

    #[test]
    fn a_name_in_both_cases_is_a_mistake_like_any_other() {
        let vars = [
            ("QUEUE_SHARDS", "3"),
            ("queue_shards", "4"),
            ("amqp_url_file", "/nowhere"),
            ("AMQP_URL_FILE", "/nowhere"),
            // Not ours, and set so on many machines.
            ("HTTP_PROXY", "a"),
            ("http_proxy", "b"),
        ];
        let error = Settings::from_vars(pairs(&vars)).expect_err("two of each");
        assert_eq!(error.variables(), ["AMQP_URL", "QUEUE_SHARDS", "MATOMO_URL"]);
        assert!(error.to_string().contains("QUEUE_SHARDS and queue_shards are both"), "{error}");
        assert!(error.to_string().contains("AMQP_URL_FILE and amqp_url_file are both"), "{error}");
    }

    #[test]
    fn a_command_complains_of_what_it_needs_alone() {
        let vars = [
            ("QUEUE_SHARDS", "many"),
            ("MATOMO_URL", "no address"),
            ("VALIDATION", "maybe"),
            ("TENANTS", "/nowhere/tenants.toml"),
            ("HTTP_LISTEN", "8080"),
            ("RUST_LOG", "info,=="),
        ];
        for (parts, expected) in [
            (&[Part::Broker][..], &["QUEUE_SHARDS"][..]),
            (&[Part::Broker, Part::Judgement], &["QUEUE_SHARDS", "VALIDATION", "TENANTS"]),
            (&[Part::Http], &["HTTP_LISTEN"]),
            (Part::ALL, &vars.map(|(name, _)| name)),
        ] {
            let error = read(pairs(&vars), parts).expect_err("mistakes");
            assert_eq!(error.variables(), expected, "{error}");
        }
    }

    #[test]
    fn the_prefetch_follows_what_it_is_for() {
        assert_eq!(prefetch(&[]), Some(1_600));
        assert_eq!(prefetch(&[("MATOMO_CONCURRENCY", "4"), ("MATOMO_BULK_SIZE", "10")]), Some(160));
        assert_eq!(prefetch(&[("MATOMO_CONCURRENCY", "1"), ("MATOMO_BULK_SIZE", "1")]), Some(8));
        let most = [("MATOMO_CONCURRENCY", "256"), ("MATOMO_BULK_SIZE", "1000")];
        assert_eq!(prefetch(&most), Some(65_535));
        assert_eq!(prefetch(&[("QUEUE_PREFETCH", "9")]), Some(9));
        // The mistake of a variable that the broker's side does not need.
        assert_eq!(prefetch(&[("MATOMO_BULK_SIZE", "many")]), Some(1_600));
        let few = [("QUEUE_PREFETCH", "7"), ("MATOMO_URL", "https://m/")];
        let error = Settings::from_vars(pairs(&few)).expect_err("too few").to_string();
        assert!(error.contains("QUEUE_PREFETCH: 7 is less than QUEUE_SHARDS (8)"), "{error}");
    }

    #[test]
    fn a_certificate_needs_its_key_and_a_key_its_certificate() {
        let file = tempfile::NamedTempFile::new().expect("a file");
        let path = file.path().to_string_lossy();
        let alone = |name| {
            read(pairs(&[(name, &path)]), &[Part::Broker]).expect_err("half of it").variables()
        };
        assert_eq!(alone("AMQP_CLIENT_CERT_FILE"), ["AMQP_CLIENT_KEY_FILE"]);
        assert_eq!(alone("AMQP_CLIENT_KEY_FILE"), ["AMQP_CLIENT_CERT_FILE"]);
    }

    #[test]
    fn a_good_address_beside_a_bad_one_is_checked_too() {
        let vars = pairs(&[("AMQP_URL", "amqp://rabbit.example/dnma,http://x")]);
        let error = read(vars, &[Part::Broker]).expect_err("two mistakes");
        assert_eq!(error.variables(), ["AMQP_URL", "AMQP_URL"]);
        assert!(error.to_string().contains("ALLOW_PLAINTEXT=true"), "{error}");
    }
}
