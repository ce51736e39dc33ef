//! Headers that fit into a frame.
//!
//! A header frame cannot be split, and a broker ends the session of a publisher whose frame is
//! larger than what was negotiated. `frame_max` may be as small as 4096 bytes, and what the relay
//! writes of a hit that breaks many rules is larger.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, ShortString};

use crate::domain::envelope;

/// The frame's type, channel, size and end, and the fixed fields of a header frame.
const OVERHEAD: usize = 8 + 14;

/// What of the room for headers is left to the violations while there are headers of the sender's
/// to leave out: one part of so many.
const VIOLATIONS_SHARE: usize = 4;

/// The properties with as many of their headers as fit into a frame of `frame_max` bytes: first the
/// list of violations loses its end, down to a quarter of the room; then the sender's own headers
/// go, the largest first; then the rest of the list.
pub fn fit(properties: BasicProperties, frame_max: u32) -> BasicProperties {
    let frame_max = usize::try_from(frame_max).unwrap_or(usize::MAX);
    if OVERHEAD + size_of(&properties) <= frame_max {
        return properties;
    }
    let Some(mut headers) = properties.headers().clone() else { return properties };
    let others = size_of(&properties) - size_of_table(&headers);
    let room = frame_max.saturating_sub(OVERHEAD + others);
    cut_violations(&mut headers, room, room / VIOLATIONS_SHARE);
    while size_of_table(&headers) > room
        && let Some(name) = largest_foreign(&headers)
    {
        headers = without(&headers, &name);
    }
    cut_violations(&mut headers, room, 0);
    properties.with_headers(headers)
}

/// Cuts the list to what makes all headers fit, but not below `least` bytes.
fn cut_violations(headers: &mut FieldTable, room: usize, least: usize) {
    let excess = size_of_table(headers).saturating_sub(room);
    let Some(AMQPValue::LongString(list)) = headers.inner().get(envelope::VIOLATIONS) else {
        return;
    };
    let Ok(list) = std::str::from_utf8(list.as_bytes()) else { return };
    let most = list.len().saturating_sub(excess).max(least);
    if most < list.len() {
        let shorter = AMQPValue::LongString(cut_list(list, most).into());
        headers.insert(envelope::VIOLATIONS.into(), shorter);
    }
}

/// A JSON list without the elements at its end that make it longer than `most` bytes. The least is
/// an empty list.
pub fn cut_list(list: &str, most: usize) -> String {
    if list.len() <= most {
        return list.to_owned();
    }
    let (mut depth, mut is_text, mut is_escaped) = (0_usize, false, false);
    let mut end = None;
    for (at, byte) in list.bytes().enumerate() {
        // With the bracket that closes it, the list would end here.
        if at >= most {
            break;
        }
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if is_text => is_escaped = true,
            b'"' => is_text = !is_text,
            _ if is_text => {}
            b'[' | b'{' => depth += 1,
            b']' | b'}' => depth = depth.saturating_sub(1),
            b',' if depth == 1 => end = Some(at),
            _ => {}
        }
    }
    end.and_then(|end| list.get(..end)).map_or("[]".to_owned(), |kept| format!("{kept}]"))
}

fn largest_foreign(headers: &FieldTable) -> Option<ShortString> {
    let foreign = headers.inner().iter().filter(|(name, _)| !envelope::is_ours(name.as_str()));
    foreign.max_by_key(|(name, value)| size_of_entry(name, value)).map(|(name, _)| name.clone())
}

fn without(headers: &FieldTable, name: &ShortString) -> FieldTable {
    let mut rest = FieldTable::default();
    for (other, value) in headers.inner().iter().filter(|(other, _)| *other != name) {
        rest.insert(other.clone(), value.clone());
    }
    rest
}

/// Bytes of the properties in a header frame, behind its fixed fields.
fn size_of(properties: &BasicProperties) -> usize {
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
        properties.kind(),
        properties.user_id(),
        properties.app_id(),
        properties.cluster_id(),
    ];
    let texts = texts.into_iter().flatten().map(size_of_name).sum::<usize>();
    let octets = [properties.delivery_mode(), properties.priority()];
    let octets = octets.into_iter().flatten().count();
    let timestamp = properties.timestamp().map_or(0, |_| 8);
    texts + octets + timestamp + properties.headers().as_ref().map_or(0, size_of_table)
}

fn size_of_table(table: &FieldTable) -> usize {
    4 + table.inner().iter().map(|(name, value)| size_of_entry(name, value)).sum::<usize>()
}

fn size_of_entry(name: &ShortString, value: &AMQPValue) -> usize {
    size_of_name(name) + size_of_value(value)
}

fn size_of_name(name: &ShortString) -> usize {
    1 + name.as_str().len()
}

fn size_of_array(array: &FieldArray) -> usize {
    4 + array.as_slice().iter().map(size_of_value).sum::<usize>()
}

fn size_of_value(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::Void => 0,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::ShortString(text) => size_of_name(text),
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::FieldArray(array) => size_of_array(array),
        AMQPValue::FieldTable(table) => size_of_table(table),
    }
}

#[cfg(test)]
mod tests {
    use amq_protocol::frame::{AMQPContentHeader, AMQPFrame, gen_frame};
    use proptest::prelude::*;

    use super::*;

    /// What the client library writes of it.
    fn written(properties: &BasicProperties) -> usize {
        let header =
            AMQPContentHeader { class_id: 60, body_size: 700, properties: properties.clone() };
        let mut buffer = vec![0; 1 << 20];
        let written = gen_frame(&AMQPFrame::Header(1, header))(buffer.as_mut_slice().into());
        usize::try_from(written.expect("written").into_inner().1).expect("small")
    }

    fn violations(count: usize) -> String {
        let of = |n| format!("{{\"code\":\"unknown\",\"field\":\"{n}\",\"message\":\"a,\\\"]\"}}");
        format!("[{}]", (0..count).map(of).collect::<Vec<_>>().join(","))
    }

    fn of(foreign: usize, size: usize, list: usize) -> BasicProperties {
        let mut headers = FieldTable::default();
        for n in 0..foreign {
            let value = AMQPValue::LongString("h".repeat(size + n).into());
            headers.insert(format!("x-ent-{n}").into(), value);
        }
        headers.insert(envelope::REASON.into(), AMQPValue::LongString("plan".into()));
        headers.insert(envelope::VIOLATIONS.into(), AMQPValue::LongString(violations(list).into()));
        BasicProperties::default()
            .with_headers(headers)
            .with_delivery_mode(2)
            .with_timestamp(1)
            .with_content_type("application/json".into())
            .with_message_id("m".repeat(255).into())
    }

    fn list(properties: &BasicProperties) -> Vec<serde_json::Value> {
        let headers = properties.headers().as_ref().expect("headers");
        match headers.inner().get(envelope::VIOLATIONS) {
            Some(AMQPValue::LongString(list)) => {
                serde_json::from_slice(list.as_bytes()).expect("a JSON list")
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_fits_is_not_touched() {
        let properties = of(3, 100, 20);
        assert_eq!(fit(properties.clone(), 131_072), properties);
        let exactly = u32::try_from(written(&properties)).expect("small");
        assert_eq!(fit(properties.clone(), exactly), properties);
        assert_ne!(fit(properties.clone(), exactly - 1), properties);
    }

    #[test]
    fn the_list_goes_before_the_senders_headers_and_never_wholly_for_them() {
        let cut = fit(of(2, 100, 500), 16_384);
        assert!(list(&cut).len() > 200, "most of the room: {}", list(&cut).len());
        assert_eq!(cut.headers().as_ref().expect("headers").inner().len(), 4);
        let cut = fit(of(32, 500, 500), 8_192);
        assert!(list(&cut).len() >= 30, "a quarter of the room: {}", list(&cut).len());
        let headers = cut.headers().as_ref().expect("headers").inner();
        assert!(headers.contains_key("x-ent-0") && !headers.contains_key("x-ent-31"));
        assert!(headers.contains_key(envelope::REASON));
    }

    #[test]
    fn a_list_is_cut_between_its_elements() {
        assert_eq!(cut_list("[1,2,3]", 7), "[1,2,3]");
        assert_eq!(cut_list("[1,2,3]", 6), "[1,2]");
        assert_eq!(cut_list("[1,2,3]", 4), "[1]");
        assert_eq!(cut_list("[1,2,3]", 3), "[1]");
        assert_eq!(cut_list("[1,2,3]", 2), "[]");
        assert_eq!(cut_list(r#"[{"a":"]\",["},{"b":[1,2]}]"#, 25), r#"[{"a":"]\",["}]"#);
    }

    proptest! {
        #[test]
        fn whatever_the_size_it_fits(
            foreign in 0..40_usize,
            size in 0..600_usize,
            count in 0..400_usize,
            frame_max in 4096..70_000_u32,
        ) {
            let properties = of(foreign, size, count);
            let frame = written(&properties);
            prop_assert_eq!(frame, OVERHEAD + size_of(&properties), "the size is known exactly");
            let cut = fit(properties, frame_max);
            prop_assert!(written(&cut) <= frame_max as usize);
            let _parses = list(&cut);
        }
    }
}
