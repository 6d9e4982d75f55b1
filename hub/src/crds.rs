//! The custom resource definitions: printed, and applied at the hub's start.

use std::time::Duration;

use isthmus_shared::resources;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::runtime::{conditions, wait::await_condition};
use kube::{Api, Client, ResourceExt as _};

/// How long a definition may take to be served, seconds.
const ESTABLISHED_SECONDS: u64 = 30;

/// The definitions cannot be printed or applied.
#[derive(Debug, thiserror::Error)]
pub enum CrdError {
    /// YAML could not be written.
    #[error("printing the custom resource definitions failed: {0}")]
    Print(#[source] serde_saphyr::ser::Error),
    /// The API server refused or did not answer.
    #[error(
        "applying the custom resource definition {name} failed: {source}; grant the hub create and patch on customresourcedefinitions, or apply the output of `isthmus-hub crds` and start it with --install-crds=false"
    )]
    Apply {
        /// Which.
        name: String,
        /// Why.
        source: Box<kube::Error>,
    },
    /// It was applied and is not served.
    #[error(
        "the custom resource definition {name} was applied but is not served: {detail}; look at its conditions with `kubectl describe crd {name}`"
    )]
    NotEstablished {
        /// Which.
        name: String,
        /// What is known.
        detail: String,
    },
}

/// All definitions as YAML documents, the same on every call.
pub fn yaml() -> Result<String, CrdError> {
    let mut text =
        String::from("# The custom resource definitions of Isthmus, as `isthmus-hub crds` prints them.\n");
    for crd in resources::crds() {
        text.push_str("---\n");
        text.push_str(&serde_saphyr::to_string(&crd).map_err(CrdError::Print)?);
    }
    Ok(text)
}

/// Applies all definitions and waits until they are served.
pub(crate) async fn install(client: &Client, watches: &Client) -> Result<(), CrdError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let watched: Api<CustomResourceDefinition> = Api::all(watches.clone());
    let params = PatchParams::apply(resources::FIELD_MANAGER).force();
    for crd in resources::crds() {
        let name = crd.name_any();
        api.patch(&name, &params, &Patch::Apply(&crd))
            .await
            .map_err(|source| CrdError::Apply { name: name.clone(), source: Box::new(source) })?;
        let established = await_condition(watched.clone(), &name, conditions::is_crd_established());
        match tokio::time::timeout(Duration::from_secs(ESTABLISHED_SECONDS), established).await {
            Ok(Ok(_)) => tracing::info!(crd = name, "the custom resource definition is served"),
            Ok(Err(error)) => return Err(CrdError::NotEstablished { name, detail: error.to_string() }),
            Err(_) => {
                let detail = format!("no condition Established within {ESTABLISHED_SECONDS} s");
                return Err(CrdError::NotEstablished { name, detail });
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_definitions_under_deploy_are_those_that_the_hub_prints() {
        let kept = include_str!("../../deploy/crds.yaml");
        assert!(
            kept == yaml().unwrap(),
            "deploy/crds.yaml has drifted: write it anew with `cargo run -p isthmus-hub -- crds > deploy/crds.yaml`"
        );
    }

    #[test]
    fn there_is_one_definition_a_kind() {
        assert_eq!(
            yaml().unwrap().matches("\nkind: CustomResourceDefinition\n").count(),
            resources::crds().len()
        );
    }
}
