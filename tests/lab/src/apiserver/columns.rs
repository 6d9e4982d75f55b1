//! Objects as rows, for `kubectl get`.
//!
//! ```text
//!   here     a table of any kind's columns
//!    ├─ kinds  which columns a kind has
//!    └─ cells  the texts in them, as kubectl's users know them
//! ```

mod cells;
mod kinds;

use serde_json::{Value, json};

use super::jsonpath;
use super::registry::Resource;
use cells::since;
use kinds::columns;

/// A column with the way to its cell.
struct Column {
    name: String,
    kind: &'static str,
    description: String,
    priority: i64,
    cell: Cell,
}

enum Cell {
    Of(fn(&Value) -> Value),
    Path(String),
    DatePath(String),
}

fn column(name: &str, kind: &'static str, priority: i64, cell: fn(&Value) -> Value) -> Column {
    Column { name: name.to_owned(), kind, description: name.to_owned(), priority, cell: Cell::Of(cell) }
}

/// A `Table` of objects. Rows carry what `include` says: the metadata, the whole object, or nothing.
pub fn table(
    resource: &Resource,
    objects: &[&Value],
    metadata: &Value,
    include: &str,
    header: bool,
) -> Value {
    let columns = columns(resource);
    let rows: Vec<Value> = objects
        .iter()
        .map(|object| {
            let cells: Vec<Value> = columns.iter().map(|c| cell(c, object)).collect();
            let shown = match include {
                "None" => Value::Null,
                "Object" => (*object).clone(),
                _ => metadata_of(object),
            };
            let mut row = json!({"cells": cells});
            if !shown.is_null() {
                row["object"] = shown;
            }
            row
        })
        .collect();
    let definitions: Vec<Value> = if header {
        columns
            .iter()
            .map(|c| {
                let format = if c.name == "Name" { "name" } else { "" };
                json!({"name": c.name, "type": c.kind, "format": format, "description": c.description, "priority": c.priority})
            })
            .collect()
    } else {
        Vec::new()
    };
    json!({"kind": "Table", "apiVersion": "meta.k8s.io/v1", "metadata": metadata, "columnDefinitions": definitions, "rows": rows})
}

fn cell(column: &Column, object: &Value) -> Value {
    match &column.cell {
        Cell::Of(make) => make(object),
        Cell::DatePath(path) => match jsonpath::find(object, path).first() {
            Some(time) => since(time),
            None => Value::Null,
        },
        Cell::Path(path) => {
            let found = jsonpath::find(object, path);
            match (found.as_slice(), column.kind) {
                ([], _) => Value::Null,
                ([one], "integer" | "number" | "boolean") => (*one).clone(),
                (many, _) => {
                    let shown: Vec<String> = many
                        .iter()
                        .map(|v| v.as_str().map_or_else(|| v.to_string(), str::to_owned))
                        .collect();
                    json!(shown.join(","))
                }
            }
        }
    }
}

/// A `PartialObjectMetadata`.
pub fn metadata_of(object: &Value) -> Value {
    json!({"kind": "PartialObjectMetadata", "apiVersion": "meta.k8s.io/v1", "metadata": object["metadata"]})
}
