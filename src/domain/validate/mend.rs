//! What has one certain meaning is mended on the way out and counted as a warning. The body in the queues stays as it is.

use std::borrow::Cow;

use super::{Check, Violation};
use crate::domain::rule::Rule;

impl Check<'_, '_> {
    pub(super) fn mend(&mut self) {
        self.mend_uai();
        self.mend_profile();
        self.mend_gar();
    }

    /// `dimension1`: upper case, and a comma alone between two UAIs (RFTI §3.2.3).
    fn mend_uai(&mut self) {
        let Some(value) = self.value("dimension1") else { return };
        let upper = value.bytes().any(|b| b.is_ascii_lowercase()).then(|| value.to_ascii_uppercase());
        let cased = upper.as_deref().unwrap_or(value);
        let tight = cased.contains(char::is_whitespace).then(|| cased.split(',').map(str::trim).collect::<Vec<_>>().join(","));
        let found = [(Rule::UaiLowerCase, upper.is_some()), (Rule::UaiSpaces, tight.is_some())];
        if let Some(mended) = tight.or(upper) {
            self.set("dimension1", mended);
        }
        for (rule, _) in found.into_iter().filter(|(_, broken)| *broken) {
            self.violations.push(Violation::of(rule, "dimension1"));
        }
    }

    /// A directory's profile for the DNMA's (RFTI §2.2.5).
    fn mend_profile(&mut self) {
        let plan = self.plan;
        let Some((value, profile)) =
            self.value("dimension2").and_then(|value| Some((value.to_owned(), plan.national_profile(value.trim())?)))
        else {
            return;
        };
        self.set("dimension2", profile.to_owned());
        let suggestion = Some(profile.to_owned());
        self.violations.push(Violation { value: Some(value), suggestion, ..Violation::of(Rule::NationalProfile, "dimension2") });
    }

    /// A GAR code for its service, and then the GAR's tool (RFTI §2.2.2).
    fn mend_gar(&mut self) {
        let plan = self.plan;
        let Some(value) = self.value("dimension8").map(str::to_owned) else { return };
        let tool_is_gars = self.value("dimension6") == Some(&plan.gar_tool);
        if let Some(service) = plan.gar_service(value.trim()) {
            self.set("dimension8", service.to_owned());
            let suggestion = Some(service.to_owned());
            self.violations.push(Violation { value: Some(value), suggestion, ..Violation::of(Rule::GarCode, "dimension8") });
            if !tool_is_gars {
                self.set("dimension6", plan.gar_tool.clone());
                let suggestion = Some(plan.gar_tool.clone());
                self.violations.push(Violation { suggestion, ..Violation::of(Rule::GarTool, "dimension6") });
            }
        } else if tool_is_gars && !plan.is_gar_service(&value) && plan.values("services").contains(&value) {
            self.violations.push(Violation { value: Some(value), ..Violation::of(Rule::GarService, "dimension8") });
        }
    }

    fn set(&mut self, name: &str, value: String) {
        if let Some(place) = self.plan.index(name).and_then(|index| self.values.get_mut(index)) {
            *place = Some(Cow::Owned(value));
        }
    }
}
