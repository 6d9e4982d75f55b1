//! The volumes of a run: which are under way, and when all are there.

use isthmus_shared::protocol::VolumeFacts;
use isthmus_shared::quantity::Amount;
use isthmus_shared::resources::{
    Finding, MAX_VOLUMES, MigrationSpec, MigrationStatus, NamespaceMove, Side, Step, StepState, VolumePhase,
    VolumeStatus,
};
use isthmus_shared::staging::VolumeUid;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::findings::{Severity, add, finding};
use super::steps::{GONE_AFTER_SECONDS, Progress, is_lost, is_silent, last_failure, no_news};
use super::view::PairView;

/// The longest name of a claim.
const MAX_NAME: usize = 253;

/// The volumes as the inspection of the source found them, with the passes that this run makes.
///
/// Passes are fixed here once: the same pass is sent and received however often a task is given
/// out again.
pub(super) fn discovered(
    spec: &MigrationSpec,
    namespaces: &[NamespaceMove],
    facts: &[VolumeFacts],
) -> Result<Vec<VolumeStatus>, Finding> {
    if !spec.include_volumes {
        return Ok(Vec::new());
    }
    if facts.len() > MAX_VOLUMES {
        let message = format!(
            "the namespaces hold {} volumes, and one migration moves at most {MAX_VOLUMES}: move fewer namespaces at a time",
            facts.len()
        );
        return Err(finding("spec.namespaces", "TooManyVolumes", message));
    }
    let mut volumes = Vec::with_capacity(facts.len());
    for fact in facts {
        let sound = VolumeUid::new(fact.uid.as_str()).is_ok()
            && (1..=MAX_NAME).contains(&fact.claim.len())
            && namespaces.iter().any(|moved| moved.from == fact.namespace)
            // A cutover makes two passes.
            && fact.last_pass < u32::MAX - 1;
        if !sound {
            let object = format!("PersistentVolumeClaim {}/{}", fact.namespace, fact.claim);
            let message = format!(
                "the spoke reported a volume that this migration cannot have asked for (uid {:?}): update the spoke, then create the Migration again",
                fact.uid
            );
            return Err(finding(object, "BadReport", message));
        }
        volumes.push(VolumeStatus {
            namespace: fact.namespace.clone(),
            claim: fact.claim.clone(),
            uid: fact.uid.clone(),
            only_at_rest: fact.only_at_rest,
            pass: fact.last_pass + 1,
            previous_pass: fact.last_complete_pass,
            ..VolumeStatus::default()
        });
    }
    volumes.sort_by(|a, b| (&a.namespace, &a.claim, &a.uid).cmp(&(&b.namespace, &b.claim, &b.uid)));
    volumes.dedup_by(|a, b| a.uid == b.uid);
    Ok(volumes)
}

/// Turns to the next pass of volumes that this run has moved already: what follows brings only what
/// has changed since.
pub(super) fn next_pass(status: &mut MigrationStatus) {
    for volume in status.volumes.iter_mut().filter(|volume| volume.phase == VolumePhase::Succeeded) {
        *volume = VolumeStatus {
            namespace: volume.namespace.clone(),
            claim: volume.claim.clone(),
            uid: volume.uid.clone(),
            only_at_rest: volume.only_at_rest,
            pass: volume.pass + 1,
            previous_pass: Some(volume.pass),
            bytes_uploaded: volume.bytes_uploaded,
            bytes_uploaded_before: volume.bytes_uploaded,
            ..VolumeStatus::default()
        };
    }
}

/// Whether a pass of this step leaves a volume out.
fn is_left_out(step: Step, volume: &VolumeStatus) -> bool {
    step == Step::StageVolumes && volume.only_at_rest
}

/// Begins volumes of a step until as many are under way as the spec allows.
pub(super) fn begin_next(spec: &MigrationSpec, status: &mut MigrationStatus, step: Step, now: Timestamp) {
    let limit = spec.parallel_volumes.max(1) as usize;
    let active = status.volumes.iter().filter(|v| v.phase == VolumePhase::InProgress).count();
    let room = limit.saturating_sub(active);
    let waiting = |v: &&mut VolumeStatus| v.phase == VolumePhase::Pending && !is_left_out(step, v);
    for volume in status.volumes.iter_mut().filter(waiting).take(room) {
        volume.phase = VolumePhase::InProgress;
        let sends = step != Step::ReceiveVolumes;
        volume.send = if sends { StepState::InProgress } else { StepState::Skipped };
        volume.receive = StepState::InProgress;
        volume.heard_at = Some(Time(now));
    }
}

/// Each volume's share of the run's bandwidth, bytes a second; none if there is no limit.
///
/// It is the same from the first volume to the last, so that a task does not change while it is
/// done: as fewer and fewer volumes are under way, the run takes less than its limit, never more.
pub(super) fn bandwidth_share(spec: &MigrationSpec, volumes: usize) -> Option<u64> {
    let limit = Amount::parse(spec.bandwidth_limit.as_deref()?)?.units();
    let at_a_time = u64::from(spec.parallel_volumes).min(u64::try_from(volumes).unwrap_or(u64::MAX)).max(1);
    Some((limit / at_a_time).max(1))
}

/// Looks how the volumes stand.
pub(super) fn evaluate(
    spec: &MigrationSpec,
    status: &mut MigrationStatus,
    index: usize,
    view: &PairView,
    now: Timestamp,
) -> Progress {
    let step = status.pipeline[index].step;
    if status.volumes.is_empty() {
        return Progress::NotNeeded("there are no volumes to move".to_owned());
    }
    for volume in status.volumes.iter_mut().filter(|v| v.phase == VolumePhase::InProgress) {
        let halves = [volume.send, volume.receive];
        if halves.contains(&StepState::Failed) {
            volume.phase = VolumePhase::Failed;
        } else if matches!(halves, [StepState::Succeeded | StepState::Skipped, StepState::Succeeded]) {
            volume.phase = VolumePhase::Succeeded;
            volume.message = None;
        }
    }
    if status.volumes.iter().any(|volume| volume.phase == VolumePhase::Failed) {
        return Progress::Failed(last_failure(status, step));
    }
    let side_of = |volume: &VolumeStatus| {
        if volume.send == StepState::InProgress { Side::Source } else { Side::Destination }
    };
    let limit_of = |volume: &VolumeStatus| {
        let lost = is_lost(spec, side_of(volume), view, now);
        if lost { GONE_AFTER_SECONDS } else { i64::from(spec.step_timeout_seconds) }
    };
    let silent = status.volumes.iter_mut().find(|v| {
        v.phase == VolumePhase::InProgress && is_silent(v.heard_at.as_ref(), view, limit_of(v), now)
    });
    if let Some(volume) = silent {
        let (side, limit) = (side_of(volume), limit_of(volume));
        volume.phase = VolumePhase::Failed;
        let object = volume_name(volume);
        let doing =
            volume.message.clone().map_or_else(String::new, |last| format!(" (the last was: {last})"));
        let news = no_news(status, step, side, limit);
        let reason = Finding { object, message: format!("{}{doing}", news.message), ..news };
        add(status, Severity::Failure, Some(step), reason.clone());
        return Progress::Failed(reason);
    }
    begin_next(spec, status, step, now);
    let left_out = status.volumes.iter().filter(|volume| is_left_out(step, volume)).count();
    if status.volumes.iter().all(|volume| volume.phase == VolumePhase::Succeeded || is_left_out(step, volume))
    {
        let files: u64 = status.volumes.iter().map(|volume| volume.files_done).sum();
        let read_back: Option<u64> =
            status.volumes.iter().map(|volume| volume.verified?.files_read_back).sum();
        let compared =
            read_back.map_or_else(String::new, |files| format!(", {files} files read back and compared"));
        let waits = match left_out {
            0 => String::new(),
            n => format!("; {n} that can be read only once nothing uses them wait for the last pass"),
        };
        return Progress::Done(Some(format!(
            "{} volumes with {files} files, every block verified{compared}{waits}",
            status.volumes.len() - left_out
        )));
    }
    Progress::Waits
}

/// How messages name a volume.
pub(super) fn volume_name(volume: &VolumeStatus) -> String {
    format!("PersistentVolumeClaim {}/{}", volume.namespace, volume.claim)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bandwidth_is_shared_by_the_volumes_that_move_at_a_time() {
        let limited = |limit: Option<&str>, parallel_volumes| MigrationSpec {
            bandwidth_limit: limit.map(str::to_owned),
            parallel_volumes,
            ..MigrationSpec::through("prod")
        };
        assert_eq!(bandwidth_share(&limited(None, 4), 9), None);
        assert_eq!(bandwidth_share(&limited(Some("64Mi"), 4), 9), Some(16 << 20));
        assert_eq!(bandwidth_share(&limited(Some("100M"), 4), 2), Some(50_000_000), "only two volumes share");
        assert_eq!(bandwidth_share(&limited(Some("64Ki"), 2), 0), Some(64 << 10), "no volume at all");
        assert_eq!(bandwidth_share(&limited(Some("3"), 32), 32), Some(1), "nobody waits for ever");
    }
}
