//! `isthmus migrate`.

use isthmus_shared::resources::ClusterPair;

use super::following;
use crate::args::{Connection, Migrate};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::Records;
use crate::{manifests, names, output};

pub async fn run(connection: &Connection, args: &Migrate) -> Result<Ending, Error> {
    let namespace = &connection.namespace;
    let name = args
        .name
        .clone()
        .unwrap_or_else(|| names::generated(&args.options.stem(), uuid::Uuid::new_v4().as_u128()));
    let migration = manifests::migration(namespace, &name, &args.options)?;
    if args.creation.dry_run {
        let documents = [output::value(&migration)?];
        output::print(&output::manifests(args.creation.manifest_format(), &documents)?)?;
        return Ok(Ending::Succeeded);
    }
    let session = Session::open(connection).await?;
    Records::<ClusterPair>::of(&session, namespace).get(&args.options.pair).await?;
    following::make(&session, &migration, args.wait, args.creation.output.format()).await
}
