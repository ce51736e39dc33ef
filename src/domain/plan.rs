//! The national tagging plan as a typed value, which is parsed from data.
//!
//! `plan/rfti-2.01.toml` is the plan that the ministry published on 2 December 2024. When the
//! ministry changes a list, a limit or a mandatory flag, that file changes and nothing else. The
//! lists that the DNMA keeps outside the plan are added with [`Plan::load`].

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::rule::{Language, Rule, Severity};

pub mod changes;
mod hints;
pub mod list;
mod names;
mod read;
mod role;
pub mod schema;
mod spellings;

use hints::{NameHint, ValueHint};
pub use list::List;
use names::FieldNames;
pub use read::PlanError;
pub use role::FieldRole;

/// The data of the plan that is built into this version.
const BUILT_IN: &str = include_str!("plan/rfti-2.01.toml");

/// A tagging plan: its fields, lists and aliases, and what each rule says.
#[derive(Debug, Clone)]
pub struct Plan {
    /// The version as the ministry writes it, for example `2.01`.
    pub version: String,
    /// The time before which no hit can follow the plan.
    pub in_force_since: Timestamp,
    /// How many characters the plan recommends for a value at most.
    pub recommended_length: usize,
    /// How many characters of a dimension Matomo keeps.
    pub stored_length: usize,
    /// The value of `dimension6` for resources of the GAR.
    pub gar_tool: String,
    /// The value of `dimension7` for pages of the platform itself, whose hits may leave out the
    /// tool (`dimension6`; RFTI §2.2.4); `None` if every hit must name one.
    pub native_type: Option<String>,
    /// The services of the GAR.
    gar: Vec<GarService>,
    /// The profiles of the national directory.
    national: Vec<NationalProfile>,
    /// The sections of the RFTI that fields come from, in order.
    sections: Vec<Section>,
    /// The fields in the order of the RFTI's example request.
    fields: Vec<Field>,
    /// The lists of legal values.
    lists: Vec<List>,
    /// The other spellings of legal values.
    aliases: Vec<Alias>,
    /// What senders write in place of legal values.
    value_hints: Vec<ValueHint>,
    /// What senders call the fields.
    name_hints: Vec<NameHint>,
    /// The words that the code itself puts into a rule's text.
    words: Vec<Translation>,
    /// What each rule says, and how severe it is.
    rules: BTreeMap<Rule, RuleText>,
    /// Where each field stands in `fields`, by the RFTI's name and by Matomo's.
    names: FieldNames,
    /// Where the field of each [`FieldRole`] stands in `fields`.
    roles: Vec<Option<usize>>,
    /// The fields that a hit must carry, by its technology. What the relay supplies is not among
    /// them.
    mandatory: FxHashMap<String, Vec<usize>>,
    /// The fields that a hit must carry whose technology the plan does not know.
    strictest: Vec<usize>,
}

/// A field of the plan (RFTI §3.2.1 to §3.2.3).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// The name as the RFTI writes it.
    pub name: String,
    /// Matomo's name, if it differs: `url_ref` is `urlref` in the Tracking API.
    #[serde(default)]
    parameter: Option<String>,
    /// The number of the section of the RFTI that defines the field.
    pub section: String,
    /// How many characters the value may have; `None` where the plan says N/A.
    #[serde(default)]
    pub max: Option<usize>,
    /// The technologies (values of `dimension11`) for which the field is mandatory.
    #[serde(default)]
    pub mandatory: Vec<String>,
    /// The name of the list of tools and services whose hits may leave the field out
    /// (`dimension9`, `dimension10`).
    #[serde(default)]
    pub exceptions: Option<String>,
    /// Whether the relay supplies the value: `rec`, `apiv`, `rand`.
    #[serde(default)]
    pub relay: bool,
    /// The name of the list that the value must be taken from.
    #[serde(default)]
    pub list: Option<String>,
    /// The name of a list whose values a report looks for, though no hit is held to it.
    #[serde(default)]
    pub coverage: Option<String>,
    /// Whether the recommended length applies.
    #[serde(default)]
    pub short: bool,
    /// Whether the value is free text of the exploitant, which must not name a person.
    #[serde(default)]
    pub free: bool,
    /// Whether the value must stay the same for a whole visit.
    #[serde(default)]
    pub visit: bool,
    /// What introduces the value in JSON after another one: `,"name":`.
    #[serde(skip)]
    json: String,
    /// Where `list` stands among the lists.
    #[serde(skip)]
    list_at: Option<usize>,
    /// Where `exceptions` stands among the lists.
    #[serde(skip)]
    exceptions_at: Option<usize>,
}

/// A section of the RFTI that fields come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// The number, for example `3.2.1`.
    pub number: String,
    /// The title in French.
    fr: String,
    /// The title in English.
    en: String,
}

/// A spelling that the plan uses beside the legal value.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alias {
    /// The name of the list.
    list: String,
    /// The other spelling.
    alias: String,
    /// The legal value.
    value: String,
}

/// A service of the GAR.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GarService {
    /// The code that some ENTs send in place of the service.
    code: String,
    /// The service as the plan spells it.
    service: String,
    /// The spelling of the service in the plan's other list of services, if it differs.
    #[serde(default)]
    also: Option<String>,
}

/// A profile of the national directory.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NationalProfile {
    /// Its name in the directory.
    name: String,
    /// The DNMA's profile for it.
    profile: String,
}

/// What a rule says, and how severe it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    /// How severe a violation is.
    severity: Severity,
    /// What it says in French.
    fr: String,
    /// What it says in English.
    en: String,
    /// What it says in French where there is nothing to suggest, if that differs.
    #[serde(default)]
    fr_alone: Option<String>,
    /// The same in English.
    #[serde(default)]
    en_alone: Option<String>,
}

/// Words that the code puts into a rule's text, in both languages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Translation {
    /// The English words, as the code has them.
    en: String,
    /// The same in French.
    fr: String,
}

impl Plan {
    /// Returns RFTI 2.01, the plan in force.
    ///
    /// # Errors
    /// Never fails in a released version, because a unit test reads this plan.
    pub fn built_in() -> Result<Self, PlanError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a plan of any version.
    ///
    /// # Errors
    /// Returns a [`PlanError`] for the first mistake.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        read::plan(text)
    }

    /// Gives a reference list its values. The GAR's tool is the plan's own (RFTI §2.2.2), so it is
    /// legal whatever a list of tools says.
    ///
    /// # Errors
    /// Returns [`PlanError::ListMissing`] if the plan has no list of that name.
    pub fn load(&mut self, list: &str, mut values: Vec<String>) -> Result<(), PlanError> {
        let tools = self
            .role_index(FieldRole::Tool)
            .and_then(|index| self.fields.get(index))
            .and_then(|field| field.list.as_deref());
        if tools == Some(list) && !values.contains(&self.gar_tool) {
            values.push(self.gar_tool.clone());
        }
        let list = self
            .lists
            .iter_mut()
            .find(|l| l.name == list)
            .ok_or_else(|| PlanError::ListMissing(list.to_owned()))?;
        list.load(values);
        Ok(())
    }

    /// Returns the fields in the order of the RFTI's example request.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Returns where the field of this name stands in [`Plan::fields`]. Both the RFTI's and
    /// Matomo's name are known.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.get(name)
    }

    /// Returns where the field of a role stands in [`Plan::fields`].
    pub fn role_index(&self, role: FieldRole) -> Option<usize> {
        self.roles.get(role as usize).copied().flatten()
    }

    /// Returns the indices of the fields that a hit of this technology must carry. A hit of an
    /// unknown technology must carry every field that is mandatory for any.
    pub fn mandatory(&self, technology: Option<&str>) -> &[usize] {
        technology.and_then(|technology| self.mandatory.get(technology)).unwrap_or(&self.strictest)
    }

    /// Returns the list that a field's value must be taken from.
    pub fn list_of(&self, field: &Field) -> Option<&List> {
        field.list_at.and_then(|at| self.lists.get(at))
    }

    /// Returns the list of the tools and services whose hits may leave a field out.
    pub fn exceptions_of(&self, field: &Field) -> Option<&List> {
        field.exceptions_at.and_then(|at| self.lists.get(at))
    }

    /// Whether hits are checked against this list.
    pub fn is_checked(&self, list: &List) -> bool {
        self.fields.iter().any(|field| {
            [&field.list, &field.exceptions].into_iter().flatten().any(|name| *name == list.name)
        })
    }

    /// Returns the list of this name.
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.name == name)
    }

    /// Returns every list. A reference list that is not loaded has no values.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// Returns the sections that fields come from, in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Iterates over the GAR codes, each with its service.
    pub fn gar(&self) -> impl Iterator<Item = (&str, &str)> {
        self.gar.iter().map(|gar| (gar.code.as_str(), gar.service.as_str()))
    }

    /// Iterates over the profiles of the national directory, each with the DNMA's.
    pub fn national(&self) -> impl Iterator<Item = (&str, &str)> {
        self.national.iter().map(|national| (national.name.as_str(), national.profile.as_str()))
    }

    /// Iterates over the aliases of a list, each with the value that it stands for.
    pub fn aliases<'p>(&'p self, list: &'p str) -> impl Iterator<Item = (&'p str, &'p str)> {
        self.aliases
            .iter()
            .filter(move |alias| alias.list == list)
            .map(|alias| (alias.alias.as_str(), alias.value.as_str()))
    }

    /// Returns the value that an alias stands for.
    pub fn alias(&self, list: &str, value: &str) -> Option<&str> {
        self.aliases.iter().find(|a| a.alias == value && a.list == list).map(|a| a.value.as_str())
    }

    /// Returns the service that a GAR code stands for.
    pub fn gar_service(&self, code: &str) -> Option<&str> {
        self.gar.iter().find(|gar| gar.code == code).map(|gar| gar.service.as_str())
    }

    /// Returns how the plan spells a service in its other list of services, if the two differ.
    pub fn other_spelling(&self, service: &str) -> Option<&str> {
        self.gar.iter().find_map(|gar| match gar.also.as_deref() {
            Some(also) if gar.service == service => Some(also),
            Some(also) if also == service => Some(gar.service.as_str()),
            _ => None,
        })
    }

    /// Whether the GAR has this service.
    pub fn is_gar_service(&self, service: &str) -> bool {
        self.gar.iter().any(|gar| gar.service == service || gar.also.as_deref() == Some(service))
    }

    /// Returns the DNMA's profile for one of the national directory.
    pub fn national_profile(&self, name: &str) -> Option<&str> {
        self.national
            .iter()
            .find(|national| national.name.eq_ignore_ascii_case(name))
            .map(|national| national.profile.as_str())
    }

    /// Returns how severe a violation of this rule is.
    pub fn severity(&self, rule: Rule) -> Severity {
        self.rules.get(&rule).map_or(Severity::Error, |text| text.severity)
    }

    /// Returns what a rule says, with its `{placeholders}`.
    pub fn text(&self, rule: Rule, language: Language) -> &str {
        self.rules.get(&rule).map_or("", |text| language.of(&text.en, &text.fr))
    }

    /// Returns what a rule says where there is nothing to suggest.
    pub(super) fn text_alone(&self, rule: Rule, language: Language) -> &str {
        let alone = self.rules.get(&rule).and_then(|text| {
            Some(language.of(text.en_alone.as_deref()?, text.fr_alone.as_deref()?))
        });
        alone.unwrap_or_else(|| self.text(rule, language))
    }

    /// Translates words that the code puts into a rule's text.
    pub(super) fn translate(&self, words: &str, language: Language) -> String {
        let into_french = |words: String, word: &Translation| words.replace(&word.en, &word.fr);
        match language {
            Language::English => words.to_owned(),
            Language::French => self.words.iter().fold(words.to_owned(), into_french),
        }
    }
}

impl Field {
    /// Returns the name under which Matomo takes the value.
    pub fn parameter(&self) -> &str {
        self.parameter.as_deref().unwrap_or(&self.name)
    }

    /// Returns what introduces the value in the JSON that Matomo takes, after another value.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

impl Section {
    /// Returns the title of the section.
    pub fn title(&self, language: Language) -> &str {
        language.of(&self.en, &self.fr)
    }
}

#[cfg(test)]
mod tests;
