//! `ObjectStore`: an S3 bucket that pairs stage through.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Where a bucket is and how it is reached.
#[derive(CustomResource, JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "ObjectStore",
    plural = "objectstores",
    namespaced,
    status = "ObjectStoreStatus",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(
        name = "Ready",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].status"
    ),
    printcolumn(name = "Endpoint", type_ = "string", json_path = ".spec.endpoint"),
    printcolumn(name = "Bucket", type_ = "string", json_path = ".spec.bucket"),
    printcolumn(
        name = "Reason",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ObjectStoreSpec {
    /// The server, e.g. `https://s3.eu-central-1.amazonaws.com`.
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/\s]+(/.*)?$"))]
    pub endpoint: String,
    /// The region that requests are signed for.
    #[serde(default = "default_region")]
    #[schemars(length(min = 1, max = 64))]
    pub region: String,
    /// The bucket. Isthmus never makes or deletes buckets.
    #[schemars(length(min = 3, max = 63), regex(pattern = r"^[a-z0-9][a-z0-9.-]+[a-z0-9]$"))]
    pub bucket: String,
    /// Everything is kept below this key prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 512), regex(pattern = r"^[A-Za-z0-9._/-]*$"))]
    pub prefix: Option<String>,
    /// Whether the bucket goes into the path rather than the host name; what is not AWS mostly
    /// wants it so.
    #[serde(default = "default_path_style")]
    pub path_style: bool,
    /// Certificates (PEM) to trust for the endpoint, beside the system's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub ca_bundle: Option<String>,
    /// The Secret in this namespace with `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY`.
    pub credentials_secret_ref: SecretRef,
    /// Where the store has a security token service: movers then get credentials of a session
    /// that are good for their one volume, not the store's own keys.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sts: Option<StsSpec>,
}

/// How credentials for a single volume are got (AssumeRole with a session policy).
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct StsSpec {
    /// The service, e.g. `https://sts.eu-central-1.amazonaws.com`. The store's own endpoint if it
    /// is left out, as with MinIO and Ceph RGW.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^https?://[^/\s]+(/.*)?$"))]
    pub endpoint: Option<String>,
    /// The role that the store's keys may assume, and that may read, write and list below the
    /// store's prefix. MinIO asks for one and does not look at it.
    #[schemars(length(min = 8, max = 2048), regex(pattern = r"^arn:[^\s:]+:[^\s:]*:[^\s:]*:[^\s:]*:\S+$"))]
    pub role_arn: String,
    /// For how long a session's credentials are good, in seconds; not longer than the role allows.
    /// A mover that takes longer is started again with new ones and goes on where it was.
    #[serde(default = "default_session_seconds")]
    #[schemars(range(min = 900, max = 43200))]
    pub duration_seconds: u32,
}

/// A Secret in the same namespace.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
pub struct SecretRef {
    /// Its name.
    #[schemars(length(min = 1, max = 253))]
    pub name: String,
}

fn default_session_seconds() -> u32 {
    3600
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

fn default_path_style() -> bool {
    true
}

/// What the hub's own probe says of a bucket.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectStoreStatus {
    /// `Ready`: the hub's last probe wrote, read, listed and deleted an object.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}
