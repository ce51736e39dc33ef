//! Normalises what has one certain meaning on the way out, and reports it as a warning. The body in
//! the queues stays as it is.

use super::Violation;
use super::check::HitCheck;
use crate::domain::plan::FieldRole;
use crate::domain::rule::Rule;
use crate::domain::scan;

impl HitCheck<'_, '_> {
    /// Normalises the site, the schools, the profile, the service and the tool.
    pub(super) fn normalise(&mut self) {
        self.normalise_site();
        self.normalise_uai();
        self.normalise_profile();
        self.normalise_gar();
    }

    /// Writes `dimension1` in upper case, with a comma and a space between two UAIs (RFTI §3.2.3).
    fn normalise_uai(&mut self) {
        let Some(value) = self.value(FieldRole::Uai) else { return };
        // One UAI in upper case has none of these.
        let may_differ = |byte: u8| byte.is_ascii_lowercase() | (byte == b',') | (byte <= b' ');
        if !scan::any(value.as_bytes(), |byte| may_differ(byte) | (byte >= 0x80)) {
            return;
        }
        let upper =
            value.bytes().any(|b| b.is_ascii_lowercase()).then(|| value.to_ascii_uppercase());
        let cased = upper.as_deref().unwrap_or(value);
        let spaced = respaced(cased, self.plan.stored_length);
        let found = [(Rule::UaiLowerCase, upper.is_some()), (Rule::UaiSpaces, spaced.is_some())];
        if let Some(normalised) = spaced.or(upper) {
            self.set(FieldRole::Uai, normalised);
        }
        for (rule, _) in found.into_iter().filter(|(_, broken)| *broken) {
            self.violations.push(Violation::of(rule, "dimension1"));
        }
    }

    /// Writes `idsite` as a plain number. Matomo reads `01` and `+1` as 1 too, but what is counted
    /// by site, and what a tenant may send, goes by the text.
    fn normalise_site(&mut self) {
        let Some(value) = self.value(FieldRole::Site) else { return };
        if let [b'1'..=b'9', .., b'0'..=b'9'] | [b'1'..=b'9'] = value.as_bytes() {
            return;
        }
        let trimmed = value.trim();
        let digits = trimmed.strip_prefix('+').unwrap_or(trimmed).trim_start_matches('0');
        if digits.is_empty() || digits == value || !digits.bytes().all(|b| b.is_ascii_digit()) {
            return;
        }
        let (value, site) = (value.to_owned(), digits.to_owned());
        self.set(FieldRole::Site, site.clone());
        self.violations.push(Violation {
            value: Some(value),
            suggestion: Some(site),
            ..Violation::of(Rule::SiteForm, FieldRole::Site.code())
        });
    }

    /// Replaces a profile of the national directory by the DNMA's (RFTI §2.2.5).
    fn normalise_profile(&mut self) {
        let plan = self.plan;
        let Some(value) = self.value(FieldRole::Profile) else { return };
        let Some(profile) = plan.national_profile(value.trim()) else { return };
        let value = value.to_owned();
        self.set(FieldRole::Profile, profile.to_owned());
        let suggestion = Some(profile.to_owned());
        self.violations.push(Violation {
            value: Some(value),
            suggestion,
            ..Violation::of(Rule::NationalProfile, "dimension2")
        });
    }

    /// Replaces a GAR code by its service, and then the tool by the GAR's (RFTI §2.2.2).
    fn normalise_gar(&mut self) {
        let plan = self.plan;
        let Some(value) = self.value(FieldRole::Service) else { return };
        let tool_is_gars = self.value(FieldRole::Tool) == Some(&plan.gar_tool);
        if let Some(service) = plan.gar_service(value.trim()) {
            let value = Some(value.to_owned());
            self.set(FieldRole::Service, service.to_owned());
            let suggestion = Some(service.to_owned());
            self.violations.push(Violation {
                value,
                suggestion,
                ..Violation::of(Rule::GarCode, "dimension8")
            });
            if !tool_is_gars {
                self.set(FieldRole::Tool, plan.gar_tool.clone());
                let suggestion = Some(plan.gar_tool.clone());
                self.violations
                    .push(Violation { suggestion, ..Violation::of(Rule::GarTool, "dimension6") });
            }
        } else if tool_is_gars
            && !plan.is_gar_service(value)
            && plan.list("services").is_some_and(|list| list.contains(value))
        {
            let value = Some(value.to_owned());
            self.violations
                .push(Violation { value, ..Violation::of(Rule::GarService, "dimension8") });
        }
    }
}

/// Separates UAIs as the plan does, by a comma and a space; by a comma alone where Matomo, which
/// keeps `most` characters, would cut the last ones off otherwise. Returns `None` if nothing
/// changes.
fn respaced(value: &str, most: usize) -> Option<String> {
    let uais = || value.split(',').map(str::trim).filter(|uai| !uai.is_empty());
    let as_planned = uais().collect::<Vec<_>>().join(", ");
    let respaced = if as_planned.len() > most && value.len() <= most {
        uais().collect::<Vec<_>>().join(",")
    } else {
        as_planned
    };
    (respaced != value).then_some(respaced)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn uais_are_separated_as_the_plan_does_unless_matomo_would_cut_them() {
        for (value, expected) in [
            ("0750655E", None),
            ("0750655E, 0350029S", None),
            ("0750655E,0350029S", Some("0750655E, 0350029S")),
            (" 0750655E ,  0350029S\t", Some("0750655E, 0350029S")),
            ("0750655E,\u{a0}0350029S,", Some("0750655E, 0350029S")),
            ("COLL 35", None),
            (", ,", Some("")),
        ] {
            assert_eq!(respaced(value, 250).as_deref(), expected, "{value}");
        }
        let many = vec!["0750655E"; 27].join(",");
        assert_eq!(respaced(&many, 250), None, "{} characters would become 268", many.len());
        let cut = vec!["0750655E"; 29].join(" ,");
        assert_eq!(respaced(&cut, 250), Some(vec!["0750655E"; 29].join(", ")), "cut anyway");
    }
}
