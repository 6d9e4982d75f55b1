//! Which steps a run has, and who does what in each.

use isthmus_shared::resources::{MigrationAction, MigrationSpec, Side, Step, StepState, StepStatus};

/// Who has to do something in a step, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Duty {
    /// These, each beginning once the one before it has succeeded. A side that has more than one
    /// part in a step has a name for each but one.
    InTurn(&'static [(Side, Option<&'static str>)]),
    /// These sides at once.
    Together(&'static [Side]),
    /// A sender and a receiver for each volume.
    Volumes,
}

/// The part of Preflight in which the destination says what it serves and has.
pub const SURVEY: &str = "survey";

/// Who does what in a step.
pub fn roster(step: Step) -> Duty {
    match step {
        Step::Preflight => Duty::InTurn(&[
            (Side::Destination, Some(SURVEY)),
            (Side::Source, None),
            (Side::Destination, None),
        ]),
        Step::PreHooks | Step::ExportResources | Step::Quiesce => Duty::Together(&[Side::Source]),
        Step::PrepareDestination
        | Step::ApplyResources
        | Step::Verify
        | Step::StartApplications
        | Step::HealthCheck
        | Step::PostHooks => Duty::Together(&[Side::Destination]),
        Step::StageVolumes | Step::FinalVolumes => Duty::Volumes,
        Step::Cleanup => Duty::Together(&[Side::Source, Side::Destination]),
    }
}

/// The steps of a run, none begun. `FinalVolumes` is there whenever volumes are asked for;
/// whether there are any only the inspection of the source tells. A dry run looks, and removes
/// what it made for itself: nothing that changes anything is in its list.
pub fn plan(spec: &MigrationSpec) -> Vec<StepStatus> {
    let MigrationAction::Final = spec.action;
    if spec.dry_run {
        return [Step::Preflight, Step::Cleanup].map(not_begun).into();
    }
    let mut steps = vec![Step::Preflight, Step::PrepareDestination];
    if spec.include_resources {
        steps.push(Step::ExportResources);
    }
    if spec.include_volumes {
        steps.push(Step::FinalVolumes);
    }
    if spec.include_resources {
        steps.extend([Step::ApplyResources, Step::Verify]);
    }
    if spec.start_applications {
        steps.extend([Step::StartApplications, Step::HealthCheck]);
    }
    steps.push(Step::Cleanup);
    steps.into_iter().map(not_begun).collect()
}

fn not_begun(step: Step) -> StepStatus {
    StepStatus {
        step,
        state: StepState::Pending,
        started_at: None,
        finished_at: None,
        message: None,
        tasks: Vec::new(),
    }
}
