//! What Matomo, PHP and proxies write, and what only a hostile or broken one would.

use std::io::Error;
use std::sync::LazyLock;
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use futures_util::stream;
use serde_json::json;

pub(super) const GIF: &[u8; 43] = b"GIF89a\x01\x00\x01\x00\x80\x00\x00\xff\xff\xff\x00\x00\x00\
    !\xf9\x04\x01\x00\x00\x00\x00,\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02D\x01\x00;";
pub(super) const HTML: &str = "This resource is part of Matomo. Keep full control of your data.";

pub(super) fn html(status: u16, text: &str) -> Response {
    (
        StatusCode::from_u16(status).expect("a status"),
        [(header::CONTENT_TYPE, "text/html; charset=utf-8")],
        text.to_owned(),
    )
        .into_response()
}

pub(super) fn gif(status: u16, trailer: &str) -> Response {
    let mut body = GIF.to_vec();
    body.extend_from_slice(trailer.as_bytes());
    (StatusCode::from_u16(status).expect("a status"), [(header::CONTENT_TYPE, "image/gif")], body)
        .into_response()
}

pub(super) fn counts(
    status: u16,
    word: &str,
    tracked: usize,
    invalid: &[usize],
    indices: bool,
) -> Response {
    let mut body = json!({"status": word, "tracked": tracked, "invalid": invalid.len()});
    if indices && !invalid.is_empty() {
        body["invalid_indices"] = json!(invalid);
    }
    (
        StatusCode::from_u16(status).expect("a status"),
        [(header::CONTENT_TYPE, "application/json")],
        body.to_string(),
    )
        .into_response()
}

/// PHP shows its notices (`display_errors`), and Matomo answers behind them.
pub(super) fn after_notices(bulk: bool, tracked: usize) -> Response {
    let notice = b"<br />\n<b>Deprecated</b>: {closure} in <b>/matomo.php</b> on line <b>1</b>\n";
    let count = format!(r#"{{"status":"success","tracked":{tracked},"invalid":0}}"#);
    let answer = if bulk { count.as_bytes() } else { &GIF[..] };
    let kind = if bulk { "application/json" } else { "image/gif" };
    ([(header::CONTENT_TYPE, kind)], [&notice[..], answer].concat()).into_response()
}

/// Two counts, of which one is true.
pub(super) fn two_counts(tracked: usize) -> Response {
    let count = |n| format!(r#"{{"status":"success","tracked":{n},"invalid":0}}"#);
    ([JSON], count(0) + &count(tracked)).into_response()
}

const JSON: (header::HeaderName, &str) = (header::CONTENT_TYPE, "application/json");

/// The connection breaks in the middle of the body.
pub(super) fn broken() -> Response {
    let cut = stream::iter([Ok(Bytes::from_static(b"{\"status\"")), Err(Error::other("cut"))]);
    ([JSON, (header::CONTENT_LENGTH, "60")], Body::from_stream(cut)).into_response()
}

pub(super) fn endless() -> Response {
    let spaces = stream::repeat_with(|| Ok::<_, Error>(Bytes::from_static(&[b' '; 8192])));
    ([JSON], Body::from_stream(spaces)).into_response()
}

/// As announced.
pub(super) fn gibibyte() -> Response {
    const CHUNK: &[u8] = &[b' '; 1 << 16];
    let spaces = stream::iter((0..1 << 14).map(|_| Ok::<_, Error>(Bytes::from_static(CHUNK))));
    ([JSON, (header::CONTENT_LENGTH, "1073741824")], Body::from_stream(spaces)).into_response()
}

/// 128 MiB of zeros through gzip. Packing them takes a while, which is not part of an answer.
pub(super) static BOMB: LazyLock<Vec<u8>> = LazyLock::new(|| {
    let output = std::process::Command::new("sh")
        .args(["-c", "head -c 134217728 /dev/zero | gzip -9"])
        .output();
    output.expect("gzip").stdout
});

pub(super) fn bomb() -> Response {
    ([JSON, (header::CONTENT_ENCODING, "gzip")], BOMB.as_slice()).into_response()
}

/// Byte by byte, for good.
pub(super) fn dripping() -> Response {
    let drops = stream::unfold((), async |()| {
        // The pause between two drops is what the body is about.
        tokio::time::sleep(Duration::from_millis(50)).await;
        Some((Ok::<_, Error>(Bytes::from_static(b" ")), ()))
    });
    ([JSON], Body::from_stream(Box::pin(drops))).into_response()
}

/// 4 MiB of headers.
pub(super) fn huge_headers() -> Response {
    let mut response = counts(200, "success", 1, &[], false);
    let huge = HeaderValue::from_bytes(&[b'h'; 1 << 16]).expect("letters");
    for _ in 0..64 {
        response.headers_mut().append("x-huge", huge.clone());
    }
    response
}
