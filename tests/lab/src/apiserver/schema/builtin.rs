//! The schemas of built-in types, from the API's published definitions and the rules of
//! [`isthmus_shared::strategic_merge::rules`].
//!
//! The definitions name every field; the rules add what they leave out: the lists that are maps or
//! sets, the maps that are atomic, and the strategic merge keys.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use isthmus_shared::strategic_merge::rules::rules_of;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::{ListMerge, ListType, Node, Schema, Type};
use crate::apiserver::builtins::BUILTINS;

/// Where the definitions lie in an OpenAPI v3 document.
const REFERENCE: &str = "#/components/schemas/";
/// The definition of every object's metadata.
pub const OBJECT_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";
const QUANTITY: &str = "io.k8s.apimachinery.pkg.api.resource.Quantity";

/// Types of raw JSON, and of a schema or something simpler, are among these.
const EXTENSIONS: &str = "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.";

/// The published definitions, as they stand in an OpenAPI document.
pub static DEFINITIONS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    let mut generator = SchemaSettings::openapi3().into_generator();
    for builtin in BUILTINS {
        (builtin.schema)(&mut generator);
    }
    let mut definitions = generator.take_definitions(true);
    for (name, definition) in &mut definitions {
        publish(name, definition);
    }
    definitions
});

static SCHEMAS: LazyLock<HashMap<String, Schema>> = LazyLock::new(|| {
    DEFINITIONS.iter().map(|(name, definition)| (name.clone(), schema_of(definition, Some(name)))).collect()
});

static NOTHING: LazyLock<Schema> = LazyLock::new(Schema::default);

/// The schema of a published type; one that takes anything if there is no such type.
pub fn definition(name: &str) -> &'static Schema {
    SCHEMAS.get(name).unwrap_or(&NOTHING)
}

/// The name under which a built-in type is published.
pub fn published_name(schema: fn(&mut schemars::SchemaGenerator) -> schemars::Schema) -> Option<String> {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let reference = schema(&mut generator);
    reference.get("$ref")?.as_str()?.strip_prefix(REFERENCE).map(str::to_owned)
}

/// Gives a definition the extensions that clients look for.
fn publish(name: &str, definition: &mut Value) {
    let rules = rules_of(name);
    if let Some(properties) = definition.get_mut("properties").and_then(Value::as_object_mut) {
        for (field, property) in properties.iter_mut() {
            wrap_reference(property);
            let Some(words) = rules.and_then(|r| r.get(field.as_str())) else { continue };
            extend(property, words);
        }
    }
    if rules.is_some_and(|r| r.contains_key("*")) {
        definition["x-kubernetes-map-type"] = json!("atomic");
    }
}

/// OpenAPI 3.0 ignores what stands beside a `$ref`; the real server wraps it, and so do we.
fn wrap_reference(property: &mut Value) {
    let Some(map) = property.as_object_mut() else { return };
    if map.len() > 1
        && let Some(reference) = map.remove("$ref")
    {
        map.insert("allOf".into(), json!([{ "$ref": reference }]));
    }
}

fn extend(property: &mut Value, words: &[&str]) {
    let mut strategies = Vec::new();
    for word in words {
        match *word {
            "set" => property["x-kubernetes-list-type"] = json!("set"),
            "atomic" => property["x-kubernetes-map-type"] = json!("atomic"),
            "merge" => strategies.push("merge"),
            "retainKeys" => strategies.push("retainKeys"),
            other => {
                if let Some(keys) = other.strip_prefix("map=") {
                    property["x-kubernetes-list-type"] = json!("map");
                    property["x-kubernetes-list-map-keys"] = keys.split(',').collect();
                } else if let Some(key) = other.strip_prefix("merge=") {
                    strategies.push("merge");
                    property["x-kubernetes-patch-merge-key"] = json!(key);
                }
            }
        }
    }
    if !strategies.is_empty() {
        property["x-kubernetes-patch-strategy"] = json!(strategies.join(","));
    }
}

fn node_of(definition: &Value) -> Node {
    let reference = definition
        .get("$ref")
        .or_else(|| definition.pointer("/allOf/0/$ref"))
        .and_then(Value::as_str)
        .and_then(|r| r.strip_prefix(REFERENCE));
    match reference {
        Some(name) => Node::Named(name.into()),
        None => Node::Here(Arc::new(schema_of(definition, None))),
    }
}

fn schema_of(definition: &Value, name: Option<&str>) -> Schema {
    let quantity = name == Some(QUANTITY);
    let any_of_text = definition.get("x-kubernetes-int-or-string") == Some(&Value::Bool(true));
    let any = name.is_some_and(|n| {
        n.starts_with(EXTENSIONS)
            && n[EXTENSIONS.len()..].starts_with("JSON")
            && !n.ends_with("JSONSchemaProps")
    });
    let ty = match definition.get("type").and_then(Value::as_str) {
        _ if any => Type::Any,
        _ if any_of_text => Type::IntOrString,
        Some("object") => Type::Object,
        Some("array") => Type::Array,
        Some("string") => Type::String,
        Some("integer") => Type::Integer,
        Some("number") => Type::Number,
        Some("boolean") => Type::Boolean,
        _ => Type::Any,
    };
    let mut schema = Schema { name: name.map(str::to_owned), ty, quantity, ..Schema::default() };
    if let Some(properties) = definition.get("properties").and_then(Value::as_object) {
        schema.properties =
            properties.iter().map(|(k, v)| (k.clone(), node_of(v))).collect::<BTreeMap<_, _>>();
        for (key, property) in properties {
            let strategy = property.get("x-kubernetes-patch-strategy").and_then(Value::as_str).unwrap_or("");
            if strategy.contains("retainKeys") {
                schema.retain_keys.insert(key.clone());
            }
        }
    }
    schema.additional = definition.get("additionalProperties").filter(|a| a.is_object()).map(node_of);
    schema.items = definition.get("items").map(node_of);
    // A type of no declared fields is raw JSON of some other kind.
    schema.preserve_unknown =
        ty == Type::Object && schema.properties.is_empty() && schema.additional.is_none();
    schema.atomic = definition.get("x-kubernetes-map-type").and_then(Value::as_str) == Some("atomic");
    schema.list = match definition.get("x-kubernetes-list-type").and_then(Value::as_str) {
        Some("set") => ListType::Set,
        Some("map") => ListType::Map(
            definition["x-kubernetes-list-map-keys"]
                .as_array()
                .map(|keys| keys.iter().filter_map(Value::as_str).map(str::to_owned).collect())
                .unwrap_or_default(),
        ),
        _ => ListType::Atomic,
    };
    let merges = definition
        .get("x-kubernetes-patch-strategy")
        .and_then(Value::as_str)
        .is_some_and(|s| s.split(',').any(|word| word == "merge"));
    schema.merge =
        merges.then(|| match definition.get("x-kubernetes-patch-merge-key").and_then(Value::as_str) {
            Some(key) => ListMerge::By(key.to_owned()),
            None => ListMerge::Scalars,
        });
    // The protocol is half of a port's identity and has a default.
    if name.is_some_and(|n| n.ends_with(".ContainerPort") || n.ends_with(".ServicePort"))
        && let Some(Node::Here(protocol)) = schema.properties.get_mut("protocol")
        && let Some(protocol) = Arc::get_mut(protocol)
    {
        protocol.default = Some(json!("TCP"));
    }
    schema
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn containers_are_a_map_by_name_and_ports_default_their_protocol() {
        let pod = definition("io.k8s.api.core.v1.PodSpec");
        let containers = pod.field("containers").unwrap();
        assert_eq!(containers.list, ListType::Map(vec!["name".into()]));
        assert_eq!(containers.merge, Some(ListMerge::By("name".into())));
        let port = containers.item().unwrap().field("ports").unwrap().item().unwrap();
        assert_eq!(port.field("protocol").unwrap().default, Some(json!("TCP")));
    }

    #[test]
    fn every_rule_names_a_field_that_is_published_or_belongs_to_a_newer_version() {
        let pod = rules_of("io.k8s.api.core.v1.PodSpec").unwrap();
        for field in ["containers", "initContainers", "volumes", "tolerations"] {
            assert!(definition("io.k8s.api.core.v1.PodSpec").field(field).is_some(), "{field}");
        }
        assert!(pod.contains_key("imagePullSecrets"));
        assert!(!pod.contains_key("tolerations"), "tolerations are atomic");
    }
}
