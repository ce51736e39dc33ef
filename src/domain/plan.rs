//! The national tagging plan as a typed value, parsed from data.
//!
//! `plan/rfti-2.01.toml` is the plan that the ministry published on 2 December 2024. When the
//! ministry changes a list, a limit or a mandatory flag, that file changes and nothing else. The
//! lists that the DNMA keeps outside the plan are laid over it ([`Plan::load`]).

use std::collections::BTreeMap;

use jiff::Timestamp;
use rustc_hash::FxHashMap;
use serde::Deserialize;

use super::rule::{Language, Rule, Severity};

pub mod changes;
pub mod list;
mod read;
mod role;
pub mod schema;

pub use list::List;
pub use read::PlanError;
pub use role::FieldRole;

/// The plan built into this version.
const BUILT_IN: &str = include_str!("plan/rfti-2.01.toml");

/// A tagging plan: fields, lists, aliases, and what each rule says.
#[derive(Debug, Clone)]
pub struct Plan {
    /// Version as the ministry writes it, for example `2.01`.
    pub version: String,
    /// A hit before this time cannot follow the plan.
    pub in_force_since: Timestamp,
    /// The plan recommends fewer characters than this.
    pub recommended_length: usize,
    /// Matomo keeps so many characters of a dimension.
    pub stored_length: usize,
    /// The tool of GAR resources.
    pub gar_tool: String,
    gar: Vec<GarService>,
    national: Vec<NationalProfile>,
    sections: Vec<Section>,
    fields: Vec<Field>,
    lists: Vec<List>,
    aliases: Vec<Alias>,
    words: Vec<Translation>,
    rules: BTreeMap<Rule, RuleText>,
    /// Where each field stands in `fields`, by the RFTI's name and by Matomo's.
    names: FxHashMap<String, usize>,
    roles: Vec<Option<usize>>,
    /// By technology, the fields that a hit must carry; what the relay supplies is not among them.
    mandatory: FxHashMap<String, Vec<usize>>,
    /// For a technology that the plan does not know.
    strictest: Vec<usize>,
}

/// One field of the plan (RFTI §3.2.1 to §3.2.3).
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Field {
    /// Name as the RFTI writes it.
    pub name: String,
    /// Matomo's name where it differs: `url_ref` is `urlref` in the Tracking API.
    #[serde(default)]
    parameter: Option<String>,
    /// Section of the RFTI that defines the field.
    pub section: String,
    /// Most characters, none where the plan says N/A.
    #[serde(default)]
    pub max: Option<usize>,
    /// The technologies (values of `dimension11`) for which the field is mandatory.
    #[serde(default)]
    pub mandatory: Vec<String>,
    /// The list of tools and services whose hits may leave the field out (`dimension9`,
    /// `dimension10`).
    #[serde(default)]
    pub exceptions: Option<String>,
    /// The relay supplies the value: `rec`, `apiv`, `rand`.
    #[serde(default)]
    pub relay: bool,
    /// The list that the value must be taken from.
    #[serde(default)]
    pub list: Option<String>,
    /// The list whose values a report looks for, and nobody is held to.
    #[serde(default)]
    pub coverage: Option<String>,
    /// The recommended length applies.
    #[serde(default)]
    pub short: bool,
    /// The exploitant's own words, which must not name a person.
    #[serde(default)]
    pub free: bool,
    /// The value stays the same for a whole visit.
    #[serde(default)]
    pub visit: bool,
    /// What introduces the value in JSON, after another one: `,"name":`.
    #[serde(skip)]
    json: String,
    #[serde(skip)]
    list_at: Option<usize>,
    #[serde(skip)]
    exceptions_at: Option<usize>,
}

/// A section of the RFTI that fields come from.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Section {
    /// Number, for example `3.2.1`.
    pub number: String,
    fr: String,
    en: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Alias {
    list: String,
    alias: String,
    value: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct GarService {
    code: String,
    service: String,
    #[serde(default)]
    also: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct NationalProfile {
    name: String,
    profile: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleText {
    severity: Severity,
    fr: String,
    en: String,
    #[serde(default)]
    fr_alone: Option<String>,
    #[serde(default)]
    en_alone: Option<String>,
}

/// What the code says inside of a text, in both languages.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Translation {
    en: String,
    fr: String,
}

impl Plan {
    /// RFTI 2.01, the plan in force.
    ///
    /// # Errors
    /// Never in a released version: a unit test reads it.
    pub fn built_in() -> Result<Self, PlanError> {
        Self::parse(BUILT_IN)
    }

    /// Reads a plan of any version.
    ///
    /// # Errors
    /// [`PlanError`] for the first thing that is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PlanError> {
        read::plan(text)
    }

    /// Puts a reference list in force. The GAR's tool is the plan's own (RFTI §2.2.2), so it is
    /// legal whatever a list of tools says.
    ///
    /// # Errors
    /// [`PlanError::ListMissing`] when the plan has no list of that name.
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

    /// The fields in the order of the RFTI's example request.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where the field of this name stands in [`Plan::fields`]; both the RFTI's and Matomo's name
    /// are known.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.names.get(name).copied()
    }

    /// Where a field that the code reads stands in [`Plan::fields`].
    pub fn role_index(&self, role: FieldRole) -> Option<usize> {
        self.roles.get(role as usize).copied().flatten()
    }

    /// The fields that a hit of this technology must carry, by their index. An unknown technology
    /// is held to the strictest.
    pub fn mandatory(&self, technology: Option<&str>) -> &[usize] {
        technology.and_then(|technology| self.mandatory.get(technology)).unwrap_or(&self.strictest)
    }

    /// The list that a field's value is taken from.
    pub fn list_of(&self, field: &Field) -> Option<&List> {
        field.list_at.and_then(|at| self.lists.get(at))
    }

    /// The tools and services whose hits may leave a field out.
    pub fn exceptions_of(&self, field: &Field) -> Option<&List> {
        field.exceptions_at.and_then(|at| self.lists.get(at))
    }

    /// Whether hits are checked against this list.
    pub fn is_checked(&self, list: &List) -> bool {
        self.fields.iter().any(|field| {
            [&field.list, &field.exceptions].into_iter().flatten().any(|name| *name == list.name)
        })
    }

    /// The list of this name.
    pub fn list(&self, name: &str) -> Option<&List> {
        self.lists.iter().find(|list| list.name == name)
    }

    /// Every list; a reference list that is not loaded has no values.
    pub fn lists(&self) -> &[List] {
        &self.lists
    }

    /// The sections that fields come from, in order.
    pub fn sections(&self) -> &[Section] {
        &self.sections
    }

    /// Every GAR code with its service.
    pub fn gar(&self) -> impl Iterator<Item = (&str, &str)> {
        self.gar.iter().map(|gar| (gar.code.as_str(), gar.service.as_str()))
    }

    /// Every profile of the directory with the DNMA's.
    pub fn national(&self) -> impl Iterator<Item = (&str, &str)> {
        self.national.iter().map(|national| (national.name.as_str(), national.profile.as_str()))
    }

    /// The aliases of a list, each with the value that it stands for.
    pub fn aliases<'p>(&'p self, list: &'p str) -> impl Iterator<Item = (&'p str, &'p str)> {
        self.aliases
            .iter()
            .filter(move |alias| alias.list == list)
            .map(|alias| (alias.alias.as_str(), alias.value.as_str()))
    }

    /// The value that the plan means by an alias.
    pub fn alias(&self, list: &str, value: &str) -> Option<&str> {
        self.aliases.iter().find(|a| a.alias == value && a.list == list).map(|a| a.value.as_str())
    }

    /// The service that a GAR code stands for.
    pub fn gar_service(&self, code: &str) -> Option<&str> {
        self.gar.iter().find(|gar| gar.code == code).map(|gar| gar.service.as_str())
    }

    /// How the plan spells a service in its other place, where its two places differ.
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

    /// The DNMA's profile for one of the directory's.
    pub fn national_profile(&self, name: &str) -> Option<&str> {
        self.national
            .iter()
            .find(|national| national.name.eq_ignore_ascii_case(name))
            .map(|national| national.profile.as_str())
    }

    /// How grave a violation of this rule is.
    pub fn severity(&self, rule: Rule) -> Severity {
        self.rules.get(&rule).map_or(Severity::Error, |text| text.severity)
    }

    /// What a rule says, with its `{placeholders}`.
    pub fn text(&self, rule: Rule, language: Language) -> &str {
        self.rules.get(&rule).map_or("", |text| language.of(&text.en, &text.fr))
    }

    /// What a rule says where there is nothing to suggest.
    pub(super) fn text_alone(&self, rule: Rule, language: Language) -> &str {
        let alone = self.rules.get(&rule).and_then(|text| {
            Some(language.of(text.en_alone.as_deref()?, text.fr_alone.as_deref()?))
        });
        alone.unwrap_or_else(|| self.text(rule, language))
    }

    /// Words of the code's own in another language.
    pub(super) fn translate(&self, words: &str, language: Language) -> String {
        let into_french = |words: String, word: &Translation| words.replace(&word.en, &word.fr);
        match language {
            Language::English => words.to_owned(),
            Language::French => self.words.iter().fold(words.to_owned(), into_french),
        }
    }
}

impl Field {
    /// The name under which Matomo takes the value.
    pub fn parameter(&self) -> &str {
        self.parameter.as_deref().unwrap_or(&self.name)
    }

    /// What introduces the value in the JSON that Matomo takes, after another value.
    pub(super) fn json(&self) -> &str {
        &self.json
    }
}

impl Section {
    /// What the section is called.
    pub fn title(&self, language: Language) -> &str {
        language.of(&self.en, &self.fr)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_plan_is_the_rfti() {
        let plan = Plan::built_in().expect("the built-in plan parses");
        assert_eq!(plan.version, "2.01");
        let values = |list| plan.list(list).expect("a list").values();
        assert_eq!(
            values("services").len(),
            27,
            "26 services and the second spelling of the dictionaries"
        );
        assert_eq!(values("profils").len(), 6);
        assert_eq!(plan.fields()[plan.index("urlref").expect("urlref")].name, "url_ref");
        assert!(values("exploitants").is_empty(), "external lists are not guessed");
        for service in values("services") {
            assert!(
                plan.list("services").and_then(|list| list.description(service)).is_some(),
                "{service}"
            );
        }
    }

    #[test]
    fn a_misspelt_key_or_a_forgotten_rule_is_refused() {
        let typo = BUILT_IN.replace("max = 1024", "maxx = 1024");
        assert!(matches!(Plan::parse(&typo), Err(PlanError::Syntax(_))));
        let forgotten = BUILT_IN.replace("[rules.too-long]", "[rules.too-wide]");
        assert!(matches!(Plan::parse(&forgotten), Err(PlanError::Syntax(_))));
        let list = BUILT_IN.replace("list = \"outils\"", "list = \"outil\"");
        assert!(matches!(Plan::parse(&list), Err(PlanError::ListMissing(_))));
        let uid = BUILT_IN.replace("name = \"uid\"", "name = \"user\"");
        assert!(matches!(Plan::parse(&uid), Err(PlanError::FieldMissing("uid"))));
    }

    #[test]
    fn every_text_is_there_in_both_languages() {
        let plan = Plan::built_in().expect("the built-in plan parses");
        for rule in Rule::ALL {
            for language in [Language::English, Language::French] {
                assert!(!plan.text(*rule, language).is_empty(), "{}", rule.code());
            }
        }
    }
}
