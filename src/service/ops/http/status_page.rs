//! The status page `/`, the same as `/status.json`, and what the page is made with. Read only, and
//! nothing from elsewhere.

use std::sync::Arc;

use axum::Router;
use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, HeaderName, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;

use crate::domain::rule::Language;
use crate::service::ops::status::{StatusCollector, page};

/// Own files only, no frame around it, and no form.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src \
                      'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'";

/// The routes; any method but GET and HEAD is refused.
pub(super) fn routes(status_collector: Arc<StatusCollector>) -> Router {
    Router::new()
        .route("/", get(show))
        .route("/status.json", get(json))
        .route(
            "/status.css",
            get(async || guarded("text/css; charset=utf-8", page::STYLE.to_owned())),
        )
        .route(
            "/status.js",
            get(async || guarded("text/javascript; charset=utf-8", page::SCRIPT.to_owned())),
        )
        .with_state(status_collector)
}

async fn show(
    State(status_collector): State<Arc<StatusCollector>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    let language = language(query.as_deref(), &headers);
    match page::render(&status_collector.status(language), language) {
        Ok(page) => guarded("text/html; charset=utf-8", page),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the page cannot be written: {error}\n"))
                .into_response()
        }
    }
}

async fn json(
    State(status_collector): State<Arc<StatusCollector>>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Response {
    match serde_json::to_string_pretty(
        &status_collector.status(language(query.as_deref(), &headers)),
    ) {
        Ok(text) => guarded("application/json", text),
        Err(error) => {
            (StatusCode::INTERNAL_SERVER_ERROR, format!("the status cannot be written: {error}\n"))
                .into_response()
        }
    }
}

fn guarded(content_type: &'static str, body: String) -> Response {
    let headers: [(HeaderName, &str); 6] = [
        (header::CONTENT_TYPE, content_type),
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::CACHE_CONTROL, "no-store"),
        (header::VARY, "accept-language"),
    ];
    (headers, body).into_response()
}

/// What the address asks for (`?lang=fr`), or what the reader likes best.
fn language(query: Option<&str>, headers: &HeaderMap) -> Language {
    let asked =
        query.unwrap_or_default().split('&').find_map(|pair| named(pair.strip_prefix("lang=")?));
    let liked =
        || headers.get(header::ACCEPT_LANGUAGE).and_then(|value| liked(value.to_str().ok()?));
    asked.or_else(liked).unwrap_or_default()
}

/// The language of the two with the greater weight, the first of equals.
fn liked(accepted: &str) -> Option<Language> {
    let mut best: Option<(f32, Language)> = None;
    for range in accepted.split(',') {
        let (name, weight) = range.split_once(';').unwrap_or((range, ""));
        let weight =
            weight.trim().strip_prefix("q=").and_then(|weight| weight.parse().ok()).unwrap_or(1.0);
        if let Some(language) =
            named(name.trim()).filter(|_| weight > best.map_or(0.0, |(weight, _)| weight))
        {
            best = Some((weight, language));
        }
    }
    best.map(|(_, language)| language)
}

fn named(name: &str) -> Option<Language> {
    let primary = name.split('-').next().unwrap_or_default();
    match primary.to_ascii_lowercase().as_str() {
        "fr" => Some(Language::French),
        "en" => Some(Language::English),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_decides_and_then_the_reader() {
        let of = |query: Option<&str>, accepted: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT_LANGUAGE, accepted.parse().expect("a header"));
            language(query, &headers)
        };
        assert_eq!(of(None, "fr-FR,fr;q=0.9,en;q=0.8"), Language::French);
        assert_eq!(of(None, "de, en;q=0.5, fr;q=0.7"), Language::French);
        assert_eq!(of(None, "en, fr"), Language::English);
        assert_eq!(of(None, "fr;q=0, *"), Language::English);
        assert_eq!(of(Some("x=1&lang=en"), "fr"), Language::English);
        assert_eq!(of(Some("lang=de"), "fr"), Language::French);
        assert_eq!(language(None, &HeaderMap::new()), Language::English);
    }
}
