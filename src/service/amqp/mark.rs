//! What the filter says of a delivery, in the client library's terms.

use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::filter::{MARK, MessageParts};

/// What of a message could not be handed on as its sender wrote it; none of a message that is what
/// it seems. To be asked of deliveries of a connection that has the filter only: elsewhere the
/// header may be a sender's.
pub fn unreadable(properties: &BasicProperties) -> Option<MessageParts> {
    match properties.headers().as_ref()?.inner().get(MARK)? {
        AMQPValue::LongString(text) => {
            std::str::from_utf8(text.as_bytes()).unwrap_or_default().parse().ok()
        }
        // The filter writes a text and nothing else.
        _ => Some(MessageParts::default()),
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::super::filter::MessagePart;
    use super::*;

    /// The filter needs nothing but the standard library, and the domain knows no filter.
    #[test]
    fn the_name_that_is_left_behind_is_the_filters() {
        assert_eq!(MARK, crate::domain::envelope::UNREADABLE);
        assert!(!crate::domain::envelope::keeps(MARK));
    }

    #[test]
    fn only_the_mark_counts() {
        let with = |name: &str| {
            let mut headers = FieldTable::default();
            headers.insert(name.into(), AMQPValue::LongString("routing-key,body=7".into()));
            BasicProperties::default().with_headers(headers)
        };
        assert_eq!(unreadable(&BasicProperties::default()), None);
        assert_eq!(unreadable(&with("X-dnma-unreadable")), None);
        let parts = unreadable(&with(MARK)).expect("marked");
        assert!(parts.has(MessagePart::RoutingKey) && !parts.has(MessagePart::Headers));
        assert_eq!(parts.body_left_out(), Some(7));
    }
}
