//! OpenAPI documents: enough of v3 for clients to validate, patch and explain by, and the minimal v2.

use std::collections::BTreeSet;

use serde_json::{Map, Value, json};

use super::registry::{Registry, Resource, SchemaSource};
use super::schema::builtin::DEFINITIONS;
use super::store::Store;

const REFERENCE: &str = "#/components/schemas/";
/// The content type of the v2 document in its binary form: asked for with an `@`, answered without,
/// because no content type may have one.
pub const PROTOBUF_ANSWER: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
/// What clients accept for the v2 document in its binary form.
pub const PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";

fn document_path(group: &str, version: &str) -> String {
    if group.is_empty() { format!("api/{version}") } else { format!("apis/{group}/{version}") }
}

/// `/openapi/v3`.
pub fn index(registry: &Registry) -> Value {
    let mut paths = Map::new();
    for resource in registry.all() {
        let path = document_path(&resource.group, &resource.version);
        let url = json!({"serverRelativeURL": format!("/openapi/v3/{path}")});
        paths.insert(path, url);
    }
    json!({ "paths": paths })
}

/// `/openapi/v3/…` of one group version.
pub fn document(registry: &Registry, store: &Store, group: &str, version: &str) -> Option<Value> {
    if !registry.serves(group, version) {
        return None;
    }
    let mut paths = Map::new();
    let mut schemas = Map::new();
    for resource in registry.all().iter().filter(|r| r.group == group && r.version == version) {
        let name = schema_name(resource);
        paths_of(resource, &name, &mut paths);
        let mut schema = match &resource.schema {
            SchemaSource::Published(name) => {
                collect(name, &mut schemas);
                schemas.get(name).cloned().unwrap_or_else(|| json!({"type": "object"}))
            }
            SchemaSource::Custom(_) => custom_schema(resource, store, &mut schemas),
        };
        let gvk = json!([{"group": resource.group, "version": resource.version, "kind": resource.kind}]);
        schema["x-kubernetes-group-version-kind"] = gvk;
        schemas.insert(name, schema);
    }
    Some(json!({
        "openapi": "3.0.0",
        "info": {"title": "Kubernetes", "version": "unversioned"},
        "paths": paths,
        "components": {"schemas": schemas},
    }))
}

fn schema_name(resource: &Resource) -> String {
    match &resource.schema {
        SchemaSource::Published(name) => name.clone(),
        SchemaSource::Custom(_) => {
            let group: Vec<&str> = resource.group.split('.').rev().collect();
            format!("{}.{}.{}", group.join("."), resource.version, resource.kind)
        }
    }
}

/// Puts a definition and all that it refers to.
fn collect(name: &str, into: &mut Map<String, Value>) {
    let mut waiting = vec![name.to_owned()];
    let mut seen: BTreeSet<String> = BTreeSet::new();
    while let Some(name) = waiting.pop() {
        if !seen.insert(name.clone()) {
            continue;
        }
        let Some(definition) = DEFINITIONS.get(&name) else { continue };
        references(definition, &mut waiting);
        into.entry(name).or_insert_with(|| definition.clone());
    }
}

fn references(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(map) => {
            if let Some(name) =
                map.get("$ref").and_then(Value::as_str).and_then(|r| r.strip_prefix(REFERENCE))
            {
                found.push(name.to_owned());
            }
            map.values().for_each(|child| references(child, found));
        }
        Value::Array(items) => items.iter().for_each(|child| references(child, found)),
        _ => {}
    }
}

fn custom_schema(resource: &Resource, store: &Store, schemas: &mut Map<String, Value>) -> Value {
    let key = (String::new(), format!("{}.{}", resource.plural, resource.group));
    let definition = store.get("apiextensions.k8s.io/customresourcedefinitions", &key);
    let versions = definition.as_ref().and_then(|d| d["spec"]["versions"].as_array());
    let version = versions.into_iter().flatten().find(|v| v["name"] == resource.version.as_str());
    let mut schema =
        version.map_or_else(|| json!({"type": "object"}), |v| v["schema"]["openAPIV3Schema"].clone());
    let meta = super::schema::builtin::OBJECT_META;
    collect(meta, schemas);
    if let Some(properties) =
        super::json::object(&mut schema).entry("properties").or_insert_with(|| json!({})).as_object_mut()
    {
        properties.insert("apiVersion".to_owned(), json!({"type": "string"}));
        properties.insert("kind".to_owned(), json!({"type": "string"}));
        properties.insert("metadata".to_owned(), json!({"allOf": [{"$ref": format!("{REFERENCE}{meta}")}]}));
    }
    schema
}

fn paths_of(resource: &Resource, schema: &str, paths: &mut Map<String, Value>) {
    let root = format!("/{}", document_path(&resource.group, &resource.version));
    let scope = if resource.namespaced { "/namespaces/{namespace}" } else { "" };
    let collection = format!("{root}{scope}/{}", resource.plural);
    let gvk = json!({"group": resource.group, "version": resource.version, "kind": resource.kind});
    let operation = |action: &str, writes: bool| {
        let parameter = |name: &str| json!({"name": name, "in": "query", "schema": {"type": "string", "uniqueItems": true}});
        let mut operation = json!({
            "tags": [resource.plural],
            "x-kubernetes-action": action,
            "x-kubernetes-group-version-kind": gvk,
            "responses": {"200": {"description": "OK", "content": {"application/json": {"schema": {"$ref": format!("{REFERENCE}{schema}")}}}}},
        });
        if writes {
            operation["parameters"] =
                json!([parameter("dryRun"), parameter("fieldManager"), parameter("fieldValidation")]);
        }
        operation
    };
    let mut all = Map::new();
    all.insert("post".to_owned(), operation("post", true));
    if resource.stored {
        all.insert("get".to_owned(), operation("list", false));
        all.insert("delete".to_owned(), operation("deletecollection", false));
    }
    paths.insert(collection.clone(), Value::Object(all));
    if !resource.stored {
        return;
    }
    let one = json!({
        "get": operation("get", false),
        "put": operation("put", true),
        "patch": operation("patch", true),
        "delete": operation("delete", false),
    });
    paths.insert(format!("{collection}/{{name}}"), one);
    for sub in &resource.subs {
        let one = json!({"get": operation("get", false), "put": operation("put", true), "patch": operation("patch", true)});
        paths.insert(format!("{collection}/{{name}}/{}", sub.name()), one);
    }
}

/// The v2 document in the binary form that clients ask for: as empty of types as the JSON one.
pub fn version_two_binary() -> Vec<u8> {
    let field = |number: u8, content: &[u8]| {
        let mut out = vec![number << 3 | 2, u8::try_from(content.len()).unwrap_or(0)];
        out.extend_from_slice(content);
        out
    };
    let info = [field(1, b"Kubernetes"), field(2, b"unversioned")].concat();
    [field(1, b"2.0"), field(2, &info), field(8, b""), field(9, b"")].concat()
}

/// `/openapi/v2`: valid, and empty of types; clients of this server's version use v3.
pub fn version_two() -> Value {
    json!({"swagger": "2.0", "info": {"title": "Kubernetes", "version": "unversioned"}, "paths": {}, "definitions": {}})
}
