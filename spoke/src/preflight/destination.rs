//! InspectDestination: whether the destination can take what the inventory lists.

use std::collections::{BTreeMap, HashSet};

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::StorageClassFact;
use isthmus_shared::staging::ArchiveName;
use serde_json::Value;

use super::pod_security;
use super::source::capacity;
use crate::apply::{is_ours, taken};
use crate::cluster::{Catalogue, Cluster, ClusterError, describe, discover, name, namespace, text};
use crate::collect::{Header, InventoryReader, KindCount};
use crate::findings::{Findings, finding};
use crate::hub_link::storage_class;
use crate::task::{TaskContext, TaskError};
use crate::volumes::pods_of_claims;

/// Storage classes that are looked at.
const MAX_CLASSES: usize = 1_000;

/// The names of the inventory by namespace, `apiVersion` and kind.
type Names = BTreeMap<(String, String, String), HashSet<String>>;

/// Looks whether the destination can take what the inventory lists. Changes nothing.
pub async fn inspect_destination(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let archive = area.read(ArchiveName::Inventory).await?;
    let mut inventory = InventoryReader::new(archive).await?;
    let mut names = Names::new();
    while let Some(entry) = inventory.next().await? {
        let place = (entry.namespace.unwrap_or_default(), entry.api_version, entry.kind);
        names.entry(place).or_default().insert(entry.name);
    }
    let header = inventory.header;
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let mut failures = Findings::default();
    let present = look_at_namespaces(context, &header, &mut failures).await?;
    if run.spec.include_resources {
        for kind in &header.kinds {
            failures.extend(failures_of_kind(&catalogue, kind));
        }
        for ((place, api_version, kind), names) in &names {
            let of_claims = api_version == "v1" && kind == "PersistentVolumeClaim";
            if present.contains(place) && !of_claims {
                context.doing(format!("looking for names of {kind} in {place}"));
                look_for_names(
                    context.cluster(),
                    &catalogue,
                    (place, api_version, kind),
                    names,
                    &mut failures,
                )
                .await?;
            }
        }
    }
    if run.spec.include_resources || run.spec.include_volumes {
        look_at_claims(context, run, &header, &present, &mut failures).await?;
    }
    if failures.is_empty() { Ok(Outcome::Done) } else { Err(TaskError::Failed(failures)) }
}

/// Which of the namespaces are there already.
async fn look_at_namespaces(
    context: &TaskContext,
    header: &Header,
    failures: &mut Findings,
) -> Result<HashSet<String>, TaskError> {
    let mut present = HashSet::new();
    for source in &header.namespaces {
        let name = name(source);
        let object = format!("Namespace {name}");
        let live = context
            .cluster()
            .find(&format!("/api/v1/namespaces/{name}"))
            .await
            .map_err(|e| TaskError::cluster(&object, "reading it", &e))?;
        if let Some(live) = &live {
            if !text(live, "/metadata/deletionTimestamp").is_empty() {
                let message = "it is being deleted on the destination: wait until it is gone (look at its finalizers \
                               if it stays), then run again";
                failures.push(finding(object, "NamespaceTerminating", message));
                continue;
            }
            present.insert(name.to_owned());
        }
        let has_volumes = header.volumes.iter().any(|volume| volume.namespace == name);
        if !has_volumes {
            continue;
        }
        if let Some(failure) =
            pod_security::forbidden_by_label(live.as_ref().unwrap_or(source), name, "destination")
        {
            failures.push(failure);
        } else if live.is_some() {
            let found = pod_security::forbidden_by_server(
                context.cluster(),
                &context.spoke.movers.image,
                name,
                "destination",
            )
            .await
            .map_err(|e| TaskError::cluster(object, "trying the mover's Pod", &e))?;
            failures.extend(found);
        }
    }
    Ok(present)
}

fn failures_of_kind(catalogue: &Catalogue, kind: &KindCount) -> Option<isthmus_shared::resources::Finding> {
    let api_version =
        if kind.group.is_empty() { kind.version.clone() } else { format!("{}/{}", kind.group, kind.version) };
    let object = format!("{api_version} {}", kind.kind);
    let served = catalogue.versions(&kind.group, &kind.kind);
    let of = format!("{} objects of it would be taken along", kind.count);
    if served.contains(&kind.version) || (served.is_empty() && kind.crd) {
        None
    } else if served.is_empty() {
        Some(finding(
            object,
            "KindNotServed",
            format!(
                "only the source serves this kind, and {of}: install what serves it on the destination, or leave these \
                 objects behind with the annotation isthmus.dev/skip"
            ),
        ))
    } else {
        Some(finding(
            object,
            "VersionNotServed",
            format!(
                "the destination serves this kind as {} only, and {of}: upgrade what serves it, or leave these objects \
                 behind with the annotation isthmus.dev/skip",
                served.join(", ")
            ),
        ))
    }
}

async fn look_for_names(
    cluster: &Cluster,
    catalogue: &Catalogue,
    (place, api_version, kind): (&str, &str, &str),
    names: &HashSet<String>,
    failures: &mut Findings,
) -> Result<(), TaskError> {
    let Some(kind) = catalogue.find(api_version, kind) else { return Ok(()) };
    let path = kind.collection(Some(place));
    let mut next = None;
    loop {
        let page = match cluster.page(&path, "", next.as_deref()).await {
            Ok(page) => page,
            Err(error) => return gone_or_failed(&error, &kind.resource()),
        };
        for live in page.items.iter().filter(|live| names.contains(name(live)) && !is_ours(live)) {
            let problem = taken(live);
            failures.push(finding(describe(live), &problem.reason, problem.message));
        }
        next = page.next;
        if next.is_none() {
            return Ok(());
        }
    }
}

/// A kind whose server is down is told by the applying itself, if it matters by then.
fn gone_or_failed(error: &ClusterError, resource: &str) -> Result<(), TaskError> {
    match error.code() {
        Some(404 | 405 | 503) => Ok(()),
        _ => Err(TaskError::cluster(resource, "listing it", error)),
    }
}

async fn look_at_claims(
    context: &TaskContext,
    run: &Run,
    header: &Header,
    present: &HashSet<String>,
    failures: &mut Findings,
) -> Result<(), TaskError> {
    if header.claims.is_empty() {
        return Ok(());
    }
    let classes: Vec<StorageClassFact> = context
        .cluster()
        .list("/apis/storage.k8s.io/v1/storageclasses", "", MAX_CLASSES)
        .await
        .map_err(|e| TaskError::cluster("the storage classes", "listing them", &e))?
        .iter()
        .map(storage_class)
        .collect();
    for claim in &header.claims {
        let moves = run.spec.include_volumes
            && header.volumes.iter().any(|v| v.namespace == namespace(claim) && v.claim == name(claim));
        let live = if present.contains(namespace(claim)) {
            let path =
                format!("/api/v1/namespaces/{}/persistentvolumeclaims/{}", namespace(claim), name(claim));
            context
                .cluster()
                .find(&path)
                .await
                .map_err(|e| TaskError::cluster(describe(claim), "reading it", &e))?
        } else {
            None
        };
        match live {
            None => failures.extend(class_failure(claim, &classes, &context.spoke.name)),
            Some(live) if !is_ours(&live) => {
                let problem = taken(&live);
                failures.push(finding(describe(claim), &problem.reason, problem.message));
            }
            Some(live) => {
                let users =
                    pods_of_claims(context.cluster(), namespace(claim), name(claim)).await.map_err(|e| {
                        TaskError::cluster(describe(claim), "looking for the Pods that use it", &e)
                    })?;
                if moves && !users.is_empty() {
                    let message = in_use(claim, &users[0], &context.spoke.name);
                    failures.push(finding(describe(claim), "ClaimInUse", message));
                }
                if moves && capacity(&live) > 0 && capacity(&live) < capacity(claim) {
                    let message = "the destination's claim is smaller than the source's: enlarge it, or delete it to \
                                   have it made anew, then run again";
                    failures.push(finding(describe(claim), "ClaimTooSmall", message));
                }
            }
        }
    }
    Ok(())
}

fn in_use(claim: &Value, user: &Value, cluster: &str) -> String {
    let pod = name(user);
    if text(user, "/metadata/deletionTimestamp").is_empty() {
        format!(
            "it is in use on the destination by Pod {pod}, and its data would be changed under it: stop the application \
             there (isthmus deactivate {} --cluster {cluster}), then run again",
            namespace(claim)
        )
    } else {
        format!("Pod {pod} on the destination still uses it, and is about to end: run again once it is gone")
    }
}

fn class_failure(
    claim: &Value,
    classes: &[StorageClassFact],
    cluster: &str,
) -> Option<isthmus_shared::resources::Finding> {
    let known: Vec<&str> = classes.iter().map(|class| class.name.as_str()).collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    match claim.pointer("/spec/storageClassName").and_then(Value::as_str) {
        // Without a class a claim takes a volume that somebody makes by hand.
        Some("") => None,
        Some(class) if classes.iter().any(|c| c.name == class) => None,
        Some(class) => Some(finding(
            describe(claim),
            "StorageClassNotFound",
            format!(
                "cluster {cluster} has no storage class {class} (it has: {known}): create one of this name there, then run \
                 again"
            ),
        )),
        None if classes.iter().any(|c| c.default) => None,
        None => Some(finding(
            describe(claim),
            "NoDefaultStorageClass",
            format!(
                "it names no storage class, and cluster {cluster} has no default one (it has: {known}): annotate one there \
                 with storageclass.kubernetes.io/is-default-class=true, then run again"
            ),
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::cluster::Kind;

    fn class(name: &str, default: bool) -> StorageClassFact {
        StorageClassFact {
            name: name.to_owned(),
            provisioner: "p".to_owned(),
            default,
            wait_for_first_consumer: false,
        }
    }

    fn claim(class: Option<&str>) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms"},
               "spec": {"storageClassName": class}})
    }

    #[test]
    fn a_lacking_storage_class_is_named_with_those_that_are_there() {
        let failure = class_failure(&claim(Some("fast")), &[class("slow", true)], "west").unwrap();
        assert_eq!(failure.object, "PersistentVolumeClaim cms/data");
        assert!(failure.message.contains("fast") && failure.message.contains("slow"), "{}", failure.message);
        assert!(class_failure(&claim(Some("slow")), &[class("slow", false)], "west").is_none());
    }

    #[test]
    fn a_claim_without_a_class_needs_a_default_one() {
        assert!(class_failure(&claim(None), &[class("slow", true)], "west").is_none());
        let failure = class_failure(&claim(None), &[class("slow", false)], "west").unwrap();
        assert_eq!(failure.reason, "NoDefaultStorageClass");
    }

    #[test]
    fn a_kind_that_only_the_source_serves_is_in_the_way_unless_its_definition_goes_along() {
        let catalogue = Catalogue::of(vec![Kind {
            group: "autoscaling".to_owned(),
            version: "v1".to_owned(),
            kind: "HorizontalPodAutoscaler".to_owned(),
            plural: "horizontalpodautoscalers".to_owned(),
            namespaced: true,
            verbs: Vec::new(),
        }]);
        let kind = |group: &str, version: &str, kind: &str, crd| KindCount {
            group: group.to_owned(),
            version: version.to_owned(),
            kind: kind.to_owned(),
            count: 2,
            crd,
            ..KindCount::default()
        };
        let reason = |k: KindCount| failures_of_kind(&catalogue, &k).map(|f| f.reason);
        assert_eq!(reason(kind("example.com", "v1", "Widget", false)).as_deref(), Some("KindNotServed"));
        assert_eq!(reason(kind("example.com", "v1", "Widget", true)), None);
        let autoscaler = kind("autoscaling", "v2", "HorizontalPodAutoscaler", false);
        assert_eq!(reason(autoscaler).as_deref(), Some("VersionNotServed"));
    }
}
