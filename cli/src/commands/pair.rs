//! `isthmus pair …`

use isthmus_shared::resources::{Cluster, ClusterPair, LinkState, ObjectStore};
use kube::{Resource, ResourceExt};

use super::{describe, list, print_record};
use crate::args::{Connection, PairCommand, PairCreate};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::Records;
use crate::watching::{Waited, Watched};
use crate::{manifests, output, render};

pub async fn run(connection: &Connection, command: PairCommand) -> Result<Ending, Error> {
    match command {
        PairCommand::Create(args) => create(connection, args).await,
        PairCommand::List(args) => list::<ClusterPair>(connection, args, render::pairs).await,
        PairCommand::Describe { name, output } => {
            describe::<ClusterPair>(connection, &name, output, render::describe_pair).await
        }
        PairCommand::Delete { name } => delete(connection, &name).await,
    }
}

async fn create(connection: &Connection, args: PairCreate) -> Result<Ending, Error> {
    if args.source == args.destination {
        return Err(Error::Usage(format!(
            "source and destination are both {}: a pair needs two clusters",
            args.source
        )));
    }
    let namespace = &connection.namespace;
    let pair = manifests::pair(namespace, &args);
    if args.creation.dry_run {
        let documents = [output::value(&pair)?];
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let session = Session::open(connection).await?;
    check_ends(&session, &args).await?;
    let pairs = Records::<ClusterPair>::of(&session, namespace);
    let mut made = pairs.create(&pair).await?;
    output::note(&format!("{} is created.", pairs.named(&args.name)));
    if args.wait {
        made = ready(pairs, &args).await?;
    }
    made.meta_mut().managed_fields = None;
    print_record(args.creation.output.format(), &made, || render::describe_pair(&made))?;
    Ok(Ending::Succeeded)
}

/// Refuses a pair of what is not there, where we can see it: from another namespace than the
/// hub's, people need not be able to.
async fn check_ends(session: &Session, args: &PairCreate) -> Result<(), Error> {
    if session.namespace == session.hub_namespace {
        let clusters = Records::<Cluster>::of(session, &session.namespace);
        clusters.get(&args.source).await?;
        clusters.get(&args.destination).await?;
        Records::<ObjectStore>::of(session, &session.namespace).get(&args.store).await?;
    }
    Ok(())
}

async fn ready(pairs: Records<ClusterPair>, args: &PairCreate) -> Result<ClusterPair, Error> {
    let object = pairs.named(&args.name);
    let mut said = String::new();
    let waited = Watched::new(pairs, &args.name).until(args.timeout, |pair| {
        let pair = pair?;
        let status = pair.status.clone().unwrap_or_default();
        if status.scheduler_status == LinkState::Ready && status.storage_status == LinkState::Ready {
            return Some(pair.clone());
        }
        let now = format!(
            "scheduler {}; storage {}",
            render::link(status.scheduler_status, status.scheduler_message.as_deref()),
            render::link(status.storage_status, status.storage_message.as_deref()),
        );
        if now != said {
            output::note(&format!("Not ready yet: {}", render::clean(&now)));
            said = now;
        }
        None
    });
    match waited.await? {
        Waited::Reached(pair) => Ok(pair),
        Waited::TimedOut => Err(Error::NotReached(format!(
            "{object} is created, but was not Ready within {}: {said}",
            render::figures::length(args.timeout)
        ))),
    }
}

async fn delete(connection: &Connection, name: &str) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let pairs = Records::<ClusterPair>::of(&session, &session.namespace);
    let pair = pairs.get(name).await?;
    let deletion = pairs.delete(&pair).await?;
    output::print(&format!("{} {}.", pairs.named(&pair.name_any()), deletion.words()))?;
    Ok(Ending::Succeeded)
}
