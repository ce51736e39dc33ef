//! Reads a plan's data into a [`Plan`], or says what is wrong with it.

use std::collections::BTreeMap;

use serde::Deserialize;
use thiserror::Error;

use super::names::FieldNames;
use super::role::FieldRole;
use super::{
    Alias, Field, GarService, List, NameHint, NationalProfile, Plan, RuleText, Section,
    Translation, ValueHint,
};
use crate::domain::cdt;
use crate::domain::data::{self, DataError};
use crate::domain::rule::Rule;

/// Why a plan's data was refused.
#[derive(Debug, Error)]
pub enum PlanError {
    /// The data is not TOML, or has a key, type or rule that is not known.
    #[error(transparent)]
    Syntax(#[from] DataError),
    /// The data has no severity and texts for a rule of the code.
    #[error("the plan says nothing of rule {0}")]
    RuleMissing(&'static str),
    /// Two fields have the same name.
    #[error("field {0} is given twice")]
    FieldTwice(String),
    /// A field, alias or file names a list that does not exist.
    #[error("list {0} does not exist")]
    ListMissing(String),
    /// A field names a section that does not exist.
    #[error("section {0} has no name")]
    SectionMissing(String),
    /// The text is not a date.
    #[error("{0} is not a date")]
    Date(String),
    /// A hint names a field that does not exist.
    #[error("field {0} does not exist")]
    FieldUnknown(String),
    /// The data lacks a field that the checks need.
    #[error("field {0} is missing")]
    FieldMissing(&'static str),
}

/// A plan's data as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PlanFile {
    version: String,
    #[serde(rename = "published")]
    _published: String,
    in_force_since: String,
    recommended_length: usize,
    stored_length: usize,
    gar_tool: String,
    #[serde(default)]
    native_type: Option<String>,
    sections: Vec<Section>,
    fields: Vec<Field>,
    lists: Vec<List>,
    #[serde(default)]
    aliases: Vec<Alias>,
    #[serde(default)]
    value_hints: Vec<ValueHint>,
    #[serde(default)]
    name_hints: Vec<NameHint>,
    gar: Vec<GarService>,
    national: Vec<NationalProfile>,
    #[serde(default)]
    words: Vec<Translation>,
    rules: BTreeMap<Rule, RuleText>,
}

/// Reads a plan.
pub(super) fn plan(text: &str) -> Result<Plan, PlanError> {
    let file: PlanFile = data::read(text)?;
    let PlanFile {
        version,
        recommended_length,
        stored_length,
        gar_tool,
        native_type,
        sections,
        mut fields,
        mut lists,
        aliases,
        value_hints,
        name_hints,
        gar,
        national,
        words,
        rules,
        ..
    } = file;
    let in_force_since =
        cdt::parse(&file.in_force_since).map_err(|_| PlanError::Date(file.in_force_since))?;
    if let Some(rule) = Rule::ALL.iter().find(|rule| !rules.contains_key(rule)) {
        return Err(PlanError::RuleMissing(rule.code()));
    }
    let mut names = FieldNames::new();
    for (index, field) in fields.iter().enumerate() {
        for name in [Some(&field.name), field.parameter.as_ref()].into_iter().flatten() {
            if !names.insert(name, index) {
                return Err(PlanError::FieldTwice(name.clone()));
            }
        }
    }
    let position = |name: &String| {
        lists
            .iter()
            .position(|list| list.name == *name)
            .ok_or_else(|| PlanError::ListMissing(name.clone()))
    };
    for field in &mut fields {
        field.json = format!(",{}:", serde_json::Value::from(field.parameter()));
        field.list_at = field.list.as_ref().map(position).transpose()?;
        if let Some(name) = &field.coverage {
            position(name)?;
        }
        field.exceptions_at = field.exceptions.as_ref().map(position).transpose()?;
        if !sections.iter().any(|section| section.number == field.section) {
            return Err(PlanError::SectionMissing(field.section.clone()));
        }
    }
    let named = aliases.iter().map(|alias| &alias.list);
    for name in named.chain(value_hints.iter().map(|hint| &hint.list)) {
        position(name)?;
    }
    for list in &mut lists {
        let values = std::mem::take(&mut list.values);
        list.load(values);
    }
    if let Some(role) = FieldRole::REQUIRED.iter().find(|role| names.get(role.code()).is_none()) {
        return Err(PlanError::FieldMissing(role.code()));
    }
    if let Some(hint) = name_hints.iter().find(|hint| names.get(&hint.field).is_none()) {
        return Err(PlanError::FieldUnknown(hint.field.clone()));
    }
    let roles = FieldRole::ALL.iter().map(|role| names.get(role.code())).collect();
    let technologies: Vec<String> =
        fields.iter().flat_map(|field| field.mandatory.clone()).collect();
    let needed = |of: &dyn Fn(&Field) -> bool| {
        fields
            .iter()
            .enumerate()
            .filter(|(_, f)| !f.relay && of(f))
            .map(|(index, _)| index)
            .collect()
    };
    let strictest = needed(&|field| !field.mandatory.is_empty());
    let mandatory = technologies
        .into_iter()
        .map(|t| (t.clone(), needed(&|field: &Field| field.mandatory.contains(&t))))
        .collect();
    Ok(Plan {
        version,
        in_force_since,
        recommended_length,
        stored_length,
        gar_tool,
        native_type,
        gar,
        national,
        sections,
        fields,
        lists,
        aliases,
        value_hints,
        name_hints,
        words,
        rules,
        names,
        roles,
        mandatory,
        strictest,
    })
}
