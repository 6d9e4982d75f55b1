//! Namespaces brought to a stand: all that can be stopped is stopped, and then it is waited until the
//! Pods have gone.
//!
//! ```text
//!   survey   what cannot be stopped, told before anything is changed
//!   stop     ┌▶ sweep   everything that runs is stopped; what runs again is stopped again and told
//!            │   ▼
//!            └─ Pods are left, or something ran; else all stand still
//! ```
//!
//! A sweep that finds everything stopped, after the last Pod has gone, is what success stands on.

mod remaining;

use std::collections::HashMap;
use std::time::Duration;

use isthmus_shared::resources::Finding;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::charge::{Charge, Owners, Standing, mounts_claims, runs, unknown_owner};
use super::inventory::{Reader, Workload};
use super::patience::Patience;
use super::rules::{Registry, Rule};
use super::state::{self, Way};
use super::switch::{Aim, bring_all, by_turns};
use super::undoing;
use crate::cluster::{ClusterError, DeleteOptions, array, describe, name, namespace, text, uid};
use crate::findings::{Findings, finding};
use crate::task::{TaskContext, TaskError};
use remaining::{progress_of, timed_out};

/// How often it is looked whether the Pods have gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often it is looked whether something runs again.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
/// How often one workload is stopped again before that is given up.
const MAX_UNDONE: u32 = 20;

/// Namespaces that are to stand still.
pub struct Standstill<'a> {
    /// The task.
    pub context: &'a TaskContext,
    /// The cluster.
    pub reader: Reader<'a>,
    /// The namespaces.
    pub namespaces: Vec<String>,
    /// The migration that marks what it stops; none where all is stopped without a mark.
    pub mark: Option<&'a str>,
    /// The operators are stopped themselves, so that what they run is stopped by nobody else.
    pub operators_stop: bool,
    /// How long it takes at the most.
    pub patience: Patience,
}

/// Namespaces that stand still.
#[derive(Clone, Copy, Debug)]
pub struct Stopped {
    /// Workloads that stand still.
    pub workloads: usize,
    /// Workloads that were changed for it.
    pub changed: usize,
    /// When the last Pod was gone.
    pub at: Timestamp,
}

/// What a sweep found.
#[derive(Default)]
struct Sweep {
    /// Workloads in all.
    total: usize,
    /// Those that were stopped by this sweep.
    changed: usize,
    /// Those that have not come to rest by what their statuses say.
    restless: Vec<String>,
}

/// What runs, and who stops it.
struct Scene {
    workloads: Vec<Workload>,
    pods: Vec<Value>,
    owners: Owners,
}

impl Standstill<'_> {
    fn registry(&self) -> &Registry {
        self.reader.registry
    }

    async fn look(&self) -> Result<Scene, TaskError> {
        let mut workloads = Vec::new();
        for namespace in &self.namespaces {
            workloads.extend(self.reader.workloads(namespace).await.map_err(|e| listing(namespace, &e))?);
        }
        let mut scene = Scene { workloads, pods: self.pods().await?, owners: Owners::default() };
        for workload in &scene.workloads {
            scene.owners.note(self.registry(), &workload.object);
        }
        let objects = scene.workloads.iter().map(|workload| &workload.object).chain(&scene.pods);
        self.reader
            .complete(&mut scene.owners, objects)
            .await
            .map_err(|e| TaskError::cluster("the workloads", "reading what owns them", &e))?;
        Ok(scene)
    }

    async fn pods(&self) -> Result<Vec<Value>, TaskError> {
        let mut pods = Vec::new();
        for namespace in &self.namespaces {
            pods.extend(self.reader.pods(namespace).await.map_err(|e| listing(namespace, &e))?);
        }
        Ok(pods)
    }

    /// What is in the way of a stand; changes nothing. What a person should know is told on the way.
    pub async fn survey(&self) -> Result<(), TaskError> {
        let scene = self.look().await?;
        let failures = self.obstacles(&scene);
        for pod in scene.pods.iter().filter(|pod| self.standing(&scene, pod) == Standing::Bare) {
            if !mounts_claims(pod) {
                let message = "no workload runs it, so it is not stopped, and it has no volumes: delete it if it must \
                               not run beside the destination's";
                self.context.warn(finding(describe(pod), "BarePod", message));
            }
        }
        self.warn_of_undoers(&scene).await?;
        if failures.is_empty() { Ok(()) } else { Err(TaskError::Failed(failures)) }
    }

    fn standing(&self, scene: &Scene, pod: &Value) -> Standing {
        scene.owners.standing(self.registry(), pod, self.operators_stop)
    }

    fn charge(&self, scene: &Scene, workload: &Workload) -> Charge {
        scene.owners.charge(self.registry(), &workload.object, self.operators_stop)
    }

    /// What cannot be stopped.
    fn obstacles(&self, scene: &Scene) -> Findings {
        let mut failures = Findings::default();
        for workload in scene.workloads.iter().filter(|workload| runs(self.registry(), &workload.object)) {
            if let Charge::Unknown { owner } = self.charge(scene, workload) {
                failures.push(unknown_owner(&workload.object, &owner));
            }
        }
        for pod in &scene.pods {
            match self.standing(scene, pod) {
                Standing::Bare if mounts_claims(pod) => failures.push(bare_pod(pod)),
                Standing::Unknown { owner } => failures.push(unknown_owner(pod, &owner)),
                _ => {}
            }
        }
        failures
    }

    async fn warn_of_undoers(&self, scene: &Scene) -> Result<(), TaskError> {
        let mut autoscalers = Vec::new();
        if let Some(kind) = self.reader.catalogue.preferred("autoscaling", "HorizontalPodAutoscaler") {
            for namespace in &self.namespaces {
                let found =
                    self.reader.cluster.list(&kind.collection(Some(namespace)), "", MAX_AUTOSCALERS).await;
                let failed =
                    |e| TaskError::cluster(format!("Namespace {namespace}"), "listing its autoscalers", &e);
                autoscalers.extend(found.map_err(failed)?);
            }
        }
        let argo_cd = self.reader.catalogue.preferred("argoproj.io", "Application").is_some();
        let running = scene.workloads.iter().map(|workload| &workload.object);
        let running = running.filter(|object| runs(self.registry(), object));
        for warning in undoing::warnings(running, &autoscalers, argo_cd) {
            self.context.warn(warning);
        }
        Ok(())
    }

    /// Stops everything, and waits until all Pods have gone and everything is still stopped.
    pub async fn stop(&self) -> Result<Stopped, TaskError> {
        let mut stopped_by_us: HashMap<String, u32> = HashMap::new();
        let mut changed = 0;
        let mut gone_at = None;
        loop {
            let scene = self.look().await?;
            let failures = self.obstacles(&scene);
            if !failures.is_empty() {
                return Err(TaskError::Failed(failures));
            }
            let left = self.left(&scene);
            gone_at = if left.is_empty() { gone_at.or_else(|| Some(Timestamp::now())) } else { None };
            let sweep = self.sweep(&scene, &mut stopped_by_us).await?;
            changed += sweep.changed;
            if let Some(at) = gone_at.filter(|_| sweep.changed == 0 && sweep.restless.is_empty()) {
                return Ok(Stopped { workloads: sweep.total, changed, at });
            }
            self.wait_for_pods(scene, &sweep).await?;
        }
    }

    /// Waits until the Pods have gone, or it is time for a sweep. Only Pods are read meanwhile.
    async fn wait_for_pods(&self, mut scene: Scene, sweep: &Sweep) -> Result<(), TaskError> {
        let until = Instant::now() + SWEEP_EVERY;
        loop {
            let left = self.left(&scene);
            self.context.progress(|progress| progress_of(progress, sweep.total, &left, &sweep.restless));
            if self.patience.is_over() {
                return Err(TaskError::Failed(timed_out(&left, &sweep.restless, &self.patience.told())));
            }
            tokio::time::sleep(LOOK_EVERY).await;
            if left.is_empty() || Instant::now() >= until {
                return Ok(());
            }
            scene.pods = self.pods().await?;
        }
    }

    /// The Pods that have to go and have not.
    fn left<'a>(&self, scene: &'a Scene) -> Vec<&'a Value> {
        scene.pods.iter().filter(|pod| self.standing(scene, pod) == Standing::Goes).collect()
    }

    /// Stops what runs: operators' custom resources first, then what is stopped by itself.
    async fn sweep(&self, scene: &Scene, before: &mut HashMap<String, u32>) -> Result<Sweep, TaskError> {
        let ours: Vec<Workload> = scene
            .workloads
            .iter()
            .filter(|workload| !state::has_finished(&workload.object))
            .filter(|workload| self.charge(scene, workload) == Charge::Ours)
            .cloned()
            .collect();
        let mut sweep = Sweep { total: ours.len(), ..Sweep::default() };
        self.tell_undone(&ours, before)?;
        for workload in &ours {
            if let Some(restless) = self.restless(&workload.object) {
                sweep.restless.push(restless);
            }
        }
        let aim = self.mark.map_or(Aim::Stop, Aim::Quiesce);
        for (turn, workloads) in by_turns(self.registry(), ours, false).into_iter().enumerate() {
            let resources: Vec<Workload> = if turn == 0 { workloads.clone() } else { Vec::new() };
            let changed = bring_all(self.context, self.registry(), workloads, aim).await?;
            sweep.changed += changed.len();
            for object in &changed {
                *before.entry(uid(object).to_owned()).or_default() += 1;
                if self.registry().way(object).is_none_or(|way| !way.is_stopped(object)) {
                    return Err(TaskError::Failed(misfit(object).into()));
                }
            }
            for resource in &resources {
                sweep.changed += self.delete_dependents(&resource.object).await?;
            }
        }
        Ok(sweep)
    }

    /// Tells of what was stopped by this task and runs again; what does so without end is a failure.
    fn tell_undone(&self, ours: &[Workload], before: &HashMap<String, u32>) -> Result<(), TaskError> {
        let mut failures = Findings::default();
        for Workload { object, .. } in ours {
            let Some(way) = self.registry().way(object).filter(|way| !way.is_stopped(object)) else {
                continue;
            };
            if way.stop(object).is_none() {
                failures.push(misfit(object));
                continue;
            }
            match before.get(uid(object)).copied().unwrap_or_default() {
                0 => {}
                1 => self.context.warn(undoing::started_again(way, object)),
                times if times >= MAX_UNDONE => {
                    failures.push(undoing::will_not_stand_still(way, object, times));
                }
                _ => {}
            }
        }
        if failures.is_empty() { Ok(()) } else { Err(TaskError::Failed(failures)) }
    }

    /// What of a workload's status says that it has not come to rest: its controller may be about to
    /// make Pods.
    fn restless(&self, object: &Value) -> Option<String> {
        let number = |pointer: &str| object.pointer(pointer).and_then(Value::as_i64);
        let way = self.registry().way(object)?;
        let unseen = match way {
            Way::Switch(_) => number("/status/observedGeneration")
                .is_some_and(|observed| observed < number("/metadata/generation").unwrap_or_default()),
            // An operator that is stopped itself writes no status any more.
            Way::Rule(rule) => !self.operators_stop && !rule.shows_stopped(object),
        };
        (unseen && way.is_stopped(object)).then(|| describe(object))
    }

    /// Deletes what keeps the Pods of a stopped custom resource running, where its rule says so.
    async fn delete_dependents(&self, resource: &Value) -> Result<usize, TaskError> {
        let Some(Way::Rule(rule)) = self.registry().way(resource) else { return Ok(0) };
        let mut deleted = 0;
        for dependent in &rule.deletes {
            let Some(kind) = self.reader.catalogue.preferred(&dependent.group, &dependent.kind) else {
                continue;
            };
            let failed =
                |e| TaskError::cluster(describe(resource), "deleting what its operator makes anew", &e);
            let collection = kind.collection(Some(namespace(resource)));
            let found = self.reader.cluster.list(&collection, "", MAX_DEPENDENTS).await.map_err(failed)?;
            for object in found.iter().filter(|object| belongs(self.registry(), rule, resource, object)) {
                if !text(object, "/metadata/deletionTimestamp").is_empty() {
                    continue;
                }
                let path = kind.object(Some(namespace(object)), name(object));
                let options = DeleteOptions { uid: Some(uid(object).to_owned()), foreground: false };
                self.reader.cluster.delete(&path, &options).await.map_err(failed)?;
                self.context.log(format!("{} deleted; its operator makes it anew", describe(object)));
                deleted += 1;
            }
        }
        Ok(deleted)
    }
}

/// Autoscalers of a namespace that are looked at.
const MAX_AUTOSCALERS: usize = 5_000;
/// Objects of a custom resource that are deleted with its stop.
const MAX_DEPENDENTS: usize = 1_000;

/// Whether an object is a custom resource's: it owns it, or the rule's labels say so and no other one
/// with a rule owns it.
fn belongs(registry: &Registry, rule: &Rule, resource: &Value, object: &Value) -> bool {
    let owners = array(object, "/metadata/ownerReferences");
    if owners.iter().any(|owner| text(owner, "/uid") == uid(resource)) {
        return true;
    }
    let of_another = owners.iter().any(|owner| {
        let group = text(owner, "/apiVersion").split_once('/').map_or("", |(group, _)| group);
        registry.rule(group, text(owner, "/kind")).is_some()
    });
    !of_another && rule.claims(resource, object)
}

fn listing(namespace: &str, error: &ClusterError) -> TaskError {
    TaskError::cluster(format!("Namespace {namespace}"), "listing what runs in it", error)
}

fn bare_pod(pod: &Value) -> Finding {
    let message = "no workload runs it, so nothing could start it again where it would be stopped, and it has volumes: \
                   delete it, or put it into a Deployment or StatefulSet, then run again";
    finding(describe(pod), "BarePod", message)
}

fn misfit(object: &Value) -> Finding {
    let message = "it has none of the fields that its suspend rule sets, so that it was not stopped: correct the rule, or \
                   stop it by hand, then run again";
    finding(describe(object), "RuleDoesNotFit", message)
}
