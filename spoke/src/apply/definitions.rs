//! Custom resource definitions that objects need and the destination lacks.

use std::time::{Duration, Instant};

use isthmus_shared::protocol::Run;
use serde_json::Value;

use super::{Applied, Problem};
use crate::cluster::{Catalogue, Cluster, ClusterError, PatchKind, array, name, text};
use crate::transform::{Arrival, Rewriter};

/// How long a definition may take until its kind is served.
const ESTABLISH_TIMEOUT: Duration = Duration::from_mins(1);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Applies a definition if there is none of its name, and waits until its kind is served. One
/// that is there already is the destination's own and stays as it is.
pub async fn bring(
    cluster: &Cluster,
    catalogue: &Catalogue,
    run: &Run,
    rewriter: &Rewriter,
    definition: Value,
) -> Result<Applied, Problem> {
    let problem = |reason: &str, message: String, transient: bool| Problem {
        reason: reason.to_owned(),
        message,
        may_resolve: false,
        transient,
    };
    let refused = |doing: &str, error: &ClusterError| {
        let advice = "let the spoke's service account create custom resource definitions, or install this one yourself";
        problem(error.reason(), format!("{doing} it failed: {error}; {advice}"), error.is_transient())
    };
    let definitions =
        catalogue.preferred("apiextensions.k8s.io", "CustomResourceDefinition").ok_or_else(|| {
            problem(
                "KindNotServed",
                "the destination serves no custom resource definitions".to_owned(),
                false,
            )
        })?;
    let path = definitions.object(None, name(&definition));
    let before = cluster.find(&path).await.map_err(|e| refused("reading", &e))?;
    let applied = if before.is_some() {
        Applied::Unchanged
    } else {
        let arrival = Arrival { mark: &run.migration, ..Arrival::default() };
        let wanted = rewriter.rewrite(definition, &arrival)?.object;
        let kind = PatchKind::Apply { force: true, dry_run: false };
        cluster.patch(&path, &wanted, kind).await.map_err(|e| refused("applying", &e))?;
        Applied::Created
    };
    let started = Instant::now();
    loop {
        let live = cluster.get(&path).await.map_err(|e| refused("reading", &e))?;
        if is_established(&live) {
            return Ok(applied);
        }
        if started.elapsed() > ESTABLISH_TIMEOUT {
            let message = format!(
                "it was not Established within {} s: look at its conditions with kubectl describe, then run again",
                ESTABLISH_TIMEOUT.as_secs()
            );
            return Err(problem("NotEstablished", message, false));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_established(definition: &Value) -> bool {
    array(definition, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "Established" && text(c, "/status") == "True")
}
