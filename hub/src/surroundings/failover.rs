//! What of a schedule a failover goes by: its options, its last complete run, and who has handed its
//! applications over or back since.

use std::collections::HashMap;
use std::sync::Arc;

use isthmus_shared::protocol::HeldPass;
use isthmus_shared::resources::{
    Migration, MigrationAction, MigrationPhase, MigrationStatus, NamespaceMove, SCHEDULE, Step, StepState,
    StepStatus, VolumePhase,
};
use jiff::Timestamp;
use kube::ResourceExt as _;

use super::template::Template;
use crate::itinerary::Scheduled;
use crate::records::Records;

/// The schedule of a failover or a failback, as it is now.
pub(super) fn scheduled(records: &Records, migration: &Migration, name: &str) -> Scheduled {
    let namespace = migration.namespace().unwrap_or_default();
    let Some(schedule) = records.schedules.get(&namespace, name) else { return Scheduled::default() };
    let (template, missing_plan) = match Template::of(records, &schedule) {
        Ok(template) => (Some(template.options()), None),
        Err(missing) => (None, Some(missing)),
    };
    let pair = template.as_ref().and_then(|options| records.pairs.get(&namespace, &options.cluster_pair));
    let pair = pair.and_then(|pair| pair.uid());
    let all: Vec<Arc<Migration>> = records
        .migrations
        .all()
        .into_iter()
        .filter(|m| m.namespace().as_deref() == Some(&namespace))
        .collect();
    let over = newest_handover(&all, name, MigrationAction::Failover);
    let back = newest_handover(&all, name, MigrationAction::Failback);
    let since = over.iter().chain(&back).map(|(at, _)| *at).max();
    let last = complete_runs(&all, name)
        .filter(|(_, status)| status.pair_uid == pair)
        .filter(|(_, status)| status.started_at.as_ref().map(|at| at.0) > since)
        .max_by_key(|(_, status)| status.started_at.as_ref().map(|at| at.0));
    let moved = moved(&all, name, over.as_ref().map(|(_, over)| over.as_str()));
    let runs = all.iter().filter(|run| is_of(run, name));
    let under_way =
        runs.filter(|run| run.status.as_ref().is_some_and(|s| s.status == MigrationPhase::InProgress));
    Scheduled {
        template: template.map(Box::new),
        missing_plan,
        last: last.map(|(run, _)| Box::new(run.clone())),
        failed_over: over
            .filter(|(at, _)| back.as_ref().is_none_or(|(back, _)| back < at))
            .map(|(_, name)| name),
        moved,
        under_way: under_way.map(|run| run.name_any()).collect(),
    }
}

/// The passes that failovers of schedules through a pair would go by, and those of `run`, which may
/// be about to become the last complete one of its schedule.
pub(crate) fn kept(records: &Records, pair_uid: &str, run: Option<&Migration>) -> Vec<HeldPass> {
    let schedules = records.schedules.all();
    if schedules.is_empty() {
        return Vec::new();
    }
    let all = records.migrations.all();
    let newest = newest_complete(all.iter().map(AsRef::as_ref), pair_uid);
    let mut kept: Vec<HeldPass> = Vec::new();
    for schedule in &schedules {
        let (namespace, name) = (schedule.metadata.namespace.as_deref(), schedule.metadata.name.as_deref());
        let (Some(namespace), Some(name)) = (namespace, name) else { continue };
        let own = run.filter(|run| run.metadata.namespace.as_deref() == Some(namespace) && is_of(run, name));
        let own = own.and_then(|run| run.status.as_ref());
        kept.extend(newest.get(&(namespace, name)).copied().into_iter().chain(own).flat_map(passes));
    }
    kept.sort();
    kept.dedup();
    kept
}

/// The newest complete run through a pair of each schedule, by its namespace and name.
fn newest_complete<'a>(
    all: impl Iterator<Item = &'a Migration>,
    pair_uid: &str,
) -> HashMap<(&'a str, &'a str), &'a MigrationStatus> {
    let mut newest: HashMap<(&str, &str), &MigrationStatus> = HashMap::new();
    for run in all {
        let of = (run.metadata.namespace.as_deref(), run.labels().get(SCHEDULE));
        let (Some(namespace), Some(schedule), Some(status)) = (of.0, of.1, complete(run)) else { continue };
        let is_newer = |known: &MigrationStatus| {
            let began = |status: &MigrationStatus| status.started_at.as_ref().map(|at| at.0);
            began(known) < began(status)
        };
        let known = newest.entry((namespace, schedule));
        if status.pair_uid.as_deref() == Some(pair_uid) {
            known
                .and_modify(|known| {
                    if is_newer(known) {
                        *known = status;
                    }
                })
                .or_insert(status);
        }
    }
    newest
}

fn passes(status: &MigrationStatus) -> impl Iterator<Item = HeldPass> {
    let arrived = status.volumes.iter().filter(|volume| volume.phase == VolumePhase::Succeeded);
    arrived.map(|volume| HeldPass { volume: volume.uid.clone(), pass: volume.pass })
}

/// What the namespaces of a schedule came to in a failover, or else in its newest complete run.
fn moved(all: &[Arc<Migration>], schedule: &str, failover: Option<&str>) -> Vec<NamespaceMove> {
    let over = all.iter().find(|run| failover == Some(run.name_any().as_str()));
    let newest = || {
        complete_runs(all, schedule)
            .max_by_key(|(_, status)| status.started_at.as_ref().map(|at| at.0))
            .map(|(_, status)| status)
    };
    let known = over.and_then(|run| run.status.as_ref()).or_else(newest);
    known.map(|status| status.namespaces.clone()).unwrap_or_default()
}

/// Whether a migration is a run of the schedule of that name in its namespace.
fn is_of(run: &Migration, schedule: &str) -> bool {
    run.labels().get(SCHEDULE).is_some_and(|of| of == schedule)
}

fn complete_runs<'a>(
    all: &'a [Arc<Migration>],
    schedule: &'a str,
) -> impl Iterator<Item = (&'a Migration, &'a MigrationStatus)> {
    let runs = all.iter().filter(move |run| is_of(run, schedule));
    runs.filter_map(|run| Some((&**run, complete(run)?)))
}

/// The status of a run that has brought everything.
fn complete(run: &Migration) -> Option<&MigrationStatus> {
    let status = run.status.as_ref().filter(|status| has_arrived(status))?;
    (!run.options().dry_run).then_some(status)
}

/// Whether a run has brought everything, though its clean-up may wait for a source that is gone.
fn has_arrived(status: &MigrationStatus) -> bool {
    let cleans_up = || {
        let done = |step: &StepStatus| match step.step {
            Step::Cleanup => step.state == StepState::InProgress,
            _ => matches!(step.state, StepState::Succeeded | StepState::Skipped),
        };
        !status.pipeline.is_empty() && status.pipeline.iter().all(done)
    };
    status.status.is_success() || (status.status == MigrationPhase::InProgress && cleans_up())
}

/// When a schedule was last failed over or back, and by which migration; one that was undone does not
/// count.
fn newest_handover(
    all: &[Arc<Migration>],
    schedule: &str,
    action: MigrationAction,
) -> Option<(Timestamp, String)> {
    let undone = |name: &str| {
        all.iter().any(|run| {
            run.spec.rollback_of.as_deref() == Some(name)
                && run.status.as_ref().is_some_and(|status| status.status.is_success())
        })
    };
    let ended =
        all.iter().filter(|run| run.spec.action == action && run.spec.schedule.as_deref() == Some(schedule));
    ended
        .filter_map(|run| {
            let status = run.status.as_ref().filter(|status| status.status.is_success())?;
            Some((status.finished_at.as_ref()?.0, run.name_any()))
        })
        .filter(|(_, name)| !undone(name))
        .max()
}
