//! What would start a stopped workload again, and what has. Pure.

use std::collections::BTreeMap;

use isthmus_shared::resources::Finding;
use serde_json::Value;

use super::state::{Switch, Way};
use crate::cluster::{annotation, api_version, array, describe, kind, label, name, namespace, text};
use crate::findings::finding;

/// The annotation by which Argo CD knows its own.
const ARGO_TRACKING: &str = "argocd.argoproj.io/tracking-id";
/// The label by which it does where it is set up so; Helm writes it as well.
const ARGO_LABEL: &str = "app.kubernetes.io/instance";
/// Flux's labels: of whom, and the label of its namespace.
const FLUX: &[(&str, &str, &str)] = &[
    ("Kustomization", "kustomize.toolkit.fluxcd.io/name", "kustomize.toolkit.fluxcd.io/namespace"),
    ("HelmRelease", "helm.toolkit.fluxcd.io/name", "helm.toolkit.fluxcd.io/namespace"),
];
/// Owners that are told of one by one.
const MAX_TOLD: usize = 10;

/// Warnings of what would start the workloads again: each autoscaler, application and Flux owner once.
/// `argo_cd` says whether the cluster has it.
pub fn warnings<'a>(
    workloads: impl Iterator<Item = &'a Value> + Clone,
    autoscalers: &[Value],
    argo_cd: bool,
) -> Vec<Finding> {
    let mut found = Vec::new();
    for autoscaler in autoscalers {
        let target = workloads.clone().find(|workload| {
            namespace(workload) == namespace(autoscaler)
                && kind(workload) == text(autoscaler, "/spec/scaleTargetRef/kind")
                && name(workload) == text(autoscaler, "/spec/scaleTargetRef/name")
        });
        if let Some(target) = target {
            let message = format!(
                "it scales {}: Kubernetes' own leaves it alone while it has no replicas, others may not; if it starts \
                 again, delete or pause the autoscaler until the source is removed",
                describe(target)
            );
            found.push(finding(describe(autoscaler), "Autoscaled", message));
        }
    }
    let mut owners: BTreeMap<String, (usize, String)> = BTreeMap::new();
    for workload in workloads {
        for owner in deployers(workload, argo_cd) {
            let entry = owners.entry(owner).or_insert_with(|| (0, describe(workload)));
            entry.0 += 1;
        }
    }
    let total = owners.len();
    for (owner, (count, first)) in owners.into_iter().take(MAX_TOLD) {
        let message = format!(
            "it deploys {count} of the workloads that are stopped ({first} among them) and may start them again: suspend \
             it, or switch its automatic sync off, until the source is removed"
        );
        found.push(finding(owner, "DeployedByGitOps", message));
    }
    if total > MAX_TOLD {
        let message =
            format!("{} more deploy workloads that are stopped: suspend them likewise", total - MAX_TOLD);
        found.push(finding("GitOps", "DeployedByGitOps", message));
    }
    found
}

fn deployers(workload: &Value, argo_cd: bool) -> Vec<String> {
    let mut found = Vec::new();
    let tracked = annotation(workload, ARGO_TRACKING).and_then(|id| id.split(':').next());
    let labelled = label(workload, ARGO_LABEL)
        .filter(|_| argo_cd && label(workload, "app.kubernetes.io/managed-by").is_none_or(|by| by != "Helm"));
    if let Some(application) = tracked.or(labelled) {
        found.push(format!("Argo CD Application {application}"));
    }
    for (kind, key, place) in FLUX {
        if let Some(name) = label(workload, key) {
            let place = label(workload, place).unwrap_or_else(|| namespace(workload));
            found.push(format!("Flux {kind} {place}/{name}"));
        }
    }
    found
}

/// Who has changed what a workload is stopped by: the newest field manager of the field but ourselves.
pub fn who_started<'a>(way: Way<'_>, workload: &'a Value) -> Option<&'a str> {
    let paths: Vec<String> = match way {
        Way::Switch(Switch::Replicas) => vec!["/spec/replicas".to_owned()],
        Way::Switch(Switch::Suspend) => vec!["/spec/suspend".to_owned()],
        Way::Switch(Switch::NodeSelector) => vec!["/spec/template/spec/nodeSelector".to_owned()],
        Way::Rule(rule) => rule.fields.iter().map(|field| field.path.clone()).collect(),
    };
    array(workload, "/metadata/managedFields")
        .iter()
        .filter(|entry| text(entry, "/manager") != isthmus_shared::resources::FIELD_MANAGER)
        .filter(|entry| {
            paths
                .iter()
                .any(|path| entry.pointer(&format!("/fieldsV1{}", path.replace('/', "/f:"))).is_some())
        })
        .max_by_key(|entry| text(entry, "/time"))
        .map(|entry| text(entry, "/manager"))
}

/// A warning that a workload was started while all was to stand still, and was stopped again.
pub fn started_again(way: Way<'_>, workload: &Value) -> Finding {
    let who = who_started(way, workload).map_or_else(|| "something".to_owned(), |who| format!("{who:?}"));
    let message = format!(
        "{who} started it again, and it was stopped again: suspend what deploys or scales it until the source is removed"
    );
    finding(describe(workload), "StartedAgain", message)
}

/// The failure when that goes on.
pub fn will_not_stand_still(way: Way<'_>, workload: &Value, times: u32) -> Finding {
    let who = who_started(way, workload).map_or_else(|| "something".to_owned(), |who| format!("{who:?}"));
    let message = format!(
        "{who} has started it again {times} times: suspend what deploys or scales it ({}), then run again",
        api_version(workload)
    );
    finding(describe(workload), "WillNotStandStill", message)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::rules::Registry;
    use super::*;

    fn deployment(name: &str, labels: Value, annotations: Value) -> Value {
        let mut deployment = json!({"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 2},
                                    "metadata": {"name": name, "namespace": "cms"}});
        deployment["metadata"]["labels"] = labels;
        deployment["metadata"]["annotations"] = annotations;
        deployment
    }

    #[test]
    fn autoscalers_and_git_ops_owners_are_told_once_each() {
        let workloads = [
            deployment("a", json!({}), json!({ARGO_TRACKING: "shop:apps/Deployment:cms/a"})),
            deployment("b", json!({}), json!({ARGO_TRACKING: "shop:apps/Deployment:cms/b"})),
            deployment(
                "c",
                json!({"kustomize.toolkit.fluxcd.io/name": "apps", "kustomize.toolkit.fluxcd.io/namespace": "flux-system"}),
                json!({}),
            ),
            deployment("d", json!({ARGO_LABEL: "d", "app.kubernetes.io/managed-by": "Helm"}), json!({})),
        ];
        let scaler = |target: &str| {
            json!({"apiVersion": "autoscaling/v2", "kind": "HorizontalPodAutoscaler", "metadata": {"name": target, "namespace": "cms"},
                   "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": target}}})
        };
        let found = warnings(workloads.iter(), &[scaler("a"), scaler("gone")], true);
        let objects: Vec<&str> = found.iter().map(|found| found.object.as_str()).collect();
        assert_eq!(
            objects,
            [
                "HorizontalPodAutoscaler cms/a",
                "Argo CD Application shop",
                "Flux Kustomization flux-system/apps"
            ]
        );
        assert!(found[1].message.contains("2 of the workloads"));
    }

    #[test]
    fn the_instance_label_alone_says_argo_only_where_there_is_argo() {
        let workloads = [deployment("a", json!({ARGO_LABEL: "shop"}), json!({}))];
        assert!(warnings(workloads.iter(), &[], false).is_empty());
        assert_eq!(warnings(workloads.iter(), &[], true)[0].object, "Argo CD Application shop");
    }

    #[test]
    fn who_started_a_workload_again_is_read_from_its_managed_fields() {
        let mut workload = deployment("a", json!({}), json!({}));
        workload["metadata"]["managedFields"] = json!([
            {"manager": "isthmus", "time": "2026-01-01T00:00:09Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "helm", "time": "2026-01-01T00:00:01Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "argocd-controller", "time": "2026-01-01T00:00:05Z", "fieldsV1": {"f:spec": {"f:replicas": {}}}},
            {"manager": "kubelet", "time": "2026-01-01T00:00:08Z", "fieldsV1": {"f:status": {}}}]);
        let way = Registry::built_in().way(&workload).unwrap();
        assert_eq!(who_started(way, &workload), Some("argocd-controller"));
        assert!(started_again(way, &workload).message.contains("argocd-controller"));
    }
}
