//! `isthmus failover`: the applications of a schedule, handed over to its destination.

use std::time::Duration;

use isthmus_shared::resources::{Migration, MigrationAction, MigrationPhase, MigrationSpec};
use jiff::Timestamp;
use kube::ResourceExt;

use super::following;
use super::going::made_up;
use crate::args::{Connection, Failover};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::Records;
use crate::render::{self, figures};
use crate::watching::{Waited, Watched};
use crate::{manifests, output};

/// How long it is waited until it is known what the failover goes by: the hub takes 40 s to be sure that a
/// cluster is not heard.
const BEGIN: Duration = Duration::from_mins(1);

/// `isthmus failover`
pub async fn run(connection: &Connection, args: &Failover) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    let name = args.making.name.clone().unwrap_or_else(|| made_up(&args.schedule, "failover"));
    let migration = manifests::run(&session.namespace, &name, of_schedule(&args.schedule));
    let made = following::create(&session, &migration).await?;
    let records = Records::<Migration>::of(&session, &session.namespace);
    let phase = |migration: &Migration| migration.status.as_ref().map(|status| status.status);
    let begun = Watched::new(records, &made.name_any()).until(BEGIN, |known| match known {
        Some(known) if phase(known).is_none_or(|phase| phase == MigrationPhase::Pending) => None,
        known => Some(known.cloned()),
    });
    match begun.await? {
        Waited::Reached(Some(known)) => {
            output::note(&goes_by(&known, Timestamp::now()));
            if phase(&known).is_some_and(MigrationPhase::is_terminal) {
                following::print_result(&known, args.making.output.format())?;
                return Ok(phase(&known).map_or(Ending::Failed, Into::into));
            }
        }
        Waited::Reached(None) => {
            return Err(Error::NotReached(format!("migration {name} was deleted before it had begun")));
        }
        Waited::TimedOut => output::note(&format!(
            "It has not begun within {}: `isthmus migration describe {name}` says for what it waits.",
            figures::length(BEGIN)
        )),
    }
    following::begun(&session, &made, args.making.wait, args.making.output.format()).await
}

fn of_schedule(schedule: &str) -> MigrationSpec {
    MigrationSpec {
        action: MigrationAction::Failover,
        schedule: Some(schedule.to_owned()),
        ..MigrationSpec::through("")
    }
}

/// What a failover that has begun goes by, and how old that is.
fn goes_by(migration: &Migration, now: Timestamp) -> String {
    let Some(status) = &migration.status else { return String::new() };
    let name = |cluster: &Option<String>| render::clean(cluster.as_deref().unwrap_or("the source"));
    let source = name(&status.source);
    match &status.recovers {
        Some(recovered) => format!(
            "Cluster {source} is not heard. The failover goes by run {}, which began {} ago: what was written there since may be lost, \
             and what was written after {} is. {source} may still run if it was only cut off; it is stopped as soon as it is heard.",
            render::clean(&recovered.run),
            figures::length(figures::between(&recovered.started_at, now)),
            figures::moment(Some(&recovered.finished_at)),
        ),
        None if status.pipeline.is_empty() => "It could not begin; nothing was changed.".to_owned(),
        None => format!(
            "Cluster {source} is heard: it is stopped first, and nothing that was written there is lost. Should it fall silent on the way, \
             the failover goes on by the last complete run of the schedule, and says so."
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::render::fixtures;

    #[test]
    fn a_failover_says_nothing_beside_its_schedule() {
        assert_eq!(of_schedule("nightly").beside_schedule(), None);
    }

    #[test]
    fn how_old_the_data_is_is_told() {
        let mut run = fixtures::cutover();
        assert!(goes_by(&run, Timestamp::now()).contains("nothing that was written there is lost"));
        let status = run.status.get_or_insert_default();
        status.recovers = Some(
            serde_json::from_str(
                r#"{"run": "nightly-1", "uid": "u", "startedAt": "2026-11-23T02:00:00Z", "finishedAt": "2026-11-23T02:04:00Z"}"#,
            )
            .unwrap(),
        );
        let told = goes_by(&run, "2026-11-23T03:30:00Z".parse().unwrap());
        assert!(told.contains("run nightly-1, which began 1h30m ago"), "{told}");
        assert!(told.contains("stopped as soon as it is heard"), "{told}");
    }
}
