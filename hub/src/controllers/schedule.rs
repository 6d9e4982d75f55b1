//! Schedules: runs begun when they are due, and removed when they have had their time.
//!
//! What is decided on what the watch has brought is decided again, before a run is made, on what the
//! API server holds by then, while no migration is let in: neither a run that was just made, nor a
//! failover that was just begun, nor a schedule that was just suspended is overlooked.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::future::BoxFuture;
use isthmus_shared::resources::{
    FIELD_MANAGER, FINALIZER, Migration, MigrationSchedule, MigrationScheduleStatus, SCHEDULE, run_name,
};
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::runtime::events::{Event, EventType};
use kube::{Api, Resource as _, ResourceExt as _};

use super::Desk;
use crate::records::WriteError;
use crate::schedules::{Removal, Run, decide};
use crate::surroundings::schedules::seen;

/// What became of the run that was due.
#[derive(Default)]
struct Begun {
    /// The run, which the watch may not have brought yet.
    run: Option<Run>,
    /// When it was due, if something else has its name: it is passed over.
    passed_over: Option<Timestamp>,
}

/// Begins the run that is due, tells how the schedule stands, and removes runs beyond its history.
pub(super) fn reconcile(
    desk: Arc<Desk>,
    schedule: Arc<MigrationSchedule>,
) -> BoxFuture<'static, Result<(), WriteError>> {
    Box::pin(async move {
        let (namespace, name) = (schedule.namespace().unwrap_or_default(), schedule.name_any());
        let (records, presence) = (desk.records(), &desk.office.presence);
        let Some(schedule) = records.schedules.get(&namespace, &name) else { return Ok(()) };
        if schedule.metadata.deletion_timestamp.is_some() {
            return Ok(());
        }
        let begins = decide(&schedule, &seen(records, presence, &schedule), Timestamp::now()).begin.is_some();
        let begun = if begins { begin(&desk, &namespace, &name).await? } else { Begun::default() };
        let mut removals = Vec::new();
        let mut turned = None;
        let change = |known: &MigrationSchedule| {
            let mut seen = seen(records, presence, known);
            if let Some(run) = begun.run.clone().filter(|run| !seen.runs.iter().any(|r| r.uid == run.uid)) {
                seen.runs.push(run);
            }
            let mut decision = decide(known, &seen, Timestamp::now());
            let last = decision.status.last_scheduled_at.as_ref().map(|at| at.0);
            decision.status.last_scheduled_at = begun.passed_over.max(last).map(Time);
            removals = decision.remove;
            let before = known.status.clone().unwrap_or_default();
            turned = turn(&before, &decision.status);
            (before != decision.status).then(|| {
                let mut changed = known.clone();
                changed.status = Some(decision.status);
                changed
            })
        };
        desk.office.writer.status(&records.schedules, &namespace, &name, change).await?;
        if let Some(event) = turned {
            tell(&desk, &schedule, event).await;
        }
        for removal in removals {
            remove(&desk, &namespace, &removal).await?;
        }
        Ok(())
    })
}

/// Makes the run that is due, as far as one still is by what the API server holds.
async fn begin(desk: &Desk, namespace: &str, name: &str) -> Result<Begun, WriteError> {
    let _held = desk.office.runs.admission().await;
    let (records, writer) = (desk.records(), &desk.office.writer);
    let schedules: Api<MigrationSchedule> = Api::namespaced(writer.client.clone(), namespace);
    let object = format!("MigrationSchedule {namespace}/{name}");
    let found = schedules.get_opt(name).await.map_err(WriteError::api("reading", object.clone()))?;
    let Some(schedule) = found.map(|schedule| records.schedules.remember(schedule)) else {
        return Ok(Begun::default());
    };
    let migrations: Api<Migration> = Api::namespaced(writer.client.clone(), namespace);
    let of_this = ListParams::default().labels(&format!("{SCHEDULE}={name}"));
    let listed = migrations.list(&of_this).await.map_err(WriteError::api("listing the runs of", object))?;
    let mut seen = seen(records, &desk.office.presence, &schedule);
    seen.runs = listed.items.iter().filter_map(|migration| Run::of(&schedule, migration)).collect();
    let Some(due) = decide(&schedule, &seen, Timestamp::now()).begin else { return Ok(Begun::default()) };
    writer.term.check()?;
    let run = run_of(&schedule, due);
    let run_name = run.name_any();
    let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
    let told = |type_, reason: &str, note: String| Event {
        type_,
        reason: reason.to_owned(),
        note: Some(note),
        action: "Begin".to_owned(),
        secondary: None,
    };
    match migrations.create(&params, &run).await {
        Ok(made) => {
            tracing::info!(schedule = name, run = run_name, %due, "a run of a schedule was begun");
            desk.metrics.began_by_schedule();
            let note = format!("Migration {run_name} was begun, which was due at {due}");
            tell(desk, &schedule, told(EventType::Normal, "RunBegun", note)).await;
            let made = records.migrations.remember(made);
            Ok(Begun { run: Run::of(&schedule, &made), passed_over: None })
        }
        Err(kube::Error::Api(status)) if status.is_already_exists() => {
            let note = format!(
                "the run that was due at {due} was not begun: there is another Migration {run_name}, which is not of this schedule"
            );
            tracing::warn!(schedule = name, note);
            tell(desk, &schedule, told(EventType::Warning, "NameTaken", note)).await;
            Ok(Begun { run: None, passed_over: Some(due) })
        }
        Err(error) => {
            let note = format!("the run that was due at {due} could not be made yet: {error}");
            tell(desk, &schedule, told(EventType::Warning, "RunNotBegun", note)).await;
            Err(WriteError::api("creating", format!("Migration {namespace}/{run_name}"))(error))
        }
    }
}

/// The run of a schedule that was due at a time.
fn run_of(schedule: &MigrationSchedule, due: Timestamp) -> Migration {
    let name = schedule.name_any();
    let mut run = Migration::new(&run_name(&name, due), schedule.spec.template.spec.clone());
    run.metadata.namespace = schedule.namespace();
    run.metadata.labels = Some(BTreeMap::from([(SCHEDULE.to_owned(), name)]));
    run.metadata.owner_references = schedule.controller_owner_ref(&()).map(|owner| vec![owner]);
    // It would get it at once, and with it one write is saved.
    run.metadata.finalizers = Some(vec![FINALIZER.to_owned()]);
    run
}

/// What is to be told of a schedule that begins to be held, or ceases to.
fn turn(before: &MigrationScheduleStatus, after: &MigrationScheduleStatus) -> Option<Event> {
    let reason = |status: &MigrationScheduleStatus| status.held.as_ref().map(|held| held.reason);
    if reason(before) == reason(after) {
        return None;
    }
    let (type_, word, note) = match &after.held {
        Some(held) => (EventType::Warning, "Held", held.message.clone()),
        None => (EventType::Normal, "Released", "nothing holds it any more: it goes on".to_owned()),
    };
    Some(Event {
        type_,
        reason: word.to_owned(),
        note: Some(note),
        action: "Hold".to_owned(),
        secondary: None,
    })
}

/// Publishes an event. It is for people to read, so what fails here is logged and no more.
async fn tell(desk: &Desk, schedule: &MigrationSchedule, event: Event) {
    if let Err(error) = desk.recorder.publish(&event, &schedule.object_ref(&())).await {
        tracing::warn!(%error, "publishing an event failed; the hub needs create and patch on events");
    }
}

/// Removes a run, and with it what it has in staging: that very run, not another of its name.
async fn remove(desk: &Desk, namespace: &str, removal: &Removal) -> Result<(), WriteError> {
    let writer = &desk.office.writer;
    writer.term.check()?;
    let migrations: Api<Migration> = Api::namespaced(writer.client.clone(), namespace);
    let preconditions = Preconditions { uid: Some(removal.uid.clone()), resource_version: None };
    let params = DeleteParams::background().preconditions(preconditions);
    match migrations.delete(&removal.name, &params).await {
        Ok(_) => {
            tracing::info!(run = removal.name, "a run beyond the history of its schedule is removed");
            Ok(())
        }
        Err(kube::Error::Api(status)) if status.is_not_found() || status.is_conflict() => Ok(()),
        Err(error) => {
            Err(WriteError::api("deleting", format!("Migration {namespace}/{}", removal.name))(error))
        }
    }
}
