//! Parameters that the plan knows by another name: the missing field and the unknown parameter are
//! one finding, not two.

use super::check::HitCheck;
use super::{Violation, is_blank};
use crate::domain::rule::Rule;

impl HitCheck<'_, '_> {
    /// Says of each unknown parameter which field it probably is, if that field has no value. Where
    /// the field is among the missing ones, that is all that is said of either.
    pub(super) fn name_unknown(&mut self, missing: &mut [Violation]) {
        let (plan, values) = (self.plan, &self.values);
        self.violations.retain_mut(|unknown| {
            if unknown.rule != Rule::UnknownParameter {
                return true;
            }
            let Some(name) = unknown.field.as_deref() else { return true };
            let Some(field) = plan.field_meant(name) else { return true };
            let value = plan.index(&field.name).and_then(|index| values.get(index));
            if value.is_some_and(|value| value.as_deref().is_some_and(|value| !is_blank(value))) {
                return true;
            }
            let is_it = |v: &&mut Violation| {
                v.rule == Rule::Missing && v.field.as_ref() == Some(&field.name)
            };
            match missing.iter_mut().find(is_it) {
                Some(violation) => {
                    violation.rule = Rule::MisnamedParameter;
                    violation.value = Some(name.to_owned());
                    false
                }
                None => {
                    unknown.suggestion = Some(field.name.clone());
                    true
                }
            }
        });
    }
}
