//! `isthmus stage`, `isthmus cutover`, `isthmus rollback`, and beginning a run again.
//!
//! A cutover is several runs of one plan: passes of the volumes while the applications run, each a
//! migration of its own, until one has moved so little that the next stop will be short; then the
//! Final, in which the source stops. Whatever ends it before the Final has touched nothing but the
//! destination's volumes.

use isthmus_shared::resources::{
    Active, Migration, MigrationAction, MigrationPhase, MigrationPlan, MigrationSpec,
};
use kube::ResourceExt;

use super::following::{self, Followed};
use crate::args::{Connection, Cutting, MigrationRetry, Rollback, Stage};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::{RecordError, Records};
use crate::render::figures;
use crate::{manifests, names, output};

/// The most retries of one migration that get a number of their own.
const MAX_RETRIES: u32 = 100;

/// `isthmus stage`
pub async fn stage(connection: &Connection, args: &Stage) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    Records::<MigrationPlan>::of(&session, &session.namespace).get(&args.plan).await?;
    let mut migration = of_plan(&session.namespace, &args.plan, MigrationAction::Stage);
    if let Some(name) = &args.making.name {
        migration.metadata.name = Some(name.clone());
    }
    following::make(&session, &migration, args.making.wait, args.making.output.format()).await
}

/// `isthmus cutover`
pub async fn cutover(connection: &Connection, args: &Cutting) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let plan = Records::<MigrationPlan>::of(&session, &session.namespace).get(&args.plan).await?;
    let stages = if plan.spec.options.include_volumes { args.max_stages } else { 0 };
    for pass in 1..=stages {
        output::note(&format!("Stage {pass} of at most {stages}; the applications go on running."));
        let stage = of_plan(&session.namespace, &args.plan, MigrationAction::Stage);
        let ended = match run(&session, &stage).await? {
            Followed::Ended(ended) => ended,
            Followed::Interrupted => {
                output::note("Nothing was stopped: the cutover had not begun.");
                return Ok(Ending::Interrupted);
            }
        };
        if !succeeded(&ended) {
            output::note("There is no cutover after a stage that failed; the applications go on running.");
            following::print_result(&ended, args.output.format())?;
            return Ok(Ending::Failed);
        }
        let uploaded = uploaded(&ended);
        output::note(&format!("Stage {pass} uploaded {}.", figures::bytes(uploaded)));
        if uploaded < args.until {
            break;
        }
        if pass == stages {
            output::note(&format!(
                "That is not less than {}, but stages are made no more often: the applications will be stopped for \
                 about as long as such a pass takes.",
                figures::bytes(args.until)
            ));
        }
    }
    output::note("Cutting over: the applications are stopped on the source and started on the destination.");
    let mut last = of_plan(&session.namespace, &args.plan, MigrationAction::Final);
    last.spec.quiesce = true;
    match run(&session, &last).await? {
        Followed::Ended(ended) => {
            following::print_result(&ended, args.output.format())?;
            Ok(ending(&ended))
        }
        Followed::Interrupted => Ok(Ending::Interrupted),
    }
}

/// How a cutover ended: its exit code says whether the destination runs.
fn ending(ended: &Migration) -> Ending {
    let Some(status) = &ended.status else { return Ending::Failed };
    match status.active {
        Some(Active::Destination) | None => status.status.into(),
        Some(_) => Ending::Failed,
    }
}

/// `isthmus rollback`
pub async fn rollback(connection: &Connection, args: &Rollback) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let records = Records::<Migration>::of(&session, &session.namespace);
    let undone = records.get(&args.migration).await?;
    let object = records.named(&args.migration);
    if !has_ended(&undone) {
        return Err(Error::Refused(format!(
            "{object} has not ended: `isthmus migration cancel {}` ends it and undoes it",
            args.migration
        )));
    }
    let options = undone.options();
    if !options.action.brings_all() || options.dry_run {
        return Err(Error::Refused(format!(
            "{object} is no Final, so there is nothing of it to undo: name the migration that moved the objects, as \
             `isthmus migration list` shows it"
        )));
    }
    let spec = MigrationSpec {
        action: MigrationAction::Rollback,
        rollback_of: Some(args.migration.clone()),
        reclaim: args.reclaim.into(),
        ..MigrationSpec::through("")
    };
    let name = args.making.name.clone().unwrap_or_else(|| made_up(&args.migration, "rollback"));
    let migration = manifests::run(&session.namespace, &name, spec);
    following::make(&session, &migration, args.making.wait, args.making.output.format()).await
}

/// `isthmus migration retry`
pub async fn retry(connection: &Connection, args: &MigrationRetry) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let records = Records::<Migration>::of(&session, &session.namespace);
    let before = records.get(&args.of).await?;
    if !has_ended(&before) {
        return Err(Error::Refused(format!(
            "{} has not ended, so it is not begun again: wait for it with `isthmus migration wait {}`, or cancel it",
            records.named(&args.of),
            args.of
        )));
    }
    let made = match &args.making.name {
        Some(name) => {
            let again = manifests::run(&session.namespace, name, before.spec);
            following::create(&session, &again).await?
        }
        None => numbered(&session, &args.of, &before.spec).await?,
    };
    following::begun(&session, &made, args.making.wait, args.making.output.format()).await
}

/// Makes the next of a migration's retries.
async fn numbered(session: &Session, of: &str, spec: &MigrationSpec) -> Result<Migration, Error> {
    for number in 1..=MAX_RETRIES {
        let again = manifests::run(&session.namespace, &names::retry(of, number), spec.clone());
        match following::create(session, &again).await {
            Err(Error::Record(RecordError::Taken { .. })) => {}
            made => return made,
        }
    }
    Err(Error::Refused(format!(
        "migration {of} has been begun again {MAX_RETRIES} times: delete those that are no longer needed with \
         `isthmus migration delete`, or name this one with --name"
    )))
}

/// Makes a migration and follows it to its end.
async fn run(session: &Session, migration: &Migration) -> Result<Followed, Error> {
    let made = following::create(session, migration).await?;
    following::follow(session, &made.name_any()).await
}

/// A run that goes by a plan.
fn of_plan(namespace: &str, plan: &str, action: MigrationAction) -> Migration {
    let word = match action {
        MigrationAction::Stage => "stage",
        _ => "cutover",
    };
    let spec = MigrationSpec { action, plan: Some(plan.to_owned()), ..MigrationSpec::through("") };
    manifests::run(namespace, &made_up(plan, word), spec)
}

pub(super) fn made_up(of: &str, word: &str) -> String {
    // What the word says comes first, so that a long name does not push it out.
    names::generated(&format!("{word}-{of}"), uuid::Uuid::new_v4().as_u128())
}

fn has_ended(migration: &Migration) -> bool {
    migration.status.as_ref().is_some_and(|status| status.status.is_terminal())
}

fn succeeded(migration: &Migration) -> bool {
    let phase = migration.status.as_ref().map(|status| status.status);
    matches!(phase, Some(MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings))
}

/// What the volumes of a run came to in staging.
fn uploaded(migration: &Migration) -> u64 {
    let volumes = migration.status.as_ref().map(|status| status.volumes.as_slice()).unwrap_or_default();
    volumes.iter().fold(0, |sum, volume| sum.saturating_add(volume.bytes_uploaded))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn the_runs_of_a_plan_say_nothing_beside_it_that_they_may_not() {
        for action in [MigrationAction::Stage, MigrationAction::Final] {
            let mut run = of_plan("isthmus", "shop", action);
            run.spec.quiesce = action == MigrationAction::Final;
            assert_eq!(run.spec.beside_plan(), None);
            assert_eq!(run.namespace().as_deref(), Some("isthmus"));
        }
        assert!(of_plan("isthmus", "shop", MigrationAction::Stage).name_any().starts_with("stage-shop-"));
    }

    #[test]
    fn what_a_pass_uploaded_is_the_sum_of_its_volumes() {
        assert_eq!(uploaded(&fixtures::migration()), 100_000_000);
    }

    #[test]
    fn a_cutover_succeeds_only_where_the_destination_runs() {
        let mut ended = fixtures::cutover();
        assert_eq!(ending(&ended), Ending::Succeeded);
        ended.status.get_or_insert_default().active = Some(Active::Unknown);
        assert_eq!(ending(&ended), Ending::Failed);
    }
}
