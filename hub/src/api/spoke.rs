//! What spokes say and ask: heartbeat, poll, reports.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::HeaderMap;
use isthmus_shared::protocol::{
    ClusterFacts, Heartbeat, HeartbeatReply, MAX_REPORTS, Outcome, PollRequest, Reports, TaskList,
    TaskReport, TaskState,
};
use isthmus_shared::resources::{
    ActivationPhase, ActivationStatus, Cluster, ClusterPair, ClusterStatus, Migration, MigrationPlan, Side,
    TargetState,
};
use jiff::{SignedDuration, Timestamp};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use kube::ResourceExt as _;
use serde_json::{Value, json};

use super::problem::{Body, bearer};
use super::{Front, Office, Problem, unix_now};
use crate::auth::spoke::Gate;
use crate::controllers::changed;
use crate::docket::{self, ACTIVATE};
use crate::itinerary::side_of;
use crate::{checks, pruning, surroundings};

/// `lastHeartbeat` is written when it is older than this, seconds: it says when a spoke was last
/// heard to within a minute, and a write more often would wake every watcher for nothing.
const HEARTBEAT_WRITE_SECONDS: i64 = 50;
/// The most entries of each list of a cluster's facts that are kept.
const MAX_FACTS: usize = 64;
/// The longest text of a fact or message that is kept, characters.
const MAX_TEXT: usize = 253;

/// The cluster whose key signed the request.
fn authenticate(office: &Office, headers: &HeaderMap) -> Result<Arc<Cluster>, Problem> {
    let token = bearer(headers)?;
    let record = office.records.cluster(&Gate::claimed(token)?);
    let now = unix_now();
    let admitted = office.gate.admit(token, record.as_deref(), now);
    let uid = record.as_ref().and_then(|record| record.uid());
    if let Some((uid, ahead)) = uid.zip(Gate::clock_ahead(token, &admitted, now)) {
        office.presence.clock_seen(&uid, ahead, Timestamp::now());
    }
    admitted?;
    record.ok_or_else(Problem::not_leading)
}

/// `POST /v1/spoke/heartbeat`
pub(super) async fn heartbeat(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    Body(heartbeat): Body<Heartbeat>,
) -> Result<Json<HeartbeatReply>, Problem> {
    let office = front.leading()?;
    let cluster = authenticate(&office, &headers)?;
    let uid = cluster.uid().unwrap_or_default();
    let now = Timestamp::now();
    let heard = office.presence.heartbeat(&uid, &heartbeat, now);
    let facts = heartbeat.facts.map(bounded);
    let change = |known: &Cluster| {
        let before = known.status.clone().unwrap_or_default();
        let mut after = before.clone();
        if let Some(facts) = &facts {
            take_facts(&mut after, facts);
        }
        let due = SignedDuration::from_secs(HEARTBEAT_WRITE_SECONDS);
        let stale = before.last_heartbeat.as_ref().is_none_or(|at| now.duration_since(at.0) > due);
        (stale || after != before).then(|| {
            after.last_heartbeat = Some(Time(now));
            let mut changed = known.clone();
            changed.status = Some(after);
            changed
        })
    };
    office
        .writer
        .status(&office.records.clusters, &office.records.namespace, &cluster.name_any(), change)
        .await?;
    if facts.is_some() {
        office.presence.facts_kept(&uid, &heartbeat.facts_digest);
    }
    if heard.news {
        office.records.touch();
    }
    let want_facts = heard.want_facts && facts.is_none();
    Ok(Json(HeartbeatReply {
        want_facts,
        stores: docket::stores_to_probe(&office.records, &cluster.name_any()),
    }))
}

/// `POST /v1/spoke/tasks`
pub(super) async fn tasks(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    Body(request): Body<PollRequest>,
) -> Result<Json<TaskList>, Problem> {
    let office = front.leading()?;
    let cluster = authenticate(&office, &headers)?;
    let _held = Held::new(&front);
    let stop = office.term.over().child_token();
    let name = cluster.name_any();
    let list = tokio::select! {
        list = docket::poll(&office.records, &office.presence, &name, &request, &stop) => list,
        // Whoever waits is sent away: another hub, or this one after its restart, answers.
        () = front.stop.cancelled() => return Err(Problem::not_leading()),
    };
    // A list from after the term is not this hub's to give.
    office.term.check().map_err(|_| Problem::not_leading())?;
    Ok(Json(list))
}

/// Counts a poll for as long as it is held, however it ends.
struct Held(prometheus_client::metrics::gauge::Gauge);

impl Held {
    fn new(front: &Front) -> Self {
        front.metrics.polls.inc();
        Self(front.metrics.polls.clone())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// `POST /v1/spoke/reports`; answered once what ended is in the records.
pub(super) async fn reports(
    State(front): State<Arc<Front>>,
    headers: HeaderMap,
    Body(Reports { reports }): Body<Reports>,
) -> Result<Json<Value>, Problem> {
    let office = front.leading()?;
    let cluster = authenticate(&office, &headers)?;
    if reports.len() > MAX_REPORTS {
        return Err(Problem::bad_request(format!(
            "{} reports in one message; at most {MAX_REPORTS} are taken",
            reports.len()
        )));
    }
    let mut by_record: BTreeMap<String, Vec<TaskReport>> = BTreeMap::new();
    for report in reports {
        by_record.entry(report.task.record.clone()).or_default().push(report);
    }
    for (record, reports) in by_record {
        if cluster.uid().as_deref() == Some(record.as_str()) {
            activated(&office, &cluster, &reports).await?;
        } else if let Some(migration) = office.records.migrations.by_uid(&record) {
            let reports: Vec<TaskReport> =
                reports.into_iter().filter(|report| is_of(&migration, report, &cluster.name_any())).collect();
            if !reports.is_empty() {
                office.runs.report(&migration, reports).await?;
            }
        } else if let Some(plan) = checks::plan_uid(&record).and_then(|uid| office.records.plans.by_uid(uid))
        {
            checked(&office, &plan, &record, reports, &cluster.name_any()).await?;
        } else if let Some(pair) = office.records.pairs.by_uid(&record)
            && pair.spec.source == cluster.name_any()
        {
            pruned(&office, &pair, &reports).await?;
        }
        // A report of a record that is gone has nobody to tell any more.
    }
    Ok(Json(json!({})))
}

/// Whether a task of a migration is this cluster's to report on.
fn is_of(migration: &Migration, report: &TaskReport, cluster: &str) -> bool {
    let Some(status) = &migration.status else { return false };
    let owner = match side_of(&report.task) {
        Some(Side::Source) => status.source.as_deref(),
        Some(Side::Destination) => status.destination.as_deref(),
        None => None,
    };
    let is = owner == Some(cluster);
    if !is {
        tracing::warn!(cluster, task = %report.task, "a spoke reported on a task that is not its own; ignored");
    }
    is
}

/// Takes in reports on a plan's check; those of a check that is over have nobody to tell any more.
async fn checked(
    office: &Office,
    plan: &MigrationPlan,
    uid: &str,
    mut reports: Vec<TaskReport>,
    cluster: &str,
) -> Result<(), Problem> {
    let records = &office.records;
    let change = |known: &MigrationPlan| {
        let check = checks::as_migration(known).filter(|check| check.uid().as_deref() == Some(uid))?;
        reports.retain(|report| is_of(&check, report, cluster));
        let around = surroundings::around(records, &office.presence, known);
        changed(known, checks::step(known, &around, &reports, Timestamp::now()))
    };
    let namespace = plan.namespace().unwrap_or_default();
    office.writer.status(&records.plans, &namespace, &plan.name_any(), change).await?;
    Ok(())
}

/// Takes in reports on starting and stopping applications.
async fn activated(office: &Office, cluster: &Cluster, reports: &[TaskReport]) -> Result<(), Problem> {
    let change = |known: &Cluster| {
        let uid = known.uid()?;
        let before = known.status.clone().unwrap_or_default();
        let mut after = before.clone();
        for report in reports.iter().filter(|report| report.task.step == ACTIVATE) {
            let wanted = known.spec.activations.iter().find(|wanted| {
                docket::activation_task(&uid, &wanted.namespace, &wanted.request) == report.task
            });
            let Some(wanted) = wanted else { continue };
            let entry = after.activations.iter_mut().find(|a| a.namespace == wanted.namespace);
            let done = entry
                .as_ref()
                .is_some_and(|a| a.request == wanted.request && a.phase != ActivationPhase::InProgress);
            if done {
                continue;
            }
            let status = ActivationStatus {
                namespace: wanted.namespace.clone(),
                request: wanted.request.clone(),
                state: wanted.state,
                phase: phase(report.state),
                workloads: workloads(report),
                message: activation_message(report),
            };
            match entry {
                Some(entry) => *entry = status,
                None => after.activations.push(status),
            }
        }
        (after != before).then(|| {
            let mut changed = known.clone();
            changed.status = Some(after);
            changed
        })
    };
    let records = &office.records;
    let written =
        office.writer.status(&records.clusters, &records.namespace, &cluster.name_any(), change).await?;
    let answered = written.and_then(|cluster| cluster.status.clone()).map(|status| status.activations);
    let uid = cluster.uid().unwrap_or_default();
    for done in answered.iter().flatten().filter(|a| a.phase == ActivationPhase::Succeeded) {
        let reported = reports
            .iter()
            .any(|report| report.task == docket::activation_task(&uid, &done.namespace, &done.request));
        if reported {
            office.presence.turned(&uid, &done.namespace, done.state == TargetState::Active);
        }
    }
    Ok(())
}

/// Takes in reports on collecting what a pair has in staging.
async fn pruned(office: &Office, pair: &ClusterPair, reports: &[TaskReport]) -> Result<(), Problem> {
    let now = Timestamp::now();
    let change = |known: &ClusterPair| {
        let mut changed = known.clone();
        let mut news = false;
        for report in reports {
            if let Some(standing) = pruning::reported(&changed, report, now) {
                changed.status.get_or_insert_default().prune = Some(standing);
                news = true;
            }
        }
        news.then_some(changed)
    };
    let namespace = pair.namespace().unwrap_or_default();
    office.writer.status(&office.records.pairs, &namespace, &pair.name_any(), change).await?;
    Ok(())
}

fn phase(state: TaskState) -> ActivationPhase {
    match state {
        TaskState::Running => ActivationPhase::InProgress,
        TaskState::Succeeded => ActivationPhase::Succeeded,
        TaskState::Failed => ActivationPhase::Failed,
    }
}

fn workloads(report: &TaskReport) -> u32 {
    match &report.outcome {
        Some(Outcome::Workloads { workloads }) => *workloads,
        _ => 0,
    }
}

fn activation_message(report: &TaskReport) -> Option<String> {
    let found = report.failures.first().or(report.warnings.first());
    let text = found
        .map(|found| format!("{}: {}", found.object, found.message))
        .or_else(|| report.progress.message.clone())?;
    Some(text.chars().take(1024).collect())
}

fn take_facts(status: &mut ClusterStatus, facts: &ClusterFacts) {
    status.version = Some(facts.version.clone());
    status.spoke_version = Some(facts.spoke_version.clone());
    status.nodes = Some(facts.nodes);
    status.zones.clone_from(&facts.zones);
    status.storage_classes.clone_from(&facts.storage_classes);
    status.snapshot_classes.clone_from(&facts.snapshot_classes);
}

/// Facts of a size that a status may have, whatever the spoke sent.
fn bounded(mut facts: ClusterFacts) -> ClusterFacts {
    let cut = |text: &mut String| {
        if let Some((end, _)) = text.char_indices().nth(MAX_TEXT) {
            text.truncate(end);
        }
    };
    cut(&mut facts.version);
    cut(&mut facts.spoke_version);
    facts.zones.truncate(MAX_FACTS);
    facts.zones.iter_mut().for_each(cut);
    facts.snapshot_classes.truncate(MAX_FACTS);
    facts.snapshot_classes.iter_mut().for_each(cut);
    facts.storage_classes.truncate(MAX_FACTS);
    for class in &mut facts.storage_classes {
        cut(&mut class.name);
        cut(&mut class.provisioner);
    }
    facts
}
