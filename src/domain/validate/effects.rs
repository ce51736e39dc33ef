//! What Matomo makes of values that it takes: it keeps a part of a dimension, takes a page view for
//! a search, or begins another visit. Measured on Matomo 5.2 with its default settings.

use super::Violation;
use super::check::HitCheck;
use crate::domain::plan::FieldRole;
use crate::domain::rule::Rule;

/// The parameters of a `url` in which Matomo looks for the keyword of a site search, as it does for
/// every new site.
const SEARCH_PARAMETERS: [&str; 8] =
    ["q", "query", "s", "search", "searchword", "k", "keyword", "keywords"];

/// The parameters of a `url` that name a campaign. Another campaign begins another visit.
const CAMPAIGN_PARAMETERS: [&str; 6] =
    ["utm_campaign", "mtm_campaign", "matomo_campaign", "pk_campaign", "pk_cpn", "piwik_campaign"];

/// How many bytes the longest escape has that stands for one: `&quot;` and `&#039;`.
const LONGEST_ESCAPE: usize = 6;

impl HitCheck<'_, '_> {
    /// Warns of what Matomo does to the values without a word.
    pub(super) fn check_effects(&self, found: &mut Vec<Violation>) {
        self.check_escaped_lengths(found);
        let Some(url) = self.value(FieldRole::Page).filter(|url| url.contains(['?', '#'])) else {
            return;
        };
        for (rule, parameters) in [
            (Rule::SiteSearch, SEARCH_PARAMETERS.as_slice()),
            (Rule::Campaign, CAMPAIGN_PARAMETERS.as_slice()),
        ] {
            if let Some(name) = parameter_of(url, parameters) {
                found.push(Violation {
                    value: Some(name.to_owned()),
                    ..Violation::of(rule, FieldRole::Page.code())
                });
            }
        }
    }

    /// Matomo cuts a dimension after it has escaped it for HTML: of 60 `&` it keeps 50.
    fn check_escaped_lengths(&self, found: &mut Vec<Violation>) {
        let stored = self.plan.stored_length;
        for (field, value) in self.plan.fields().iter().zip(&self.values) {
            let Some(value) = value.as_deref().filter(|value| {
                value.len() * LONGEST_ESCAPE > stored && field.name.starts_with("dimension")
            }) else {
                continue;
            };
            let escaped: usize = value.bytes().map(bytes_added).sum();
            if escaped == 0 {
                continue;
            }
            let length = value.chars().count();
            if length <= stored && length + escaped > stored {
                found.push(Violation {
                    max: Some(stored),
                    length: i64::try_from(length + escaped).ok(),
                    ..Violation::of(Rule::CutAfterEscaping, &field.name)
                });
            }
        }
    }
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

/// The first of these parameters that a URL has with a value: in its query, or in its fragment,
/// which Matomo reads like a query. Of `#/results?q=x` it reads a parameter `/results?q`.
fn parameter_of(url: &str, parameters: &[&'static str]) -> Option<&'static str> {
    let (before, fragment) = url.split_once('#').unwrap_or((url, ""));
    let query = before.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').chain(fragment.split('&'));
    pairs.filter_map(|pair| pair.split_once('=')).find_map(|(name, value)| {
        let is_it = |known: &&&str| known.eq_ignore_ascii_case(name) && !value.is_empty();
        parameters.iter().find(is_it).copied()
    })
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
            assert_eq!(parameter_of(url, &SEARCH_PARAMETERS), expected, "{url}");
        }
        assert_eq!(
            parameter_of("/?utm_campaign=rentree", &CAMPAIGN_PARAMETERS),
            Some("utm_campaign")
        );
    }
}
