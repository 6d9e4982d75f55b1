//! Who asks, and whether they may.
//!
//! [`tokens`] makes and reads bearer tokens, [`rbac`] decides from the Role and binding objects in
//! the store, [`reviews`] answers the review kinds, [`bootstrap`] holds the roles that every cluster
//! starts with.

pub mod bootstrap;
pub mod rbac;
pub mod reviews;
pub mod tokens;

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// The group of those who may do everything.
pub const MASTERS: &str = "system:masters";
/// The group of all who have proved who they are.
pub const AUTHENTICATED: &str = "system:authenticated";

/// A user.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub user: String,
    /// The uid, of service accounts.
    pub uid: String,
    /// The groups.
    pub groups: Vec<String>,
    /// More that is known, such as the pod of a service account's token.
    pub extra: BTreeMap<String, Vec<String>>,
}

impl Identity {
    /// The user that no token was sent for.
    pub fn anonymous() -> Self {
        Self {
            user: "system:anonymous".to_owned(),
            groups: vec!["system:unauthenticated".to_owned()],
            ..Self::default()
        }
    }

    /// The `UserInfo` of reviews.
    pub fn user_info(&self) -> Value {
        let mut info = json!({"username": self.user, "groups": self.groups});
        if !self.uid.is_empty() {
            info["uid"] = json!(self.uid);
        }
        if !self.extra.is_empty() {
            info["extra"] = json!(self.extra);
        }
        info
    }
}

/// What is asked for.
#[derive(Debug, Clone, Default)]
pub struct Attributes {
    /// `get`, `create`, `watch`…
    pub verb: String,
    /// API group.
    pub group: String,
    /// Resource; empty for paths that are no resources.
    pub resource: String,
    /// Part of the resource.
    pub subresource: String,
    /// Namespace; empty for cluster scope.
    pub namespace: String,
    /// Name; empty for collections.
    pub name: String,
    /// The path, of requests that are for no resource.
    pub path: String,
}

impl Attributes {
    /// Why it is refused, in Kubernetes' words.
    pub fn refusal(&self, user: &str) -> String {
        if self.resource.is_empty() {
            return format!("forbidden: User {user:?} cannot {} path {:?}", self.verb, self.path);
        }
        let resource = if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        };
        let head = super::error::qualified(&self.resource, &self.group);
        let name = if self.name.is_empty() { String::new() } else { format!(" {:?}", self.name) };
        let scope = if self.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace {:?}", self.namespace)
        };
        format!(
            "{head}{name} is forbidden: User {user:?} cannot {} resource {resource:?} in API group {:?} {scope}",
            self.verb, self.group
        )
    }
}
