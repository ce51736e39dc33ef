//! The names of the environment, and what a misspelt one probably means.

/// One row of the environment table: the README and the chart are checked against it.
#[derive(Debug)]
pub struct Variable {
    /// Name in the environment.
    pub name: &'static str,
    /// What an unset variable means, for people.
    pub default: &'static str,
    /// Also readable from the file named by `NAME_FILE`, and never shown.
    pub secret: bool,
}

const fn variable(name: &'static str, default: &'static str) -> Variable {
    Variable { name, default, secret: false }
}

const fn secret(name: &'static str, default: &'static str) -> Variable {
    Variable { name, default, secret: true }
}

/// Every variable that the relay reads, in the order of the README.
pub const VARIABLES: &[Variable] = &[
    secret("AMQP_URL", "amqp://guest:guest@127.0.0.1:5672/%2f"),
    variable("AMQP_CA_FILE", ""),
    variable("AMQP_CLIENT_CERT_FILE", ""),
    variable("AMQP_CLIENT_KEY_FILE", ""),
    variable("ALLOW_PLAINTEXT", "false"),
    variable("QUEUE_PREFIX", "dnma.hits"),
    variable("QUEUE_SHARDS", "8"),
    variable("QUEUE_PREFETCH", "concurrency × bulk size × 2"),
    variable("TOPOLOGY", "declare"),
    variable("MATOMO_URL", "required"),
    variable("MATOMO_SITE_ID", ""),
    secret("MATOMO_TOKEN_AUTH", ""),
    variable("MATOMO_API", "bulk"),
    variable("MATOMO_CONCURRENCY", "8"),
    variable("MATOMO_BULK_SIZE", "50"),
    variable("MATOMO_TIMEOUT", "65s"),
    variable("MATOMO_MAX_RATE", ""),
    variable("RETRY_DELAYS", "10m,20m"),
    variable("VALIDATION", "filter"),
    variable("REFERENCE_LISTS", ""),
    variable("TENANTS", ""),
    variable("HTTP_LISTEN", "0.0.0.0:8080"),
    variable("LOG_FORMAT", "json (text on a terminal)"),
    variable("RUST_LOG", "info"),
];

/// Letters that two names may differ by. More, and names of others would be taken for ours.
const NEAR: usize = 1;

/// The variable that this name of none probably means: written with other underscores, or with one
/// letter wrong.
pub(super) fn meant(name: &str) -> Option<&'static str> {
    // Variables are read in either case.
    let upper = name.to_ascii_uppercase();
    let is_ours = |variable: &Variable| {
        upper == variable.name
            || variable.secret && upper.strip_suffix("_FILE") == Some(variable.name)
    };
    if VARIABLES.iter().any(is_ours) {
        return None;
    }
    let letters = |name: &str| name.replace('_', "");
    let given = letters(&upper);
    VARIABLES
        .iter()
        .map(|variable| variable.name)
        .find(|ours| strsim::osa_distance(&given, &letters(ours)) <= NEAR)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_misspelt_name_is_recognised_and_others_are_left_alone() {
        for (given, expected) in [
            ("MATOMO_BULKSIZE", Some("MATOMO_BULK_SIZE")),
            ("RETRY_DELAY", Some("RETRY_DELAYS")),
            ("matomo_ur", Some("MATOMO_URL")),
            ("QUEUE_SAHRDS", Some("QUEUE_SHARDS")),
            ("MATOMO_BULK_SIZE", None),
            ("matomo_bulk_size", None),
            ("MATOMO_TOKEN_AUTH_FILE", None),
            ("MATOMO_SERVICE_HOST", None),
            ("AMQP_PORT", None),
            ("HTTP_PROXY", None),
            ("PATH", None),
        ] {
            assert_eq!(meant(given), expected, "{given}");
        }
    }
}
