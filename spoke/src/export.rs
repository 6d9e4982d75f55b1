//! ExportResources: the objects that a run takes, untouched, into sealed archives.
//!
//! One archive a namespace, in the order in which its objects will be applied; one for what is of
//! cluster scope; one with what is left behind, and why. What is chosen, and how, is
//! [`crate::collect`]'s; preflight chose in the same way.

use isthmus_shared::protocol::{Outcome, Run};

use crate::cluster::discover;
use crate::collect::{Scope, Staged, gather, read_survey};
use crate::task::{TaskContext, TaskError};
use crate::volumes::kept_names;

/// Reads the objects into staging.
pub async fn export(context: &TaskContext, run: &Run) -> Result<Outcome, TaskError> {
    let area = context.staging(run)?;
    let destination = read_survey(&area).await?;
    let source = discover(context.cluster())
        .await
        .map_err(|e| TaskError::cluster("the source", "asking which kinds it serves", &e))?;
    let (mut scope, failures) = Scope::of(&run.spec, source, &destination);
    if !failures.is_empty() {
        return Err(TaskError::Failed(failures));
    }
    scope.context.kept_volumes = kept_names(context, run).await?;
    let namespaces: Vec<&str> = run.sources().collect();
    let mut staged = Staged::begin(context, &area, "reading the objects of")?;
    let gathered = gather(context.cluster(), &scope, &namespaces, &mut staged).await?;
    staged.finish().await?;
    // What both sides serve may have changed since preflight looked.
    if !gathered.failures.is_empty() {
        return Err(TaskError::Failed(gathered.failures));
    }
    let counts = gathered.counts;
    context.log(format!("{} objects exported, {} left behind", counts.total, counts.left_behind));
    Ok(Outcome::Exported { counts })
}
