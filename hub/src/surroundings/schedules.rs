//! What surrounds a schedule: its runs, its pair and plan, and the side that its runs bring to.

use std::collections::BTreeSet;
use std::sync::Arc;

use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;
use isthmus_shared::resources::{
    ActivationPhase, Cluster, ClusterPair, MAX_NAMESPACES, Migration, MigrationAction, MigrationSchedule,
    MigrationSpec, NamespaceRule, SCHEDULE, TargetState,
};
use jiff::{SignedDuration, Timestamp};
use kube::ResourceExt as _;

use super::heard_at;
use super::template::Template;
use crate::itinerary::left_nothing_running;
use crate::presence::Presence;
use crate::records::Records;
use crate::schedules::{
    Crossing, Hold, Obstacle, Outcome, Place, Run, Seen, Way, destination_active, failed_over,
};

/// The surroundings of a schedule as they are now.
pub(crate) fn seen(records: &Records, presence: &Presence, schedule: &MigrationSchedule) -> Seen {
    let (mut runs, mut seen, mut crossings) = (Vec::new(), Seen::default(), Vec::new());
    let all = records.migrations.all();
    for migration in &all {
        if let Some(run) = Run::of(schedule, migration) {
            runs.push(&**migration);
            seen.runs.push(run);
        } else {
            crossings.extend(crossing(migration, schedule));
        }
    }
    crossings.retain(|crossing| !is_undone(&all, schedule, &crossing.name));
    let sides = Sides::of(records, schedule);
    seen.hold = failed_over(&schedule.name_any(), &crossings);
    match sides {
        Err(obstacle) => seen.obstacle = Some(obstacle),
        Ok(sides) if schedule.spec.auto_suspend => {
            let active = || occupied(records, presence, schedule, &sides, &runs);
            seen.hold = seen.hold.or_else(active);
            seen.unknown = unknown(records, presence, &sides.destination);
        }
        Ok(_) => {}
    }
    seen
}

/// Why a run of a schedule that has not begun waits: its schedule is held. What was made a moment
/// before a failover must not follow it.
pub(crate) fn held(records: &Records, presence: &Presence, migration: &Migration) -> Option<String> {
    let name = migration.labels().get(SCHEDULE)?;
    let schedule = records.schedules.get(&migration.namespace()?, name)?;
    Run::of(&schedule, migration)?;
    let hold = seen(records, presence, &schedule).hold?;
    Some(format!("waits, as MigrationSchedule {name} is held: {}", hold.message))
}

/// Between which clusters a schedule's runs go, and by which options.
struct Sides {
    options: MigrationSpec,
    destination: String,
}

impl Sides {
    /// Or why its runs cannot be carried out.
    fn of(records: &Records, schedule: &MigrationSchedule) -> Result<Self, Obstacle> {
        let namespace = schedule.namespace().unwrap_or_default();
        let spec = &schedule.spec;
        let told = |problems: Vec<isthmus_shared::resources::OptionProblem>| {
            let more = problems.len().saturating_sub(1);
            problems.into_iter().next().map(|first| {
                let more = if more > 0 { format!(" (and {more} more)") } else { String::new() };
                Obstacle { reason: first.reason.to_owned(), message: format!("{first}{more}") }
            })
        };
        if let Some(problem) = told(spec.problems(&schedule.name_any())) {
            return Err(problem);
        }
        let template = Template::of(records, schedule).map_err(|name| {
            let message = format!(
                "there is no MigrationPlan {name} in namespace {namespace}, of which its runs take their options: create it with `isthmus plan create {name}`, or name another"
            );
            Obstacle { reason: "NoSuchPlan".to_owned(), message }
        })?;
        let through_plan =
            template.plan.as_ref().and_then(|plan| told(spec.problems_with(&plan.spec.options)));
        if let Some(problem) = through_plan {
            return Err(problem);
        }
        let options = template.options();
        let name = &options.cluster_pair;
        let pair =
            records.pairs.get(&namespace, name).filter(|pair| pair.metadata.deletion_timestamp.is_none());
        let Some(pair) = pair else {
            let message = format!(
                "there is no ClusterPair {name} in namespace {namespace}: create it with `isthmus pair create {name}`, or name another"
            );
            return Err(Obstacle { reason: "NoSuchPair".to_owned(), message });
        };
        if options.reverse && !pair.spec.bidirectional {
            let message = format!(
                "ClusterPair {name} goes one way only and the runs are to go in reverse: set `spec.bidirectional: true` on the pair, or leave `reverse` out"
            );
            return Err(Obstacle { reason: "NotBidirectional".to_owned(), message });
        }
        let destination = destination(&pair, options.reverse).to_owned();
        Ok(Self { options, destination })
    }
}

fn destination(pair: &ClusterPair, reverse: bool) -> &str {
    if reverse { &pair.spec.source } else { &pair.spec.destination }
}

/// Whether applications are active where a schedule's runs would write.
fn occupied(
    records: &Records,
    presence: &Presence,
    schedule: &MigrationSchedule,
    sides: &Sides,
    runs: &[&Migration],
) -> Option<Hold> {
    let cluster = records.cluster(&sides.destination)?;
    let places: Vec<Place> = arriving(&sides.options, runs)
        .into_iter()
        .map(|namespace| place(presence, &cluster, namespace))
        .collect();
    destination_active(&schedule.name_any(), &places)
}

/// A migration as a Failover or a Failback of a schedule.
fn crossing(migration: &Migration, schedule: &MigrationSchedule) -> Option<Crossing> {
    let own = migration.spec.schedule.is_some() && migration.spec.schedule == schedule.metadata.name;
    if !own || migration.metadata.namespace != schedule.metadata.namespace {
        return None;
    }
    let way = match migration.spec.action {
        MigrationAction::Failover => Way::Over,
        MigrationAction::Failback => Way::Back,
        _ => return None,
    };
    let status = migration.status.as_ref();
    let outcome = match status.map(|status| status.status).unwrap_or_default() {
        phase if phase.is_success() => Outcome::Succeeded,
        phase if phase.is_terminal() => {
            // What is not known of the source alone keeps nobody from writing to the destination.
            let may_run = status.filter(|status| !left_nothing_running(status));
            Outcome::Failed(may_run.and_then(|status| status.active))
        }
        _ => Outcome::UnderWay,
    };
    let created = migration.creation_timestamp().map_or(Timestamp::MIN, |at| at.0);
    Some(Crossing { name: migration.name_any(), created, way, outcome })
}

/// Whether a Rollback has undone a migration beside a schedule: then it is as if it had not been.
fn is_undone(all: &[Arc<Migration>], schedule: &MigrationSchedule, name: &str) -> bool {
    all.iter().any(|migration| {
        migration.spec.rollback_of.as_deref() == Some(name)
            && migration.metadata.namespace == schedule.metadata.namespace
            && migration.status.as_ref().is_some_and(|status| status.status.is_success())
    })
}

/// The namespaces of the destination that runs bring something to: those that are named, and those
/// that globs and selectors came to.
fn arriving(options: &MigrationSpec, runs: &[&Migration]) -> BTreeSet<String> {
    let named = options.namespaces.iter().filter_map(|entry| match entry.rule().ok()? {
        NamespaceRule::Name(name) => Some(name),
        NamespaceRule::Mapped(moved) => Some(moved.to),
        NamespaceRule::Glob(_) => None,
    });
    let found = runs.iter().filter_map(|run| run.status.as_ref()).flat_map(|status| &status.namespaces);
    named.chain(found.map(|moved| moved.to.clone())).take(MAX_NAMESPACES * 2).collect()
}

fn place(presence: &Presence, cluster: &Cluster, namespace: String) -> Place {
    let marked_active =
        presence.fence(&cluster.uid().unwrap_or_default(), &namespace).map(|fence| fence.active);
    Place { cluster: cluster.name_any(), marked_active, asked: asked(cluster, &namespace), namespace }
}

/// What was asked for last about a namespace's applications, and what became of it.
fn asked(cluster: &Cluster, namespace: &str) -> Option<(TargetState, ActivationPhase)> {
    let wanted = cluster.spec.activations.iter().find(|wanted| wanted.namespace == namespace)?;
    let answers = cluster.status.as_ref().map(|status| status.activations.as_slice()).unwrap_or_default();
    let answer =
        answers.iter().find(|answer| answer.namespace == namespace && answer.request == wanted.request);
    Some((wanted.state, answer.map_or(ActivationPhase::InProgress, |answer| answer.phase)))
}

/// What has to be heard before a run may begin: whether the destination's applications run is known
/// from its heartbeats alone.
fn unknown(records: &Records, presence: &Presence, name: &str) -> Option<String> {
    let cluster = records.cluster(name)?;
    let limit = SignedDuration::from_secs(HEARTBEAT_EXPIRY_SECONDS.cast_signed());
    let heard = heard_at(presence, &cluster).is_some_and(|at| Timestamp::now().duration_since(at) <= limit);
    (!heard).then(|| {
        format!(
            "cluster {name} is not heard, so it is not known whether the applications are active there; see `isthmus cluster describe {name}`"
        )
    })
}
