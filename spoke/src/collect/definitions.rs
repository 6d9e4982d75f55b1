//! The custom resource definitions that the objects taken need.

use serde_json::Value;

use crate::cluster::{Catalogue, Cluster, ClusterError, Kind};

/// The definition of a kind, untouched, if the kind is a custom one.
pub async fn definition_of(
    cluster: &Cluster,
    catalogue: &Catalogue,
    kind: &Kind,
) -> Result<Option<Value>, ClusterError> {
    // Groups of Kubernetes' own have no dot, or are served by the API server itself.
    if !kind.group.contains('.') {
        return Ok(None);
    }
    let Some(definitions) = catalogue.preferred("apiextensions.k8s.io", "CustomResourceDefinition") else {
        return Ok(None);
    };
    cluster.find(&definitions.object(None, &format!("{}.{}", kind.plural, kind.group))).await
}
