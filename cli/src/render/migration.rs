//! `migration describe`: everything about one run.

use std::collections::BTreeMap;
use std::time::Duration;

use isthmus_shared::protocol::ObjectResult;
use isthmus_shared::resources::{
    Active, Finding, Hook, HookPhase, Migration, MigrationAction, MigrationPhase, MigrationSpec,
    MigrationStatus, OnError, OnFailure, OperatorRef, RecoveredRun, Step, StepStatus, Verified, VolumePhase,
    VolumeStatus,
};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Event;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::Serialize;

use super::objects::{action_of, diff_lines, kind_of, reason_of, title_of};
use super::sheet::Sheet;
use super::{figures, word};

/// What there is to show of a migration.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MigrationView {
    /// The record.
    pub migration: Migration,
    /// Every object, as far as the hub could be asked.
    pub objects: Vec<ObjectResult>,
    /// Why the objects are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub objects_missing: Option<String>,
    /// What was told of it, the oldest first.
    pub events: Vec<Event>,
    /// Why the events are missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub events_missing: Option<String>,
}

/// Everything about one run; with `details` every object of it too.
pub fn describe_migration(view: &MigrationView, details: bool, now: Timestamp) -> String {
    let status = view.migration.status.clone().unwrap_or_default();
    let mut sheet = Sheet::default();
    head(&mut sheet, &view.migration, &status, now);
    let steps: Vec<_> = status.pipeline.iter().map(|step| step_row(step, now)).collect();
    sheet.rows("Steps", &["STEP", "STATE", "STARTED", "TOOK", "MESSAGE"], &steps);
    let volumes: Vec<_> = status.volumes.iter().map(volume_row).collect();
    sheet.rows(
        "Volumes",
        &[
            "NAMESPACE",
            "CLAIM",
            "STATUS",
            "DONE",
            "SIZE",
            "UPLOADED",
            "FILES",
            "PASS",
            "READ",
            "VERIFIED",
            "REASON",
        ],
        &volumes,
    );
    if let Some(why) = &view.objects_missing {
        sheet.instead("Objects", &format!("the list is missing: {why}"));
    } else if details {
        let rows = object_rows(&view.objects);
        sheet.rows("Objects", &["NAMESPACE", "KIND", "NAME", "STATUS", "REASON"], &rows);
        changes(&mut sheet, &view.objects);
    }
    totals(&mut sheet, &status);
    findings(&mut sheet, "Failures", &status.failures, status.failures_total);
    findings(&mut sheet, "Warnings", &status.warnings, status.warnings_total);
    if let Some(why) = &view.events_missing {
        sheet.instead("Events", &format!("they are missing: {why}"));
    } else {
        let rows: Vec<_> = view.events.iter().map(|event| event_row(event, now)).collect();
        sheet.rows("Events", &["TYPE", "REASON", "AGE", "MESSAGE"], &rows);
    }
    sheet.finish()
}

fn head(sheet: &mut Sheet, migration: &Migration, status: &MigrationStatus, now: Timestamp) {
    super::identity_lines(sheet, migration);
    sheet.line("Plan", migration.spec.plan.as_deref().unwrap_or_default());
    sheet.line("Undoes", migration.spec.rollback_of.as_deref().unwrap_or_default());
    sheet.line("Schedule", migration.spec.schedule.as_deref().unwrap_or_default());
    sheet.line("Source", status.source.as_deref().unwrap_or_default());
    sheet.line("Destination", status.destination.as_deref().unwrap_or_default());
    let action = match migration.spec.action {
        MigrationAction::Final => format!("Final ({})", intent(migration.options())),
        action => word(action),
    };
    sheet.line("Action", &action);
    option_lines(sheet, migration.options());
    let phase = match status.status {
        MigrationPhase::RolledBack => "RolledBack: it did not succeed, and was undone".to_owned(),
        phase => word(phase),
    };
    sheet.line("Status", &phase);
    sheet.line("Step", &status.step.map(step_word).unwrap_or_default());
    sheet.line("Message", status.message.as_deref().unwrap_or_default());
    if let Some(recovered) = &status.recovers {
        sheet.line("Goes by", &goes_by(recovered, status.started_at.as_ref()));
        if let Some(lost) = &recovered.source_lost {
            let at = figures::moment(Some(&lost.at));
            sheet.line(
                "Source lost",
                &format!("at {at}, during {}: it went by its source until then", word(lost.step)),
            );
        }
    }
    for (name, value) in side_lines(status) {
        sheet.line(name, &value);
    }
    sheet.line("Started", &figures::moment(status.started_at.as_ref()));
    sheet.line("Finished", &figures::moment(status.finished_at.as_ref()));
    sheet.line("Elapsed", &took(status.started_at.as_ref(), status.finished_at.as_ref(), now));
}

/// What a failover goes by whose source was not heard.
fn goes_by(recovered: &RecoveredRun, failover: Option<&Time>) -> String {
    let age = failover.map_or_else(String::new, |at| {
        let old = figures::length(figures::between(&recovered.started_at, at.0));
        format!(", {old} before the failover")
    });
    format!(
        "run {}, which began {}{age}, and has nothing from after {}",
        recovered.run,
        figures::moment(Some(&recovered.started_at)),
        figures::moment(Some(&recovered.finished_at))
    )
}

/// What a run, or the runs of a plan, go by.
pub fn option_lines(sheet: &mut Sheet, spec: &MigrationSpec) {
    let yes = |flag: bool| if flag { "yes" } else { "no" };
    sheet.line("Pair", &spec.cluster_pair);
    sheet.line("Namespaces", &spec.namespaces.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "));
    sheet.line("Include objects", yes(spec.include_resources));
    sheet.line("Include volumes", yes(spec.include_volumes));
    sheet.line("Volume options", &volume_options(spec));
    sheet.line("Single volumes", &single_volumes(spec));
    sheet.line("Stop the source", yes(spec.quiesce));
    sheet.line("Start applications", yes(spec.starts()));
    if spec.quiesce {
        sheet.line("On failure", &word(spec.on_failure));
    }
    if spec.quiesce || spec.action == MigrationAction::Rollback {
        sheet.line("When undone", &format!("{} volumes", word(spec.reclaim)));
    }
    sheet.line("Operators", &operators(spec));
    sheet.line("Rule before", spec.pre_exec_rule.as_deref().unwrap_or_default());
    sheet.line("Rule after", spec.post_exec_rule.as_deref().unwrap_or_default());
    sheet.line("Hooks", &hooks(spec));
    sheet.line("Selectors", &spec.selectors.to_string());
    sheet.line("Excluded", &spec.exclude_selectors.to_string());
}

/// What kind of move it is.
pub fn intent(spec: &MigrationSpec) -> &'static str {
    if spec.quiesce { "cutover" } else { "promotion" }
}

/// Which side runs, and for how long none did; nothing of a run that stops and starts none.
pub fn side_lines(status: &MigrationStatus) -> Vec<(&'static str, String)> {
    let name = |cluster: &Option<String>| cluster.clone().unwrap_or_default();
    let (source, destination) = (name(&status.source), name(&status.destination));
    let active = status.active.map(|active| match active {
        Active::Source => format!("{source} (the source)"),
        Active::Destination => format!("{destination} (the destination)"),
        Active::Neither => "neither side".to_owned(),
        Active::Unknown if status.recovers.is_some() && status.status.is_success() => format!(
            "{destination} (the destination); {source} may still run if it was only cut off, and is stopped as soon as it is heard"
        ),
        Active::Unknown => format!("not known: look at {source} and {destination}"),
    });
    let mut lines: Vec<_> = active.into_iter().map(|active| ("Active side", active)).collect();
    if let Some(stopped) = &status.stopped_at {
        let began = figures::moment(Some(stopped));
        lines.push((
            "Downtime",
            match (back_at(status), &status.ready_at) {
                (Some(back), _) => {
                    let lasted = took(Some(stopped), Some(back), back.0);
                    format!("{lasted} ({began} until the source was started again)")
                }
                (None, Some(ready)) => {
                    let lasted = took(Some(stopped), Some(ready), ready.0);
                    format!("{lasted} ({began} to {})", figures::moment(Some(ready)))
                }
                (None, None) => format!("since {began}: no Pod of the destination has been ready"),
            },
        ));
    }
    lines
}

/// When the source was started again, in a run that went back.
fn back_at(status: &MigrationStatus) -> Option<&Time> {
    let restored = status.pipeline.iter().find(|step| step.step == Step::RestoreSource)?;
    restored.finished_at.as_ref().filter(|_| status.active == Some(Active::Source))
}

/// The hooks in their order: what each is, when and where it comes, and what its failure comes to.
fn hooks(spec: &MigrationSpec) -> String {
    let one = |hook: &Hook| {
        let what = match (&hook.exec, &hook.job) {
            (Some(exec), _) if exec.background => "command in the background",
            (Some(_), _) => "command",
            (None, _) => "Job",
        };
        let side = word(hook.side()).to_lowercase();
        let fails = if_it_fails(spec, hook);
        format!("{} ({what}, {}, {side}; if it fails, the run {fails})", hook.name, word(hook.phase))
    };
    spec.hooks.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// The workloads that manage others.
fn operators(spec: &MigrationSpec) -> String {
    let one = |operator: &OperatorRef| format!("{} {}/{}", operator.kind, operator.namespace, operator.name);
    spec.operators.iter().map(one).collect::<Vec<_>>().join(", ")
}

/// What the run does when a hook fails: past the point where the source stands still a cutover goes
/// back, though the destination may run by then.
fn if_it_fails(spec: &MigrationSpec, hook: &Hook) -> &'static str {
    match (hook.on_error, spec.on_failure) {
        (OnError::Continue, _) => "goes on",
        (OnError::Fail, _) if !spec.quiesce || hook.phase == HookPhase::PreHooks => "fails",
        (OnError::Fail, OnFailure::Rollback) => "goes back",
        (OnError::Fail, OnFailure::Hold) => "fails and is held",
    }
}

/// What becomes of single volumes.
fn single_volumes(spec: &MigrationSpec) -> String {
    let mut counts = BTreeMap::new();
    for choice in &spec.volumes {
        *counts.entry(word(choice.action)).or_insert(0_u32) += 1;
    }
    counts.iter().map(|(action, count)| format!("{count} {action}")).collect::<Vec<_>>().join(", ")
}

/// A step; one of going back is told to be one.
fn step_word(step: Step) -> String {
    match step {
        Step::StopDestination | Step::RestoreSource | Step::RemoveFromDestination => {
            format!("{step:?} (going back)")
        }
        _ => word(step),
    }
}

/// How the volumes are moved, as far as it was asked for otherwise than is the default.
fn volume_options(spec: &MigrationSpec) -> String {
    let plain = MigrationSpec::through(&spec.cluster_pair);
    if !spec.include_volumes {
        return String::new();
    }
    let mut options = Vec::new();
    if spec.method != plain.method {
        options.push(format!("method {:?}", spec.method));
    }
    if spec.verify != plain.verify {
        options.push(format!("verify {:?}", spec.verify));
    }
    if spec.metadata_policy != plain.metadata_policy {
        options.push(format!("metadata {:?}", spec.metadata_policy));
    }
    if let Some(limit) = &spec.bandwidth_limit {
        options.push(format!("at most {limit} bytes a second"));
    }
    if !spec.exclude_paths.is_empty() {
        options.push(format!("without {}", spec.exclude_paths.join(" ")));
    }
    if spec.retention.passes != plain.retention.passes {
        options.push(format!("{} passes kept", spec.retention.passes));
    }
    if spec.retention.snapshots != plain.retention.snapshots {
        options.push("snapshots kept".to_owned());
    }
    if !spec.mover.is_default() {
        options.push("own mover options".to_owned());
    }
    options.join(", ")
}

/// What was made sure of.
fn verified(verified: Verified) -> String {
    let inline = format!("{} blocks", verified.blocks);
    match (verified.files_read_back, verified.bytes_read_back) {
        (Some(files), bytes) => {
            format!("{inline}, {files} files read back ({})", figures::bytes(bytes.unwrap_or_default()))
        }
        (None, _) => inline,
    }
}

fn step_row(step: &StepStatus, now: Timestamp) -> Vec<String> {
    let (started, finished) = (step.started_at.as_ref(), step.finished_at.as_ref());
    vec![
        step_word(step.step),
        word(step.state),
        figures::moment(started),
        took(started, finished, now),
        step.message.clone().unwrap_or_default(),
    ]
}

fn volume_row(volume: &VolumeStatus) -> Vec<String> {
    vec![
        volume.namespace.clone(),
        volume.claim.clone(),
        word(volume.phase),
        figures::bytes(volume.bytes_done),
        figures::bytes(volume.bytes_total),
        figures::bytes(volume.bytes_uploaded),
        volume.files_done.to_string(),
        volume.pass.to_string(),
        volume.method.clone().unwrap_or_default(),
        volume.verified.map(verified).unwrap_or_default(),
        volume.message.clone().unwrap_or_default(),
    ]
}

/// A row for each object.
fn object_rows(objects: &[ObjectResult]) -> Vec<Vec<String>> {
    let row = |object: &ObjectResult| {
        let namespace = object.namespace.clone().unwrap_or_default();
        vec![namespace, kind_of(object), object.name.clone(), action_of(object), reason_of(object)]
    };
    objects.iter().map(row).collect()
}

/// What was changed, object by object.
fn changes(sheet: &mut Sheet, objects: &[ObjectResult]) {
    let mut changed = objects.iter().filter(|o| o.diff.is_some() || o.rewritten.is_some()).peekable();
    if changed.peek().is_some() {
        sheet.title("Changes");
    }
    for object in changed {
        for (what, diff) in [("on the destination", &object.diff), ("by the options", &object.rewritten)] {
            if let Some(diff) = diff {
                sheet.text(&format!("  {}, {what}:", title_of(object)));
                diff_lines(sheet, diff);
            }
        }
    }
}

fn totals(sheet: &mut Sheet, status: &MigrationStatus) {
    let volumes = status.volumes.iter().filter(|volume| volume.phase == VolumePhase::Succeeded).count();
    let files: u64 = status.volumes.iter().map(|volume| volume.files_done).sum();
    let uploaded: u64 = status.volumes.iter().map(|volume| volume.bytes_uploaded).sum();
    let counts = &status.resources;
    sheet.title("Totals");
    sheet.line("  Volumes", &format!("{volumes} of {}", status.volumes.len()));
    let (done, total) = (figures::bytes(status.bytes_done), figures::bytes(status.bytes_total));
    sheet.line(
        "  Data",
        &format!("{done} of {total} in {files} files, {} uploaded", figures::bytes(uploaded)),
    );
    sheet.line(
        "  Objects",
        &format!(
            "{} of {}: {} created, {} updated, {} unchanged, {} skipped, {} failed; {} deleted; {} left behind by rule",
            counts.done,
            counts.total,
            counts.created,
            counts.updated,
            counts.unchanged,
            counts.skipped,
            counts.failed,
            counts.deleted,
            counts.left_behind
        ),
    );
}

/// Findings under a title that says how many more there are.
pub fn findings(sheet: &mut Sheet, title: &str, findings: &[Finding], total: u64) {
    let rows: Vec<_> = findings
        .iter()
        .map(|finding| {
            let step = finding.step.map(word).unwrap_or_default();
            vec![finding.object.clone(), step, finding.reason.clone(), finding.message.clone()]
        })
        .collect();
    let shown = u64::try_from(rows.len()).unwrap_or(u64::MAX);
    let title = if total > shown { format!("{title} (first {shown} of {total})") } else { title.to_owned() };
    sheet.rows(&title, &["OBJECT", "STEP", "REASON", "MESSAGE"], &rows);
}

/// When an event was told last, whichever of its fields says it.
pub fn told_at(event: &Event) -> Option<Time> {
    let series = event.series.as_ref().and_then(|series| series.last_observed_time.as_ref());
    let precise = series.or(event.event_time.as_ref()).map(|time| Time(time.0));
    event.last_timestamp.clone().or(precise).or_else(|| event.metadata.creation_timestamp.clone())
}

fn event_row(event: &Event, now: Timestamp) -> Vec<String> {
    let count = event.count.or(event.series.as_ref().and_then(|series| series.count)).unwrap_or(1);
    let times = if count > 1 { format!(" (x{count})") } else { String::new() };
    vec![
        event.type_.clone().unwrap_or_default(),
        event.reason.clone().unwrap_or_default(),
        format!("{}{times}", figures::age(told_at(event).as_ref(), now)),
        event.message.clone().unwrap_or_default(),
    ]
}

fn took(started: Option<&Time>, finished: Option<&Time>, now: Timestamp) -> String {
    let end = finished.map_or(now, |time| time.0);
    started.map_or_else(String::new, |started| {
        let time = figures::between(started, end);
        if time < Duration::from_secs(1) { "<1s".to_owned() } else { figures::length(time) }
    })
}
