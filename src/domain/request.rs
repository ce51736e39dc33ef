//! Encodes a valid hit as Matomo's Tracking API takes it: an object of a bulk, or a query string.
//!
//! The relay supplies `rec=1`, `apiv=1`, a fresh `rand` per attempt, and `cdt` in whole seconds.
//! Only fields of the plan are sent: an unknown parameter could change what Matomo stores. Empty
//! values are left out, since Matomo would take an empty dimension for "clear it".

use std::borrow::Cow;

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use super::plan::{Field, FieldRole, Plan};
use super::scan;
use super::validate::CheckedHit;

/// How hits are sent (`MATOMO_API`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Api {
    /// A POST sends one or many hits in a JSON body. This is the only form whose answer says what
    /// was stored.
    Bulk,
    /// A GET sends one hit, as the RFTI has it, for gateways that pass nothing else.
    Single,
}

/// The characters of `rand` (RFTI §3.2.1: 7 to 8 characters).
pub type Rand = [u8; 8];

/// The characters that `rand` is made of, one for each five bits.
const RAND_CHARACTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

/// Makes eight characters of 40 random bits.
pub fn rand(mut bits: u64) -> Rand {
    let mut rand = [b'a'; 8];
    for place in &mut rand {
        *place = RAND_CHARACTERS.get((bits % 32) as usize).copied().unwrap_or(b'a');
        bits /= 32;
    }
    rand
}

/// Encodes a hit for the [`Api`], complete but for `rand`.
pub fn encode(api: Api, plan: &Plan, hit: &CheckedHit<'_>) -> Vec<u8> {
    let mut out = Vec::with_capacity(1024);
    match api {
        Api::Bulk => {
            out.extend_from_slice(b"{\"idsite\":");
            json_string(&mut out, &hit.idsite, false);
            out.extend_from_slice(b",\"rec\":\"1\",\"apiv\":\"1\"");
            for (field, value, is_plain) in sent(plan, hit) {
                out.extend_from_slice(field.json().as_bytes());
                json_string(&mut out, value, is_plain);
            }
            out.extend_from_slice(b",\"cdt\":\"");
            decimal(&mut out, hit.cdt.as_second());
            out.push(b'"');
        }
        Api::Single => {
            out.extend_from_slice(b"idsite=");
            url_text(&mut out, &hit.idsite);
            out.extend_from_slice(b"&rec=1&apiv=1");
            for (field, value, _) in sent(plan, hit) {
                out.push(b'&');
                out.extend_from_slice(field.parameter().as_bytes());
                out.push(b'=');
                url_text(&mut out, value);
            }
            out.extend_from_slice(b"&cdt=");
            decimal(&mut out, hit.cdt.as_second());
        }
    }
    out
}

/// Iterates over the values that leave as the hit has them, in the plan's order, each with whether
/// it is known that JSON needs no escape for it. Those that the relay supplies to every hit are not
/// among them.
fn sent<'s>(
    plan: &'s Plan,
    hit: &'s CheckedHit<'_>,
) -> impl Iterator<Item = (&'s Field, &'s str, bool)> {
    let (site, time) = (plan.role_index(FieldRole::Site), plan.role_index(FieldRole::Time));
    plan.fields().iter().zip(&hit.values).enumerate().filter_map(move |(index, (field, value))| {
        let supplied = field.relay || site == Some(index) || time == Some(index);
        let value = value.as_ref().filter(|value| !supplied && !value.is_empty())?;
        let is_plain = hit.is_plain && matches!(value, Cow::Borrowed(_));
        Some((field, value.as_ref(), is_plain))
    })
}

/// The characters that a query value must have escaped: all but the unreserved ones of RFC 3986.
const URL_VALUE: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// Writes the value of a query.
fn url_text(out: &mut Vec<u8>, text: &str) {
    for piece in utf8_percent_encode(text, URL_VALUE) {
        out.extend_from_slice(piece.as_bytes());
    }
}

/// Writes a number.
fn decimal(out: &mut Vec<u8>, number: i64) {
    // Writing into a Vec cannot fail, so neither can this.
    let _infallible = serde_json::to_writer(out, &number);
}

/// Writes a JSON string. With `is_plain` it is known that nothing needs an escape.
fn json_string(out: &mut Vec<u8>, text: &str, is_plain: bool) {
    if !is_plain
        && scan::any(text.as_bytes(), |byte| {
            scan::is_control(byte) | (byte == b'"') | (byte == b'\\')
        })
    {
        // Writing into a Vec cannot fail, so neither can this.
        let _infallible = serde_json::to_writer(out, text);
        return;
    }
    // Nearly no value needs an escape.
    out.push(b'"');
    out.extend_from_slice(text.as_bytes());
    out.push(b'"');
}

/// How many bytes a bulk has beside its hits and its token, at most.
const BULK_OVERHEAD: usize = 32;
/// How many bytes a bulk adds to each hit, at most.
const HIT_OVERHEAD: usize = 20;

/// Makes the body of a bulk request: the hits in their order, each with a `rand` of its own, and
/// the token if one is given.
pub fn bulk_body(hits: &[&[u8]], mut rand: impl FnMut() -> Rand, token: Option<&str>) -> Vec<u8> {
    // A vector that has room for everything is never copied to a larger one.
    let length: usize = hits.iter().map(|encoded| encoded.len() + HIT_OVERHEAD).sum();
    let mut body = Vec::with_capacity(length + BULK_OVERHEAD + token.map_or(0, str::len));
    body.extend_from_slice(b"{\"requests\":[");
    for (index, encoded) in hits.iter().enumerate() {
        if index > 0 {
            body.push(b',');
        }
        body.extend_from_slice(encoded);
        body.extend_from_slice(b",\"rand\":\"");
        body.extend_from_slice(&rand());
        body.extend_from_slice(b"\"}");
    }
    body.push(b']');
    if let Some(token) = token {
        body.extend_from_slice(b",\"token_auth\":");
        json_string(&mut body, token, false);
    }
    body.push(b'}');
    body
}

/// Makes the query string of a single request. A token is never part of it, but of a POST form
/// ([`with_token`]).
pub fn single_query(encoded: &[u8], rand: Rand) -> Vec<u8> {
    let mut query = encoded.to_vec();
    query.extend_from_slice(b"&rand=");
    query.extend_from_slice(&rand);
    query
}

/// Makes the body of a POST form from a query and the token.
pub fn with_token(mut query: Vec<u8>, token: &str) -> Vec<u8> {
    query.extend_from_slice(b"&token_auth=");
    url_text(&mut query, token);
    query
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::domain::hit::decode;
    use crate::domain::validate::{Context, validate};

    fn encoded(api: Api, message: &str) -> String {
        let plan = Plan::built_in().expect("plan");
        let first_seen = Timestamp::from_second(1_732_549_300).expect("in range");
        let hit = decode(message.as_bytes(), None).expect("decodes");
        let verdict =
            validate(&plan, &hit, Context { default_site: Some("7"), ..Context::at(first_seen) });
        String::from_utf8(encode(api, &plan, &verdict.hit.expect("can be sent"))).expect("UTF-8")
    }

    #[test]
    fn a_hit_leaves_as_matomo_wants_it() {
        let message = r#"{
            "uid":"u\"1","url_ref":"https://é.fr/?a=b&c","dimension8":"NOTES",
            "cdt":"2024-11-25 15:40:35","rand":"old","cip":"1.2.3.4","ua":"","_id":""
        }"#;
        assert_eq!(
            encoded(Api::Bulk, message),
            concat!(
                r#"{"idsite":"7","rec":"1","apiv":"1","uid":"u\"1","#,
                r#""urlref":"https://é.fr/?a=b&c","dimension8":"NOTES","cdt":"1732549235""#
            )
        );
        assert_eq!(
            encoded(Api::Single, message),
            "idsite=7&rec=1&apiv=1&uid=u%221&urlref=https%3A%2F%2F%C3%A9.fr%2F%3Fa%3Db%26c&\
             dimension8=NOTES&cdt=1732549235"
        );
    }

    proptest::proptest! {
        /// What is sent to Matomo is what the hit says, in both forms: decode → request → decode
        /// loses and adds nothing.
        #[test]
        fn a_hit_says_the_same_before_and_after(
            texts in proptest::collection::vec("[^\\x00-\\x1f\\x7f]{0,30}", 22),
            single: bool,
        ) {
            let plan = Plan::built_in().expect("plan");
            let own = ["idsite", "rec", "apiv", "rand", "cdt"];
            let names = plan.fields().iter().map(|field| field.name.as_str());
            let names = names.filter(|name| !own.contains(name));
            let mut message: serde_json::Map<String, serde_json::Value> =
                names.zip(&texts).map(|(n, t)| (n.to_owned(), t.as_str().into())).collect();
            message.insert("uid".to_owned(), "u1".into());
            message.insert("cdt".to_owned(), 1_732_549_235.into());
            let body = serde_json::to_vec(&message).expect("JSON");
            let before = decode(&body, None).expect("decodes");
            let first_seen = Timestamp::from_second(1_732_549_300).expect("in range");
            let context = Context { default_site: Some("7"), ..Context::at(first_seen) };
            let checked = validate(&plan, &before, context).hit.expect("can be sent");
            let api = if single { Api::Single } else { Api::Bulk };
            let mut sent = encode(api, &plan, &checked);
            if !single {
                sent.push(b'}');
            }
            let form =
                if single { "application/x-www-form-urlencoded" } else { "application/json" };
            let after = decode(&sent, Some(form)).expect("decodes");
            let found: Vec<(&str, &str)> =
                after.fields().map(|(name, _)| (name, after.text(name).expect("text"))).collect();
            let mut meant = vec![("idsite", "7"), ("rec", "1"), ("apiv", "1")];
            for (field, value) in plan.fields().iter().zip(&checked.values) {
                let value = value.as_deref().filter(|value| !value.is_empty());
                let is_own = own.contains(&field.name.as_str());
                meant.extend(value.filter(|_| !is_own).map(|value| (field.parameter(), value)));
            }
            meant.push(("cdt", "1732549235"));
            proptest::prop_assert_eq!(found, meant);
        }
    }

    #[test]
    fn a_future_time_leaves_as_the_time_of_receipt() {
        assert!(
            encoded(Api::Bulk, r#"{"uid":"u","cdt":1732549301}"#)
                .ends_with(r#""cdt":"1732549300""#)
        );
        assert!(
            encoded(Api::Bulk, r#"{"uid":"u","cdt":"1732549235000"}"#)
                .ends_with(r#""cdt":"1732549300""#)
        );
    }

    #[test]
    fn the_bulk_body_is_json_and_the_token_stands_at_its_top() {
        let one = encoded(Api::Bulk, r#"{"uid":"u"}"#);
        let mut number = 0;
        let next = || {
            number += 1;
            rand(number)
        };
        let body = bulk_body(&[one.as_bytes(), one.as_bytes()], next, Some("to\"ken"));
        let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
        assert_eq!(body["token_auth"], "to\"ken");
        assert_eq!(body["requests"][0]["rand"], "baaaaaaa");
        assert_eq!(body["requests"][1]["rand"], "caaaaaaa");
        assert_eq!(body["requests"].as_array().map(Vec::len), Some(2));
        assert!(body.get("send_image").is_none());
    }

    #[test]
    fn rand_takes_five_bits_for_each_character_from_the_lowest() {
        for (bits, expected) in [
            (0, b"aaaaaaaa"),
            (1, b"baaaaaaa"),
            (31, b"7aaaaaaa"),
            (32, b"abaaaaaa"),
            (0b00111_00110_00101_00100_00011_00010_00001_00000, b"abcdefgh"),
            (0b11111_11110_11101_11100_11011_11010_11001_11000, b"yz234567"),
            (u64::MAX, b"77777777"),
        ] {
            assert_eq!(rand(bits), *expected, "{bits:#b}");
        }
    }

    #[test]
    fn what_the_relay_supplies_itself_leaves_once() {
        let message = concat!(
            r#"{"idsite":"5","rec":"0","apiv":"2","rand":"old","uid":"u","#,
            r#""cdt":1732549235,"dimension8":""}"#
        );
        assert_eq!(
            encoded(Api::Bulk, message),
            r#"{"idsite":"5","rec":"1","apiv":"1","uid":"u","cdt":"1732549235""#
        );
        assert_eq!(encoded(Api::Single, message), "idsite=5&rec=1&apiv=1&uid=u&cdt=1732549235");
    }

    #[test]
    fn text_is_escaped_where_json_and_a_query_need_it() {
        for (text, json, query) in [
            ("", r#""""#, ""),
            ("é", r#""é""#, "%C3%A9"),
            ("aZ09-._~", r#""aZ09-._~""#, "aZ09-._~"),
            ("\"", r#""\"""#, "%22"),
            ("\"\"", r#""\"\"""#, "%22%22"),
            ("\\", r#""\\""#, "%5C"),
            ("a\"b\\c", r#""a\"b\\c""#, "a%22b%5Cc"),
            ("\n", r#""\n""#, "%0A"),
            ("\u{1f}", r#""\u001f""#, "%1F"),
            ("a b+c&d=e%", r#""a b+c&d=e%""#, "a%20b%2Bc%26d%3De%25"),
            ("</'!*()>", r#""</'!*()>""#, "%3C%2F%27%21%2A%28%29%3E"),
        ] {
            let (mut in_json, mut in_query) = (Vec::new(), Vec::new());
            json_string(&mut in_json, text, false);
            url_text(&mut in_query, text);
            assert_eq!(String::from_utf8_lossy(&in_json), json, "{text}");
            assert_eq!(String::from_utf8_lossy(&in_query), query, "{text}");
        }
    }

    #[test]
    fn a_bulk_is_its_hits_in_order_and_then_the_token() {
        let (one, other) = (&br#"{"uid":"u""#[..], &br#"{"uid":"v""#[..]);
        for (hits, token, expected) in [
            (&[][..], None, r#"{"requests":[]}"#),
            (&[][..], Some("t"), r#"{"requests":[],"token_auth":"t"}"#),
            (&[one], None, r#"{"requests":[{"uid":"u","rand":"baaaaaaa"}]}"#),
            (
                &[one, other],
                Some("\"\\"),
                concat!(
                    r#"{"requests":[{"uid":"u","rand":"baaaaaaa"},"#,
                    r#"{"uid":"v","rand":"caaaaaaa"}],"token_auth":"\"\\"}"#
                ),
            ),
        ] {
            let mut number = 0;
            let next = || {
                number += 1;
                rand(number)
            };
            let body = bulk_body(hits, next, token);
            assert_eq!(String::from_utf8_lossy(&body), expected);
            let unused = body.capacity() - body.len();
            assert!(unused <= BULK_OVERHEAD + HIT_OVERHEAD * hits.len(), "{unused} bytes unused");
        }
    }

    #[test]
    fn a_single_hit_has_its_rand_at_the_end_and_the_token_behind_it() {
        let query = single_query(b"idsite=7&rec=1", rand(1));
        assert_eq!(query, b"idsite=7&rec=1&rand=baaaaaaa");
        assert_eq!(
            with_token(query, "to&ken"),
            b"idsite=7&rec=1&rand=baaaaaaa&token_auth=to%26ken"
        );
    }
}
