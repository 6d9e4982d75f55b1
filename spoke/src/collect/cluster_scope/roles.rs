//! ClusterRoles and those that they are aggregated from.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::core::{Selector, SelectorExt};
use serde_json::Value;

use super::own;
use crate::cluster::{array, name};
use crate::collect::selection::labels;

/// What is known of a ClusterRole.
#[derive(Clone, Debug)]
pub struct RoleFacts {
    name: String,
    labels: BTreeMap<String, String>,
    /// Of which roles it is made.
    sources: Vec<Selector>,
    /// Whether it is the cluster's own.
    own: bool,
}

impl RoleFacts {
    /// Of a ClusterRole.
    pub fn of(role: &Value) -> Self {
        let sources = array(role, "/aggregationRule/clusterRoleSelectors")
            .iter()
            .filter_map(|selector| serde_json::from_value::<LabelSelector>(selector.clone()).ok())
            .filter_map(|selector| Selector::try_from(selector).ok())
            .collect();
        Self { name: name(role).to_owned(), labels: labels(role), sources, own: own::stays(role).is_some() }
    }
}

/// The roles of these names, and all that they are aggregated from, at whatever depth. A role that
/// is the cluster's own is aggregated on the destination from what that has.
pub fn with_sources(needed: &BTreeSet<String>, all: &[RoleFacts]) -> BTreeSet<String> {
    let mut taken = needed.clone();
    let mut new: Vec<&RoleFacts> = all.iter().filter(|role| needed.contains(&role.name)).collect();
    while let Some(role) = new.pop() {
        if role.own {
            continue;
        }
        for source in all {
            let is_source = role.sources.iter().any(|selector| selector.matches(&source.labels));
            if is_source && taken.insert(source.name.clone()) {
                new.push(source);
            }
        }
    }
    taken
}
