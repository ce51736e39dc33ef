//! Which properties and headers of a message go along to the next queue.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use crate::domain::envelope::{self, Header};

/// With ours, more headers than this, or larger ones, could pass the size of a frame, and the
/// broker would end the session.
const MAX_FOREIGN_HEADERS: usize = 32;

fn is_small(value: &AMQPValue) -> bool {
    match value {
        AMQPValue::LongString(text) => text.as_bytes().len() <= 512,
        AMQPValue::FieldArray(_) | AMQPValue::FieldTable(_) | AMQPValue::ByteArray(_) => false,
        _ => true,
    }
}

/// The properties of the copy in the next queue. What the ENT set stays, but for what would harm
/// the hit there: `expiration` would drop it, `user_id` must be the publisher's own, and a
/// transient message would not survive a restart.
pub(super) fn copied(
    original: &BasicProperties,
    ours: Vec<(&'static str, Header)>,
) -> BasicProperties {
    let mut headers = FieldTable::default();
    let theirs = original.headers().iter().flat_map(|table| table.inner());
    let theirs = theirs.filter(|(name, value)| envelope::keeps(name.as_str()) && is_small(value));
    for (name, value) in theirs.take(MAX_FOREIGN_HEADERS) {
        headers.insert(name.clone(), value.clone());
    }
    for (name, value) in ours {
        let value = match value {
            Header::Text(text) => AMQPValue::LongString(text.into()),
            Header::Number(number) => AMQPValue::LongLongInt(number),
        };
        headers.insert(name.into(), value);
    }
    let mut properties = BasicProperties::default().with_headers(headers).with_delivery_mode(2);
    if let Some(content_type) = original.content_type() {
        properties = properties.with_content_type(content_type.clone());
    }
    if let Some(encoding) = original.content_encoding() {
        properties = properties.with_content_encoding(encoding.clone());
    }
    if let Some(id) = original.message_id() {
        properties = properties.with_message_id(id.clone());
    }
    if let Some(timestamp) = original.timestamp() {
        properties = properties.with_timestamp(*timestamp);
    }
    if let Some(kind) = original.kind() {
        properties = properties.with_type(kind.clone());
    }
    if let Some(app) = original.app_id() {
        properties = properties.with_app_id(app.clone());
    }
    properties
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_harm_a_hit_in_its_next_queue_stays_behind() {
        let mut headers = FieldTable::default();
        headers.insert("x-death".into(), AMQPValue::LongString("forged".into()));
        headers.insert("BCC".into(), AMQPValue::LongString("elsewhere".into()));
        headers.insert("x-ent".into(), AMQPValue::LongString("mine".into()));
        let original = BasicProperties::default()
            .with_headers(headers)
            .with_expiration("1000".into())
            .with_user_id("ent".into())
            .with_content_type("application/json".into());
        let copy = copied(&original, vec![("x-dnma-attempt", Header::Number(1))]);
        assert_eq!(copy.expiration(), &None);
        assert_eq!(copy.user_id(), &None);
        assert_eq!(copy.delivery_mode(), &Some(2));
        assert_eq!(copy.content_type().as_ref().map(|c| c.as_str()), Some("application/json"));
        let names: Vec<_> = copy
            .headers()
            .as_ref()
            .expect("headers")
            .inner()
            .keys()
            .map(|k| k.as_str().to_owned())
            .collect();
        assert_eq!(names, ["x-dnma-attempt", "x-ent"]);
    }
}
