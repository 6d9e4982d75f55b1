//! Pure: JSON as YAML for people to read, with stable lines for a diff to be taken of.
//!
//! Keys are sorted. A text of several lines becomes a block, so that a changed line of a
//! configuration file is one changed line here; whatever YAML might mistake, and every control
//! character, is written as in JSON.

use std::fmt::Write as _;

use serde_json::Value;

/// The text; it ends with a line break.
pub fn render(value: &Value) -> String {
    let mut text = String::new();
    match value {
        Value::Object(map) if !map.is_empty() => entries(&mut text, map, 0, false),
        Value::Array(list) if !list.is_empty() => items(&mut text, list, 0),
        scalar => {
            inline(&mut text, scalar, 0);
        }
    }
    text
}

fn entries(text: &mut String, map: &serde_json::Map<String, Value>, indent: usize, first_is_placed: bool) {
    let mut sorted: Vec<_> = map.iter().collect();
    sorted.sort_unstable_by_key(|(key, _)| key.as_str());
    for (index, (key, value)) in sorted.into_iter().enumerate() {
        if index > 0 || !first_is_placed {
            pad(text, indent);
        }
        scalar(text, key);
        text.push(':');
        match value {
            Value::Object(map) if !map.is_empty() => {
                text.push('\n');
                entries(text, map, indent + 2, false);
            }
            Value::Array(list) if !list.is_empty() => {
                text.push('\n');
                items(text, list, indent);
            }
            other => {
                text.push(' ');
                inline(text, other, indent + 2);
            }
        }
    }
}

fn items(text: &mut String, list: &[Value], indent: usize) {
    for item in list {
        pad(text, indent);
        text.push('-');
        if let Some(inner) = item.as_array().filter(|inner| !inner.is_empty()) {
            text.push('\n');
            items(text, inner, indent + 2);
            continue;
        }
        text.push(' ');
        match item {
            Value::Object(map) if !map.is_empty() => entries(text, map, indent + 2, true),
            other => inline(text, other, indent + 2),
        }
    }
}

/// A value that begins on the line of its key, and the end of the line.
fn inline(text: &mut String, value: &Value, indent: usize) {
    match value {
        Value::Null => text.push_str("null"),
        Value::Bool(flag) => text.push_str(if *flag { "true" } else { "false" }),
        Value::Number(number) => text.push_str(&number.to_string()),
        Value::String(string) if is_block(string) => return block(text, string, indent),
        Value::String(string) => scalar(text, string),
        Value::Array(_) => text.push_str("[]"),
        Value::Object(_) => text.push_str("{}"),
    }
    text.push('\n');
}

/// What begins with white space would need its indentation told, and a tab there is no YAML.
fn is_block(string: &str) -> bool {
    string.trim_end_matches('\n').contains('\n')
        && !string.starts_with([' ', '\n', '\t'])
        && !string.chars().any(|c| is_special(c) && c != '\n' && c != '\t')
}

/// `|` with the sign that says how many line breaks stand at the end.
fn block(text: &mut String, string: &str, indent: usize) {
    let body = string.trim_end_matches('\n');
    text.push_str(match string.len() - body.len() {
        0 => "|-\n",
        1 => "|\n",
        _ => "|+\n",
    });
    for line in string.strip_suffix('\n').unwrap_or(string).split('\n') {
        if !line.is_empty() {
            pad(text, indent);
            text.push_str(line);
        }
        text.push('\n');
    }
}

fn scalar(text: &mut String, string: &str) {
    if is_plain(string) { text.push_str(string) } else { quoted(text, string) }
}

/// Whether YAML takes the text for itself and for nothing else.
fn is_plain(string: &str) -> bool {
    const WORDS: &[&str] =
        &["true", "false", "null", "yes", "no", "on", "off", "y", "n", "<<", ".inf", ".nan"];
    let starts_plainly =
        string.starts_with(|c: char| c.is_alphanumeric() || matches!(c, '/' | '.' | '_' | '$' | '<' | '('));
    starts_plainly
        && !string.ends_with([' ', ':'])
        && !string.contains(": ")
        && !string.contains(" #")
        && !string.chars().any(is_special)
        && !WORDS.contains(&string.to_ascii_lowercase().as_str())
        && !looks_like_a_number(string)
}

/// Numbers, dates and times of day.
fn looks_like_a_number(string: &str) -> bool {
    string.starts_with(|c: char| c.is_ascii_digit() || c == '.')
        && string.chars().all(|c| {
            c.is_ascii_hexdigit() || matches!(c, '.' | '-' | '+' | ':' | '_' | 'x' | 'o' | 'T' | 'Z')
        })
}

/// What could steer a terminal or hide in a line.
fn is_special(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

fn quoted(text: &mut String, string: &str) {
    text.push('"');
    for c in string.chars() {
        match c {
            '"' => text.push_str("\\\""),
            '\\' => text.push_str("\\\\"),
            '\n' => text.push_str("\\n"),
            '\t' => text.push_str("\\t"),
            '\r' => text.push_str("\\r"),
            c if is_special(c) => {
                // Writing to a String cannot fail.
                let _ = write!(text, "\\u{:04x}", u32::from(c));
            }
            c => text.push(c),
        }
    }
    text.push('"');
}

fn pad(text: &mut String, indent: usize) {
    text.extend(std::iter::repeat_n(' ', indent));
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::json;

    use super::*;

    #[test]
    fn keys_are_sorted_and_texts_of_several_lines_are_blocks() {
        let object = json!({
            "kind": "ConfigMap", "apiVersion": "v1", "data": {"b.conf": "one\n  two\n\n", "a.conf": "x\ny", "c": "x\n"},
            "list": [{"name": "a", "value": "yes"}, "x: y", [], {}, ["n"], "8080", 8080, null, ""],
            "odd": "\u{1b}[2J é \u{202e}",
        });
        insta::assert_snapshot!(render(&object));
    }

    #[test]
    fn words_that_mean_something_to_yaml_are_quoted() {
        for word in ["<<", ".inf", ".NaN", "Null", "on", "1e5", "~", "=", ""] {
            let value = json!([{word: word}]);
            let back: Value = serde_saphyr::from_str(&render(&value)).unwrap();
            assert_eq!(back, value, "{word}");
        }
    }

    #[test]
    fn texts_of_several_lines_that_begin_or_end_with_white_space_come_back() {
        for string in ["\t\n\t", "\tkey: value\nnext", " a\nb", "\na\nb", "a\n\tb", "a\n \nb ", "a\nb\n\n"] {
            let value = json!({"data": {"file": string}});
            let back: Value = serde_saphyr::from_str(&render(&value)).unwrap();
            assert_eq!(back, value, "{string:?}");
        }
    }

    fn any_json() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            any::<i64>().prop_map(Value::from),
            "[ -~\\n\\té:#]{0,12}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 32, 4, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
                prop::collection::btree_map("[ -~\\n]{0,8}", inner, 0..4)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_rendered_is_yaml_of_the_same_value(value in any_json()) {
            let text = render(&value);
            let back: Value = serde_saphyr::from_str(&text).unwrap();
            prop_assert_eq!(back, value, "{}", text);
        }
    }
}
