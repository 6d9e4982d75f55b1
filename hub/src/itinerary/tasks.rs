//! What each spoke should be doing, derived from a status.

use isthmus_shared::protocol::{Run, RunPrune, Staging, TaskId, VolumeTask, Work};
use isthmus_shared::resources::{
    HookPhase, IncludeClusterResources, Migration, MigrationPhase, MigrationStatus, Side, Step, StepState,
    StepStatus, TaskRecord, VolumePhase, VolumeStatus,
};

use super::advance::current;
use super::plan::{Duty, SURVEY, roster};
use super::steps::cluster_of;
use super::undo::is_undo;
use super::view::PairView;
use super::volumes::bandwidth_share;

/// A task, and whose it is.
#[derive(Clone, Debug, PartialEq)]
pub struct Assignment {
    /// The `Cluster` whose spoke is to do it.
    pub cluster: String,
    /// Which task.
    pub id: TaskId,
    /// What to do.
    pub job: Job,
}

/// What to do, without the store's keys: those are put in where the task is handed out.
#[derive(Clone, Debug, PartialEq)]
pub enum Job {
    /// See [`Work::SurveyDestination`].
    SurveyDestination,
    /// See [`Work::InspectSource`].
    InspectSource,
    /// See [`Work::InspectDestination`].
    InspectDestination,
    /// See [`Work::PrepareDestination`].
    PrepareDestination,
    /// See [`Work::ExportResources`].
    ExportResources,
    /// See [`Work::SendVolume`].
    SendVolume(VolumeTask),
    /// See [`Work::ReceiveVolume`].
    ReceiveVolume(VolumeTask),
    /// See [`Work::ApplyResources`].
    ApplyResources,
    /// See [`Work::Verify`].
    Verify,
    /// See [`Work::StartApplications`].
    StartApplications,
    /// See [`Work::HealthCheck`].
    HealthCheck,
    /// See [`Work::RunHooks`].
    RunHooks {
        /// The phase.
        phase: HookPhase,
        /// The side.
        side: Side,
    },
    /// See [`Work::Quiesce`].
    Quiesce,
    /// See [`Work::StopDestination`].
    StopDestination,
    /// See [`Work::RestoreSource`].
    RestoreSource,
    /// See [`Work::RemoveFromDestination`].
    RemoveFromDestination,
    /// See [`Work::Cleanup`]; whether this side also collects what staging has of the volumes.
    Cleanup {
        /// It sent them.
        collects: bool,
    },
}

/// Everything that this migration has its two spokes do now.
pub fn tasks(migration: &Migration, view: &PairView) -> Vec<Assignment> {
    let Some(status) = migration.status.as_ref().filter(|s| s.status == MigrationPhase::InProgress) else {
        return Vec::new();
    };
    let Some(uid) = migration.metadata.uid.as_deref() else { return Vec::new() };
    if view.pair_of(status.pair_uid.as_deref()).is_none() {
        return Vec::new();
    }
    let Some(index) = current(status).filter(|index| status.pipeline[*index].state == StepState::InProgress)
    else {
        return Vec::new();
    };
    let step = &status.pipeline[index];
    // A deleted migration is cancelled at once, not only when its status has been written.
    if migration.metadata.deletion_timestamp.is_some() && step.step != Step::Cleanup && !is_undo(step.step) {
        return Vec::new();
    }
    let mut found: Vec<Assignment> = step
        .tasks
        .iter()
        .filter(|task| task.state == StepState::InProgress)
        .filter_map(|task| {
            Some(Assignment {
                cluster: cluster_of(status, task.side).to_owned(),
                id: TaskId::of_step(uid, step.step, Some(item_of(step, task))),
                job: job(step.step, task)?,
            })
        })
        .collect();
    if matches!(step.step, Step::StageVolumes | Step::FinalVolumes | Step::ReceiveVolumes) {
        let options = migration.options();
        let bandwidth = bandwidth_share(options, status.volumes.len());
        let quiesced = step.step == Step::FinalVolumes && options.quiesce;
        for volume in status.volumes.iter().filter(|volume| volume.phase == VolumePhase::InProgress) {
            found.extend(halves(uid, status, step.step, volume, quiesced, bandwidth));
        }
    }
    found
}

fn halves(
    uid: &str,
    status: &MigrationStatus,
    step: Step,
    volume: &VolumeStatus,
    quiesced: bool,
    bandwidth_limit: Option<u64>,
) -> Vec<Assignment> {
    let what = VolumeTask {
        namespace: volume.namespace.clone(),
        claim: volume.claim.clone(),
        uid: volume.uid.clone(),
        pass: volume.pass,
        previous_pass: volume.previous_pass,
        quiesced,
        recover: step == Step::ReceiveVolumes,
        bandwidth_limit,
    };
    let half = |side, verb: &str, job| Assignment {
        cluster: cluster_of(status, side).to_owned(),
        id: TaskId::of_step(uid, step, Some(format!("{verb}.{}", volume.uid))),
        job,
    };
    let mut halves = Vec::with_capacity(2);
    if volume.send == StepState::InProgress {
        halves.push(half(Side::Source, "send", Job::SendVolume(what.clone())));
    }
    if volume.receive == StepState::InProgress {
        halves.push(half(Side::Destination, "receive", Job::ReceiveVolume(what)));
    }
    halves
}

/// Whose task it is, by its id alone.
pub fn side_of(task: &TaskId) -> Option<Side> {
    let item = task.item.as_deref()?;
    match item.split_once('.').map_or(item, |(verb, _)| verb) {
        "source" | "send" => Some(Side::Source),
        "destination" | "receive" | SURVEY => Some(Side::Destination),
        _ => None,
    }
}

/// The same as it stands in the task's id: with the attempt, from the second on.
pub(super) fn item_of(step: &StepStatus, task: &TaskRecord) -> String {
    match step.attempt {
        0 => item(task).to_owned(),
        attempt => format!("{}.{attempt}", item(task)),
    }
}

/// The item of a task that concerns a whole side.
pub(super) fn item(task: &TaskRecord) -> &str {
    match (&task.item, task.side) {
        (Some(item), _) => item,
        (None, Side::Source) => "source",
        (None, Side::Destination) => "destination",
    }
}

fn job(step: Step, task: &TaskRecord) -> Option<Job> {
    match (step, task.side) {
        (Step::Preflight, Side::Destination) if task.item.as_deref() == Some(SURVEY) => {
            Some(Job::SurveyDestination)
        }
        (Step::Preflight, Side::Source) => Some(Job::InspectSource),
        (Step::Preflight, Side::Destination) => Some(Job::InspectDestination),
        (Step::PrepareDestination, _) => Some(Job::PrepareDestination),
        (Step::ExportResources, _) => Some(Job::ExportResources),
        (Step::ApplyResources, _) => Some(Job::ApplyResources),
        (Step::Verify, _) => Some(Job::Verify),
        (Step::StartApplications, _) => Some(Job::StartApplications),
        (Step::HealthCheck, _) => Some(Job::HealthCheck),
        (Step::Cleanup, side) => Some(Job::Cleanup { collects: side == Side::Source }),
        (Step::Quiesce, _) => Some(Job::Quiesce),
        (Step::StopDestination, _) => Some(Job::StopDestination),
        (Step::RestoreSource, _) => Some(Job::RestoreSource),
        (Step::RemoveFromDestination, _) => Some(Job::RemoveFromDestination),
        (Step::PreHooks | Step::QuiesceHooks | Step::ApplyHooks | Step::PostHooks, side) => {
            match roster(step, false) {
                Duty::Hooks(phase) => Some(Job::RunHooks { phase, side }),
                _ => None,
            }
        }
        // The volumes have tasks of their own.
        (Step::StageVolumes | Step::FinalVolumes | Step::ReceiveVolumes, _) => None,
    }
}

impl Job {
    /// The work as it goes to a spoke.
    pub fn into_work(self, migration: &Migration, view: &PairView, staging: Staging) -> Work {
        let run = run(migration, view, staging);
        match self {
            Self::SurveyDestination => Work::SurveyDestination { run },
            Self::InspectSource => Work::InspectSource { run },
            Self::InspectDestination => Work::InspectDestination { run },
            Self::PrepareDestination => Work::PrepareDestination { run },
            Self::ExportResources => Work::ExportResources { run },
            Self::SendVolume(volume) => Work::SendVolume { run, volume },
            Self::ReceiveVolume(volume) => Work::ReceiveVolume { run, volume },
            Self::ApplyResources => Work::ApplyResources { run },
            Self::Verify => Work::Verify { run },
            Self::StartApplications => Work::StartApplications { run },
            Self::HealthCheck => Work::HealthCheck { run },
            Self::RunHooks { phase, side } => Work::RunHooks { run, phase, side },
            Self::Quiesce => Work::Quiesce { run },
            Self::StopDestination => Work::StopDestination { run },
            Self::RestoreSource => Work::RestoreSource { run },
            Self::RemoveFromDestination => Work::RemoveFromDestination { run },
            Self::Cleanup { collects } => {
                let prune = if collects { collection(migration, view) } else { None };
                Work::Cleanup { run, prune, settled: is_settled(migration) }
            }
        }
    }
}

/// Whether the migration is a cutover that has come to its end without a failure or going back.
pub(super) fn is_settled(migration: &Migration) -> bool {
    let Some(status) = migration.status.as_ref() else { return false };
    let options = migration.options();
    options.quiesce
        && options.action.brings_all()
        && !options.dry_run
        && status.undoes.is_none()
        && status.recovers.is_none()
        && status.pipeline.iter().all(|step| match step.step {
            Step::Cleanup => true,
            step if is_undo(step) => false,
            _ => matches!(step.state, StepState::Succeeded | StepState::Skipped),
        })
        && status.pipeline.iter().any(|step| step.step == Step::Quiesce && step.state == StepState::Succeeded)
}

/// What of the run's volumes is collected at its end. A run that failed leaves what the next one
/// goes on from, whatever is to be kept of one that succeeded.
fn collection(migration: &Migration, view: &PairView) -> Option<RunPrune> {
    let status = migration.status.as_ref()?;
    let volumes: Vec<String> = status
        .volumes
        .iter()
        .filter(|volume| volume.phase != VolumePhase::Pending)
        .map(|volume| volume.uid.clone())
        .collect();
    let options = migration.options();
    // A failover without its source keeps what it went by, and what the source has not given.
    if volumes.is_empty() || options.dry_run || status.recovers.is_some() {
        return None;
    }
    let failed = status.pipeline.iter().any(|step| step.state == StepState::Failed);
    let keep = options.retention.passes.max(u32::from(failed));
    let held = view.kept.iter().filter(|held| volumes.contains(&held.volume)).cloned().collect();
    Some(RunPrune { volumes, keep, held })
}

fn run(migration: &Migration, view: &PairView, staging: Staging) -> Run {
    let mut spec = migration.options().clone();
    // Through a pair outside of the hub's namespace people move their own namespace. What is of a
    // cluster is not theirs: a binding that follows a service account could give them the
    // destination.
    if view.pair.as_ref().is_some_and(|pair| !pair.in_hub_namespace) {
        spec.include_cluster_resources = IncludeClusterResources::None;
    }
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let status = migration.status.as_ref();
    Run {
        migration: text(&migration.metadata.uid),
        name: format!("{}/{}", text(&migration.metadata.namespace), text(&migration.metadata.name)),
        source: status.and_then(|status| status.source.clone()).unwrap_or_default(),
        destination: status.and_then(|status| status.destination.clone()).unwrap_or_default(),
        started_at: status.and_then(|status| status.started_at.clone()),
        undoes: status.and_then(|status| status.undoes.clone()),
        recovers: status.and_then(|status| status.recovers.as_ref()).map(|run| run.uid.clone()),
        spec: Box::new(spec),
        namespaces: status.map(|status| status.namespaces.clone()).unwrap_or_default(),
        staging,
    }
}
