//! Custom resource definitions that objects need: applied first, and awaited until their kinds
//! are served.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::{Applied, Applier, Arrived, Problem, problem::refused};
use crate::cluster::{Catalogue, Cluster, ClusterError, array, discover, name, text};

/// How long a definition may take until its kind is served.
const ESTABLISH_TIMEOUT: Duration = Duration::from_mins(1);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// How long discovery may lag behind an established definition.
const DISCOVERY_TIMEOUT: Duration = Duration::from_secs(20);

/// Brings a definition, and waits until its kind is served. One that is the destination's own
/// stays as it is, and has to serve a version that the source's serves too.
pub async fn bring(
    cluster: &Cluster,
    catalogue: &Catalogue,
    applier: &Applier<'_>,
    definition: &Value,
) -> Result<Arrived, Problem> {
    let definitions =
        catalogue.preferred("apiextensions.k8s.io", "CustomResourceDefinition").ok_or_else(|| {
            Problem::lasting("KindNotServed", "the destination serves no custom resource definitions")
        })?;
    let arrived = applier.apply(definition, &[]).await?;
    let path = definitions.object(None, &arrived.name);
    let started = Instant::now();
    loop {
        let live = cluster.get(&path).await.map_err(|e| refused(&e))?;
        if is_established(&live) {
            if arrived.applied != Applied::Created && !shares_version(definition, &live) {
                let message = format!(
                    "the destination's definition serves {} and the source's {}: upgrade the one that is behind, or \
                     exclude the kind, then run again",
                    served(&live).join(", "),
                    served(definition).join(", ")
                );
                return Err(Problem::lasting("VersionNotServed", message));
            }
            return Ok(arrived);
        }
        if started.elapsed() > ESTABLISH_TIMEOUT {
            let message = format!(
                "it was not Established within {} s: look at its conditions with kubectl describe, then run again",
                ESTABLISH_TIMEOUT.as_secs()
            );
            return Err(Problem::lasting("NotEstablished", message));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What the cluster serves once these definitions are part of it: discovery lags behind them for
/// a moment.
pub async fn discover_with(cluster: &Cluster, definitions: &[Value]) -> Result<Catalogue, ClusterError> {
    let started = Instant::now();
    loop {
        let catalogue = discover(cluster).await?;
        let lacking = definitions.iter().find(|definition| {
            let (group, kind) = (text(definition, "/spec/group"), text(definition, "/spec/names/kind"));
            catalogue.preferred(group, kind).is_none()
        });
        let Some(lacking) = lacking else { return Ok(catalogue) };
        if started.elapsed() > DISCOVERY_TIMEOUT {
            // Its objects say what is lacking, one by one.
            tracing::warn!(definition = name(lacking), "discovery does not tell of a definition's kind");
            return Ok(catalogue);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

fn is_established(definition: &Value) -> bool {
    array(definition, "/status/conditions")
        .iter()
        .any(|c| text(c, "/type") == "Established" && text(c, "/status") == "True")
}

fn served(definition: &Value) -> Vec<&str> {
    array(definition, "/spec/versions")
        .iter()
        .filter(|version| version.get("served").and_then(Value::as_bool) == Some(true))
        .map(|version| text(version, "/name"))
        .collect()
}

fn shares_version(definition: &Value, live: &Value) -> bool {
    let there = served(live);
    served(definition).iter().any(|version| there.contains(version))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_definition_that_serves_none_of_the_sources_versions_is_told_from_one_that_does() {
        let definition = |versions: &[(&str, bool)]| {
            let versions: Vec<Value> =
                versions.iter().map(|(name, served)| json!({"name": name, "served": served})).collect();
            json!({"spec": {"versions": versions}})
        };
        let source = definition(&[("v1", true), ("v1alpha1", false)]);
        assert!(shares_version(&source, &definition(&[("v2", true), ("v1", true)])));
        assert!(!shares_version(&source, &definition(&[("v2", true), ("v1", false)])));
        assert!(!shares_version(&source, &definition(&[("v1alpha1", true)])));
    }
}
