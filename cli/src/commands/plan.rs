//! `isthmus plan …`

use std::time::Duration;

use isthmus_shared::resources::{CHECK, ClusterPair, MigrationPlan, PlanPhase};
use kube::{Resource, ResourceExt};

use super::references::refuse_while_scheduled;
use super::{describe, list, print_record};
use crate::args::{Connection, PlanCheck, PlanCommand, PlanCreate};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::Records;
use crate::watching::{Waited, Watched};
use crate::{manifests, output, render};

pub async fn run(connection: &Connection, command: PlanCommand) -> Result<Ending, Error> {
    match command {
        PlanCommand::Create(args) => create(connection, &args).await,
        PlanCommand::List(args) => list::<MigrationPlan>(connection, args, render::plans).await,
        PlanCommand::Describe { name, output } => {
            let now = jiff::Timestamp::now();
            describe::<MigrationPlan>(connection, &name, output, |plan| render::describe_plan(plan, now))
                .await
        }
        PlanCommand::Check(args) => check(connection, &args).await,
        PlanCommand::Delete { name } => delete(connection, &name).await,
    }
}

async fn create(connection: &Connection, args: &PlanCreate) -> Result<Ending, Error> {
    let namespace = &connection.namespace;
    let plan = manifests::plan(namespace, &args.name, &args.options)?;
    if args.creation.dry_run {
        let documents = [output::value(&plan)?];
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let session = Session::open(connection).await?;
    Records::<ClusterPair>::of(&session, namespace).get(&args.options.pair).await?;
    let plans = Records::of(&session, namespace);
    let made = plans.create(&plan).await?;
    output::note(&format!("{} is created, and the hub checks it.", plans.named(&args.name)));
    print_record(args.creation.output.format(), &made, || {
        format!("See what it finds with `isthmus plan check {} --namespace {namespace}`.\n", args.name)
    })?;
    Ok(Ending::Succeeded)
}

/// Asks for a check and waits until that very request is answered.
async fn check(connection: &Connection, args: &PlanCheck) -> Result<Ending, Error> {
    let untold = |error: Error| Error::Untold(Box::new(error));
    let session = Session::open(connection).await.map_err(|error| untold(error.into()))?;
    let plans = Records::<MigrationPlan>::of(&session, &session.namespace);
    let request = uuid::Uuid::new_v4().to_string();
    plans.annotate(&args.name, CHECK, &request).await.map_err(|error| untold(error.into()))?;
    let mut plan = answer(plans, &args.name, &request, args.timeout).await.map_err(untold)?;
    plan.meta_mut().managed_fields = None;
    let now = jiff::Timestamp::now();
    print_record(args.output.format(), &plan, || render::describe_plan(&plan, now))?;
    Ok(ending(&plan))
}

async fn answer(
    plans: Records<MigrationPlan>,
    name: &str,
    request: &str,
    limit: Duration,
) -> Result<MigrationPlan, Error> {
    let object = plans.named(name);
    let mut said = None;
    let waited = Watched::new(plans, name).until(limit, |plan| {
        let Some(plan) = plan else { return Some(None) };
        let status = plan.status.as_ref()?;
        if status.answered.as_deref() == Some(request) {
            return Some(Some(plan.clone()));
        }
        if status.message != said {
            said.clone_from(&status.message);
            if let Some(message) = &said {
                output::note(&render::clean(message));
            }
        }
        None
    });
    match waited.await? {
        Waited::Reached(Some(plan)) => Ok(plan),
        Waited::Reached(None) => Err(Error::NotReached(format!("{object} was deleted meanwhile"))),
        Waited::TimedOut => Err(Error::NotReached(format!(
            "{object} was not checked within {}: the check goes on, and `isthmus plan describe {name}` shows what it \
             waits for; see with `isthmus cluster list` whether both clusters are heard",
            render::figures::length(limit)
        ))),
    }
}

fn ending(plan: &MigrationPlan) -> Ending {
    match plan.status.as_ref() {
        Some(status) if status.phase == PlanPhase::NotReady || status.critical > 0 => Ending::Failed,
        Some(status) if status.warnings > 0 => Ending::Warnings,
        Some(_) => Ending::Succeeded,
        None => Ending::Untold,
    }
}

async fn delete(connection: &Connection, name: &str) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let plans = Records::<MigrationPlan>::of(&session, &session.namespace);
    let plan = plans.get(name).await?;
    refuse_while_scheduled(&session, &plans.named(name), name).await?;
    let deletion = plans.delete(&plan).await?;
    output::print(&format!("{} {}.", plans.named(&plan.name_any()), deletion.words()))?;
    Ok(Ending::Succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn a_check_ends_by_the_worst_that_it_found() {
        let mut plan = fixtures::plans().remove(0);
        assert_eq!(ending(&plan), Ending::Failed);
        let status = plan.status.get_or_insert_default();
        (status.phase, status.critical) = (PlanPhase::Ready, 0);
        assert_eq!(ending(&plan), Ending::Warnings);
        plan.status.get_or_insert_default().warnings = 0;
        assert_eq!(ending(&plan), Ending::Succeeded);
    }
}
