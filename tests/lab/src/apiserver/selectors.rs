//! Label and field selectors.

use serde_json::Value;

use super::error::{ApiError, ApiResult};
use super::json::{at, text};

/// A label selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LabelSelector(Vec<Requirement>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Requirement {
    key: String,
    test: Test,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Test {
    In(Vec<String>),
    NotIn(Vec<String>),
    Exists,
    Absent,
}

impl LabelSelector {
    /// Reads the query form: `a=b,c!=d,e in (f,g),h notin (i),j,!k`.
    pub fn parse(source: &str) -> ApiResult<Self> {
        let bad = |why: &str| {
            ApiError::bad_request(format!("unable to parse requirement: {why} in label selector {source:?}"))
        };
        let mut requirements = Vec::new();
        for part in split(source) {
            let part = part.trim();
            if part.is_empty() {
                return Err(bad("found an empty requirement"));
            }
            requirements.push(requirement(part).ok_or_else(|| bad(&format!("cannot read {part:?}")))?);
        }
        Ok(Self(requirements))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's labels match.
    pub fn matches(&self, object: &Value) -> bool {
        let labels = at(object, &["metadata", "labels"]);
        self.0.iter().all(|requirement| {
            let value = labels.get(&requirement.key).and_then(Value::as_str);
            match &requirement.test {
                Test::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
                Test::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
                Test::Exists => value.is_some(),
                Test::Absent => value.is_none(),
            }
        })
    }
}

/// Splits at commas outside parentheses.
fn split(source: &str) -> Vec<&str> {
    let mut parts = Vec::new();
    let (mut depth, mut start) = (0_i32, 0);
    if source.trim().is_empty() {
        return parts;
    }
    for (index, c) in source.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth -= 1,
            ',' if depth == 0 => {
                parts.push(&source[start..index]);
                start = index + 1;
            }
            _ => {}
        }
    }
    parts.push(&source[start..]);
    parts
}

fn requirement(part: &str) -> Option<Requirement> {
    let valid =
        |key: &str| !key.is_empty() && !key.contains(|c: char| c.is_whitespace() || "()=!,".contains(c));
    let made =
        |key: &str, test: Test| valid(key.trim()).then(|| Requirement { key: key.trim().to_owned(), test });
    if let Some(key) = part.strip_prefix('!') {
        return made(key, Test::Absent);
    }
    if let Some(open) = part.find('(') {
        let values: Vec<String> =
            part[open + 1..].strip_suffix(')')?.split(',').map(|v| v.trim().to_owned()).collect();
        let head = part[..open].trim_end();
        if let Some(key) = head.strip_suffix(" notin") {
            return made(key, Test::NotIn(values));
        }
        return made(head.strip_suffix(" in")?, Test::In(values));
    }
    for (sign, negative) in [("!=", true), ("==", false), ("=", false)] {
        if let Some((key, value)) = part.split_once(sign) {
            let values = vec![value.trim().to_owned()];
            if values[0].contains(['=', '!', '(', ')', ' ']) {
                return None;
            }
            return made(key, if negative { Test::NotIn(values) } else { Test::In(values) });
        }
    }
    made(part, Test::Exists)
}

/// A field selector.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<(String, bool, String)>);

/// Fields beyond `metadata.name` and `metadata.namespace` that built-in kinds can be selected by.
const SELECTABLE: &[(&str, &[&str])] = &[
    (
        "Pod",
        &[
            "spec.nodeName",
            "spec.restartPolicy",
            "spec.schedulerName",
            "spec.serviceAccountName",
            "spec.hostNetwork",
            "status.phase",
            "status.podIP",
            "status.nominatedNodeName",
        ],
    ),
    (
        "Event",
        &[
            "involvedObject.kind",
            "involvedObject.namespace",
            "involvedObject.name",
            "involvedObject.uid",
            "involvedObject.apiVersion",
            "involvedObject.resourceVersion",
            "involvedObject.fieldPath",
            "reason",
            "reportingComponent",
            "source",
            "type",
            "regarding.kind",
            "regarding.namespace",
            "regarding.name",
            "regarding.uid",
        ],
    ),
    ("Secret", &["type"]),
    ("Namespace", &["status.phase"]),
    ("Node", &["spec.unschedulable"]),
    ("Service", &["spec.clusterIP", "spec.type"]),
    ("Job", &["status.successful"]),
    ("ReplicaSet", &["status.replicas"]),
    ("ReplicationController", &["status.replicas"]),
    ("PersistentVolumeClaim", &[]),
];

impl FieldSelector {
    /// Reads the query form and checks that the kind can be selected by these fields.
    pub fn parse(source: &str, kind: &str, custom: Option<&[String]>) -> ApiResult<Self> {
        let mut terms = Vec::new();
        for part in source.split(',').filter(|p| !p.is_empty()) {
            let (field, negative, value) = if let Some((field, value)) = part.split_once("!=") {
                (field, true, value)
            } else if let Some((field, value)) = part.split_once("==").or_else(|| part.split_once('=')) {
                (field, false, value)
            } else {
                return Err(ApiError::bad_request(format!(
                    "invalid selector: '{source}'; can't understand '{part}'"
                )));
            };
            let known = matches!(field, "metadata.name" | "metadata.namespace")
                || match custom {
                    Some(fields) => fields.iter().any(|f| f == field),
                    None => SELECTABLE.iter().any(|(k, fields)| *k == kind && fields.contains(&field)),
                };
            if !known {
                let message = if custom.is_some() {
                    format!("field label not supported: {field}")
                } else {
                    format!(
                        "{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\""
                    )
                };
                return Err(ApiError::bad_request(message));
            }
            terms.push((field.to_owned(), negative, value.replace("\\,", ",").replace("\\=", "=")));
        }
        Ok(Self(terms))
    }

    /// Whether it selects everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether an object's fields match.
    pub fn matches(&self, object: &Value) -> bool {
        self.0.iter().all(|(field, negative, wanted)| (value_of(object, field) == *wanted) != *negative)
    }
}

fn value_of(object: &Value, field: &str) -> String {
    match field {
        "source" => {
            let component = text(object, &["source", "component"]);
            return if component.is_empty() { text(object, &["reportingComponent"]) } else { component }
                .to_owned();
        }
        "status.successful" => return at(object, &["status", "succeeded"]).as_i64().unwrap_or(0).to_string(),
        "spec.unschedulable" | "spec.hostNetwork" => {
            let path: Vec<&str> = field.split('.').collect();
            return at(object, &path).as_bool().unwrap_or(false).to_string();
        }
        _ => {}
    }
    let field =
        field.strip_prefix("regarding.").map_or_else(|| field.to_owned(), |f| format!("involvedObject.{f}"));
    let path: Vec<&str> = field.split('.').collect();
    match at(object, &path) {
        Value::String(s) => s.clone(),
        Value::Null => String::new(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn label_selectors_understand_equality_sets_and_presence() {
        let object = json!({"metadata": {"labels": {"app": "web", "env": "dev"}}});
        for (selector, matches) in [
            ("app=web", true),
            ("app==web,env!=prod", true),
            ("app!=web", false),
            ("tier!=x", true),
            ("env in (dev, test)", true),
            ("env notin (dev,test)", false),
            ("app,!tier", true),
            ("!app", false),
            ("", true),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(&object), matches, "{selector}");
        }
        assert!(LabelSelector::parse("a in b").is_err());
        assert!(LabelSelector::parse("a=b,,").is_err());
    }

    #[test]
    fn a_field_that_a_kind_cannot_be_selected_by_is_refused() {
        assert!(FieldSelector::parse("spec.nodeName=n", "Pod", None).is_ok());
        assert_eq!(FieldSelector::parse("spec.foo=n", "Pod", None).unwrap_err().code(), 400);
        let object = json!({"metadata": {"name": "a"}, "status": {"phase": "Running"}});
        assert!(FieldSelector::parse("status.phase!=Failed", "Pod", None).unwrap().matches(&object));
    }
}
