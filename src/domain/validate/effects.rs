//! What Matomo makes of values that it takes: it keeps a part of a dimension, takes a page view for
//! a search, or begins another visit. Measured on Matomo 5.2 with its default settings.

use super::Violation;
use super::check::HitCheck;
use crate::domain::plan::FieldRole;
use crate::domain::rule::Rule;
use crate::domain::scan;

/// The parameters of a `url` in which Matomo looks for the keyword of a site search, as it does for
/// every new site.
const SEARCH_PARAMETERS: [&str; 8] =
    ["q", "query", "s", "search", "searchword", "k", "keyword", "keywords"];

/// The parameters of a `url` that name a campaign. Another campaign begins another visit.
const CAMPAIGN_PARAMETERS: [&str; 6] =
    ["utm_campaign", "mtm_campaign", "matomo_campaign", "pk_campaign", "pk_cpn", "piwik_campaign"];

/// The longest of these has so many bytes.
const LONGEST_PARAMETER: usize = 15;

impl HitCheck<'_, '_> {
    /// Warns of a page that Matomo takes for a search, and of a campaign.
    pub(super) fn check_page(&self, found: &mut Vec<Violation>) {
        let Some(url) = self.value(FieldRole::Page) else { return };
        for name in parameters_of(url).filter(|name| name.len() <= LONGEST_PARAMETER) {
            let (rule, known) =
                match (known(name, &SEARCH_PARAMETERS), known(name, &CAMPAIGN_PARAMETERS)) {
                    (Some(known), _) => (Rule::SiteSearch, known),
                    (_, Some(known)) => (Rule::Campaign, known),
                    _ => continue,
                };
            found.push(Violation {
                value: Some(known.to_owned()),
                ..Violation::of(rule, FieldRole::Page.code())
            });
        }
    }
}

/// How many characters a dimension has that Matomo cuts after it has escaped it for HTML, and not
/// before: of 60 `&` it keeps 50.
pub(super) fn escaped_length(value: &str, stored: usize) -> Option<usize> {
    if !scan::any(value.as_bytes(), is_escaped) {
        return None;
    }
    let length = value.chars().count();
    let escaped = length + value.bytes().map(bytes_added).sum::<usize>();
    (length <= stored && escaped > stored).then_some(escaped)
}

/// Whether HTML has an escape for this byte.
fn is_escaped(byte: u8) -> bool {
    (byte == b'&') | (byte == b'<') | (byte == b'>') | (byte == b'"') | (byte == b'\'')
}

/// How much longer HTML is for this byte.
fn bytes_added(byte: u8) -> usize {
    match byte {
        b'&' => 4,
        b'<' | b'>' => 3,
        b'"' | b'\'' => 5,
        _ => 0,
    }
}

/// The names of a URL's parameters that have a value: of its query, and of its fragment, which
/// Matomo reads like a query. Of `#/results?q=x` it reads a parameter `/results?q`.
fn parameters_of(url: &str) -> impl Iterator<Item = &[u8]> {
    let bytes = url.as_bytes();
    // Nearly no page of an ENT has any.
    let begin = memchr::memchr2(b'?', b'#', bytes).map_or(bytes.len(), |place| place + 1);
    let pairs = bytes.get(begin..).unwrap_or_default().split(|byte| matches!(byte, b'&' | b'#'));
    pairs.filter_map(|pair| {
        let place = memchr::memchr(b'=', pair).filter(|place| place + 1 < pair.len())?;
        pair.get(..place)
    })
}

/// The parameter of a list that has this name.
fn known(name: &[u8], parameters: &[&'static str]) -> Option<&'static str> {
    parameters.iter().find(|known| known.as_bytes().eq_ignore_ascii_case(name)).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_counts_by_its_name_and_with_a_value() {
        for (url, expected) in [
            ("/?q=fractions", Some("q")),
            ("/?id=5&SEARCH=fractions", Some("search")),
            ("/?id=5#q=fractions", Some("q")),
            ("/page#s=x", Some("s")),
            ("/#/results?q=fractions", None),
            ("/?q=", None),
            ("/?q", None),
            ("/?quiz=5", None),
            ("/q=5", None),
            ("", None),
        ] {
            let found = parameters_of(url).find_map(|name| known(name, &SEARCH_PARAMETERS));
            assert_eq!(found, expected, "{url}");
        }
    }
}
