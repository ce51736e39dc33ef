//! A line of an access log that calls `matomo.php`, with the hit in its query: of Apache, nginx,
//! HAProxy and Traefik as text, and of nginx, Traefik and Caddy as JSON.
//!
//! What follows the call in the line must not become part of its last value, and a line that cannot
//! be read is an error, never a hit.

use std::collections::BTreeMap;

use jiff::Timestamp;
use jiff::fmt::strtime;
use memchr::{memchr, memchr_iter, memmem};
use serde_json::Value as Json;

/// The call of a line.
#[derive(Debug, PartialEq)]
pub(super) struct LoggedCall {
    /// The path or URL with the query.
    pub(super) target: Vec<u8>,
    /// When the call came, if the line says so and in which time zone.
    pub(super) received_at: Option<Timestamp>,
}

/// What a line is that is not read as a message.
pub(super) type LogLine = Result<LoggedCall, &'static str>;

/// Why a request in a log holds no hit.
const NO_HIT: &str = "a line of an access log whose request carries no hit";
/// Why a request to the tracker in a log holds no hit.
const HIT_IN_BODY: &str =
    "a line of an access log whose request had its parameters in the body, which no log holds";
/// Why a line cannot be read.
const UNREADABLE: &str = "neither a hit nor a line of an access log that can be read";

/// The methods that trackers are called with.
const METHODS: [&[u8]; 3] = [b"GET ", b"POST ", b"HEAD "];

/// The names under which logs in JSON have the line of the request.
const REQUEST_LINES: [&str; 3] = ["request", "request_line", "RequestLine"];
/// The names under which they have its path.
const PATHS: [&str; 5] = ["request_uri", "RequestPath", "uri", "request_path", "path"];
/// The names under which they have its query, where the path has none.
const QUERIES: [&str; 3] = ["args", "query_string", "query"];
/// The names under which they have its time.
const TIMES: [&str; 7] =
    ["time_iso8601", "StartUTC", "time", "@timestamp", "timestamp", "StartLocal", "time_local"];

/// Reads a line that does not begin as a JSON object. Returns `None` if it may be a message.
pub(super) fn of_text(line: &[u8]) -> Option<LogLine> {
    if let Some((before, target)) = request(line) {
        // Apache writes `\"` for a quotation mark within the request, of which this is a part.
        if target.ends_with(b"\\") {
            return Some(Err(UNREADABLE));
        }
        let target = unescaped(target);
        return Some(is_call(&target).map(|()| LoggedCall { target, received_at: time(before) }));
    }
    let blank = line.iter().position(u8::is_ascii_whitespace);
    let (first, rest) = line.split_at(blank.unwrap_or(line.len()));
    let rest = rest.trim_ascii_start();
    if matches!(line, [b'/', ..]) || line.starts_with(b"http") {
        // The request alone, without its method, or the path beside other columns.
        return match rest {
            [] => None,
            _ if rest.starts_with(b"HTTP/") => {
                let target = unescaped(first);
                Some(is_call(&target).map(|()| LoggedCall { target, received_at: None }))
            }
            _ => Some(Err(UNREADABLE)),
        };
    }
    let name = first.iter().take_while(|byte| byte.is_ascii_alphanumeric() || **byte == b'_');
    let is_query = line.starts_with(b"?") || first.get(name.count()) == Some(&b'=');
    // `level=info path=…` is a log too: a query has an ampersand before its first space.
    let is_log =
        memmem::find(line, b"=\"").is_some() || (blank.is_some() && memchr(b'&', first).is_none());
    match line {
        // JSON of a wrong kind, which the reader of messages names.
        [b'[' | b'"', ..] => None,
        // What has no value is no hit to any reader.
        _ if memchr(b'=', line).is_none() => None,
        _ if is_query && (line.starts_with(b"?") || !is_log) => None,
        _ => Some(Err(UNREADABLE)),
    }
}

/// Reads a line that is a JSON object. Returns `None` if it is none of a log, and may be a message.
pub(super) fn of_json(line: &[u8]) -> Option<LogLine> {
    // Every hit has one of these, so that none is read twice.
    if [&b"\"uid\""[..], b"\"idsite\"", b"\"dimension1\""]
        .iter()
        .any(|name| memmem::find(line, name).is_some())
    {
        return None;
    }
    let members: BTreeMap<String, Json> = serde_json::from_slice(line).ok()?;
    let text = |name: &&str| members.get(*name).and_then(Json::as_str);
    let request_line = REQUEST_LINES.iter().find_map(text).and_then(|text| {
        let (_, target) = request(text.as_bytes())?;
        std::str::from_utf8(target).ok()
    });
    let inner = members.get("request").and_then(|request| request.get("uri")?.as_str());
    let path = || PATHS.iter().find_map(text).filter(|path| path.starts_with('/'));
    let mut target = request_line.or(inner).or_else(path)?.to_owned();
    if let Some(query) = QUERIES.iter().find_map(text).filter(|_| !target.contains('?')) {
        target = format!("{target}?{query}");
    }
    let received_at = TIMES
        .iter()
        .find_map(text)
        .and_then(|text| text.parse().ok().or_else(|| common_log_time(text)));
    let target = target.into_bytes();
    Some(is_call(&target).map(|()| LoggedCall { target, received_at }))
}

/// Finds the request in a line: a method and a target, at the beginning or after a quote. Returns
/// what stands before it, and the target.
fn request(line: &[u8]) -> Option<(&[u8], &[u8])> {
    let starts = std::iter::once(0).chain(memchr_iter(b'"', line).map(|quote| quote + 1));
    starts.into_iter().find_map(|start| {
        let (before, rest) = line.split_at_checked(start)?;
        let rest = METHODS.iter().find_map(|method| rest.strip_prefix(*method))?;
        let end = rest.iter().position(|byte| matches!(byte, b' ' | b'"')).unwrap_or(rest.len());
        let target = rest.get(..end)?;
        (target.starts_with(b"/") || target.starts_with(b"http")).then_some((before, target))
    })
}

/// Checks that a target calls a tracker, with a hit in its query.
fn is_call(target: &[u8]) -> Result<(), &'static str> {
    let has = |part: &&[u8]| memmem::find(target, part).is_some();
    if memmem::find(target, b".php?").is_some()
        && [&b"idsite="[..], b"uid=", b"rec=", b"dimension"].iter().any(has)
    {
        return Ok(());
    }
    let is_tracker = target.ends_with(b"matomo.php") || target.ends_with(b"piwik.php");
    Err(if is_tracker { HIT_IN_BODY } else { NO_HIT })
}

/// Writes the bytes that Apache and nginx write as `\xC3` as a query has them, `%C3`.
fn unescaped(target: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(target.len());
    let mut rest = target;
    while let Some(at) = memmem::find(rest, b"\\x") {
        let (before, after) = rest.split_at(at);
        out.extend_from_slice(before);
        out.push(b'%');
        rest = after.get(2..).unwrap_or_default();
    }
    out.extend_from_slice(rest);
    out
}

/// Reads the time that a log has in brackets before the request. HAProxy writes it in local time
/// without an offset, which says no moment.
fn time(before: &[u8]) -> Option<Timestamp> {
    let begin = memchr(b'[', before)? + 1;
    let (_, rest) = before.split_at_checked(begin)?;
    let text = std::str::from_utf8(rest.get(..memchr(b']', rest)?)?).ok()?;
    common_log_time(text)
}

/// Reads a time as the common log format has it: `25/Nov/2024:16:11:42 +0000`.
fn common_log_time(text: &str) -> Option<Timestamp> {
    strtime::parse("%d/%b/%Y:%H:%M:%S %z", text).ok()?.to_timestamp().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALL: &str = "/matomo.php?idsite=1&uid=x";
    const AT: i64 = 1_732_551_102;

    fn call(target: &str, at: Option<i64>) -> Option<LogLine> {
        let received_at = at.map(|at| Timestamp::from_second(at).expect("in range"));
        Some(Ok(LoggedCall { target: target.as_bytes().to_vec(), received_at }))
    }

    #[test]
    fn a_quotation_mark_within_the_request_is_no_end_of_it() {
        let line =
            r#"- - - [25/Nov/2024:17:11:42 +0100] "GET /matomo.php?uid=x&a=b\"c HTTP/1.1" 204"#;
        assert_eq!(of_text(line.as_bytes()), Some(Err(UNREADABLE)));
    }

    #[test]
    fn a_call_is_found_in_every_servers_log() {
        let apache = "192.0.2.1 - - [25/Nov/2024:17:11:42 +0100]";
        let haproxy = "Nov 25 16:11:42 lb haproxy[14389]: 192.0.2.1:33317 \
                       [25/Nov/2024:16:11:42.655] https~ ent/web1 10/0/30/69/109 204 0 - - ---- \
                       1/1/1/1/0 0/0 {ent.example.fr}";
        for (line, at) in [
            (format!(r#"{apache} "GET {CALL} HTTP/1.1" 204 0 "-" "curl""#), Some(AT)),
            (format!(r#"{apache} "POST {CALL} HTTP/1.1" 204 0 "-" "curl""#), Some(AT)),
            (format!(r#"{apache} "GET {CALL} HTTP/2.0" 200 43 "-" "Mozilla/5.0""#), Some(AT)),
            (format!(r#"{apache} "GET {CALL}" 204 0"#), Some(AT)),
            // Traefik: the number of the request, router, server and duration at the end.
            (
                format!(r#"{apache} "GET {CALL} HTTP/2.0" 204 0 "-" "-" 7 "a@b" "http://c" 3ms"#),
                Some(AT),
            ),
            (format!(r#"{haproxy} "POST {CALL} HTTP/1.1""#), None),
            (format!("GET {CALL} HTTP/1.1"), None),
            (format!("{CALL} HTTP/1.1"), None),
        ] {
            assert_eq!(of_text(line.as_bytes()), call(CALL, at), "{line}");
        }
        let whole = "https://matomo.example.fr/matomo.php?idsite=1&uid=x";
        let line = format!(r#"{haproxy} "GET {whole} HTTP/2.0""#);
        assert_eq!(of_text(line.as_bytes()), call(whole, None));
        let line = br#"- [-] "GET /matomo.php?uid=x&action_name=Relev\xC3\xA9 HTTP/1.1" 204"#;
        assert_eq!(of_text(line), call("/matomo.php?uid=x&action_name=Relev%C3%A9", None));
    }

    #[test]
    fn a_call_is_found_in_logs_of_json() {
        let request = format!(r#""request":"POST {CALL} HTTP/2.0""#);
        for (line, at) in [
            (format!(r#"{{"time_iso8601":"2024-11-25T17:11:42+01:00",{request}}}"#), Some(AT)),
            (format!(r#"{{"time_local":"25/Nov/2024:16:11:42 +0000",{request}}}"#), Some(AT)),
            (format!(r#"{{"status":204,"request_uri":"{CALL}","request_method":"GET"}}"#), None),
            (r#"{"uri":"/matomo.php","args":"idsite=1&uid=x","status":"204"}"#.to_owned(), None),
            (format!(r#"{{"RequestPath":"{CALL}","StartUTC":"2024-11-25T16:11:42Z"}}"#), Some(AT)),
            (format!(r#"{{"ts":1.5,"request":{{"method":"GET","uri":"{CALL}"}}}}"#), None),
        ] {
            assert_eq!(of_json(line.as_bytes()), call(CALL, at), "{line}");
        }
        for line in [r#"{"idsite":1,"request":"GET /matomo.php?uid=1"}"#, r#"{"a":1}"#, "{"] {
            assert_eq!(of_json(line.as_bytes()), None, "{line}");
        }
    }

    #[test]
    fn a_line_that_cannot_be_read_is_no_hit() {
        for (line, why) in [
            (r#"- [-] "GET /index.html?a=b HTTP/1.1" 200 5 "https://x/?uid=1""#, NO_HIT),
            (r#"- [-] "GET /index.php?page=2 HTTP/1.1" 200"#, NO_HIT),
            (
                r#"- [-] "POST /matomo.php HTTP/1.1" 204 0 "https://ent.example.fr/?a=b""#,
                HIT_IN_BODY,
            ),
            (r#"- [-] "PUT /matomo.php?idsite=1&uid=x HTTP/1.1" 405"#, UNREADABLE),
            ("level=info method=GET path=/matomo.php?idsite=1&uid=x status=204", UNREADABLE),
            (r#"time="16:11" path="/matomo.php?idsite=1&uid=x""#, UNREADABLE),
            ("/matomo.php?idsite=1&uid=x 204 0", UNREADABLE),
            ("2024-11-25 16:11:42 192.0.2.1 GET /matomo.php idsite=1&uid=x 204", UNREADABLE),
        ] {
            assert_eq!(of_text(line.as_bytes()), Some(Err(why)), "{line}");
        }
        let json = br#"{"request":"GET /favicon.ico HTTP/1.1","status":404}"#;
        assert_eq!(of_json(json), Some(Err(NO_HIT)));
    }

    #[test]
    fn what_may_be_a_message_is_left_to_its_reader() {
        for line in [
            CALL,
            "https://matomo.example.fr/matomo.php?idsite=1&uid=x",
            "?idsite=1&action_name=Cahier de textes",
            "idsite=1&uid=x&action_name=Cahier de textes",
            "idsite=1",
            "nonsense",
            r#"[{"uid":"x"}]"#,
            r#""{\"uid\":\"x\",\"url\":\"https://x/?a=b\"}""#,
        ] {
            assert_eq!(of_text(line.as_bytes()), None, "{line}");
        }
    }
}
