//! The Pods that a workload would make, asked of the API server where their namespace is there.
//!
//! A workload whose Pods would be refused is taken all the same: Kubernetes says so in events
//! alone. So a Pod is made of the template and created by a dry run, which asks the cluster's
//! Pod Security, LimitRanges, OpenShift's constraints, policies and webhooks.

use isthmus_shared::resources::Finding;
use serde_json::{Map, Value, json};

use super::concern::Concern;
use super::places::Place;
use super::pod_shape::template;
use crate::cluster::{Cluster, ClusterError, array, describe, name, namespace, text};
use crate::findings::finding;

/// What the server has against the Pods of a workload, as it would be applied.
pub async fn try_template(
    cluster: &Cluster,
    object: &Value,
    place: &Place,
    starts: bool,
) -> Result<Option<Concern>, ClusterError> {
    let Some(pod) = trial(object, place) else { return Ok(None) };
    let path = format!("/api/v1/namespaces/{}/pods?dryRun=All", namespace(object));
    match cluster.create(&path, &pod).await {
        Ok(_) => Ok(None),
        Err(error) => match judge(&error, &describe(object), has_own_account(object, place)) {
            Some(found) => Ok(Some(Concern::of_pods(starts, found.object, &found.reason, found.message))),
            None if error.code().is_some() => Ok(None),
            None => Err(error),
        },
    }
}

/// A Pod of the template that can be tried before anything is there that comes along.
fn trial(object: &Value, place: &Place) -> Option<Value> {
    let template = template(object)?;
    let mut spec = template.get("spec")?.clone();
    let map = spec.as_object_mut()?;
    // A bare Pod's own trial has told all.
    if crate::cluster::kind(object) == "Pod" {
        return None;
    }
    if !place.accounts.contains(text(template, "/spec/serviceAccountName")) {
        for field in ["serviceAccountName", "serviceAccount"] {
            map.remove(field);
        }
    }
    // Whether these are there is looked at by name, once for all Pods.
    for field in ["priorityClassName", "priority", "preemptionPolicy", "runtimeClassName", "overhead"] {
        map.remove(field);
    }
    mount_claim_templates(map, object);
    let of =
        |which: &str| template.pointer(&format!("/metadata/{which}")).cloned().unwrap_or_else(|| json!({}));
    Some(json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "generateName": "isthmus-preflight-", "namespace": namespace(object),
            "labels": of("labels"), "annotations": of("annotations"),
        },
        "spec": spec,
    }))
}

/// Adds the volumes that a StatefulSet's controller makes of its claim templates: the Pod would be
/// refused for what it mounts without them.
fn mount_claim_templates(spec: &mut Map<String, Value>, object: &Value) {
    let volumes = spec.entry("volumes").or_insert_with(|| json!([]));
    let Some(volumes) = volumes.as_array_mut() else { return };
    for claim in array(object, "/spec/volumeClaimTemplates").iter().map(name) {
        // As the controller does: a template takes the place of a volume of its name.
        volumes.retain(|volume| text(volume, "/name") != claim);
        volumes.push(json!({"name": claim, "persistentVolumeClaim": {"claimName": claim}}));
    }
}

/// Whether the Pod is tried under the account that it will have.
fn has_own_account(object: &Value, place: &Place) -> bool {
    let account =
        template(object).map(|template| text(template, "/spec/serviceAccountName")).unwrap_or_default();
    account.is_empty() || place.accounts.contains(account)
}

fn judge(error: &ClusterError, object: &str, own_account: bool) -> Option<Finding> {
    let message = error.message();
    let says = |text: &str| message.contains(text);
    // The name of the Pod that was tried says nothing to anybody.
    let words = message.split_once(" is forbidden: ").or_else(|| message.split_once(" is invalid: "));
    let words = words.map_or(message.as_str(), |(_, words)| words);
    let found = |reason: &str, advice: &str| {
        let message = format!("its Pods would be refused: {words}; {advice}, then run again");
        Some(finding(object, reason, message))
    };
    // The account and what it may do come along, the sum of all Pods is compared with the quotas,
    // and whether the spoke may make Pods is no matter to the workload.
    let beside_the_point = says("exceeded quota")
        || says("serviceaccount")
        || says("service account")
        || says("is forbidden: User")
        || says("dry run")
        || says("failed calling webhook");
    match error.code()? {
        403 | 422 | 400 if beside_the_point => None,
        403 if says("violates PodSecurity") => found(
            "PodSecurity",
            "lower the namespace's pod-security.kubernetes.io/enforce level on the destination, or correct the security \
             context by a transform",
        ),
        403 if says("security context constraint") && own_account => found(
            "SecurityContextConstraint",
            "grant its service account a constraint that allows it on the destination",
        ),
        // Under its own account it may be allowed.
        403 if says("security context constraint") => None,
        403 if says("failed quota") => found(
            "QuotaNeedsValues",
            "add a LimitRange with defaults to the namespace, or set requests and limits by a transform",
        ),
        403 if says(" usage per ") || says("limit to request ratio per") => found(
            "LimitRange",
            "change the LimitRange on the destination, or requests and limits by a transform",
        ),
        403 | 400 if says("denied the request") || says("denied request") => {
            found("WebhookRefused", "look at the destination's admission rule that it names")
        }
        422 if says("denied request") => {
            found("WebhookRefused", "look at the destination's admission rule that it names")
        }
        422 => found("Invalid", "correct it by a transform; a LimitRange's defaults may be part of it"),
        403 => found("AdmissionRefused", "look at the destination's admission rules"),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(accounts: &[&str]) -> Place {
        Place {
            source: json!({}),
            live: Some(json!({})),
            labels: Map::new(),
            accounts: accounts.iter().map(ToString::to_string).collect(),
        }
    }

    fn deployment() -> Value {
        json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web", "namespace": "cms"},
               "spec": {"template": {"metadata": {"labels": {"app": "web"}}, "spec": {
                   "serviceAccountName": "web", "priorityClassName": "gold", "containers": [{"name": "c", "image": "i"}]}}}})
    }

    #[test]
    fn a_stateful_sets_pod_is_tried_with_the_volumes_of_its_claim_templates() {
        let mut set = deployment();
        set["kind"] = json!("StatefulSet");
        set["spec"]["template"]["spec"]["volumes"] =
            json!([{"name": "data", "emptyDir": {}}, {"name": "tmp", "emptyDir": {}}]);
        set["spec"]["volumeClaimTemplates"] = json!([{"metadata": {"name": "data"}, "spec": {}}]);
        let pod = trial(&set, &place(&["web"])).unwrap();
        assert_eq!(
            pod["spec"]["volumes"],
            json!([{"name": "tmp", "emptyDir": {}}, {"name": "data", "persistentVolumeClaim": {"claimName": "data"}}])
        );
    }

    #[test]
    fn a_pod_is_tried_without_what_is_not_there_yet() {
        let pod = trial(&deployment(), &place(&["default"])).unwrap();
        assert!(
            pod.pointer("/spec/serviceAccountName").is_none()
                && pod.pointer("/spec/priorityClassName").is_none()
        );
        assert_eq!(pod["metadata"]["labels"]["app"], "web");
        assert_eq!(trial(&deployment(), &place(&["web"])).unwrap()["spec"]["serviceAccountName"], "web");
        assert!(trial(&json!({"kind": "ConfigMap"}), &place(&[])).is_none());
    }

    #[test]
    fn each_refusal_of_a_pod_has_its_word_and_some_mean_nothing() {
        let said = |code, message: &str, own| {
            let body = json!({"reason": "Forbidden", "message": message}).to_string();
            let error = ClusterError::refused("POST /pods".to_owned(), code, None, body.as_bytes());
            judge(&error, "Deployment cms/web", own).map(|found| found.reason)
        };
        let reason = |code, message: &str| said(code, message, true).unwrap_or_default();
        assert_eq!(
            reason(403, "pods \"p\" is forbidden: violates PodSecurity \"restricted:latest\": runAsNonRoot"),
            "PodSecurity"
        );
        assert_eq!(
            reason(403, "pods \"p\" is forbidden: maximum cpu usage per Container is 1, but limit is 2"),
            "LimitRange"
        );
        assert_eq!(
            reason(403, "pods \"p\" is forbidden: failed quota: q: must specify limits.cpu for: c"),
            "QuotaNeedsValues"
        );
        assert_eq!(reason(403, "admission webhook \"w\" denied the request: no"), "WebhookRefused");
        assert_eq!(reason(422, "Pod \"p\" is invalid: spec.containers[0].resources.requests"), "Invalid");
        assert_eq!(reason(403, "pods \"p\" is forbidden: exceeded quota: q, requested: pods=1"), "");
        assert_eq!(reason(403, "error looking up service account a/b: serviceaccount \"b\" not found"), "");
        let scc = "pods \"p\" is forbidden: unable to validate against any security context constraint: []";
        assert_eq!(reason(403, scc), "SecurityContextConstraint");
        assert_eq!(said(403, scc, false), None, "under its own account it may be allowed");
        assert_eq!(reason(500, "failed calling webhook"), "");
        let selector = "pods \"p\" is forbidden: pod node label selector conflicts with its namespace node label selector";
        assert_eq!(reason(403, selector), "AdmissionRefused");
    }
}
