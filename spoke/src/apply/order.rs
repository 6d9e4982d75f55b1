//! The order in which objects are applied: what others refer to comes first.
//!
//! Kubernetes accepts most objects in any order; the order saves retries, and keeps workloads
//! from being made before what their pods need.

use crate::workloads::state::SWITCHES;

/// The last rank.
pub const LAST: usize = 5;

/// The rank of a kind, from 0 to [`LAST`]. Objects of one rank may be applied side by side.
pub fn rank(group: &str, kind: &str) -> usize {
    match (group, kind) {
        // A controller deletes the token Secrets of accounts that are not there.
        ("", "ServiceAccount") => 0,
        ("", "Secret" | "ConfigMap" | "PersistentVolumeClaim" | "LimitRange") => 1,
        ("rbac.authorization.k8s.io", _) | ("", "Service") | ("networking.k8s.io", "NetworkPolicy") => 2,
        // A quota that is nearly full would stop what has to be made before it.
        ("", "ResourceQuota") | ("autoscaling" | "policy", _) => LAST,
        _ if SWITCHES.iter().any(|(g, k, _)| *g == group && *k == kind) => 4,
        _ => 3,
    }
}

/// When an object of cluster scope is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ClusterStage {
    /// Before anything else: the kinds of other objects.
    Definitions,
    /// Before the namespaces: what their objects refer to.
    Before,
    /// Directly after: what refers to the former.
    Bindings,
    /// After the namespaces: what would call services in them that are not there yet.
    After,
    /// Not applied: namespaces are made by PrepareDestination.
    Elsewhere,
}

/// The stage of a kind of cluster scope.
pub fn cluster_stage(group: &str, kind: &str) -> ClusterStage {
    match (group, kind) {
        ("", "Namespace") => ClusterStage::Elsewhere,
        ("apiextensions.k8s.io", "CustomResourceDefinition") => ClusterStage::Definitions,
        ("rbac.authorization.k8s.io", "ClusterRoleBinding")
        | (
            "admissionregistration.k8s.io",
            "ValidatingAdmissionPolicyBinding" | "MutatingAdmissionPolicyBinding",
        ) => ClusterStage::Bindings,
        ("apiregistration.k8s.io", _)
        | (
            "admissionregistration.k8s.io",
            "ValidatingWebhookConfiguration" | "MutatingWebhookConfiguration",
        ) => ClusterStage::After,
        _ => ClusterStage::Before,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_come_before_their_tokens_before_roles_before_custom_resources_before_workloads_before_quotas()
    {
        let ranks = [
            rank("", "ServiceAccount"),
            rank("", "Secret"),
            rank("rbac.authorization.k8s.io", "RoleBinding"),
            rank("example.com", "Database"),
            rank("apps", "Deployment"),
            rank("", "ResourceQuota"),
        ];
        assert_eq!(ranks, [0, 1, 2, 3, 4, LAST]);
    }

    #[test]
    fn definitions_come_first_and_what_calls_services_last() {
        let stages = [
            cluster_stage("apiextensions.k8s.io", "CustomResourceDefinition"),
            cluster_stage("scheduling.k8s.io", "PriorityClass"),
            cluster_stage("rbac.authorization.k8s.io", "ClusterRoleBinding"),
            cluster_stage("admissionregistration.k8s.io", "ValidatingWebhookConfiguration"),
        ];
        assert!(stages.is_sorted() && stages[1] == cluster_stage("rbac.authorization.k8s.io", "ClusterRole"));
        assert_eq!(cluster_stage("apiregistration.k8s.io", "APIService"), ClusterStage::After);
    }
}
