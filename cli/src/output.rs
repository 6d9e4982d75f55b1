//! Printing: results to standard output, everything else to standard error.

use std::io::Write;

use serde::Serialize;
use serde_json::{Value, json};

use crate::args::Format;
use crate::error::Error;

/// Prints a result.
pub fn print(text: &str) -> Result<(), Error> {
    print_bytes(text.as_bytes())?;
    if text.ends_with('\n') { Ok(()) } else { print_bytes(b"\n") }
}

/// Prints bytes as they are, at once.
pub fn print_bytes(bytes: &[u8]) -> Result<(), Error> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes).and_then(|()| out.flush()).map_err(Error::Write)
}

/// Says something beside the result.
pub fn note(text: &str) {
    if let Err(error) = writeln!(std::io::stderr().lock(), "{text}") {
        // Nobody is left to be told.
        tracing::debug!(%error, "standard error is closed");
    }
}

/// One value as JSON or YAML.
pub fn one(format: Format, value: &impl Serialize) -> Result<String, Error> {
    match format {
        Format::Yaml => yaml(value),
        Format::Json | Format::Table => json_text(value),
    }
}

/// Manifests so that `kubectl apply -f -` takes them: YAML documents, or one JSON list.
pub fn manifests(format: Format, documents: &[Value]) -> Result<String, Error> {
    match (format, documents) {
        (Format::Json, [only]) => json_text(only),
        (Format::Json, many) => json_text(&list_of(many)),
        (Format::Yaml | Format::Table, many) => {
            let texts = many.iter().map(yaml).collect::<Result<Vec<_>, _>>()?;
            Ok(texts.join("---\n"))
        }
    }
}

/// Records as a `List`, as kubectl prints several.
pub fn list(format: Format, items: &[impl Serialize]) -> Result<String, Error> {
    let items = items.iter().map(value).collect::<Result<Vec<_>, _>>()?;
    one(format, &list_of(&items))
}

/// A record as a value.
pub fn value(record: &impl Serialize) -> Result<Value, Error> {
    serde_json::to_value(record).map_err(|error| Error::Render { format: "json", detail: error.to_string() })
}

fn list_of(items: &[Value]) -> Value {
    json!({"apiVersion": "v1", "kind": "List", "items": items})
}

fn json_text(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_json::to_string_pretty(value);
    let text = text.map_err(|error| Error::Render { format: "json", detail: error.to_string() })?;
    Ok(text + "\n")
}

fn yaml(value: &impl Serialize) -> Result<String, Error> {
    let text = serde_saphyr::to_string(value);
    let text = text.map_err(|error| Error::Render { format: "yaml", detail: error.to_string() })?;
    Ok(if text.ends_with('\n') { text } else { text + "\n" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_yaml_might_mistake_comes_back_as_it_was() {
        let tricky = json!({
            "yes": "yes", "no": "no", "null": "null", "tilde": "~", "octal": "0123", "float": "1e3", "date": "2026-01-01",
            "sexagesimal": "12:30:45", "empty": "", "hash": "a #b", "colon": "a: b", "star": "*a", "dash": "- a",
            "base64": "AQID+/8=", "pem": "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n",
            "trailing": "two\n\n", "tab": "\ta", "unicode": "ü\u{2028}", "quote": "it's \"so\"", "percent": "%a",
            "number": 12, "flag": true, "list": [1, "1", []], "map": {},
        });
        let text = one(Format::Yaml, &tricky).unwrap();
        let back: Value = serde_saphyr::from_str(&text).unwrap();
        assert_eq!(back, tricky, "{text}");
    }

    #[test]
    fn several_manifests_are_yaml_documents_or_one_json_list() {
        let documents = [json!({"kind": "A"}), json!({"kind": "B"})];
        assert_eq!(manifests(Format::Yaml, &documents).unwrap(), "kind: A\n---\nkind: B\n");
        let list: Value = serde_json::from_str(&manifests(Format::Json, &documents).unwrap()).unwrap();
        assert_eq!(list["items"][1]["kind"], "B");
    }
}
