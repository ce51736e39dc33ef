//! What stands before every page: whether it was asked for by a name of the relay's, how many a
//! second are made, and how much memory they may take whose readers do not fetch them.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::body::{Body, Bytes, to_bytes};
use axum::extract::{Request, State};
use axum::http::uri::Authority;
use axum::http::{StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use governor::{DefaultDirectRateLimiter, Quota, RateLimiter};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// How many bytes of answers may be under way at once. `/books.json` has at most 2 MiB.
const MAX_ANSWER_BYTES: usize = 16 * 1024 * 1024;

/// In which units they are counted.
const UNIT: usize = 1024;

/// How many pages are made in a second. The time that each takes is taken from the hits.
const MAX_PAGES_PER_SECOND: NonZeroU32 = match NonZeroU32::new(50) {
    Some(pages) => pages,
    None => NonZeroU32::MIN,
};

/// What the pages are guarded with.
#[derive(Debug)]
pub struct Guard {
    /// The names of the relay, in small letters.
    names: Vec<String>,
    /// How many pages may be made now.
    rate: DefaultDirectRateLimiter,
    /// Room for answers.
    room: Arc<Semaphore>,
}

/// An answer with its room, which is free again when the last byte is sent or the reader is gone.
struct RoomyAnswer {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Guard {
    /// Makes a guard. `names` are those of `HTTP_HOSTS`; `host` is that of the machine.
    pub fn new(names: &[String], host: &str) -> Self {
        let names = names.iter().map(String::as_str).chain(["localhost", host]);
        Self {
            names: names.map(str::to_ascii_lowercase).collect(),
            rate: RateLimiter::direct(Quota::per_second(MAX_PAGES_PER_SECOND)),
            room: Arc::new(Semaphore::new(MAX_ANSWER_BYTES / UNIT)),
        }
    }

    /// Whether a request is for this relay, as far as it says. A browser sends the name that stands
    /// in its address bar: a stranger's page whose name was made to point here (DNS rebinding)
    /// would read our pages under its own name. No such page has an address in place of a name.
    fn is_for_us(&self, request: &Request) -> bool {
        let hosts = request.headers().get_all(header::HOST).iter();
        let mut hosts = hosts.map(|host| host.to_str().ok()?.parse::<Authority>().ok());
        let named = request.uri().authority().map(|authority| self.is_ours(authority.host()));
        named.unwrap_or(true)
            && hosts.all(|host| host.is_some_and(|host| self.is_ours(host.host())))
    }

    /// Whether this is an address, or a name of ours.
    fn is_ours(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name = bare.strip_suffix('.').unwrap_or(bare);
        bare.parse::<IpAddr>().is_ok()
            || self.names.iter().any(|own| own.eq_ignore_ascii_case(name))
    }
}

/// Refuses a request for somebody else.
pub(super) async fn only_for_us(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    if guard.is_for_us(&request) {
        return next.run(request).await;
    }
    let why = "the relay does not know this name as its own: add it to HTTP_HOSTS\n";
    (StatusCode::MISDIRECTED_REQUEST, why).into_response()
}

/// Makes a page if not too many were made just now, and holds room for it until it is sent.
pub(super) async fn within_bounds(
    State(guard): State<Arc<Guard>>,
    request: Request,
    next: Next,
) -> Response {
    let full = || (StatusCode::SERVICE_UNAVAILABLE, "too many ask at once\n");
    if guard.rate.check().is_err() {
        return full().into_response();
    }
    let (head, body) = next.run(request).await.into_parts();
    // Every page is made in memory, so that nothing is waited for here.
    let Ok(bytes) = to_bytes(body, MAX_ANSWER_BYTES).await else { return full().into_response() };
    let units = u32::try_from(bytes.len().div_ceil(UNIT)).unwrap_or(u32::MAX);
    let Ok(room) = guard.room.clone().try_acquire_many_owned(units) else {
        return full().into_response();
    };
    Response::from_parts(head, Body::from(Bytes::from_owner(RoomyAnswer { bytes, _room: room })))
}

impl AsRef<[u8]> for RoomyAnswer {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_for_those_who_ask_by_address_or_by_our_name() {
        let guard = Guard::new(&["relay.example.fr".to_owned()], "Worker-1");
        let is_for_us = |uri: &str, hosts: &[&str]| {
            let mut request = Request::builder().uri(uri);
            for host in hosts {
                request = request.header(header::HOST, *host);
            }
            guard.is_for_us(&request.body(Body::empty()).expect("a request"))
        };
        for host in [
            "127.0.0.1:8080",
            "10.1.2.3",
            "[::1]:8080",
            "localhost:8080",
            "LOCALHOST",
            "relay.example.fr",
            "Relay.Example.fr.:8080",
            "worker-1:8080",
        ] {
            assert!(is_for_us("/", &[host]), "{host}");
        }
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "evil.example:8080",
            "relay",
            "",
            "a b",
        ] {
            assert!(!is_for_us("/", &[host]), "{host}");
        }
        assert!(is_for_us("/", &[]), "HTTP/1.0, which no browser speaks");
        assert!(!is_for_us("/", &["localhost", "evil.example"]));
        assert!(!is_for_us("http://evil.example/", &["localhost"]));
        assert!(is_for_us("http://localhost:1/", &["localhost:1"]));
    }

    #[test]
    fn room_is_free_again_when_an_answer_is_gone() {
        let room = Arc::new(Semaphore::new(2));
        let permit = room.clone().try_acquire_many_owned(2).expect("room");
        let bytes =
            Bytes::from_owner(RoomyAnswer { bytes: Bytes::from_static(b"ab"), _room: permit });
        assert_eq!((&bytes[..], room.available_permits()), (&b"ab"[..], 0));
        drop(bytes);
        assert_eq!(room.available_permits(), 2);
    }
}
