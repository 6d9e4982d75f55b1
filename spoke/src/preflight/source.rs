//! InspectSource: what would be moved, into the inventory, with the objects themselves.
//!
//! It gathers as the export does ([`crate::collect::gather`]), into the archives that the export
//! replaces later. `Candidates` is put together from them: what is of cluster scope is known only
//! once the namespaces were read, and comes first.

mod choices;
mod classes;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use isthmus_shared::protocol::{Direction, Outcome, Run, VolumeFacts};
use isthmus_shared::quantity;
use isthmus_shared::resources::{MAX_VOLUMES, NamespaceMove, Side, VolumeAction};
use isthmus_shared::staging::{ArchiveError, ArchiveName};
use serde_json::Value;

use super::concern::{Concern, Severity};
use super::fullness::too_full;
use super::health::Unwell;
use super::hooks::look_at_hooks;
use super::movers::{Site, SiteClaim, look_at_movers, node_of};
use crate::cluster::{ObjectId, array, describe, discover, name, namespace, text};
use crate::collect::{
    Gathered, Header, NamespaceFacts, NamespacePlace, Scope, Staged, gather, read_survey, resolve,
    write_header,
};
use crate::findings::{Findings, finding};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};
use crate::volumes::{
    ClaimUser, Fullness, Measured, Outlook, Users, arriving, kept_names, of_kubelets, of_sent, outlook,
};

/// The most namespaces of a source that are looked at.
const MAX_LOOKED_AT: usize = 20_000;
/// The most Pods of one namespace that are looked at.
const MAX_PODS: usize = 10_000;

/// Looks at the source; writes the inventory, the candidates and what is left behind. Changes
/// nothing in the cluster.
pub async fn inspect_source(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let destination = read_survey(&area).await?;
    let source = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the source", "asking which kinds it serves", &e))?;
    for problem in source.problems() {
        // Measurements would not be taken anyway, and their servers are often down.
        if problem.contains("metrics.k8s.io") {
            context.log(format!("note: {problem}"));
        } else {
            context.warn(finding("the source", "ApiNotReadable", problem.as_str()));
        }
    }
    let mut failures = Findings::default();
    let hooks = look_at_hooks(&run.spec, Side::Source, &context.spoke.name, context.spoke.hook_commands);
    note(context, hooks, &mut failures);
    let moves = namespaces(context, run, &mut failures).await?;
    let (mut scope, of_spec) = Scope::of(&run.spec, source, &destination);
    failures.append(of_spec);
    scope.context.kept_volumes = kept_names(context, run).await?;
    let mut header = Header::default();
    for moved in &moves {
        header.namespaces.extend(read_namespace(context, &moved.from).await?);
    }
    let names: Vec<&str> = moves.iter().map(|moved| moved.from.as_str()).collect();
    let mut staged = Staged::begin(context, &area, "looking at")?;
    let Gathered { counts, kinds, claims, needs, failures: disagreements } =
        gather(context.cluster(), &scope, &names, &mut staged).await?;
    staged.finish().await?;
    failures.append(disagreements);
    header.kinds = kinds;
    header.claims = claims;
    failures.extend(choices::in_the_way(&run.spec, &header.claims, &needs.claim_templates));
    header.kept = choices::kept_volumes(context, run, &header.claims, &mut failures).await?;
    if run.spec.include_volumes {
        (header.volumes, header.users) = look_at_claims(context, run, &moves, &header, &mut failures).await?;
    }
    for name in &names {
        look_at_pods(context, name).await?;
    }
    header.storage_classes = classes::of_storage(context.cluster(), &needs.storage_classes).await?;
    header.ingress_classes = classes::of_ingress(context.cluster(), &needs.ingress_classes).await?;
    if !failures.is_empty() {
        return Err(TaskError::Failed(failures));
    }
    write_candidates(&area, &header, &names).await?;
    let objects = if run.spec.include_resources { counts.total } else { 0 };
    context.log(format!(
        "{objects} objects and {} volumes to move, {} objects left behind",
        header.volumes.len(),
        counts.left_behind
    ));
    Ok(Outcome::SourceInspected { volumes: header.volumes, objects, namespaces: moves })
}

/// Tells of what is in the way, by how much it is.
fn note(context: &TaskContext, concerns: Vec<Concern>, failures: &mut Findings) {
    for Concern { severity, finding } in concerns {
        match severity {
            Severity::Failure => failures.push(finding),
            Severity::Warning => context.warn(finding),
        }
    }
}

/// The namespaces of the run, and what is wrong with them.
async fn namespaces(
    context: &TaskContext,
    run: &Run,
    failures: &mut Findings,
) -> Result<Vec<NamespaceMove>, TaskError> {
    let mut present = Vec::new();
    let mut next = None;
    loop {
        let page = context
            .cluster()
            .page("/api/v1/namespaces", "", next.as_deref())
            .await
            .map_err(|e| TaskError::cluster("the namespaces", "listing them", &e))?;
        present.extend(page.items.iter().map(NamespaceFacts::of));
        if present.len() > MAX_LOOKED_AT {
            let message = format!(
                "the source has more than {MAX_LOOKED_AT} namespaces, which is more than are looked at"
            );
            return Err(TaskError::failed("the namespaces", "TooManyNamespaces", message));
        }
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    let place = NamespacePlace { cluster: &context.spoke.name, own: &context.spoke.namespace };
    let resolved = resolve(&run.spec, &present, place);
    for warning in resolved.warnings {
        context.warn(warning);
    }
    failures.append(resolved.failures);
    // What is not there was told; the others are looked at, so that all is told at once.
    let there =
        |moved: &NamespaceMove| present.iter().any(|facts| facts.name == moved.from && !facts.terminating);
    Ok(resolved.moves.into_iter().filter(there).collect())
}

async fn read_namespace(context: &TaskContext, name: &str) -> Result<Option<Value>, TaskError> {
    let object = format!("Namespace {name}");
    context
        .cluster()
        .find(&format!("/api/v1/namespaces/{name}"))
        .await
        .map_err(|e| TaskError::cluster(&object, "reading it", &e))
}

/// The inventory and the candidates, both in the order of applying.
async fn write_candidates(area: &StagingArea, header: &Header, namespaces: &[&str]) -> Result<(), TaskError> {
    let mut inventory = area.write(ArchiveName::Inventory)?;
    let mut candidates = area.write(ArchiveName::Candidates)?;
    write_header(&mut inventory, header).await?;
    let mut archives = vec![ArchiveName::Cluster];
    for namespace in namespaces {
        archives.push(ArchiveName::namespace(namespace).map_err(ArchiveError::from)?);
    }
    for archive in archives {
        let mut objects = area.read(archive).await?;
        while let Some(object) = objects.next().await? {
            candidates.push(&object).await?;
            inventory.push(&serde_json::to_value(ObjectId::of(&object)).unwrap_or_default()).await?;
        }
    }
    candidates.finish().await?;
    inventory.finish().await?;
    Ok(())
}

/// Tells of Pods that are not well.
async fn look_at_pods(context: &TaskContext, place: &str) -> Result<(), TaskError> {
    let path = format!("/api/v1/namespaces/{place}/pods");
    let (mut unwell, mut next, mut count) = (Unwell::default(), None, 0);
    loop {
        let page = context.cluster().page(&path, "", next.as_deref()).await;
        let page = page.map_err(|e| TaskError::cluster(&path, "listing it", &e))?;
        page.items.iter().for_each(|pod| unwell.see(pod));
        count += page.items.len();
        next = page.next;
        if next.is_none() || count >= MAX_PODS {
            break;
        }
    }
    for found in unwell.findings(place) {
        context.warn(found);
    }
    Ok(())
}

/// The volumes that move, and who uses them.
async fn look_at_claims(
    context: &TaskContext,
    run: &Run,
    moves: &[NamespaceMove],
    header: &Header,
    failures: &mut Findings,
) -> Result<(Vec<VolumeFacts>, Vec<ClaimUser>), TaskError> {
    let area = context.staging(run)?;
    let (mut volumes, mut users, mut sites) = (Vec::new(), Vec::new(), Vec::new());
    let mut held = Vec::new();
    let mut means = None;
    let mut sent = HashSet::new();
    for place in &header.namespaces {
        let to = moves.iter().find(|moved| moved.from == name(place)).map_or(name(place), |moved| &moved.to);
        let mut site = Site { namespace: place.clone(), is_there: true, claims: Vec::new() };
        let claims: Vec<&Value> =
            header.claims.iter().filter(|claim| namespace(claim) == name(place)).collect();
        if claims.is_empty() {
            continue;
        }
        let of_place = Users::read(context.cluster(), name(place))
            .await
            .map_err(|e| TaskError::cluster(describe(place), "looking for who uses its claims", &e))?;
        for claim in claims {
            let object = describe(claim);
            if run.spec.action_of(namespace(claim), name(claim)) != VolumeAction::Copy {
                continue;
            }
            let pod = of_place.pods(name(claim)).next();
            let by_snapshot = match outlook(context, run, &mut means, claim, pod.is_some()).await? {
                Outlook::Live => false,
                Outlook::Snapshot => true,
                Outlook::Impossible(failure) => {
                    failures.push(failure);
                    continue;
                }
            };
            // A snapshot is read wherever the application's Pods are.
            // A cutover reads it once the application has stopped.
            match verdict(claim, pod.filter(|_| !by_snapshot && !run.spec.quiesce), &run.source) {
                Verdict::Moves => {}
                Verdict::Empty(message) => {
                    context.warn(finding(object, "ClaimNotBound", message));
                    continue;
                }
                Verdict::InTheWay { reason, message } => {
                    failures.push(finding(object, reason, message));
                    continue;
                }
            }
            let (volume, passes) = of_sent(&area, claim, arriving(run, claim, to)).await?;
            if !sent.insert(volume.clone()) {
                let message = format!(
                    "staging takes it for the same volume as another claim of the run ({volume}): move the two by runs of \
                     their own"
                );
                failures.push(finding(object, "SameVolume", message));
                continue;
            }
            volumes.push(VolumeFacts {
                only_at_rest: pod.is_some() && !by_snapshot && is_of_one_pod(claim),
                namespace: namespace(claim).to_owned(),
                claim: name(claim).to_owned(),
                uid: volume,
                capacity_bytes: capacity(claim),
                last_pass: passes.newest,
                last_complete_pass: passes.newest_complete,
            });
            let user = of_place.of(namespace(claim), name(claim));
            let node = node_of(of_place.pods(name(claim)));
            let by = passes.newest_complete.map(Measured::Pass);
            let of_pass = by.zip(passes.content()).map(|(by, used)| Fullness { used, by });
            held.push(Held { claim, node: node.clone(), of_pass });
            let mounted_on = node.filter(|_| !by_snapshot);
            site.claims.push(SiteClaim { claim: claim.clone(), user: user.clone(), mounted_on });
            if !user.is_empty() {
                users.push(user);
            }
        }
        sites.push(site);
    }
    look_at_fullness(context, run, &held).await?;
    note(context, look_at_movers(context, run, Direction::Send, &sites).await?, failures);
    if volumes.len() > MAX_VOLUMES {
        let message = format!(
            "{} volumes are more than one migration takes ({MAX_VOLUMES}): migrate fewer namespaces at once",
            volumes.len()
        );
        failures.push(finding("the migration", "TooManyVolumes", message));
    }
    Ok((volumes, users))
}

/// A volume whose data moves: where it is mounted, and what its last complete pass has counted.
struct Held<'a> {
    claim: &'a Value,
    node: Option<String>,
    of_pass: Option<Fullness>,
}

/// Tells of volumes that hold more than their claims have room for on the destination.
async fn look_at_fullness(context: &TaskContext, run: &Run, held: &[Held<'_>]) -> Result<(), TaskError> {
    let mounted: BTreeSet<String> = held.iter().filter_map(|held| held.node.clone()).collect();
    let mut measured = BTreeMap::new();
    if !mounted.is_empty() {
        context.doing("asking how full the volumes are");
        let nodes = context.spoke.nodes.read(context.cluster()).await;
        let nodes = nodes.map_err(|e| TaskError::cluster("the nodes", "listing them", &e))?;
        measured = of_kubelets(context.cluster(), &nodes, &mounted).await;
    }
    for Held { claim, of_pass, .. } in held {
        let (place, called) = (namespace(claim), name(claim));
        let now = measured.get(&(place.to_owned(), called.to_owned()));
        let Some(fullness) = now.and_then(|now| now.of_volume(capacity(claim))).or(*of_pass) else {
            continue;
        };
        if let Some(found) = too_full(claim, run.spec.choice_of(place, called), fullness) {
            context.warn(found);
        }
    }
    Ok(())
}

/// Whether no second Pod can mount a claim beside the one that has it.
fn is_of_one_pod(claim: &Value) -> bool {
    array(claim, "/spec/accessModes").iter().any(|mode| mode == "ReadWriteOncePod")
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Moves,
    Empty(String),
    InTheWay { reason: &'static str, message: String },
}

/// What becomes of a claim; `pod` is one that mounts it now.
fn verdict(claim: &Value, pod: Option<&Value>, cluster: &str) -> Verdict {
    let phase = text(claim, "/status/phase");
    let once_by_one_pod = is_of_one_pod(claim);
    if phase == "Lost" {
        return Verdict::InTheWay {
            reason: "ClaimLost",
            message:
                "its volume is gone on the source: restore it, or leave the claim behind with the annotation \
                      isthmus.dev/skip"
                    .to_owned(),
        };
    }
    if phase != "Bound" || text(claim, "/spec/volumeName").is_empty() {
        return Verdict::Empty(
            "it is not bound to a volume on the source: it is created without data".to_owned(),
        );
    }
    if let Some(pod) = pod.filter(|_| once_by_one_pod) {
        return Verdict::InTheWay {
            reason: "ClaimInUse",
            message: format!(
                "it is ReadWriteOncePod and Pod {} has it, so no mover can mount it: stop the application for as long as \
                 the run lasts (isthmus deactivate {} --cluster {cluster}), or move it with method Snapshot where its storage class has a \
                 snapshot class; then run again",
                name(pod),
                namespace(claim)
            ),
        };
    }
    Verdict::Moves
}

/// The capacity that the volume has; else what was asked for.
pub(super) fn capacity(claim: &Value) -> u64 {
    let granted = quantity::bytes(text(claim, "/status/capacity/storage"));
    if granted > 0 { granted } else { quantity::bytes(text(claim, "/spec/resources/requests/storage")) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn claim(phase: &str, mode: &str) -> Value {
        json!({"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "data", "namespace": "cms"},
               "spec": {"accessModes": [mode], "volumeName": "pv-1", "resources": {"requests": {"storage": "1Gi"}}},
               "status": {"phase": phase, "capacity": {"storage": "2Gi"}}})
    }

    #[test]
    fn a_bound_claim_moves_and_one_that_is_pending_arrives_empty() {
        let pod = json!({"metadata": {"name": "db-0"}});
        assert_eq!(verdict(&claim("Bound", "ReadWriteOnce"), Some(&pod), "east"), Verdict::Moves);
        let mut block = claim("Bound", "ReadWriteOnce");
        block["spec"]["volumeMode"] = json!("Block");
        assert_eq!(verdict(&block, Some(&pod), "east"), Verdict::Moves);
        assert!(matches!(verdict(&claim("Pending", "ReadWriteOnce"), None, "east"), Verdict::Empty(_)));
        assert_eq!(capacity(&claim("Bound", "ReadWriteOnce")), 2 << 30);
    }

    #[test]
    fn claims_that_no_mover_can_read_are_in_the_way() {
        let pod = json!({"metadata": {"name": "db-0"}});
        let reason = |claim: &Value, in_use: bool| match verdict(claim, in_use.then_some(&pod), "east") {
            Verdict::InTheWay { reason, .. } => reason,
            _ => "",
        };
        assert_eq!(reason(&claim("Lost", "ReadWriteOnce"), false), "ClaimLost");
        assert_eq!(reason(&claim("Bound", "ReadWriteOncePod"), true), "ClaimInUse");
        assert_eq!(reason(&claim("Bound", "ReadWriteOncePod"), false), "");
        let Verdict::InTheWay { message, .. } =
            verdict(&claim("Bound", "ReadWriteOncePod"), Some(&pod), "east")
        else {
            panic!("it is in use")
        };
        assert!(message.contains("isthmus deactivate cms --cluster east"), "as it can be typed: {message}");
    }
}
