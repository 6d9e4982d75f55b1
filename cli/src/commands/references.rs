//! What refers to a record: clusters and stores stay as long as pairs need them, plans as long as
//! schedules take their options from them.

use isthmus_shared::resources::{ClusterPair, ClusterPairSpec, MigrationSchedule};
use kube::ResourceExt;

use crate::connect::Session;
use crate::error::Error;
use crate::output;
use crate::records::{ObjectName, RecordError, Records};

/// Refuses what `doing` says as long as pairs use the object, in whatever namespace they are.
///
/// Someone who may see only this namespace's pairs is told that others were not looked at: the
/// hub shows such a pair as not Ready, nothing is lost.
pub async fn refuse_while_used(
    session: &Session,
    object: &ObjectName,
    doing: &str,
    uses: impl Fn(&ClusterPairSpec) -> bool,
) -> Result<(), Error> {
    let pairs = match Records::<ClusterPair>::everywhere(session).list(None).await {
        Err(RecordError::Forbidden { .. }) => {
            output::note(&format!(
                "You may not see the pairs of all namespaces; only those of {} are looked at.",
                session.namespace
            ));
            Records::<ClusterPair>::of(session, &session.namespace).list(None).await?
        }
        listed => listed?,
    };
    let users: Vec<String> = pairs
        .iter()
        .filter(|pair| uses(&pair.spec))
        .map(|pair| format!("{}/{}", pair.namespace().unwrap_or_default(), pair.name_any()))
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{object} is not {doing}, because pairs refer to it: {}: delete them first with `isthmus pair delete`",
        users.join(", ")
    )))
}

/// Refuses to delete a plan as long as schedules of its namespace take the options of their runs from
/// it.
pub async fn refuse_while_scheduled(session: &Session, object: &ObjectName, plan: &str) -> Result<(), Error> {
    let schedules = match Records::<MigrationSchedule>::of(session, &session.namespace).list(None).await {
        // A hub of before there were schedules.
        Err(RecordError::UnknownKind { .. }) => return Ok(()),
        listed => listed?,
    };
    let users: Vec<String> = schedules
        .iter()
        .filter(|schedule| schedule.spec.template.spec.plan.as_deref() == Some(plan))
        .map(ResourceExt::name_any)
        .collect();
    if users.is_empty() {
        return Ok(());
    }
    Err(Error::Refused(format!(
        "{object} is not deleted, because schedules take the options of their runs from it: {}: delete them first with \
         `isthmus schedule delete`, or give them options of their own",
        users.join(", ")
    )))
}
