//! Preflight: whether a claim's volume will be read from a snapshot, and whether that can be.

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{Finding, VolumeMethod};
use serde_json::Value;

use super::choice::{Choice, choose};
use super::{Means, needs_means, taking};
use crate::cluster::{describe, text};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// How a volume will be read.
#[derive(Clone, Debug)]
pub enum Outlook {
    /// Itself, or not at all.
    Live,
    /// From a snapshot, as far as can be known.
    Snapshot,
    /// It must be a snapshot, and there can be none.
    Impossible(Finding),
}

/// Looks, and changes nothing. `means` is looked up for the first claim that needs it.
pub async fn outlook(
    context: &TaskContext,
    run: &Run,
    means: &mut Option<Means>,
    claim: &Value,
    in_use: bool,
) -> Result<Outlook, TaskError> {
    let method = run.spec.method;
    if text(claim, "/status/phase") != "Bound" || !needs_means(method, in_use) {
        return Ok(Outlook::Live);
    }
    let object = describe(claim);
    let cluster = context.cluster();
    let failed = |e| TaskError::cluster(&object, "looking whether there can be a snapshot of it", &e);
    let means = match means {
        Some(means) => means,
        None => means.insert(Means::look(cluster).await.map_err(failed)?),
    };
    let route = means.route(cluster, claim).await.map_err(failed)?;
    let route = match choose(method, in_use, route) {
        Ok(Choice::Snapshot(route)) => route,
        Ok(Choice::Live { because, .. }) => {
            if let Some(because) = because {
                context.log(format!("{object} will be read while it is written to: {because}"));
            }
            return Ok(Outlook::Live);
        }
        Err(impossible) => {
            return Ok(Outlook::Impossible(finding(object, "NoSnapshot", impossible.told())));
        }
    };
    // Where it may be the volume itself, it is seen when it is time.
    if method == VolumeMethod::Snapshot {
        let refused = taking::try_out(context, run, claim, &route).await.map_err(failed)?;
        if let Some(refused) = refused {
            return Ok(Outlook::Impossible(refused));
        }
    }
    Ok(Outlook::Snapshot)
}
