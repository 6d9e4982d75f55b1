//! Which of the served kinds are read: each kind once, in the version that the source prefers.

use crate::cluster::{Catalogue, Kind};

/// Groups that serve a second time, or in another form, what a first group serves.
const SHADOWS: &[(&str, &str)] = &[
    // Old clusters serve Deployments, Ingresses and the like in both.
    ("extensions", "apps"),
    ("extensions", "networking.k8s.io"),
    ("events.k8s.io", ""),
    ("authorization.openshift.io", "rbac.authorization.k8s.io"),
    ("security.openshift.io", "policy"),
];

/// The namespaced kinds that can be read and made again.
pub fn movable(catalogue: &Catalogue) -> Vec<Kind> {
    let mut chosen: Vec<Kind> = Vec::new();
    for kind in catalogue.kinds() {
        let usable = kind.namespaced && kind.can("list") && kind.can("get") && kind.can("create");
        let seen = chosen.iter().any(|c| c.group == kind.group && c.kind == kind.kind);
        if usable && !seen && !is_shadow(catalogue, kind) {
            chosen.push(kind.clone());
        }
    }
    chosen
}

fn is_shadow(catalogue: &Catalogue, kind: &Kind) -> bool {
    SHADOWS.iter().any(|(shadow, original)| {
        kind.group == *shadow && catalogue.preferred(original, &kind.kind).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(group: &str, version: &str, kind: &str, verbs: &[&str]) -> Kind {
        Kind {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
            namespaced: true,
            verbs: verbs.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn each_kind_is_read_once_and_what_cannot_be_made_not_at_all() {
        let all = ["get", "list", "create"];
        let catalogue = Catalogue::of(vec![
            kind("", "v1", "Event", &all),
            kind("events.k8s.io", "v1", "Event", &all),
            kind("extensions", "v1beta1", "Ingress", &all),
            kind("networking.k8s.io", "v1", "Ingress", &all),
            kind("autoscaling", "v2", "HorizontalPodAutoscaler", &all),
            kind("autoscaling", "v1", "HorizontalPodAutoscaler", &all),
            kind("metrics.k8s.io", "v1beta1", "PodMetrics", &["get", "list"]),
            kind("authorization.k8s.io", "v1", "LocalSubjectAccessReview", &["create"]),
        ]);
        let chosen: Vec<String> = movable(&catalogue)
            .iter()
            .map(|k| format!("{} {} {}", k.resource(), k.version, k.kind))
            .collect();
        assert_eq!(
            chosen,
            [
                "events v1 Event",
                "ingresss.networking.k8s.io v1 Ingress",
                "horizontalpodautoscalers.autoscaling v2 HorizontalPodAutoscaler"
            ]
        );
    }
}
