//! What surrounds a plan: runs that touch what it moves, and plans that move it too.

use isthmus_shared::resources::{
    MigrationPhase, MigrationPlan, MigrationStatus, PlanProblem, ProblemSeverity,
};
use kube::ResourceExt as _;

use super::view;
use crate::checks::{self, Around, MAX_CHECKS};
use crate::itinerary::{Claim, Reach, claims, meeting};
use crate::presence::Presence;
use crate::records::Records;

/// The most other plans that a plan's problems name.
const MAX_BESIDE: usize = 10;

/// The surroundings of a plan as they are now.
pub(crate) fn around(records: &Records, presence: &Presence, plan: &MigrationPlan) -> Around {
    let seen = checks::candidate(plan);
    let checking = |other: &MigrationPlan| {
        other.metadata.uid != plan.metadata.uid
            && other.status.as_ref().is_some_and(|status| status.check.is_some())
    };
    let room = records.plans.all().iter().filter(|other| checking(other)).count() < MAX_CHECKS;
    Around {
        view: view(records, presence, &seen),
        in_the_way: in_the_way(records, plan),
        quiet: is_quiet(records, plan),
        room,
    }
}

/// Whether nothing runs through the plan's pair.
fn is_quiet(records: &Records, plan: &MigrationPlan) -> bool {
    let migrations = records.migrations.all();
    !migrations.iter().any(|migration| {
        let ended = migration.status.as_ref().is_some_and(|status| status.status.is_terminal());
        !ended
            && migration.namespace() == plan.namespace()
            && migration.options().cluster_pair == plan.spec.options.cluster_pair
    })
}

/// A run that is under way and touches what the plan moves.
fn in_the_way(records: &Records, plan: &MigrationPlan) -> Option<String> {
    let ours = claims_of(records, plan, None)?;
    let migrations = records.migrations.all();
    let meets = |migration: &isthmus_shared::resources::Migration| {
        let status = migration.status.as_ref().filter(|s| s.status == MigrationPhase::InProgress)?;
        if migration.options().dry_run {
            return None;
        }
        let (source, destination) = (status.source.as_deref()?, status.destination.as_deref()?);
        let theirs = claims(migration.options(), Some(status), source, destination);
        meeting(&ours, &theirs)?;
        Some(format!("{}/{}", migration.namespace().unwrap_or_default(), migration.name_any()))
    };
    migrations.iter().filter_map(|migration| meets(migration)).min()
}

/// The plans that move a namespace that this one does, in the same direction.
pub(crate) fn plans_beside(records: &Records, plan: &MigrationPlan) -> Vec<PlanProblem> {
    let run = plan.status.as_ref().and_then(|status| status.check.as_ref()).map(|check| &*check.run);
    let Some(ours) = claims_of(records, plan, run) else { return Vec::new() };
    let mut found: Vec<PlanProblem> = records
        .plans
        .all()
        .iter()
        .filter(|other| {
            other.metadata.uid != plan.metadata.uid
                && other.metadata.deletion_timestamp.is_none()
                && other.spec.options.reverse == plan.spec.options.reverse
        })
        .filter_map(|other| {
            let theirs = claims_of(records, other, None)?;
            // A selector of labels may come to anything: that is not worth a warning.
            let named = |claims: &[Claim]| -> Vec<Claim> {
                claims.iter().filter(|claim| claim.reach != Reach::Any).cloned().collect()
            };
            let theirs = named(&theirs);
            let claim = meeting(&named(&ours), &theirs)?;
            let name = format!("{}/{}", other.namespace().unwrap_or_default(), other.name_any());
            Some(PlanProblem {
                severity: ProblemSeverity::Warn,
                object: format!("MigrationPlan {name}"),
                reason: "OtherPlan".to_owned(),
                message: format!(
                    "it moves {claim} too, and runs of both would undo each other's work: take the namespace out of one of the plans, or delete the one that is no longer needed"
                ),
            })
        })
        .collect();
    found.sort_by(|a, b| a.object.cmp(&b.object));
    found.truncate(MAX_BESIDE);
    found
}

/// What a plan would touch, as far as its pair is there.
fn claims_of(records: &Records, plan: &MigrationPlan, run: Option<&MigrationStatus>) -> Option<Vec<Claim>> {
    let options = &plan.spec.options;
    let pair = records.pairs.get(&plan.namespace()?, &options.cluster_pair)?;
    let (source, destination) = (pair.spec.source.as_str(), pair.spec.destination.as_str());
    let (source, destination) = if options.reverse { (destination, source) } else { (source, destination) };
    Some(claims(options, run, source, destination))
}
