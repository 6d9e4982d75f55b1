//! `isthmus schedule …`

use isthmus_shared::resources::{
    ClusterPair, MAX_ACTIVE_RUNS, Migration, MigrationPlan, MigrationSchedule, MigrationSpec, SCHEDULE,
};
use kube::{Resource, ResourceExt};
use serde::Serialize;

use super::{list, print_record};
use crate::args::{Connection, Format, ScheduleCommand, ScheduleCreate};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::{Deletion, RecordError, Records};
use crate::{manifests, output, render};

pub async fn run(connection: &Connection, command: ScheduleCommand) -> Result<Ending, Error> {
    match command {
        ScheduleCommand::Create(args) => create(connection, &args).await,
        ScheduleCommand::List(args) => list::<MigrationSchedule>(connection, args, render::schedules).await,
        ScheduleCommand::Describe { name, output } => describe(connection, &name, output.format()).await,
        ScheduleCommand::Suspend { name } => suspend(connection, &name, true).await,
        ScheduleCommand::Resume { name } => suspend(connection, &name, false).await,
        ScheduleCommand::Delete { name, keep_runs } => delete(connection, &name, keep_runs).await,
    }
}

async fn create(connection: &Connection, args: &ScheduleCreate) -> Result<Ending, Error> {
    let namespace = &connection.namespace;
    let schedule = manifests::schedule(namespace, &args.name, args.spec()?);
    if args.creation.dry_run {
        let documents = [output::value(&schedule)?];
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let session = Session::open(connection).await?;
    let mut pair = schedule.spec.template.spec.cluster_pair.clone();
    if let Some(name) = &args.plan {
        let plan = Records::<MigrationPlan>::of(&session, namespace).get(name).await?;
        let problems = schedule.spec.problems_with(&plan.spec.options);
        if !problems.is_empty() {
            let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
            return Err(Error::Refused(format!("nothing was created: {}", told.join("; "))));
        }
        pair.clone_from(&plan.spec.options.cluster_pair);
    }
    Records::<ClusterPair>::of(&session, namespace).get(&pair).await?;
    let schedules = Records::of(&session, namespace);
    let made = schedules.create(&schedule).await?;
    output::note(&format!("{} is created.", schedules.named(&args.name)));
    print_record(args.creation.output.format(), &made, || render::first_run(&made, jiff::Timestamp::now()))?;
    Ok(Ending::Succeeded)
}

/// A schedule and its runs, for programs.
#[derive(Serialize)]
struct Described<'a> {
    #[serde(flatten)]
    schedule: &'a MigrationSchedule,
    runs: &'a [Migration],
}

async fn describe(connection: &Connection, name: &str, format: Format) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let mut schedule = Records::<MigrationSchedule>::of(&session, &session.namespace).get(name).await?;
    schedule.meta_mut().managed_fields = None;
    let runs = runs_of(&session, &schedule).await?;
    let options = options_of(&session, &schedule).await?;
    let described = Described { schedule: &schedule, runs: &runs };
    let now = jiff::Timestamp::now();
    print_record(format, &described, || render::describe_schedule(&schedule, options.as_ref(), &runs, now))?;
    Ok(Ending::Succeeded)
}

/// The options of a schedule's runs; none if they are those of a plan that is not there.
pub async fn options_of(
    session: &Session,
    schedule: &MigrationSchedule,
) -> Result<Option<MigrationSpec>, RecordError> {
    let template = &schedule.spec.template.spec;
    let Some(plan) = &template.plan else { return Ok(Some(template.clone())) };
    let plan = Records::<MigrationPlan>::of(session, &session.namespace).find(plan).await?;
    Ok(plan.map(|plan| template.with_plan(&plan.spec.options)))
}

/// The runs of a schedule, the newest first.
async fn runs_of(session: &Session, schedule: &MigrationSchedule) -> Result<Vec<Migration>, Error> {
    let uid = schedule.uid().unwrap_or_default();
    let labelled = format!("{SCHEDULE}={}", schedule.name_any());
    let listed = Records::<Migration>::of(session, &session.namespace).labelled(&labelled).await?;
    let owned = |run: &Migration| run.owner_references().iter().any(|owner| owner.uid == uid);
    let mut runs: Vec<Migration> = listed.into_iter().filter(owned).collect();
    runs.sort_by_key(|run| std::cmp::Reverse((run.creation_timestamp().map(|at| at.0), run.name_any())));
    Ok(runs)
}

async fn suspend(connection: &Connection, name: &str, wanted: bool) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let schedules = Records::<MigrationSchedule>::of(&session, &session.namespace);
    let schedule = schedules
        .change::<Error>(name, |schedule| {
            schedule.spec.suspend = wanted;
            Ok(())
        })
        .await?;
    let object = schedules.named(name);
    let status = schedule.status.unwrap_or_default();
    if wanted {
        let active = match status.active.as_slice() {
            [] => String::new(),
            names => format!(" {} goes on.", names[..names.len().min(MAX_ACTIVE_RUNS)].join(", ")),
        };
        output::print(&format!("{object} is suspended: it begins no runs.{active}"))?;
    } else if let Some(held) = &status.held {
        output::print(&format!(
            "{object} is not suspended any more, and stays held: {}.",
            render::clean(&held.message)
        ))?;
    } else {
        output::print(&format!("{object} begins runs again."))?;
    }
    Ok(Ending::Succeeded)
}

async fn delete(connection: &Connection, name: &str, keep_runs: bool) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let schedules = Records::<MigrationSchedule>::of(&session, &session.namespace);
    let schedule = schedules.get(name).await?;
    let object = schedules.named(name);
    let deletion = if keep_runs {
        schedules.delete_alone(&schedule).await?
    } else {
        schedules.delete(&schedule).await?
    };
    let runs = match (keep_runs, deletion) {
        (true, _) => "; its runs stay",
        (false, Deletion::Done) => "; its runs go with it",
        (false, Deletion::Begun) => "",
    };
    output::print(&format!("{object} {}{runs}.", deletion.words()))?;
    Ok(Ending::Succeeded)
}
