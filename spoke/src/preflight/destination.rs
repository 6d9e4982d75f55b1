//! InspectDestination: whether the destination can take what the inventory lists, and what would
//! become of each object.
//!
//! ```text
//!   places      the namespaces, as they are or will be
//!     |
//!   trial       each candidate: rewritten, met, dry-run ──▶ preview
//!     |
//!   claims, checks   what no single object tells
//! ```

use futures::stream::{FuturesUnordered, StreamExt};
use isthmus_shared::protocol::{ObjectAction, ObjectResult, Outcome, Run};
use isthmus_shared::resources::{Finding, Side, plan_mark};
use isthmus_shared::staging::ArchiveName;
use serde_json::Value;

use super::checks::Checks;
use super::claims::look_at_claims;
use super::concern::{Concern, Severity};
use super::hooks::look_at_hooks;
use super::kept::look_at_kept;
use super::places::Places;
use super::pods::try_template;
use super::preview::Preview;
use super::refusal::Coming;
use super::trial::{Tried, Trier};
use crate::apply::LiveIndex;
use crate::apply::handover::{DIFFERS_HERE, HandedOver};
use crate::apply::purge::{self, Brought};
use crate::cluster::{ObjectId, describe, discover, name, namespace};
use crate::collect::InventoryReader;
use crate::findings::{Findings, finding};
use crate::staging_area::StagingArea;
use crate::task::{TaskContext, TaskError};
use crate::transform::Rewriter;
use crate::workloads::state;

/// The most content of candidates that are tried at a time, bytes: each is in memory several times
/// over (as it was, as it is to be, as it is, and as the server would have it).
const MAX_IN_FLIGHT: usize = 4 * 1024 * 1024;

/// Looks whether the destination can take what the inventory lists. Changes nothing.
pub async fn inspect_destination(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let mut inventory = InventoryReader::new(area.read(ArchiveName::Inventory).await?).await?;
    let mut coming = Coming::default();
    while let Some(entry) = inventory.next().await? {
        coming.names.insert(entry.name);
    }
    let header = inventory.header;
    coming.namespaces = run.destinations().map(str::to_owned).collect();
    coming.kinds = header
        .kinds
        .iter()
        .filter(|kind| kind.crd)
        .map(|kind| (kind.group.clone(), kind.kind.clone()))
        .collect();
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let rewriter =
        Rewriter::new(run).map_err(|e| TaskError::failed("the migration", "BadTransform", e.to_string()))?;
    let mut concerns =
        look_at_hooks(&run.spec, Side::Destination, &context.spoke.name, context.spoke.hook_commands);
    let places = Places::look(context, run, &header, &mut concerns).await?;
    let mut preview = Preview::new(&area)?;
    for line in places.lines() {
        preview.mention(&line).await?;
    }
    let trier = Trier {
        cluster: context.cluster(),
        catalogue: &catalogue,
        rewriter: &rewriter,
        run,
        home: &context.spoke.namespace,
        places: &places,
        coming: &coming,
        live: LiveIndex::default(),
        handed_over: HandedOver::of(run, places.iter().filter_map(|(_, place)| place.live.as_ref())),
    };
    let mut checks = Checks::new(run.spec.starts());
    let mut refusals = Findings::default();
    let brought = try_all(context, &area, &trier, (&mut preview, &mut checks, &mut refusals)).await?;
    if run.spec.purge_deleted_resources {
        look_for_gone(context, run, &area, &trier, &brought, &mut preview).await?;
    }
    preview.copy_left_behind(&area).await?;
    if run.spec.include_volumes {
        look_at_claims(context, run, (&header, &rewriter), &places, &mut concerns).await?;
    }
    concerns.extend(look_at_kept(context, run, &header.kept).await?);
    concerns.extend(checks.conclude(context, &catalogue, &places).await?);
    let counts = preview.finish().await?;
    context.log(format!(
        "would be: {} created, {} updated, {} unchanged, {} skipped, {} refused, {} left behind",
        counts.created, counts.updated, counts.unchanged, counts.skipped, counts.failed, counts.left_behind
    ));
    let failures = weigh(context, concerns, refusals);
    if failures.is_empty() { Ok(Outcome::Previewed { counts }) } else { Err(TaskError::Failed(failures)) }
}

/// Tries the candidates, as many at a time as the API server bears. Answers with what the run
/// would bring.
async fn try_all(
    context: &TaskContext,
    area: &StagingArea,
    trier: &Trier<'_>,
    (preview, checks, refusals): (&mut Preview, &mut Checks, &mut Findings),
) -> Result<Brought, TaskError> {
    let mut brought = Brought::default();
    let mut candidates = area.read(ArchiveName::Candidates).await?;
    let total = candidates.summary().objects;
    context.progress(|p| {
        p.objects_total = total;
        p.message = Some("trying the objects on the destination".to_owned());
    });
    let mut running = FuturesUnordered::new();
    let mut bytes = 0;
    loop {
        let next = candidates.next().await?;
        let size = next.as_ref().map_or(usize::MAX, weight);
        // The last round waits for all that is under way.
        while !running.is_empty()
            && (running.len() >= trier.cluster.width() || size > MAX_IN_FLIGHT.saturating_sub(bytes))
        {
            let Some((done, result)) = running.next().await else { break };
            bytes -= done;
            let (mut tried, of_pods): (Tried, Option<Concern>) = result?;
            let group = tried.line.api_version.split_once('/').map_or("", |(group, _)| group);
            let place = tried.line.namespace.as_deref().unwrap_or_default();
            brought.note(group, &tried.line.kind, place, &tried.line.name);
            checks.see(&mut tried, of_pods, trier.catalogue, trier.places);
            refusals.extend(tried.concern.map(|concern| concern.finding));
            if tried.line.reason.as_deref() == Some(DIFFERS_HERE) {
                context.warn(left_here(&tried.line));
            }
            preview.note(tried.line).await?;
            context.progress(|p| p.objects_done += 1);
        }
        let Some(object) = next else { return Ok(brought) };
        // Namespaces are prepared before everything else, and are looked at as places.
        if ObjectId::of(&object) == namespace_id(name(&object)) {
            continue;
        }
        bytes += size;
        running.push(async move { (size, try_one(trier, object).await) });
    }
}

/// Notes what would be deleted because it is gone from the source.
async fn look_for_gone(
    context: &TaskContext,
    run: &Run,
    area: &StagingArea,
    trier: &Trier<'_>,
    brought: &Brought,
    preview: &mut Preview,
) -> Result<(), TaskError> {
    for source in run.sources() {
        let destination = run.destination_of(source);
        if !trier.places.has(destination) {
            continue;
        }
        context.doing(format!("looking in {destination} for what is gone from the source"));
        let plan = plan_mark(&run.staging.pair, &run.source, source);
        let names = (source, destination);
        for gone in purge::gone(context, trier.catalogue, area, names, &plan, brought).await? {
            let id = ObjectId::of(&gone.live);
            let kept = match gone.choice {
                purge::Choice::Keep => continue,
                purge::Choice::Unsure => Some(purge::unsure(&gone.live)),
                purge::Choice::Delete => purge::stays(context, &gone.kind, &gone.live, destination).await?,
            };
            let mut result = match &kept {
                None => id.result(ObjectAction::Deleted),
                Some(_) => id.result(ObjectAction::Skipped),
            };
            result.reason = Some(kept.as_ref().map_or("GoneFromSource", |kept| &kept.reason).to_owned());
            result.message = kept.as_ref().map(|kept| kept.message.clone());
            preview.note(result).await?;
            if let Some(warning) = kept {
                context.warn(warning);
            }
        }
    }
    Ok(())
}

/// Tells of an object of cluster scope that stays as the destination has it.
fn left_here(line: &ObjectResult) -> Finding {
    let object = format!("{} {}", line.kind, line.name);
    finding(object, DIFFERS_HERE, line.message.clone().unwrap_or_default())
}

fn namespace_id(name: &str) -> ObjectId {
    ObjectId {
        api_version: "v1".to_owned(),
        kind: "Namespace".to_owned(),
        namespace: None,
        name: name.to_owned(),
    }
}

/// Tries an object, and the Pods that it would make.
async fn try_one(trier: &Trier<'_>, object: Value) -> Result<(Tried, Option<Concern>), TaskError> {
    let tried = trier.try_candidate(object).await?;
    let taken = match tried.line.action {
        ObjectAction::Created | ObjectAction::Updated => true,
        // It is as it should be, and is started by this run.
        ObjectAction::Unchanged => {
            trier.run.spec.starts() && tried.live.as_ref().is_some_and(state::is_stopped)
        }
        _ => false,
    };
    let Some(wanted) = tried.wanted.as_ref().filter(|_| taken) else { return Ok((tried, None)) };
    let Some(place) = trier.places.get(namespace(wanted)).filter(|place| place.is_there()) else {
        return Ok((tried, None));
    };
    let starts = trier.run.spec.starts();
    let of_pods = try_template(trier.cluster, wanted, place, starts)
        .await
        .map_err(|e| TaskError::cluster(describe(wanted), "trying a Pod of it", &e))?;
    Ok((tried, of_pods))
}

/// About how long a value is as JSON, bytes.
fn weight(value: &Value) -> usize {
    match value {
        Value::String(text) => text.len() + 2,
        Value::Array(list) => list.iter().map(weight).sum::<usize>() + 2,
        Value::Object(map) => map.iter().map(|(key, value)| key.len() + 4 + weight(value)).sum::<usize>() + 2,
        _ => 5,
    }
}

/// Failures, those of whole namespaces first; warnings go to the task's.
fn weigh(context: &TaskContext, concerns: Vec<Concern>, refusals: Findings) -> Findings {
    let mut failures = Findings::default();
    for Concern { severity, finding } in concerns {
        match severity {
            Severity::Failure => failures.push(finding),
            Severity::Warning => context.warn(finding),
        }
    }
    failures.append(refusals);
    failures
}
