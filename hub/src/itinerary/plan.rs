//! Which steps a run has, and who does what in each.

use isthmus_shared::resources::{
    HookPhase, MigrationAction, MigrationSpec, Side, Step, StepState, StepStatus,
};

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
    /// The sides that have something to do at this phase of the hooks, the source first.
    Hooks(HookPhase),
}

/// The part of Preflight in which the destination says what it serves and has.
pub const SURVEY: &str = "survey";

/// Who does what in a step; of a run that recovers, the destination does everything.
pub fn roster(step: Step, recovers: bool) -> Duty {
    match step {
        Step::Preflight if recovers => Duty::InTurn(&[(Side::Destination, None)]),
        Step::Cleanup if recovers => Duty::Together(&[Side::Destination]),
        Step::Preflight => Duty::InTurn(&[
            (Side::Destination, Some(SURVEY)),
            (Side::Source, None),
            (Side::Destination, None),
        ]),
        Step::PreHooks => Duty::Hooks(HookPhase::PreHooks),
        Step::QuiesceHooks => Duty::Hooks(HookPhase::AfterQuiesce),
        Step::ApplyHooks => Duty::Hooks(HookPhase::BeforeApply),
        Step::PostHooks => Duty::Hooks(HookPhase::PostHooks),
        Step::ExportResources | Step::Quiesce | Step::RestoreSource => Duty::Together(&[Side::Source]),
        Step::PrepareDestination
        | Step::ApplyResources
        | Step::Verify
        | Step::StartApplications
        | Step::HealthCheck
        | Step::StopDestination
        | Step::RemoveFromDestination => Duty::Together(&[Side::Destination]),
        Step::StageVolumes | Step::FinalVolumes | Step::ReceiveVolumes => Duty::Volumes,
        Step::Cleanup => Duty::Together(&[Side::Source, Side::Destination]),
    }
}

/// The steps of a run, none begun; of one that undoes another, [`super::undo`] tells them.
/// `FinalVolumes` is there whenever volumes are asked for; whether there are any only the
/// inspection of the source tells. A dry run looks, and removes what it made for itself: nothing
/// that changes anything is in its list.
///
/// In a cutover `Quiesce` comes before `FinalVolumes`, whatever the options.
pub fn plan(options: &MigrationSpec) -> Vec<StepStatus> {
    let steps = match options.action {
        _ if options.dry_run => vec![Step::Preflight, Step::Cleanup],
        MigrationAction::Stage => {
            vec![Step::Preflight, Step::PrepareDestination, Step::StageVolumes, Step::Cleanup]
        }
        MigrationAction::Final | MigrationAction::Failover | MigrationAction::Failback => last(options),
        MigrationAction::Rollback => vec![Step::Cleanup],
    };
    steps.into_iter().map(not_begun).collect()
}

/// The steps of a failover whose source is not heard: everything that a run has staged is brought to
/// the destination, and started there.
pub fn recovery(options: &MigrationSpec) -> Vec<StepStatus> {
    let after = options
        .hooks
        .iter()
        .any(|hook| hook.phase == HookPhase::PostHooks && hook.side() == Side::Destination);
    [
        (Step::Preflight, true),
        (Step::PrepareDestination, true),
        (Step::ReceiveVolumes, options.include_volumes),
        (Step::ApplyResources, true),
        (Step::Verify, true),
        (Step::StartApplications, true),
        (Step::HealthCheck, true),
        (Step::PostHooks, after),
        (Step::Cleanup, true),
    ]
    .into_iter()
    .filter(|(_, wanted)| *wanted)
    .map(|(step, _)| not_begun(step))
    .collect()
}

fn last(options: &MigrationSpec) -> Vec<Step> {
    let hooked = |phase| {
        let has = |side: &Side| options.has_hooks(phase, *side);
        [Side::Source, Side::Destination].iter().any(has)
    };
    let (resources, volumes, quiesce) = (options.include_resources, options.include_volumes, options.quiesce);
    [
        (Step::Preflight, true),
        (Step::PreHooks, hooked(HookPhase::PreHooks)),
        (Step::PrepareDestination, true),
        (Step::StageVolumes, volumes && quiesce),
        (Step::ExportResources, resources),
        (Step::Quiesce, quiesce),
        (Step::QuiesceHooks, quiesce && hooked(HookPhase::AfterQuiesce)),
        (Step::FinalVolumes, volumes),
        (Step::ApplyHooks, hooked(HookPhase::BeforeApply)),
        (Step::ApplyResources, resources),
        (Step::Verify, resources),
        (Step::StartApplications, options.starts()),
        (Step::HealthCheck, options.starts()),
        (Step::PostHooks, hooked(HookPhase::PostHooks)),
        (Step::Cleanup, true),
    ]
    .into_iter()
    .filter_map(|(step, wanted)| wanted.then_some(step))
    .collect()
}

/// A step that has not begun.
pub(super) fn not_begun(step: Step) -> StepStatus {
    StepStatus {
        step,
        state: StepState::Pending,
        started_at: None,
        finished_at: None,
        attempt: 0,
        resumes_at: None,
        message: None,
        tasks: Vec::new(),
    }
}
