//! Normalises what has one certain meaning on the way out, and reports it as a warning. The body in
//! the queues stays as it is.

use super::Violation;
use super::check::HitCheck;
use crate::domain::plan::FieldRole;
use crate::domain::rule::Rule;

impl HitCheck<'_, '_> {
    /// Normalises the schools, the profile, the service and the tool.
    pub(super) fn normalise(&mut self) {
        self.normalise_uai();
        self.normalise_profile();
        self.normalise_gar();
    }

    /// Writes `dimension1` in upper case, with nothing but a comma between two UAIs (RFTI §3.2.3).
    fn normalise_uai(&mut self) {
        let Some(value) = self.value(FieldRole::Uai) else { return };
        let upper =
            value.bytes().any(|b| b.is_ascii_lowercase()).then(|| value.to_ascii_uppercase());
        let cased = upper.as_deref().unwrap_or(value);
        let tight = cased
            .contains(char::is_whitespace)
            .then(|| cased.split(',').map(str::trim).collect::<Vec<_>>().join(","));
        let found = [(Rule::UaiLowerCase, upper.is_some()), (Rule::UaiSpaces, tight.is_some())];
        if let Some(normalised) = tight.or(upper) {
            self.set(FieldRole::Uai, normalised);
        }
        for (rule, _) in found.into_iter().filter(|(_, broken)| *broken) {
            self.violations.push(Violation::of(rule, "dimension1"));
        }
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
