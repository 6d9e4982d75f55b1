//! SurveyDestination: what the destination serves, for the source to choose versions by.

use isthmus_shared::protocol::{Outcome, Run};

use crate::cluster::discover;
use crate::collect::write_survey;
use crate::task::{TaskContext, TaskError};

/// Writes what the destination serves to staging. Changes nothing in the cluster.
pub async fn survey_destination(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let catalogue = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the destination", "asking which kinds it serves", &e))?;
    for problem in catalogue.problems() {
        context.log(format!("note: {problem}"));
    }
    write_survey(&context.staging(run)?, &catalogue).await?;
    Ok(Outcome::Done)
}
