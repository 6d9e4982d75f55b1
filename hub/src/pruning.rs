//! Collections of a pair's staging that are asked for in its spec: when they begin, what the spoke
//! is given, what became of them. Pure but for reading records.
//!
//! A collection begins only when every migration that is under way through the pair has told which
//! volumes it uses; those are left alone. From then until it ends no migration with volumes begins
//! through the pair. So what is in use is known when the task is first handed out, and only grows
//! less: no collection and no pass ever meet on one volume.
//!
//! [`begun`] is decided under the same lock as the admission of migrations.

use isthmus_shared::protocol::{
    HeldPass, MAX_IN_USE, Outcome, PruneTask, Staging, TaskId, TaskReport, TaskState,
};
use isthmus_shared::resources::{
    ClusterPair, LinkState, MAX_STAGED_VOLUMES, Migration, MigrationPhase, PrunePhase, PruneStatus, Step,
    StepState,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;

use crate::records::Records;

/// The step of the tasks.
const PRUNE: &str = "Prune";
/// The longest text that a status keeps of what a spoke said.
const MAX_TEXT: usize = 512;

/// What migrations through a pair are doing with volumes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Use {
    /// Migrations that have not told their volumes yet, `<namespace>/<name>`.
    pub untold: Vec<String>,
    /// The uids of the volumes of the others, sorted.
    pub volumes: Vec<String>,
}

/// What is in use of a pair's staging.
pub(crate) fn in_use(records: &Records, pair_uid: &str) -> Use {
    let migrations = records.migrations.all();
    used_by(migrations.iter().map(AsRef::as_ref), pair_uid)
}

fn used_by<'a>(migrations: impl Iterator<Item = &'a Migration>, pair_uid: &str) -> Use {
    let mut found = Use::default();
    for migration in migrations.filter(|m| m.options().include_volumes && !m.options().dry_run) {
        let Some(status) = migration.status.as_ref().filter(|status| {
            status.status == MigrationPhase::InProgress && status.pair_uid.as_deref() == Some(pair_uid)
        }) else {
            continue;
        };
        let looking = status.pipeline.iter().any(|step| {
            step.step == Step::Preflight && matches!(step.state, StepState::Pending | StepState::InProgress)
        });
        if looking && status.volumes.is_empty() {
            let namespace = migration.namespace().unwrap_or_default();
            found.untold.push(format!("{namespace}/{}", migration.name_any()));
        }
        found.volumes.extend(status.volumes.iter().map(|volume| volume.uid.clone()));
    }
    found.untold.sort();
    found.volumes.sort();
    found.volumes.dedup();
    found
}

/// Whether a request waits to be looked at.
pub(crate) fn is_waiting(pair: &ClusterPair) -> bool {
    let standing = pair.status.as_ref().and_then(|status| status.prune.as_ref());
    match (&pair.spec.prune, standing) {
        (Some(wanted), Some(known)) => wanted.request != known.request || known.phase == PrunePhase::Pending,
        (Some(_), None) => true,
        (None, known) => known.is_some_and(|known| !known.phase.is_terminal()),
    }
}

/// Whether the spoke is, or may be, at it.
pub(crate) fn is_under_way(pair: &ClusterPair) -> bool {
    let standing = pair.status.as_ref().and_then(|status| status.prune.as_ref());
    standing.is_some_and(|known| known.phase == PrunePhase::InProgress && !known.dry_run)
}

/// The standing of a collection as it ought to be: a new request waits, and begins when it may; one
/// that was taken away ends.
pub(crate) fn begun(pair: &ClusterPair, used: &Use, now: Timestamp) -> Option<PruneStatus> {
    let status = pair.status.clone().unwrap_or_default();
    let known = status.prune;
    let Some(wanted) = &pair.spec.prune else {
        return known.map(|known| {
            if known.phase.is_terminal() {
                known
            } else {
                let message = "cancelled: the request was taken out of the pair's spec".to_owned();
                ended(known, PrunePhase::Failed, Some(message), now)
            }
        });
    };
    let mut known = known.filter(|known| known.request == wanted.request).unwrap_or_else(|| PruneStatus {
        request: wanted.request.clone(),
        dry_run: wanted.dry_run,
        ..PruneStatus::default()
    });
    if known.phase != PrunePhase::Pending {
        return Some(known);
    }
    if status.storage_status != LinkState::Ready || status.scheduler_status != LinkState::Ready {
        known.message = Some("waits for the pair to become Ready".to_owned());
    } else if used.volumes.len() > MAX_IN_USE {
        known.message = Some(format!(
            "waits until the migrations under way use at most {MAX_IN_USE} volumes; now {}",
            used.volumes.len()
        ));
    } else if let Some(migration) = used.untold.first() {
        known.message = Some(format!("waits until migration {migration} has looked which volumes it moves"));
    } else {
        known.phase = PrunePhase::InProgress;
        known.message = None;
        known.started_at = Some(Time(now));
    }
    Some(known)
}

fn ended(mut known: PruneStatus, phase: PrunePhase, message: Option<String>, now: Timestamp) -> PruneStatus {
    known.phase = phase;
    known.message = message;
    known.finished_at = Some(Time(now));
    known
}

/// The id of a collection's task.
fn task_id(pair_uid: &str, request: &str) -> TaskId {
    TaskId { record: pair_uid.to_owned(), step: PRUNE.to_owned(), item: Some(request.to_owned()) }
}

/// What the source's spoke is to do about a pair now; `staging` is looked up only if there is
/// something.
pub(crate) fn task(
    pair: &ClusterPair,
    used: impl FnOnce() -> (Use, Vec<HeldPass>),
    staging: impl FnOnce() -> Option<Staging>,
) -> Option<(TaskId, PruneTask)> {
    let uid = pair.uid()?;
    let wanted = pair.spec.prune.as_ref()?;
    let known = pair.status.as_ref()?.prune.as_ref()?;
    if known.request != wanted.request
        || known.phase != PrunePhase::InProgress
        || pair.metadata.deletion_timestamp.is_some()
    {
        return None;
    }
    let staging = staging()?;
    let (used, held) = used();
    let task = PruneTask {
        name: format!("{}/{}", pair.namespace().unwrap_or_default(), pair.name_any()),
        staging,
        keep: wanted.keep,
        gone: wanted.gone,
        // As it was when it began: a field that is changed without a new request counts for nothing.
        dry_run: known.dry_run || wanted.dry_run,
        in_use: used.volumes,
        held,
    };
    Some((task_id(&uid, &wanted.request), task))
}

/// The standing after a report; none if it changes nothing.
pub(crate) fn reported(pair: &ClusterPair, report: &TaskReport, now: Timestamp) -> Option<PruneStatus> {
    let known = pair.status.as_ref()?.prune.clone()?;
    if known.phase != PrunePhase::InProgress || report.task != task_id(&pair.uid()?, &known.request) {
        return None;
    }
    let cut = |text: &str| text.chars().take(MAX_TEXT).collect::<String>();
    let after = match report.state {
        TaskState::Running => {
            PruneStatus { message: report.progress.message.as_deref().map(cut), ..known.clone() }
        }
        TaskState::Failed => {
            let told = report.failures.first().map_or_else(
                || "it failed: read the log of the source's spoke".to_owned(),
                |found| format!("{}: {}", found.object, found.message),
            );
            ended(known.clone(), PrunePhase::Failed, Some(cut(&told)), now)
        }
        TaskState::Succeeded => {
            let mut after = known.clone();
            if let Some(Outcome::Pruned { totals, volumes }) = &report.outcome {
                after.totals = *totals;
                after.volumes = volumes.iter().take(MAX_STAGED_VOLUMES).cloned().collect();
                for volume in &mut after.volumes {
                    volume.uid = cut(&volume.uid);
                    let texts =
                        [&mut volume.cluster, &mut volume.namespace, &mut volume.claim, &mut volume.note];
                    for text in texts.into_iter().flatten() {
                        *text = cut(text);
                    }
                }
            }
            let told = report.warnings.first().map(|found| cut(&found.message));
            ended(after, PrunePhase::Succeeded, told, now)
        }
    };
    (after != known).then_some(after)
}

#[cfg(test)]
mod tests {
    use isthmus_shared::protocol::Progress;
    use isthmus_shared::resources::{
        ClusterPairSpec, ClusterPairStatus, Finding, MigrationSpec, MigrationStatus, PruneRequest,
        PruneTotals, StagedVolume, StepStatus, VolumeStatus,
    };

    use super::*;

    fn now() -> Timestamp {
        Timestamp::from_second(1_800_000_000).unwrap()
    }

    fn pair(request: Option<&str>) -> ClusterPair {
        let spec = ClusterPairSpec {
            source: "east".into(),
            destination: "west".into(),
            object_store: "stage".into(),
            bidirectional: false,
            allowed_namespaces: None,
            prune: request.map(|request| PruneRequest {
                request: request.into(),
                keep: 1,
                gone: false,
                dry_run: false,
            }),
        };
        let mut pair = ClusterPair::new("prod", spec);
        pair.metadata.uid = Some("p".into());
        pair.status = Some(ClusterPairStatus {
            scheduler_status: LinkState::Ready,
            storage_status: LinkState::Ready,
            ..ClusterPairStatus::default()
        });
        pair
    }

    fn standing(pair: &mut ClusterPair, prune: Option<PruneStatus>) -> &PruneStatus {
        let status = pair.status.as_mut().unwrap();
        status.prune = prune;
        status.prune.as_ref().unwrap()
    }

    fn migration(name: &str, preflight: StepState, volumes: &[&str]) -> Migration {
        let mut migration = Migration::new(name, MigrationSpec::through("prod"));
        migration.metadata.namespace = Some("isthmus".into());
        migration.status = Some(MigrationStatus {
            status: MigrationPhase::InProgress,
            pair_uid: Some("p".into()),
            pipeline: vec![StepStatus {
                step: Step::Preflight,
                state: preflight,
                started_at: None,
                finished_at: None,
                attempt: 0,
                resumes_at: None,
                message: None,
                tasks: Vec::new(),
            }],
            volumes: volumes
                .iter()
                .map(|uid| VolumeStatus { uid: (*uid).into(), ..VolumeStatus::default() })
                .collect(),
            ..MigrationStatus::default()
        });
        migration
    }

    fn report(state: TaskState, outcome: Option<Outcome>) -> TaskReport {
        TaskReport {
            task: task_id("p", "1"),
            sequence: 1,
            state,
            progress: Progress::default(),
            outcome,
            failures: Vec::new(),
            failures_total: 0,
            warnings: Vec::new(),
            warnings_total: 0,
        }
    }

    #[test]
    fn what_is_in_use_is_what_migrations_under_way_through_the_pair_have_told() {
        let mut elsewhere = migration("elsewhere", StepState::InProgress, &["x"]);
        elsewhere.status.as_mut().unwrap().pair_uid = Some("q".into());
        let mut ended = migration("ended", StepState::Succeeded, &["y"]);
        ended.status.as_mut().unwrap().status = MigrationPhase::Failed;
        let mut dry = migration("dry", StepState::InProgress, &[]);
        dry.spec.dry_run = true;
        let all = [
            migration("moving", StepState::Succeeded, &["b", "a"]),
            migration("looking", StepState::InProgress, &[]),
            elsewhere,
            ended,
            dry,
        ];
        let used = used_by(all.iter(), "p");
        assert_eq!(used.volumes, ["a", "b"]);
        assert_eq!(used.untold, ["isthmus/looking"]);
    }

    #[test]
    fn a_collection_begins_when_all_that_runs_has_told_its_volumes() {
        let mut pair = pair(Some("1"));
        assert!(is_waiting(&pair));
        let looking = Use { untold: vec!["isthmus/m".into()], volumes: vec![] };
        let waiting = begun(&pair, &looking, now());
        assert!(standing(&mut pair, waiting).message.as_ref().unwrap().contains("isthmus/m"));
        assert!(is_waiting(&pair) && !is_under_way(&pair));
        assert!(task(&pair, <(Use, Vec<HeldPass>)>::default, || None).is_none());
        let begins = begun(&pair, &Use::default(), now());
        assert_eq!(standing(&mut pair, begins.clone()).phase, PrunePhase::InProgress);
        assert!(is_under_way(&pair) && !is_waiting(&pair));
        assert_eq!(begun(&pair, &looking, now()), begins, "what has begun goes on");
    }

    #[test]
    fn a_collection_waits_for_a_pair_that_is_not_ready() {
        let mut pair = pair(Some("1"));
        pair.status.as_mut().unwrap().storage_status = LinkState::Error;
        let waiting = begun(&pair, &Use::default(), now());
        assert_eq!(standing(&mut pair, waiting).phase, PrunePhase::Pending);
    }

    #[test]
    fn a_request_that_is_taken_away_is_cancelled_and_one_that_is_done_stays_told() {
        let mut pair = pair(None);
        assert_eq!(begun(&pair, &Use::default(), now()), None);
        standing(&mut pair, Some(PruneStatus { phase: PrunePhase::InProgress, ..PruneStatus::default() }));
        let cancelled = begun(&pair, &Use::default(), now());
        assert_eq!(standing(&mut pair, cancelled.clone()).phase, PrunePhase::Failed);
        assert_eq!(begun(&pair, &Use::default(), now()), cancelled);
    }

    #[test]
    fn a_report_ends_the_collection_that_it_is_of_and_no_other() {
        let mut pair = pair(Some("1"));
        let begins = begun(&pair, &Use::default(), now());
        standing(&mut pair, begins);
        let totals = PruneTotals { volumes: 1, bytes_removed: 7, ..PruneTotals::default() };
        let volumes =
            vec![
                StagedVolume { uid: "v".into(), note: Some("x".repeat(9999)), ..StagedVolume::default() };
                200
            ];
        let done = report(TaskState::Succeeded, Some(Outcome::Pruned { totals, volumes }));
        let mut late = done.clone();
        late.task = task_id("p", "0");
        assert_eq!(reported(&pair, &late, now()), None);
        let after = reported(&pair, &done, now());
        let after = standing(&mut pair, after);
        assert_eq!((after.phase, after.totals, after.volumes.len()), (PrunePhase::Succeeded, totals, 100));
        assert_eq!(after.volumes[0].note.as_ref().unwrap().len(), MAX_TEXT);
        assert_eq!(reported(&pair, &done, now()), None, "a report that comes again changes nothing");
    }

    #[test]
    fn a_failure_is_told_with_its_object() {
        let mut pair = pair(Some("1"));
        let begins = begun(&pair, &Use::default(), now());
        standing(&mut pair, begins);
        let mut failed = report(TaskState::Failed, None);
        failed.failures.push(Finding {
            object: "ClusterPair isthmus/prod".into(),
            reason: "StagingUnusable".into(),
            message: "denied".into(),
            step: None,
        });
        let after = reported(&pair, &failed, now());
        assert_eq!(standing(&mut pair, after).message.as_deref(), Some("ClusterPair isthmus/prod: denied"));
    }
}
