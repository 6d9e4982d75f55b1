//! Putting a spoke's report into the status.

use isthmus_shared::protocol::{Outcome, Progress, TaskId, TaskReport, TaskState};
use isthmus_shared::resources::{Finding, Migration, MigrationStatus, ResourceCounts, Step, StepState};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::advance::current;
use super::findings::{MAX_MESSAGE, Severity, add, add_all, cut, finding};
use super::namespaces::resolved;
use super::tasks::{item, item_of};
use super::view::PairView;
use super::{voice, volumes};

/// News within this long of the last are not worth another time in the status, seconds.
const HEARD_GRANULARITY_SECONDS: i64 = 30;

/// What a report came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The task is not under way: a late or doubled report, or one of somebody else's.
    Ignored,
    /// Only figures or messages changed, if anything did.
    Figures,
    /// A task ended.
    Ended,
}

/// Which task of the status a report is about.
enum Target {
    Side(usize),
    Send(usize),
    Receive(usize),
}

/// The status after a report. A report of a task that is not under way changes nothing, so the
/// same report counts once however often it comes.
pub fn record(
    migration: &Migration,
    view: &PairView,
    report: &TaskReport,
    now: Timestamp,
) -> (MigrationStatus, Verdict) {
    let mut status = migration.status.clone().unwrap_or_default();
    let Some((index, target)) = find(&status, &report.task) else { return (status, Verdict::Ignored) };
    let news = figures(&mut status, index, &target, &report.progress);
    let verdict = match report.state {
        TaskState::Running => Verdict::Figures,
        TaskState::Succeeded => {
            succeeded(migration, view, &mut status, index, &target, report);
            Verdict::Ended
        }
        TaskState::Failed => {
            failed(migration, &mut status, index, &target, report);
            Verdict::Ended
        }
    };
    if news || verdict == Verdict::Ended {
        heard(&mut status, index, &target, now);
    }
    (status, verdict)
}

fn find(status: &MigrationStatus, task: &TaskId) -> Option<(usize, Target)> {
    let index = current(status)?;
    let step = &status.pipeline[index];
    if step.state != StepState::InProgress || format!("{:?}", step.step) != task.step {
        return None;
    }
    let wanted = task.item.as_deref()?;
    let side = step.tasks.iter().position(|t| t.state == StepState::InProgress && item_of(step, t) == wanted);
    if let Some(side) = side {
        return Some((index, Target::Side(side)));
    }
    // Only while volumes are moved: of a volume whose one half failed, the other is not told to have
    // ended.
    if !matches!(step.step, Step::StageVolumes | Step::FinalVolumes | Step::ReceiveVolumes) {
        return None;
    }
    let (verb, uid) = wanted.split_once('.')?;
    let volume = status.volumes.iter().position(|volume| volume.uid == uid)?;
    match verb {
        "send" if status.volumes[volume].send == StepState::InProgress => Some((index, Target::Send(volume))),
        "receive" if status.volumes[volume].receive == StepState::InProgress => {
            Some((index, Target::Receive(volume)))
        }
        _ => None,
    }
}

/// Takes over what is done so far; tells whether any of it is new.
fn figures(status: &mut MigrationStatus, index: usize, target: &Target, progress: &Progress) -> bool {
    let message = progress.message.as_deref().map(|text| cut(text, MAX_MESSAGE));
    match *target {
        Target::Side(_) => {
            let step = &mut status.pipeline[index];
            if step.step == Step::ApplyResources && progress.objects_total > 0 {
                status.resources.done = progress.objects_done;
                status.resources.total = status.resources.total.max(progress.objects_total);
            }
            let told = match (progress.objects_total, message) {
                (0, message) => message,
                (total, None) => Some(format!("{} of {total} objects", progress.objects_done)),
                (total, Some(text)) => Some(format!("{} of {total} objects; {text}", progress.objects_done)),
            };
            let news = told.is_some() && step.message != told;
            if news {
                step.message = told;
            }
            news
        }
        Target::Send(at) => {
            let volume = &mut status.volumes[at];
            let before = volume.clone();
            volume.bytes_total = volume.bytes_total.max(progress.bytes_total);
            let uploaded = volume.bytes_uploaded_before.saturating_add(progress.bytes_uploaded);
            volume.bytes_uploaded = volume.bytes_uploaded.max(uploaded);
            voice::sender(volume, message, progress.stalled.as_deref());
            *volume != before
        }
        Target::Receive(at) => {
            let volume = &mut status.volumes[at];
            let before = volume.clone();
            volume.bytes_total = volume.bytes_total.max(progress.bytes_total);
            volume.bytes_done = progress.bytes_done;
            volume.files_done = progress.files_done;
            voice::receiver(volume, message, progress.stalled.as_deref());
            *volume != before
        }
    }
}

fn heard(status: &mut MigrationStatus, index: usize, target: &Target, now: Timestamp) {
    let at = match *target {
        Target::Side(task) => &mut status.pipeline[index].tasks[task].heard_at,
        Target::Send(volume) | Target::Receive(volume) => &mut status.volumes[volume].heard_at,
    };
    let fresh = at.as_ref().is_some_and(|at| now < at.0 + HEARD_GRANULARITY_SECONDS.seconds());
    if !fresh {
        *at = Some(Time(now));
    }
}

fn set_state(status: &mut MigrationStatus, index: usize, target: &Target, state: StepState) {
    match *target {
        Target::Side(task) => status.pipeline[index].tasks[task].state = state,
        Target::Send(volume) => status.volumes[volume].send = state,
        Target::Receive(volume) => status.volumes[volume].receive = state,
    }
}

fn succeeded(
    migration: &Migration,
    view: &PairView,
    status: &mut MigrationStatus,
    index: usize,
    target: &Target,
    report: &TaskReport,
) {
    let step = status.pipeline[index].step;
    warnings(status, step, report);
    match take_outcome(migration, view, status, index, target, report.outcome.as_ref()) {
        Ok(()) => set_state(status, index, target, StepState::Succeeded),
        Err(reason) => {
            add(status, Severity::Failure, Some(step), reason);
            set_state(status, index, target, StepState::Failed);
        }
    }
}

fn failed(
    migration: &Migration,
    status: &mut MigrationStatus,
    index: usize,
    target: &Target,
    report: &TaskReport,
) {
    let step = status.pipeline[index].step;
    warnings(status, step, report);
    match (&report.outcome, step) {
        (Some(Outcome::Applied { counts }), _) => applied(&mut status.resources, counts),
        (Some(Outcome::Previewed { counts }), Step::Preflight) => {
            previewed(migration, &mut status.resources, counts);
        }
        _ => {}
    }
    let mut found = report.failures.clone();
    if found.is_empty() {
        let told = report.progress.message.as_deref().unwrap_or("the spoke gave no reason");
        let message = format!("{told}; read the run's log with `isthmus migration logs` and the spoke's own");
        found.push(finding(format!("task {}", report.task), "TaskFailed", message));
    }
    if let Target::Receive(at) = *target {
        for finding in &mut found {
            voice::explain(finding, &status.volumes[at]);
        }
    }
    if let Target::Send(at) | Target::Receive(at) = *target {
        status.volumes[at].message = found.first().map(|first| cut(&first.message, MAX_MESSAGE));
    }
    // A clean-up that failed does not make a run fail: what is left over is a warning.
    let severity = if step == Step::Cleanup { Severity::Warning } else { Severity::Failure };
    add_all(status, severity, Some(step), found, report.failures_total);
    set_state(status, index, target, StepState::Failed);
}

fn warnings(status: &mut MigrationStatus, step: Step, report: &TaskReport) {
    if report.warnings_total > 0 || !report.warnings.is_empty() {
        add_all(status, Severity::Warning, Some(step), report.warnings.clone(), report.warnings_total);
    }
}

/// Takes over what a task found. A success without the outcome that its step needs is none.
fn take_outcome(
    migration: &Migration,
    view: &PairView,
    status: &mut MigrationStatus,
    index: usize,
    target: &Target,
    outcome: Option<&Outcome>,
) -> Result<(), Finding> {
    let step = &status.pipeline[index];
    let of_preflight = |name: &str| matches!(*target, Target::Side(at) if step.step == Step::Preflight && item(&step.tasks[at]) == name);
    let (inspects, previews) = (of_preflight("source"), of_preflight("destination"));
    match (outcome, target) {
        (Some(Outcome::SourceInspected { volumes, objects, namespaces }), _) if inspects => {
            let pair = view.pair_of(status.pair_uid.as_deref());
            resolved(migration.options(), pair, namespaces)?;
            status.namespaces.clone_from(namespaces);
            status.volumes = volumes::discovered(migration.options(), namespaces, volumes)?;
            status.resources.total = if migration.options().include_resources { *objects } else { 0 };
        }
        (_, _) if inspects => {
            let message = "the spoke reported the source as inspected but not what it found: update the spoke to the hub's version, then create the Migration again";
            return Err(finding("task Preflight/source", "BadReport", message));
        }
        (Some(Outcome::Exported { counts }), Target::Side(_)) => {
            status.resources.total = counts.total;
            status.resources.left_behind = counts.left_behind;
        }
        (Some(Outcome::Previewed { counts }), _) if previews => {
            previewed(migration, &mut status.resources, counts);
        }
        (Some(Outcome::Applied { counts }), Target::Side(_)) => {
            if step.step == Step::Verify {
                status.resources.done = counts.done;
                status.resources.failed = counts.failed;
            } else {
                applied(&mut status.resources, counts);
            }
        }
        (Some(Outcome::Quiesced { stopped_at, .. }), Target::Side(_)) => {
            status.stopped_at.clone_from(stopped_at);
        }
        (Some(Outcome::Healthy { ready_at, .. }), Target::Side(_)) => status.ready_at.clone_from(ready_at),
        (Some(Outcome::VolumeMoved { bytes, bytes_uploaded, method, .. }), Target::Send(at)) => {
            let volume = &mut status.volumes[*at];
            volume.bytes_total = *bytes;
            volume.bytes_uploaded = volume.bytes_uploaded_before.saturating_add(*bytes_uploaded);
            volume.method = method.as_deref().map(|text| cut(text, 32));
        }
        (Some(Outcome::VolumeMoved { bytes, files, verified, .. }), Target::Receive(at)) => {
            let volume = &mut status.volumes[*at];
            volume.verified = Some(*verified);
            volume.bytes_done = *bytes;
            // What was counted beforehand, or told late, is an estimate; this is all of it.
            volume.bytes_total = *bytes;
            volume.files_done = *files;
        }
        _ => {}
    }
    Ok(())
}

/// What would become of the objects is the result of a dry run; before a real one it is only how
/// many there are, since nothing has been done yet.
fn previewed(migration: &Migration, resources: &mut ResourceCounts, counts: &ResourceCounts) {
    let left_behind = counts.left_behind.max(resources.left_behind);
    let total = if counts.total > 0 { counts.total } else { resources.total };
    let told = if migration.options().dry_run { counts.clone() } else { ResourceCounts::default() };
    *resources = ResourceCounts { total, left_behind, ..told };
}

fn applied(resources: &mut ResourceCounts, counts: &ResourceCounts) {
    let left_behind = resources.left_behind;
    let total = if counts.total > 0 { counts.total } else { resources.total };
    *resources = ResourceCounts { left_behind: left_behind.max(counts.left_behind), total, ..counts.clone() };
}
