//! How large a message the broker takes. AMQP does not tell, so this can only remind.

use super::Finding;

/// What to write into `rabbitmq.conf`, in bytes: more than the 80 KiB of a body that the relay
/// reads and may have to move to another queue.
const RECOMMENDED: u32 = 131_072;

/// What this version of RabbitMQ takes unless it is told otherwise; nothing is known of a version
/// that is `None`.
pub(super) fn finding(version: Option<&str>) -> Finding {
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    let default = match major {
        None => "far larger ones",
        Some(0..=3) => "up to 128 MiB",
        Some(_) => "up to 16 MiB",
    };
    let text = format!(
        "a hit has at most 64 KiB; RabbitMQ takes {default} unless max_message_size is set, which \
         AMQP does not tell"
    );
    let remedy = format!(
        "on a broker for the relay alone: max_message_size = {RECOMMENDED} in rabbitmq.conf; leave \
         one alone that others share"
    );
    Finding::note("broker.message", text, &remedy)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::amqp::filter::MAX_BODY;
    use crate::service::examine::Outcome;

    #[test]
    fn the_default_of_each_version_is_named() {
        for (version, default) in [
            (Some("3.10.8"), "up to 128 MiB"),
            (Some("4.0.5"), "up to 16 MiB"),
            (Some("5.0"), "up to 16 MiB"),
            (Some("unknown"), "far larger ones"),
            (None, "far larger ones"),
        ] {
            let finding = finding(version);
            assert!(finding.text.contains(default), "{}", finding.text);
            assert_eq!(finding.outcome, Outcome::Note);
        }
    }

    #[test]
    fn what_is_recommended_is_in_the_file_and_takes_whatever_the_relay_moves() {
        assert!(u64::from(RECOMMENDED) > MAX_BODY);
        let file = include_str!("../../../deploy/rabbitmq/rabbitmq.conf");
        let line = format!("max_message_size = {RECOMMENDED}");
        assert!(file.lines().any(|text| text == line), "{file}");
    }
}
