//! `isthmus failback`: the applications of a schedule, handed back to where a failover took them from.

use isthmus_shared::resources::{MigrationAction, MigrationSpec};

use super::following;
use super::going::made_up;
use crate::args::{Connection, Failback};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::manifests;

/// `isthmus failback`
pub async fn run(connection: &Connection, args: &Failback) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let name = args.making.name.clone().unwrap_or_else(|| made_up(&args.schedule, "failback"));
    let migration = manifests::run(&session.namespace, &name, of_schedule(&args.schedule));
    following::make(&session, &migration, args.making.wait, args.making.output.format()).await
}

fn of_schedule(schedule: &str) -> MigrationSpec {
    MigrationSpec {
        action: MigrationAction::Failback,
        schedule: Some(schedule.to_owned()),
        ..MigrationSpec::through("")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failback_says_nothing_beside_its_schedule() {
        assert_eq!(of_schedule("nightly").beside_schedule(), None);
    }
}
