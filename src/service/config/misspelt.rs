//! What a misspelt name of the environment probably means.

use super::table::VARIABLES;
use super::variable::Variable;

/// The number of letters by which two names may differ. With more, names of other programs would be
/// taken for ours.
const NEAR: usize = 1;

/// The variable that a name, which is that of none, probably means: it is written with other
/// underscores, or with one letter wrong.
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
