//! What the API's published definitions leave out, by type and field: `merge_rules.txt`.
//!
//! A line without indentation names a type (less its `io.k8s.api.` prefix), the lines under it a
//! field and its rules; `*` is the type itself. The rules: `map=<keys>` and `set` (how server-side
//! apply tells elements apart), `atomic`, `merge` and `merge=<key>` (strategic merge), `retainKeys`.

use std::collections::HashMap;
use std::sync::LazyLock;

use super::ListMerge;

const RULES: &str = include_str!("merge_rules.txt");

/// The rules of a type's fields.
pub type FieldRules = HashMap<&'static str, Vec<&'static str>>;

static PARSED: LazyLock<HashMap<&'static str, FieldRules>> = LazyLock::new(|| {
    let mut types: HashMap<&str, FieldRules> = HashMap::new();
    let mut current = "";
    for line in RULES.lines() {
        if let Some(field) = line.strip_prefix("  ") {
            let mut words = field.split_whitespace();
            if let Some(name) = words.next() {
                types.entry(current).or_default().insert(name, words.collect());
            }
        } else {
            current = line.trim();
        }
    }
    types
});

/// The rules of a type, by its published name (`io.k8s.api.core.v1.PodSpec`).
pub fn rules_of(name: &str) -> Option<&'static FieldRules> {
    let short = name
        .strip_prefix("io.k8s.api.")
        .or_else(|| name.strip_prefix("io.k8s.apimachinery.pkg.apis."))
        .or_else(|| name.strip_prefix("io.k8s.apiextensions-apiserver.pkg.apis."))?;
    PARSED.get(short)
}

/// How strategic merge treats a list with these rules.
pub fn list_merge(words: &[&str]) -> Option<ListMerge> {
    words.iter().find_map(|word| match word.strip_prefix("merge") {
        Some("") => Some(ListMerge::Scalars),
        Some(key) => key.strip_prefix('=').map(|key| ListMerge::By(key.to_owned())),
        None => None,
    })
}
