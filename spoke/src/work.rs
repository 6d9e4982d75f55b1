//! Which part of the spoke does which kind of work.

use isthmus_shared::protocol::{Direction, Outcome, Work};

use crate::task::{TaskContext, TaskError};
use crate::{apply, export, hooks, preflight, prune, volumes, workloads};

/// Does a task. Doing it twice is doing it once.
pub async fn perform(context: &TaskContext, work: &Work) -> Result<Outcome, TaskError> {
    match work {
        Work::SurveyDestination { run } => preflight::survey_destination(context, run).await,
        Work::InspectSource { run } => Box::pin(preflight::inspect_source(context, run)).await,
        Work::InspectDestination { run } => Box::pin(preflight::inspect_destination(context, run)).await,
        Work::PrepareDestination { run } => volumes::prepare_destination(context, run).await,
        Work::ExportResources { run } => Box::pin(export::export(context, run)).await,
        Work::SendVolume { run, volume } => {
            Box::pin(prune::note_origin(context, run, volume)).await;
            Box::pin(volumes::move_volume(context, run, volume, Direction::Send)).await
        }
        Work::ReceiveVolume { run, volume } => {
            Box::pin(volumes::move_volume(context, run, volume, Direction::Receive)).await
        }
        Work::ApplyResources { run } => Box::pin(apply::apply_run(context, run)).await,
        Work::Verify { run } => apply::verify_run(context, run).await,
        Work::StartApplications { run } => workloads::start_applications(context, run).await,
        Work::HealthCheck { run } => Box::pin(workloads::check_health(context, run)).await,
        Work::Quiesce { run } => {
            volumes::retain(context, run).await?;
            Box::pin(workloads::quiesce(context, run)).await
        }
        Work::StopDestination { run } => {
            Box::pin(hooks::end(context, run)).await?;
            Box::pin(workloads::stop_destination(context, run)).await
        }
        Work::RestoreSource { run } => {
            // What a hook holds may be what the application needs, and a mover that still reads would
            // keep a volume from the Pod that is to have it.
            Box::pin(hooks::end(context, run)).await?;
            Box::pin(volumes::clean_up(context, run)).await?;
            let outcome = Box::pin(workloads::restore_source(context, run)).await?;
            volumes::release(context, run).await?;
            Ok(outcome)
        }
        Work::RemoveFromDestination { run } => {
            Box::pin(hooks::end(context, run)).await?;
            Box::pin(apply::remove_run(context, run)).await
        }
        Work::RunHooks { run, phase, side } => Box::pin(hooks::run_hooks(context, run, *phase, *side)).await,
        Work::Cleanup { run, prune, settled } => {
            Box::pin(hooks::end(context, run)).await?;
            let outcome = Box::pin(volumes::clean_up(context, run)).await?;
            if *settled && context.spoke.name == run.destination {
                volumes::settle(context, run).await?;
                workloads::retire(context, run).await?;
            }
            if let Some(prune) = prune {
                Box::pin(prune::after_run(context, run, prune)).await;
            }
            Ok(outcome)
        }
        Work::PruneStaging { prune } => Box::pin(prune::prune_pair(context, prune)).await,
        Work::Activate { namespace, state, cleared, handed_over_to } => {
            workloads::activate(context, namespace, *state, (*cleared, handed_over_to.as_deref())).await
        }
    }
}
