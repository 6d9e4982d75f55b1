//! The order in which objects are applied: what others refer to comes first.
//!
//! Kubernetes accepts most objects in any order; the order saves retries, and keeps workloads
//! from being made before what their pods need.

use crate::workloads::state::SWITCHES;

/// The last rank.
pub const LAST: usize = 4;

/// The rank of a kind, from 0 to [`LAST`]. Objects of one rank may be applied side by side.
pub fn rank(group: &str, kind: &str) -> usize {
    match (group, kind) {
        ("", "ServiceAccount" | "Secret" | "ConfigMap" | "PersistentVolumeClaim" | "LimitRange") => 0,
        ("rbac.authorization.k8s.io", _) | ("", "Service") | ("networking.k8s.io", "NetworkPolicy") => 1,
        // A quota that is nearly full would stop what has to be made before it.
        ("", "ResourceQuota") | ("autoscaling" | "policy", _) => LAST,
        _ if SWITCHES.iter().any(|(g, k, _)| *g == group && *k == kind) => 3,
        _ => 2,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accounts_come_before_roles_before_custom_resources_before_workloads_before_quotas() {
        let ranks = [
            rank("", "ServiceAccount"),
            rank("rbac.authorization.k8s.io", "RoleBinding"),
            rank("example.com", "Database"),
            rank("apps", "Deployment"),
            rank("", "ResourceQuota"),
        ];
        assert_eq!(ranks, [0, 1, 2, 3, LAST]);
    }
}
