//! `isthmus failback`: the applications of a schedule, handed back to where a failover took them from.

use isthmus_shared::resources::{MigrationAction, MigrationSchedule, MigrationSpec};

use super::following;
use super::going::made_up;
use super::schedule::options_of;
use crate::args::{Connection, Failback};
use crate::connect::Session;
use crate::ending::Ending;
use crate::error::Error;
use crate::records::{RecordError, Records};
use crate::{manifests, output, render};

/// `isthmus failback`
pub async fn run(connection: &Connection, args: &Failback) -> Result<Ending, Error> {
    let session = Session::open(connection).await?;
    // What is not there the hub says, with all else that is in the way.
    match options(&session, &args.schedule).await {
        Ok(options) => options.iter().flat_map(left_out).for_each(|told| output::note(&told)),
        Err(error) => output::note(&format!(
            "What of the schedule's options cannot be turned round is not known beforehand: {error}"
        )),
    }
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

/// The options of the schedule's runs.
async fn options(session: &Session, schedule: &str) -> Result<Option<MigrationSpec>, RecordError> {
    let schedules = Records::<MigrationSchedule>::of(session, &session.namespace);
    match schedules.find(schedule).await? {
        Some(schedule) => options_of(session, &schedule).await,
        None => Ok(None),
    }
}

/// What of a schedule's options a failback does without.
fn left_out(options: &MigrationSpec) -> Vec<String> {
    let problems = options.turned_round(&[]).left_out.into_iter();
    problems
        .map(|problem| format!("Not turned round for the way back: {}", render::clean(&problem.to_string())))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failback_says_nothing_beside_its_schedule() {
        assert_eq!(of_schedule("nightly").beside_schedule(), None);
    }
}
