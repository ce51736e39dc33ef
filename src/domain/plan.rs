//! The national tagging plan as a typed value, parsed from data.
//!
//! `plan/rfti-2.01.toml` is the plan that the ministry published on 2 December 2024. When the ministry changes a list, a
//! limit or a mandatory flag, that file changes and nothing else.

use std::collections::{BTreeMap, HashMap};

use jiff::Timestamp;
use serde::Deserialize;
use thiserror::Error;

use super::cdt;
use super::rule::{Language, Rule, Severity};

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
    gar: Vec<Gar>,
    national: Vec<National>,
    fields: Vec<Field>,
    lists: Vec<List>,
    aliases: Vec<Alias>,
    rules: BTreeMap<Rule, Text>,
    by_name: HashMap<String, usize>,
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
    mandatory: Vec<String>,
    /// The plan makes exceptions that it does not list (`dimension9`, `dimension10`).
    #[serde(default)]
    pub exceptions: bool,
    /// The relay supplies the value: `rec`, `apiv`, `rand`.
    #[serde(default)]
    pub relay: bool,
    /// The list that the value must be taken from.
    #[serde(default)]
    pub list: Option<String>,
    /// The recommended length applies.
    #[serde(default)]
    pub short: bool,
    /// The exploitant's own words, which must not name a person.
    #[serde(default)]
    pub free: bool,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct List {
    name: String,
    /// Section of the RFTI that gives the list.
    #[serde(rename = "section")]
    _section: String,
    #[serde(default)]
    values: Vec<String>,
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
struct Gar {
    code: String,
    service: String,
    #[serde(default)]
    also: Option<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct National {
    name: String,
    profile: String,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Text {
    severity: Severity,
    fr: String,
    en: String,
}

/// Why a plan's data was refused.
#[derive(Debug, Error)]
pub enum PlanError {
    /// Not TOML, or a key, type or rule that is not known.
    #[error("the plan cannot be read: {0}")]
    Syntax(#[from] toml::de::Error),
    /// A rule of the code has no severity and texts.
    #[error("the plan says nothing of rule {0}")]
    RuleMissing(&'static str),
    /// Two fields of the same name.
    #[error("field {0} is given twice")]
    FieldTwice(String),
    /// A field or alias names a list that is not there.
    #[error("list {0} does not exist")]
    ListMissing(String),
    /// Not a date.
    #[error("{0} is not a date")]
    Date(String),
    /// The checks need this field.
    #[error("field {0} is missing")]
    FieldMissing(&'static str),
}

/// Fields that the code itself reads, whatever the plan says of them.
const NEEDED: [&str; 4] = ["idsite", "uid", "cdt", "dimension11"];

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    version: String,
    #[serde(rename = "published")]
    _published: String,
    in_force_since: String,
    recommended_length: usize,
    stored_length: usize,
    gar_tool: String,
    fields: Vec<Field>,
    lists: Vec<List>,
    #[serde(default)]
    aliases: Vec<Alias>,
    gar: Vec<Gar>,
    national: Vec<National>,
    rules: BTreeMap<Rule, Text>,
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
        let file: File = toml::from_str(text)?;
        let File { version, recommended_length, stored_length, gar_tool, fields, lists, aliases, gar, national, rules, .. } = file;
        let in_force_since = cdt::parse(&file.in_force_since).map_err(|_| PlanError::Date(file.in_force_since))?;
        if let Some(rule) = Rule::ALL.iter().find(|rule| !rules.contains_key(rule)) {
            return Err(PlanError::RuleMissing(rule.code()));
        }
        let mut by_name = HashMap::new();
        for (index, field) in fields.iter().enumerate() {
            for name in [Some(&field.name), field.parameter.as_ref()].into_iter().flatten() {
                if by_name.insert(name.clone(), index).is_some() {
                    return Err(PlanError::FieldTwice(name.clone()));
                }
            }
        }
        if let Some(name) = NEEDED.iter().find(|name| !by_name.contains_key(**name)) {
            return Err(PlanError::FieldMissing(name));
        }
        let named = fields.iter().filter_map(|f| f.list.as_ref()).chain(aliases.iter().map(|a| &a.list));
        if let Some(name) = named.into_iter().find(|name| !lists.iter().any(|list| list.name == **name)) {
            return Err(PlanError::ListMissing(name.clone()));
        }
        Ok(Self {
            version,
            in_force_since,
            recommended_length,
            stored_length,
            gar_tool,
            gar,
            national,
            fields,
            lists,
            aliases,
            rules,
            by_name,
        })
    }

    /// The fields in the order of the RFTI's example request.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// Where the field of this name stands in [`Plan::fields`]; both the RFTI's and Matomo's name are known.
    pub fn index(&self, name: &str) -> Option<usize> {
        self.by_name.get(name).copied()
    }

    /// The values of a list; none for an external list that is not loaded.
    pub fn values(&self, list: &str) -> &[String] {
        self.lists.iter().find(|l| l.name == list).map(|l| l.values.as_slice()).unwrap_or_default()
    }

    /// Every list with its values; an external list that is not loaded has none.
    pub fn lists(&self) -> impl Iterator<Item = (&str, &[String])> {
        self.lists.iter().map(|list| (list.name.as_str(), list.values.as_slice()))
    }

    /// Every GAR code with its service.
    pub fn gar(&self) -> impl Iterator<Item = (&str, &str)> {
        self.gar.iter().map(|gar| (gar.code.as_str(), gar.service.as_str()))
    }

    /// The value that the plan means by an alias.
    pub fn alias(&self, list: &str, value: &str) -> Option<&str> {
        self.aliases.iter().find(|a| a.list == list && a.alias == value).map(|a| a.value.as_str())
    }

    /// The service that a GAR code stands for.
    pub fn gar_service(&self, code: &str) -> Option<&str> {
        self.gar.iter().find(|gar| gar.code == code).map(|gar| gar.service.as_str())
    }

    /// Whether the GAR has this service.
    pub fn is_gar_service(&self, service: &str) -> bool {
        self.gar.iter().any(|gar| gar.service == service || gar.also.as_deref() == Some(service))
    }

    /// The DNMA's profile for one of the directory's.
    pub fn national_profile(&self, name: &str) -> Option<&str> {
        self.national.iter().find(|national| national.name.eq_ignore_ascii_case(name)).map(|national| national.profile.as_str())
    }

    /// How grave a violation of this rule is.
    pub fn severity(&self, rule: Rule) -> Severity {
        self.rules.get(&rule).map_or(Severity::Error, |text| text.severity)
    }

    /// What a rule says, with its `{placeholders}`.
    pub fn text(&self, rule: Rule, language: Language) -> &str {
        self.rules.get(&rule).map_or("", |text| match language {
            Language::English => &text.en,
            Language::French => &text.fr,
        })
    }
}

impl Field {
    /// The name under which Matomo takes the value.
    pub fn parameter(&self) -> &str {
        self.parameter.as_deref().unwrap_or(&self.name)
    }

    /// Whether a hit of this technology must carry the field. An unknown technology is held to the strictest one.
    pub fn is_mandatory(&self, technology: Option<&str>) -> bool {
        match technology {
            Some(technology) if self.mandatory.iter().any(|t| t == technology) => true,
            Some("APPLI_NATIVE" | "WEB-PWA") => false,
            _ => !self.mandatory.is_empty(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_plan_is_the_rfti() {
        let plan = Plan::built_in().expect("the built-in plan parses");
        assert_eq!(plan.version, "2.01");
        assert_eq!(plan.values("services").len(), 27, "26 services and the second spelling of the dictionaries");
        assert_eq!(plan.values("profils").len(), 6);
        assert_eq!(plan.fields()[plan.index("urlref").expect("urlref")].name, "url_ref");
        assert!(plan.values("exploitants").is_empty(), "external lists are not guessed");
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
