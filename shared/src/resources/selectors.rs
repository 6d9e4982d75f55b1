//! Label selectors as people write them: `spec.selectors` and `spec.excludeSelectors`.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use kube::core::{Expression, Selector};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The most selectors of one list.
pub const MAX_SELECTORS: usize = 50;

/// One label selector or several, as a person wrote them: a map of labels (as Kubemotion has
/// it), or a list whose items are label selectors, maps of labels, or texts as `kubectl -l` takes
/// them (`app=web,tier in (front, back)`).
///
/// What cannot be read is kept as it is; [`LabelSelectors::all_of`] and
/// [`LabelSelectors::any_of`] tell what is wrong with it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(transparent)]
pub struct LabelSelectors(Value);

/// A selector that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{selector} is no label selector: {detail}")]
pub struct BadSelector {
    selector: String,
    detail: String,
}

impl LabelSelectors {
    /// Whether none was given.
    pub fn is_empty(&self) -> bool {
        match &self.0 {
            Value::Null => true,
            Value::Object(map) => map.is_empty(),
            Value::Array(list) => list.is_empty(),
            _ => false,
        }
    }

    /// The selectors, of which an object has to match one. A map of labels is one selector, which
    /// asks for them all.
    pub fn all_of(&self) -> Result<Vec<Selector>, BadSelector> {
        match &self.0 {
            _ if self.is_empty() => Ok(Vec::new()),
            Value::Array(list) => Self::each(list),
            one => Ok(vec![selector(one)?]),
        }
    }

    /// The selectors, of which an object has to match one. A map of labels is one selector for
    /// each label.
    pub fn any_of(&self) -> Result<Vec<Selector>, BadSelector> {
        match &self.0 {
            _ if self.is_empty() => Ok(Vec::new()),
            Value::Array(list) => Self::each(list),
            Value::Object(map) if !is_typed(&self.0) => map
                .iter()
                .map(|(key, value)| {
                    selector(&Value::Object([(key.clone(), value.clone())].into_iter().collect()))
                })
                .collect(),
            one => Ok(vec![selector(one)?]),
        }
    }

    fn each(list: &[Value]) -> Result<Vec<Selector>, BadSelector> {
        if list.len() > MAX_SELECTORS {
            let detail = format!("it has {} items, and at most {MAX_SELECTORS} are read", list.len());
            return Err(BadSelector { selector: "the list".to_owned(), detail });
        }
        list.iter().map(selector).collect()
    }
}

impl From<Vec<String>> for LabelSelectors {
    /// Selectors as `kubectl -l` takes them.
    fn from(texts: Vec<String>) -> Self {
        if texts.is_empty() { Self::default() } else { Self(Value::from(texts)) }
    }
}

impl std::fmt::Display for LabelSelectors {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.all_of() {
            Ok(selectors) => {
                let texts: Vec<String> = selectors.iter().map(ToString::to_string).collect();
                f.write_str(&texts.join(" or "))
            }
            Err(_) => write!(f, "{}", self.0),
        }
    }
}

impl JsonSchema for LabelSelectors {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "LabelSelectors".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        schemars::json_schema!({
            "description": "A map of labels, or a list of label selectors, maps of labels, or texts as `kubectl -l` takes them.",
            "x-kubernetes-preserve-unknown-fields": true
        })
    }
}

fn is_typed(value: &Value) -> bool {
    value.get("matchLabels").is_some_and(Value::is_object) || value.get("matchExpressions").is_some()
}

fn selector(value: &Value) -> Result<Selector, BadSelector> {
    let bad = |detail: String| BadSelector { selector: value.to_string(), detail };
    match value {
        Value::String(text) => parse(text).map_err(bad),
        Value::Object(_) if is_typed(value) => {
            let typed: LabelSelector =
                serde_json::from_value(value.clone()).map_err(|error| bad(error.to_string()))?;
            typed.try_into().map_err(|error: kube::core::ParseExpressionError| bad(error.to_string()))
        }
        Value::Object(map) => map
            .iter()
            .map(|(key, value)| {
                let value = value.as_str().ok_or_else(|| bad(format!("the value of {key} is no text")))?;
                Ok((key.clone(), value.to_owned()))
            })
            .collect(),
        _ => {
            Err(bad("it must be a text, a map of labels, or have matchLabels or matchExpressions".to_owned()))
        }
    }
}

/// Reads a selector as `kubectl -l` takes it.
pub fn parse(text: &str) -> Result<Selector, String> {
    let mut selector = Selector::default();
    for part in split(text) {
        selector.extend(expression(part.trim())?);
    }
    if selector.selects_all() { Err("it selects nothing in particular".to_owned()) } else { Ok(selector) }
}

/// Splits at commas outside of parentheses.
fn split(text: &str) -> Vec<&str> {
    let mut depth = 0_i32;
    text.split(move |c| {
        depth += i32::from(c == '(') - i32::from(c == ')');
        c == ',' && depth <= 0
    })
    .collect()
}

fn expression(text: &str) -> Result<Expression, String> {
    let key = |key: &str| {
        let key = key.trim();
        let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '/');
        if !key.is_empty() && key.chars().all(sound) {
            Ok(key.to_owned())
        } else {
            Err(format!("{key:?} is no label key"))
        }
    };
    if let Some((name, value)) = text.split_once("!=") {
        return Ok(Expression::NotEqual(key(name)?, value.trim().to_owned()));
    }
    if let Some((name, value)) = text.split_once('=') {
        return Ok(Expression::Equal(key(name)?, value.trim_start_matches('=').trim().to_owned()));
    }
    if let Some((head, values)) = text.split_once('(') {
        let values =
            values.strip_suffix(')').ok_or_else(|| format!("{text:?} lacks a closing parenthesis"))?;
        let values = values.split(',').map(|value| value.trim().to_owned()).collect();
        let (name, operator) = head.trim().rsplit_once(char::is_whitespace).unwrap_or(("", head));
        return match operator {
            "in" => Ok(Expression::In(key(name)?, values)),
            "notin" => Ok(Expression::NotIn(key(name)?, values)),
            other => Err(format!("{other:?} is no operator: write in or notin")),
        };
    }
    match text.strip_prefix('!') {
        Some(name) => Ok(Expression::DoesNotExist(key(name)?)),
        None => Ok(Expression::Exists(key(text)?)),
    }
}

#[cfg(test)]
mod tests {
    use kube::core::SelectorExt;
    use serde_json::json;

    use super::*;

    fn of(value: Value) -> LabelSelectors {
        serde_json::from_value(value).unwrap()
    }

    fn matches(selectors: &[Selector], labels: &[(&str, &str)]) -> bool {
        let labels = labels.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        selectors.iter().any(|selector| selector.matches(&labels))
    }

    #[test]
    fn a_map_asks_for_all_its_labels_and_excludes_by_any() {
        let map = of(json!({"app": "web", "tier": "front"}));
        let all = map.all_of().unwrap();
        assert!(matches(&all, &[("app", "web"), ("tier", "front")]) && !matches(&all, &[("app", "web")]));
        assert!(matches(&map.any_of().unwrap(), &[("app", "web")]));
    }

    #[test]
    fn of_a_list_any_selector_will_do_in_each_of_its_spellings() {
        let list = of(json!([
            "app=web,tier in (front, back)",
            {"matchExpressions": [{"key": "job", "operator": "Exists"}]},
            {"team": "a"}
        ]));
        for selectors in [list.all_of().unwrap(), list.any_of().unwrap()] {
            assert!(matches(&selectors, &[("app", "web"), ("tier", "back")]));
            assert!(matches(&selectors, &[("job", "")]) && matches(&selectors, &[("team", "a")]));
            assert!(!matches(&selectors, &[("app", "web")]) && !matches(&selectors, &[]));
        }
    }

    #[test]
    fn kubectls_spellings_are_read() {
        for (text, expected) in [
            ("a=b", "a=b"),
            ("a == b", "a=b"),
            ("a!=b, c", "a!=b,c"),
            ("!a", "!a"),
            ("a notin (b,c),d.e/f", "a notin (b,c),d.e/f"),
        ] {
            assert_eq!(parse(text).map(|s| s.to_string()).as_deref(), Ok(expected), "{text}");
        }
        for text in ["", "a near (b)", "a in (b", "a b", "="] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_kept_and_told() {
        for value in [
            json!(7),
            json!(["a in ("]),
            json!({"a": 1}),
            json!({"matchExpressions": [{"key": "a", "operator": "Near"}]}),
        ] {
            let selectors = of(value.clone());
            assert!(selectors.all_of().is_err() && selectors.any_of().is_err(), "{value}");
            assert_eq!(serde_json::to_value(&selectors).unwrap(), value);
        }
        assert!(of(json!({})).is_empty() && LabelSelectors::default().all_of().unwrap().is_empty());
    }
}
