//! The plan as a JSON Schema of a message, for editors, generators and contract tests on the ENT's
//! side.
//!
//! The schema accepts the hits in which the check finds no *error*, as far as a schema can express
//! that: it knows no warnings, and sees neither that a time is in milliseconds, nor that a field is
//! given twice, nor that a value is the decomposed form (NFD) of one of a list.

use serde_json::{Map, Value, json};

use super::{Field, FieldRole, List, Plan};
use crate::domain::hit;

/// Matches text without control characters.
const PRINTABLE: &str = "^[^\\u0000-\\u001f\\u007f]*$";
/// Matches white space and nothing, which are as good as absent. So is null.
const BLANK: &str = "^\\s*$";
/// The largest whole number that is exact in JSON.
const MAX_EXACT: i64 = 9_007_199_254_740_991;

/// Makes the schema (draft 2020-12).
pub fn schema(plan: &Plan) -> Value {
    let mut properties = Map::new();
    for (index, field) in plan.fields().iter().enumerate() {
        for name in [field.name.as_str(), field.parameter()] {
            properties.insert(name.to_owned(), property(plan, index, field));
        }
    }
    let technologies = plan.list("technologies").map(List::values).unwrap_or_default();
    let is_always = |index: &&usize| {
        technologies.iter().all(|technology| plan.mandatory(Some(technology)).contains(*index))
    };
    let always: Vec<usize> = plan.mandatory(None).iter().filter(is_always).copied().collect();
    let by_technology = technologies.iter().map(|technology| {
        let aliases = plan
            .aliases("technologies")
            .filter(|(_, value)| value == technology)
            .map(|(alias, _)| alias);
        let written: Vec<&str> = std::iter::once(technology.as_str()).chain(aliases).collect();
        let field = FieldRole::Technology.code();
        json!({
            "if": {"properties": {field: {"enum": written}}, "required": [field]},
            "then": present(plan, plan.mandatory(Some(technology))),
        })
    });
    let conditions: Vec<Value> =
        [present(plan, &always), tool(plan)].into_iter().chain(by_technology).collect();
    json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": format!("Hit (RFTI {})", plan.version),
        "description": "One AMQP message: Matomo parameters to strings or numbers",
        "type": "object",
        "maxProperties": hit::MAX_FIELDS,
        "propertyNames": {"maxLength": hit::MAX_NAME},
        "properties": properties,
        "allOf": conditions,
    })
}

/// Requires fields to be there and not blank. A field with exceptions may be left out by some hits,
/// and is not required.
fn present(plan: &Plan, indexes: &[usize]) -> Value {
    let tool = plan.role_index(FieldRole::Tool);
    let fields = indexes
        .iter()
        .filter(|index| Some(**index) != tool)
        .filter_map(|index| plan.fields().get(*index));
    let fields = fields.filter(|field| field.exceptions.is_none());
    let names: Vec<&str> = fields.map(|field| field.name.as_str()).collect();
    let not_blank = |name: &&str| ((*name).to_owned(), json!({"not": blank()}));
    json!({"required": names, "properties": names.iter().map(not_blank).collect::<Map<_, _>>()})
}

/// Requires the tool to be there and in its list, unless a GAR code in place of the service says
/// which one it is, or the page is the platform's own.
fn tool(plan: &Plan) -> Value {
    let Some(field) = plan.role_index(FieldRole::Tool).and_then(|index| plan.fields().get(index))
    else {
        return json!(true);
    };
    let legal = match plan.list_of(field).filter(|list| list.is_loaded()) {
        Some(list) => json!({"enum": list.values()}),
        None => json!({"not": blank()}),
    };
    let service = FieldRole::Service.code();
    let mut ways = vec![
        json!({"required": [field.name], "properties": {field.name.as_str(): legal}}),
        json!({"required": [service], "properties": {service: gar_code(plan)}}),
    ];
    if let Some(native) = &plan.native_type {
        let kind = FieldRole::Type.code();
        ways.push(json!({
            "required": [kind],
            "properties": {kind: {"const": native}, field.name.as_str(): blank()},
        }));
    }
    json!({"anyOf": ways})
}

/// Accepts a GAR code.
fn gar_code(plan: &Plan) -> Value {
    let codes: Vec<&str> = plan.gar().map(|(code, _)| code).collect();
    json!({"type": "string", "pattern": format!("^\\s*({})\\s*$", codes.join("|"))})
}

/// Accepts the values that a field may have.
fn property(plan: &Plan, index: usize, field: &Field) -> Value {
    let is = |role| plan.role_index(role) == Some(index);
    let forms = if is(FieldRole::Record) || is(FieldRole::ApiVersion) {
        vec![json!({"enum": ["1", 1, null]})]
    } else if is(FieldRole::Time) {
        let (first, end) = (946_684_800, 4_102_444_800_u64);
        vec![
            json!({"type": "string", "pattern": "^\\s*[0-9]", "maxLength": 40}),
            json!({"type": "number", "minimum": first, "exclusiveMaximum": end}),
            blank(),
        ]
    } else if let Some(legal) = legal(plan, index, field).filter(|_| !is(FieldRole::Tool)) {
        legal.into_iter().chain([blank()]).collect()
    } else {
        any_text(field)
    };
    let list = plan
        .list_of(field)
        .map(|list| format!(": a value of the list {}", list.name))
        .unwrap_or_default();
    let description = format!("RFTI §{}{list}", field.section);
    if is(FieldRole::User) {
        return json!({"description": description, "anyOf": forms, "not": {"enum": ["0", 0]}});
    }
    json!({"description": description, "anyOf": forms})
}

/// Accepts blank text, and null.
fn blank() -> Value {
    json!({"type": ["string", "null"], "pattern": BLANK})
}

/// Accepts text up to the field's limit, and a number that has no more digits than that.
fn any_text(field: &Field) -> Vec<Value> {
    let digits = field.max.and_then(|max| 10_i64.checked_pow(u32::try_from(max).ok()?));
    let largest = digits.map_or(MAX_EXACT, |limit| (limit - 1).min(MAX_EXACT));
    let max_length = field.max.unwrap_or(hit::MAX_BYTES);
    vec![
        json!({"type": ["string", "null"], "pattern": PRINTABLE, "maxLength": max_length}),
        json!({"type": "number", "minimum": -MAX_EXACT, "maximum": largest}),
    ]
}

/// Accepts the values of a list that is loaded, and those that are normalised into one of them.
fn legal(plan: &Plan, index: usize, field: &Field) -> Option<Vec<Value>> {
    let list = plan.list_of(field).filter(|list| list.is_loaded())?;
    let aliases = plan.aliases(&list.name).map(|(alias, _)| alias);
    let values: Vec<&str> = list.values().iter().map(String::as_str).chain(aliases).collect();
    let mut legal = vec![json!({"enum": values})];
    let either_case = |name: &str| {
        name.chars()
            .map(|c| format!("[{}{}]", c.to_ascii_uppercase(), c.to_ascii_lowercase()))
            .collect::<String>()
    };
    if plan.role_index(FieldRole::Profile) == Some(index) {
        // The directory's names are known in any case. An underscore has none.
        let names: Vec<String> = plan.national().map(|(name, _)| either_case(name)).collect();
        legal
            .push(json!({"type": "string", "pattern": format!("^\\s*({})\\s*$", names.join("|"))}));
    }
    if plan.role_index(FieldRole::Service) == Some(index) {
        legal.push(gar_code(plan));
    }
    Some(legal)
}
