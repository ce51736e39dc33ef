//! What is to be known of the RabbitMQ that answers, by its version.

use super::Finding;

/// What was measured of each version, or read in its source.
pub(super) fn finding(product: &str, version: &str) -> Finding {
    const SUBJECT: &str = "broker.version";
    let mut numbers = version.split(['.', '-', '+', '~']).map(|part| part.parse().unwrap_or(0));
    let mut number = || numbers.next().unwrap_or(0_u32);
    let at = (number(), number(), number());
    let text = format!("{product} {version}");
    if product != "RabbitMQ" {
        return Finding::note(SUBJECT, text, "the relay is tested with RabbitMQ");
    }
    match at {
        (0..=2, ..) | (3, 0..=9, _) => Finding::wrong(
            SUBJECT,
            text,
            "the relay needs RabbitMQ 3.10 or later: retry queues hand on at least once only from \
             there on",
        ),
        (4, 3, ..=5) => Finding::note(
            SUBJECT,
            format!(
                "{text}: a shard can stand still after the broker's consumer timeout \
                 (rabbitmq-server#17317)"
            ),
            "RabbitMQ 4.3.6 mends it",
        ),
        _ => Finding::fine(SUBJECT, text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::examine::Outcome;

    #[test]
    fn each_version_is_judged_by_what_is_known_of_it() {
        for (version, expected) in [
            ("3.9.29", Outcome::Wrong),
            ("3.10.8", Outcome::Fine),
            ("3.13.7", Outcome::Fine),
            ("4.0.5", Outcome::Fine),
            ("4.3.0-rc.1", Outcome::Note),
            ("4.3.5", Outcome::Note),
            ("4.3.6", Outcome::Fine),
            ("5.0", Outcome::Fine),
        ] {
            assert_eq!(finding("RabbitMQ", version).outcome, expected, "{version}");
        }
        assert_eq!(finding("Another", "1.0").outcome, Outcome::Note);
    }
}
