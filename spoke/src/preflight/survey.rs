//! SurveyDestination: what the destination serves and has, for the source to choose versions by.

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::staging::ArchiveName;

use crate::cluster::discover;
use crate::task::{TaskContext, TaskError};

/// Writes what the destination serves to staging. Changes nothing in the cluster.
pub async fn survey_destination(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    let mut archive = context.staging(run)?.write(ArchiveName::Survey)?;
    for kind in catalogue.kinds() {
        archive.push(&serde_json::to_value(kind).unwrap_or_default()).await?;
    }
    archive.finish().await?;
    Ok(Outcome::Done)
}
