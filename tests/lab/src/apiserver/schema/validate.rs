//! Checks a custom resource against its schema, with the wording of the real server.

use regex::Regex;
use serde_json::Value;

use super::cel::Rule;
use super::{ListType, Schema, Type, builtin};
use crate::apiserver::error::FieldError;
use crate::apiserver::json::type_name;

/// The most errors that one object reports.
const MAX_ERRORS: usize = 50;

/// A regular expression with its source.
#[derive(Debug)]
pub struct Pattern {
    source: String,
    compiled: Regex,
}

impl Pattern {
    /// Compiles an expression.
    pub fn new(source: &str) -> Result<Self, regex::Error> {
        Ok(Self { source: source.to_owned(), compiled: Regex::new(source)? })
    }
}

/// What a value must satisfy beyond its type.
#[derive(Debug, Default)]
pub struct Constraints {
    pub required: Vec<String>,
    pub one_of_values: Vec<Value>,
    pub pattern: Option<Pattern>,
    pub minimum: Option<f64>,
    pub maximum: Option<f64>,
    pub exclusive_minimum: bool,
    pub exclusive_maximum: bool,
    pub multiple_of: Option<f64>,
    pub min_length: Option<u64>,
    pub max_length: Option<u64>,
    pub min_items: Option<u64>,
    pub max_items: Option<u64>,
    pub min_properties: Option<u64>,
    pub max_properties: Option<u64>,
    pub all_of: Vec<Schema>,
    pub any_of: Vec<Schema>,
    pub one_of: Vec<Schema>,
    pub not: Option<Schema>,
    pub rules: Vec<Rule>,
}

impl Constraints {
    /// Whether anything is asked at all.
    pub fn is_empty(&self) -> bool {
        self.required.is_empty()
            && self.one_of_values.is_empty()
            && self.pattern.is_none()
            && self.minimum.is_none()
            && self.maximum.is_none()
            && self.multiple_of.is_none()
            && self.min_length.is_none()
            && self.max_length.is_none()
            && self.min_items.is_none()
            && self.max_items.is_none()
            && self.min_properties.is_none()
            && self.max_properties.is_none()
            && self.all_of.is_empty()
            && self.any_of.is_empty()
            && self.one_of.is_empty()
            && self.not.is_none()
            && self.rules.is_empty()
    }
}

/// Checks an object and, where there is one, the object that it replaces.
pub fn validate(new: &Value, old: Option<&Value>, schema: &Schema) -> Vec<FieldError> {
    let mut errors = Vec::new();
    walk(new, schema, true, "", &mut errors);
    // The rules see only values whose types are right.
    if errors.is_empty() {
        evaluate(new, old, schema, "", &mut errors);
    }
    errors.truncate(MAX_ERRORS);
    errors
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

fn shown_path(path: &str) -> &str {
    if path.is_empty() { "<nil>" } else { path }
}

fn walk(value: &Value, schema: &Schema, root: bool, path: &str, errors: &mut Vec<FieldError>) {
    if errors.len() > MAX_ERRORS {
        return;
    }
    if value.is_null() {
        if !schema.nullable && schema.ty != Type::Any {
            errors.push(FieldError::wrong_type(path, "null", type_word(schema.ty)));
        }
        return;
    }
    let fits = match (schema.ty, value) {
        (Type::Any, _)
        | (Type::Object, Value::Object(_))
        | (Type::Array, Value::Array(_))
        | (Type::String | Type::IntOrString, Value::String(_))
        | (Type::Number, Value::Number(_))
        | (Type::Boolean, Value::Bool(_)) => true,
        (Type::Integer | Type::IntOrString, Value::Number(n)) => {
            n.is_i64() || n.is_u64() || n.as_f64().is_some_and(|f| f.fract() == 0.0)
        }
        _ => false,
    };
    if !fits {
        errors.push(FieldError::wrong_type(path, type_name(value), type_word(schema.ty)));
        return;
    }
    if let Some(constraints) = &schema.constraints {
        check(value, constraints, path, errors);
    }
    match value {
        Value::Object(map) => {
            for (key, child) in map {
                if (root || schema.embedded) && matches!(key.as_str(), "apiVersion" | "kind" | "metadata") {
                    continue;
                }
                if let Some(field) = schema.field(key) {
                    walk(child, field, false, &join(path, key), errors);
                }
            }
        }
        Value::Array(items) => {
            if let Some(item) = schema.item() {
                for (index, child) in items.iter().enumerate() {
                    walk(child, item, false, &format!("{path}[{index}]"), errors);
                }
            }
            duplicates(items, schema, path, errors);
        }
        _ => {}
    }
}

fn type_word(ty: Type) -> &'static str {
    match ty {
        Type::Object => "object",
        Type::Array => "array",
        Type::String => "string",
        Type::Integer => "integer",
        Type::Number => "number",
        Type::Boolean => "boolean",
        Type::IntOrString => "integer,string",
        Type::Any => "any",
    }
}

fn duplicates(items: &[Value], schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    let mut seen = std::collections::HashSet::new();
    for (index, item) in items.iter().enumerate() {
        let identity = match &schema.list {
            ListType::Atomic => return,
            ListType::Set => item.clone(),
            ListType::Map(keys) => {
                let part = |k: &String| item.get(k).map(|v| (k.clone(), v.clone()));
                Value::Object(keys.iter().filter_map(part).collect())
            }
        };
        if !seen.insert(identity.to_string()) {
            errors.push(FieldError::duplicate(format!("{path}[{index}]"), &identity));
        }
    }
}

fn check(value: &Value, c: &Constraints, path: &str, errors: &mut Vec<FieldError>) {
    let mut invalid = |detail: String| errors.push(FieldError::invalid(shown_path(path), value, &detail));
    match value {
        Value::String(text) => {
            let length = text.chars().count() as u64;
            if let Some(least) = c.min_length.filter(|least| length < *least) {
                invalid(format!("{path} in body should be at least {least} chars long"));
            }
            if let Some(pattern) = c.pattern.as_ref().filter(|p| !p.compiled.is_match(text)) {
                invalid(format!("{path} in body should match '{}'", pattern.source));
            }
            if let Some(most) = c.max_length.filter(|most| length > *most) {
                errors.push(FieldError::too_long(path, most));
            }
        }
        Value::Number(number) => {
            let number = number.as_f64().unwrap_or(0.0);
            if let Some(least) = c.minimum {
                if c.exclusive_minimum && number <= least {
                    invalid(format!("{path} in body should be greater than {least}"));
                } else if number < least {
                    invalid(format!("{path} in body should be greater than or equal to {least}"));
                }
            }
            if let Some(most) = c.maximum {
                if c.exclusive_maximum && number >= most {
                    invalid(format!("{path} in body should be less than {most}"));
                } else if number > most {
                    invalid(format!("{path} in body should be less than or equal to {most}"));
                }
            }
            if let Some(factor) = c.multiple_of.filter(|f| *f > 0.0 && (number / f).fract() != 0.0) {
                invalid(format!("{path} in body should be a multiple of {factor}"));
            }
        }
        Value::Array(items) => {
            let count = items.len() as u64;
            if let Some(least) = c.min_items.filter(|least| count < *least) {
                let detail = format!("{path} in body should have at least {least} items");
                errors.push(FieldError::invalid(path, &Value::from(count), &detail));
            }
            if let Some(most) = c.max_items.filter(|most| count > *most) {
                errors.push(FieldError::too_many(path, items.len(), most));
            }
        }
        Value::Object(map) => {
            for key in c.required.iter().filter(|key| !map.contains_key(*key)) {
                errors.push(FieldError::required(join(path, key), ""));
            }
            let count = map.len() as u64;
            if let Some(least) = c.min_properties.filter(|least| count < *least) {
                let detail = format!("{path} in body should have at least {least} properties");
                errors.push(FieldError::invalid(path, &Value::from(count), &detail));
            }
            if let Some(most) = c.max_properties.filter(|most| count > *most) {
                errors.push(FieldError::too_many(path, map.len(), most));
            }
        }
        _ => {}
    }
    if !c.one_of_values.is_empty() && !c.one_of_values.contains(value) {
        let supported: Vec<String> =
            c.one_of_values.iter().map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned)).collect();
        errors.push(FieldError::unsupported(path, value, &supported));
    }
    combine(value, c, path, errors);
}

fn combine(value: &Value, c: &Constraints, path: &str, errors: &mut Vec<FieldError>) {
    let passes = |branch: &Schema| {
        let mut found = Vec::new();
        walk(value, branch, false, path, &mut found);
        found.is_empty()
    };
    for branch in &c.all_of {
        walk(value, branch, false, path, errors);
    }
    if !c.any_of.is_empty() && !c.any_of.iter().any(passes) {
        let detail = format!("{path} in body must validate at least one schema (anyOf)");
        errors.push(FieldError::invalid(shown_path(path), value, &detail));
    }
    let matching = c.one_of.iter().filter(|b| passes(b)).count();
    if !c.one_of.is_empty() && matching != 1 {
        let found = if matching == 0 {
            "Found none valid".to_owned()
        } else {
            format!("Found {matching} valid alternatives")
        };
        let detail = format!("{path} in body must validate one and only one schema (oneOf). {found}");
        errors.push(FieldError::invalid(shown_path(path), value, &detail));
    }
    if c.not.as_ref().is_some_and(passes) {
        let detail = format!("{path} in body must not validate the schema (not)");
        errors.push(FieldError::invalid(shown_path(path), value, &detail));
    }
}

fn evaluate(new: &Value, old: Option<&Value>, schema: &Schema, path: &str, errors: &mut Vec<FieldError>) {
    if new.is_null() {
        return;
    }
    if let Some(constraints) = &schema.constraints {
        for rule in &constraints.rules {
            if let Some(error) = rule.check(new, old, type_word(schema.ty), shown_path(path)) {
                errors.push(error);
            }
        }
    }
    match new {
        Value::Object(map) => {
            for (key, child) in map {
                if let Some(field) = schema.field(key) {
                    evaluate(child, old.and_then(|o| o.get(key)), field, &join(path, key), errors);
                }
            }
        }
        Value::Array(items) => {
            let Some(item) = schema.item() else { return };
            for (index, child) in items.iter().enumerate() {
                let before = old.and_then(|o| counterpart(o, child, &schema.list));
                evaluate(child, before, item, &format!("{path}[{index}]"), errors);
            }
        }
        _ => {}
    }
}

/// The element of the old list that the new element replaces: only lists with keys have one.
fn counterpart<'a>(old: &'a Value, item: &Value, list: &ListType) -> Option<&'a Value> {
    let ListType::Map(keys) = list else { return None };
    old.as_array()?.iter().find(|o| keys.iter().all(|k| o.get(k) == item.get(k)))
}

/// The schema of `metadata`, which no custom schema describes.
pub fn metadata() -> &'static Schema {
    builtin::definition(builtin::OBJECT_META)
}
