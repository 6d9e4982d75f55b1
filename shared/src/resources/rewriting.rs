//! How a migration chooses, rewrites and meets objects: the types of its options.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;

use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Which objects of cluster scope go along.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum IncludeClusterResources {
    /// Those that the chosen objects need.
    #[default]
    Auto,
    /// Every one that is not a cluster's own.
    All,
    /// None, not even definitions of custom resources.
    None,
}

/// What is done with an object that the destination has already.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum ExistingResourcePolicy {
    /// It stays as it is.
    Skip,
    /// The fields that the source has are set; others stay.
    Update,
    /// It becomes as on the source; where a field cannot be changed, it is deleted and made anew,
    /// except a Service, and a claim that is in use.
    Replace,
    /// The run fails before it begins.
    Fail,
}

/// A person's own rewriting of some objects: a match, and one patch of one form.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct Transform {
    /// What it is called in messages.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub name: Option<String>,
    /// Which objects.
    #[serde(rename = "match")]
    pub matching: TransformMatch,
    /// An RFC 6902 patch.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), schema_with = "json_patch_schema")]
    pub json_patch: Vec<Value>,
    /// An RFC 7386 patch.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub merge_patch: Option<Value>,
    /// A strategic merge patch, for the kinds of Kubernetes itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub strategic_merge_patch: Option<Value>,
}

/// Which objects a transform is for: those that all given parts match.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct TransformMatch {
    /// The API group; `""` is the core group; unset is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub group: Option<String>,
    /// The kind; unset is any.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 63))]
    pub kind: Option<String>,
    /// Globs of names; empty is any.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub names: Vec<String>,
    /// Globs of the namespaces' names on the source; empty is any, and objects of cluster scope.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub namespaces: Vec<String>,
    /// Labels.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "any_object")]
    pub labels: Option<LabelSelector>,
}

fn any_object(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
}

fn json_patch_schema(_: &mut SchemaGenerator) -> Schema {
    schemars::json_schema!({
        "type": "array",
        "maxItems": 100,
        "items": {
            "type": "object",
            "required": ["op", "path"],
            "properties": {
                "op": {"type": "string", "enum": ["add", "remove", "replace", "move", "copy", "test"]},
                "path": {"type": "string", "maxLength": 1024},
                "from": {"type": "string", "maxLength": 1024},
                "value": {"x-kubernetes-preserve-unknown-fields": true}
            }
        }
    })
}
