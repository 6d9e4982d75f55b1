//! What holds whatever spokes report, in whatever order, and however time passes.

use isthmus_shared::protocol::{Outcome, Progress, TaskId, TaskReport, TaskState};
use isthmus_shared::resources::{MAX_FINDINGS, MigrationPhase, ResourceCounts, StepState, VolumePhase};
use proptest::prelude::*;

use super::world::{UID, World, applied, exported, facts, finding, inspected, moved, world};
use crate::itinerary::{UNDO_PATIENCE_SECONDS, advance, side_of};

/// Something that happens.
#[derive(Clone, Copy, Debug)]
enum Happening {
    /// The n-th task that is open ends or goes on.
    Report { task: usize, state: TaskState, warnings: u64 },
    /// A report that came before comes again.
    Again(usize),
    /// A report of any task at all.
    Stray { step: usize, item: usize },
    /// Time passes.
    Time(i64),
    /// The hub starts anew.
    Restart,
    /// The record is deleted.
    Delete,
}

fn happening() -> impl Strategy<Value = Happening> {
    let state = prop_oneof![
        6 => Just(TaskState::Succeeded),
        3 => Just(TaskState::Running),
        1 => Just(TaskState::Failed)
    ];
    prop_oneof![
        12 => (0usize..6, state, 0u64..30).prop_map(|(task, state, warnings)| Happening::Report { task, state, warnings }),
        4 => (0usize..50).prop_map(Happening::Again),
        2 => (0usize..4, 0usize..6).prop_map(|(step, item)| Happening::Stray { step, item }),
        3 => (0i64..700).prop_map(Happening::Time),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Delete),
    ]
}

fn outcome(id: &TaskId) -> Outcome {
    match (id.step.as_str(), id.item.as_deref()) {
        ("Preflight", Some("source")) => inspected((0..4).map(|n| facts(n, 2, Some(1))).collect()),
        ("Preflight", Some("destination")) => Outcome::Previewed { counts: ResourceCounts::default() },
        ("ExportResources", _) => exported(),
        ("ApplyResources" | "Verify", _) => applied(),
        ("FinalVolumes", _) => moved(),
        _ => Outcome::Done,
    }
}

fn happen(run: &mut World, happening: Happening, sent: &mut Vec<TaskReport>) {
    match happening {
        Happening::Report { task, state, warnings } => {
            let open = run.tasks();
            let Some(open) = open.get(task % open.len().max(1)) else { return };
            let progress =
                Progress { bytes_done: warnings, message: Some(warnings.to_string()), ..Progress::default() };
            let mut report = run.report(open.id.clone(), state, progress, None);
            if state == TaskState::Succeeded {
                report.outcome = Some(outcome(&open.id));
            }
            report.warnings = vec![finding("File a"); usize::try_from(warnings).unwrap()];
            report.warnings_total = warnings;
            run.take(&report);
            sent.push(report);
        }
        Happening::Again(n) => {
            if let Some(report) = sent.get(n).cloned() {
                run.take(&report);
            }
        }
        Happening::Stray { step, item } => {
            let step = ["Preflight", "FinalVolumes", "Cleanup", "Quiesce"][step];
            let item = ["source", "destination", "survey", "send.v1", "receive.v9", "x"][item];
            let id = TaskId { record: UID.into(), step: step.into(), item: Some(item.into()) };
            if run.tasks().iter().all(|task| task.id != id) {
                let before = run.status();
                let report =
                    run.report(id.clone(), TaskState::Succeeded, Progress::default(), Some(outcome(&id)));
                run.take(&report);
                assert_eq!(run.status(), before, "{id}");
            }
        }
        Happening::Time(seconds) => run.pass(seconds),
        Happening::Restart => {
            let json = serde_json::to_string(&run.migration).unwrap();
            run.migration = serde_json::from_str(&json).unwrap();
            run.view.since = run.now;
            run.advance();
        }
        Happening::Delete => {
            run.delete();
            run.advance();
        }
    }
}

fn check(run: &World) {
    let status = run.status();
    assert_eq!(advance(&run.migration, &run.view, run.now), status, "advancing again changes nothing");
    assert!(status.failures.len() <= MAX_FINDINGS && status.warnings.len() <= MAX_FINDINGS);
    assert!(status.failures_total >= status.failures.len() as u64);
    let active = status.volumes.iter().filter(|v| v.phase == VolumePhase::InProgress).count();
    assert!(active <= 2, "{active} volumes at a time");
    assert!(status.volumes.iter().all(|v| (v.pass, v.previous_pass) == (3, Some(1))), "a pass never changes");
    let under_way = status.pipeline.iter().filter(|s| s.state == StepState::InProgress).count();
    assert_eq!(under_way, usize::from(status.status == MigrationPhase::InProgress));
    let failed = status.pipeline.iter().any(|s| s.state == StepState::Failed);
    if failed {
        let open = run.tasks();
        assert!(
            open.iter().all(|task| ["StopDestination", "RemoveFromDestination", "Cleanup"]
                .contains(&task.id.step.as_str())),
            "after a failure a promotion only stops and removes what it brought"
        );
    }
    if status.status.is_terminal() {
        assert!(run.tasks().is_empty() && status.finished_at.is_some());
        let ended_early = matches!(status.status, MigrationPhase::Failed | MigrationPhase::RolledBack);
        assert_eq!(ended_early, failed);
    }
    for task in run.tasks() {
        if run.migration.spec.dry_run {
            assert!(["Preflight", "Cleanup"].contains(&task.id.step.as_str()), "{} in a dry run", task.id);
        }
        let side = side_of(&task.id).unwrap();
        let cluster = match side {
            isthmus_shared::resources::Side::Source => &status.source,
            isthmus_shared::resources::Side::Destination => &status.destination,
        };
        assert_eq!(cluster.as_deref(), Some(task.cluster.as_str()), "a task's id tells whose it is");
    }
}

proptest! {
    #[test]
    fn whatever_happens_a_run_keeps_its_promises(
        dry_run in prop::bool::weighted(0.3), story in prop::collection::vec(happening(), 0..80)
    ) {
        let mut run = world(|spec| spec.dry_run = dry_run);
        run.advance();
        let mut sent = Vec::new();
        let mut ended = None;
        for happening in story {
            happen(&mut run, happening, &mut sent);
            check(&run);
            let status = run.status();
            if let Some(ended) = &ended {
                prop_assert_eq!(ended, &status, "what has ended does not change");
            }
            if status.status.is_terminal() {
                ended = Some(status);
            }
        }
        // Left alone, every run ends: by success, or by silence and an abandoned clean-up.
        for _ in 0..4 {
            // What goes back is waited for longest.
            run.pass(UNDO_PATIENCE_SECONDS + 1);
        }
        prop_assert!(run.phase().is_terminal());
    }
}
