//! The simple JSONPath of printer columns and scale paths: fields, indexes, wildcards and equality
//! filters.

use serde_json::Value;

#[derive(Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(i64),
    All,
    Where(String, String),
}

/// Every value at a path.
pub fn find<'a>(value: &'a Value, path: &str) -> Vec<&'a Value> {
    let mut found = vec![value];
    for step in steps(path) {
        found = found.into_iter().flat_map(|v| take(v, &step)).collect();
    }
    found
}

fn take<'a>(value: &'a Value, step: &Step) -> Vec<&'a Value> {
    match (step, value) {
        (Step::Field(key), Value::Object(map)) => map.get(key).into_iter().collect(),
        (Step::Index(index), Value::Array(items)) => {
            let length = i64::try_from(items.len()).unwrap_or(i64::MAX);
            let index = if *index < 0 { index + length } else { *index };
            usize::try_from(index).ok().and_then(|i| items.get(i)).into_iter().collect()
        }
        (Step::All, Value::Array(items)) => items.iter().collect(),
        (Step::All, Value::Object(map)) => map.values().collect(),
        (Step::Where(path, wanted), Value::Array(items)) => items
            .iter()
            .filter(|item| {
                find(item, path)
                    .first()
                    .is_some_and(|v| v.as_str().map_or_else(|| v.to_string() == *wanted, |s| s == wanted))
            })
            .collect(),
        _ => Vec::new(),
    }
}

fn steps(path: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = path.trim_start_matches('$');
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let end = closing(after);
            steps.push(bracket(&after[..end]));
            rest = after.get(end + 1..).unwrap_or("");
            continue;
        }
        rest = rest.trim_start_matches('.');
        let mut name = String::new();
        let mut chars = rest.char_indices();
        let mut used = rest.len();
        while let Some((index, c)) = chars.next() {
            match c {
                '.' | '[' => {
                    used = index;
                    break;
                }
                // A dot in a field's name is escaped.
                '\\' => name.extend(chars.next().map(|(_, c)| c)),
                c => name.push(c),
            }
        }
        rest = &rest[used..];
        if name == "*" {
            steps.push(Step::All);
        } else if !name.is_empty() {
            steps.push(Step::Field(name));
        }
    }
    steps
}

/// Where a bracket ends, quotes and inner brackets aside.
fn closing(source: &str) -> usize {
    let (mut depth, mut quote) = (0, None);
    for (index, c) in source.char_indices() {
        match (c, quote) {
            (c, Some(q)) if c == q => quote = None,
            ('\'' | '"', None) => quote = Some(c),
            ('[', None) => depth += 1,
            (']', None) if depth == 0 => return index,
            (']', None) => depth -= 1,
            _ => {}
        }
    }
    source.len()
}

fn bracket(inside: &str) -> Step {
    let unquoted = |s: &str| s.trim().trim_matches(['\'', '"']).to_owned();
    if let Some(filter) = inside.strip_prefix("?(").and_then(|f| f.strip_suffix(')'))
        && let Some((left, right)) = filter.split_once("==")
    {
        return Step::Where(left.trim().trim_start_matches('@').to_owned(), unquoted(right));
    }
    if inside == "*" {
        return Step::All;
    }
    inside.parse().map_or_else(|_| Step::Field(unquoted(inside)), Step::Index)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn paths_find_fields_indexes_and_filtered_elements() {
        let value = json!({"status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "X", "status": "False"}]},
            "metadata": {"annotations": {"a.b/c": "d"}}});
        let text = |path: &str| {
            find(&value, path).iter().map(|v| v.as_str().unwrap_or("")).collect::<Vec<_>>().join(",")
        };
        assert_eq!(text(".status.conditions[?(@.type==\"Ready\")].status"), "True");
        assert_eq!(text(".status.conditions[1].type"), "X");
        assert_eq!(text(".status.conditions[*].type"), "Ready,X");
        assert_eq!(text(".metadata.annotations.a\\.b/c"), "d");
        assert_eq!(text(".metadata.annotations['a.b/c']"), "d");
        assert_eq!(text(".spec.nothing"), "");
    }
}
