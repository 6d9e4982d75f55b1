//! Failovers: with a source that is heard, with one that is gone, and with one that goes or comes back
//! on the way.

mod beginning;
mod gone;
mod lost;
mod sides;

use isthmus_shared::protocol::Outcome;
use isthmus_shared::resources::{
    Migration, MigrationAction, MigrationPhase, MigrationSpec, MigrationStatus, NamespaceMove, Step,
    VolumePhase, VolumeStatus,
};
use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::world::{World, applied, moved, world};
use crate::itinerary::{Job, Origin, Scheduled, Told, handover};

/// The last complete run of the schedule: two volumes, at different passes.
fn last_run(run: &World) -> Migration {
    let options: MigrationSpec =
        serde_json::from_value(serde_json::json!({"clusterPair": "prod", "namespaces": ["cms:shop"]}))
            .unwrap();
    let mut last = Migration::new("nightly-1", options);
    last.metadata.uid = Some("run-of-schedule".into());
    let volume = |n: usize, pass, phase| VolumeStatus {
        namespace: "cms".into(),
        claim: format!("claim-{n}"),
        uid: format!("v{n}"),
        pass,
        phase,
        ..VolumeStatus::default()
    };
    last.status = Some(MigrationStatus {
        status: MigrationPhase::Succeeded,
        pair_uid: Some("pair-1".into()),
        source: Some("east".into()),
        destination: Some("west".into()),
        started_at: Some(Time(run.now - 3700.seconds())),
        finished_at: Some(Time(run.now - 3600.seconds())),
        namespaces: vec![NamespaceMove { from: "cms".into(), to: "shop".into() }],
        volumes: vec![volume(0, 7, VolumePhase::Succeeded), volume(1, 3, VolumePhase::Succeeded)],
        ..MigrationStatus::default()
    });
    last
}

pub(super) fn failover(change: impl FnOnce(&mut Scheduled)) -> World {
    let mut run = world(|spec| {
        *spec = MigrationSpec {
            action: MigrationAction::Failover,
            schedule: Some("nightly".into()),
            ..MigrationSpec::through("")
        };
    });
    let last = last_run(&run);
    let mut scheduled = Scheduled {
        template: Some(Box::new(last.spec.clone())),
        last: Some(Box::new(last)),
        ..Scheduled::default()
    };
    change(&mut scheduled);
    run.view.origin = Origin::Schedule(Box::new(scheduled));
    run
}

/// Its source has not been heard for long.
pub(super) fn silent(run: &mut World) {
    run.view.since = run.now - 7200.seconds();
    run.view.source.heard_at = Some(run.now - 600.seconds());
    run.view.destination.steady_since = None;
    let pair = run.view.pair.as_mut().unwrap();
    (pair.ready, pair.message) = (false, "east is not heard".into());
}

/// Time passes in which the destination alone is heard.
fn alone(run: &mut World, seconds: i64) {
    run.now += seconds.seconds();
    run.view.destination.heard_at = Some(run.now);
    run.advance();
}

/// As the hub does: what the source is to be told is in its record a moment later.
fn note_handover(run: &mut World) {
    if let Some(wanted) = handover(&run.migration) {
        let state = wanted.activations[0].state;
        if run.view.told.state != Some(state) {
            run.view.told = Told { state: Some(state), ..Told::default() };
            run.advance();
        }
    }
}

fn gone() -> World {
    let mut run = failover(|_| {});
    silent(&mut run);
    run.advance();
    run
}

/// Has the destination do everything until a step is under way, and the hub note what is to be noted.
pub(super) fn on_to(run: &mut World, step: Step) {
    for _ in 0..40 {
        note_handover(run);
        if run.current() == Some(step) {
            return;
        }
        let task = run.tasks().first().unwrap_or_else(|| panic!("no task before {step:?}")).clone();
        let outcome = outcome(&task.job);
        run.succeed(task.id.item.as_deref().unwrap(), outcome);
    }
    panic!("the run never came to {step:?}: {:?}", run.status().pipeline);
}

fn outcome(job: &Job) -> Outcome {
    match job {
        Job::ReceiveVolume(_) => moved(),
        Job::ApplyResources | Job::Verify => applied(),
        _ => Outcome::Done,
    }
}
