//! The CMS application: its manifests, and real files for its volumes.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::api::{ListParams, Patch, PatchParams};
use kube::core::DynamicObject;
use kube::discovery::{Discovery, Scope};
use kube::runtime::wait::await_condition;
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use super::READY_DEADLINE;
use crate::lab::Lab;
use crate::trees::{CmsVolume, cms};

const MANIFESTS: &str = include_str!("../../cases/cms/cms.yaml");
/// The application's claims, and what their volumes hold.
pub(super) const CLAIMS: [(&str, CmsVolume); 2] =
    [("px-mysql-pvc", CmsVolume::Database), ("px-wp-pvc", CmsVolume::Web)];
/// The volumes hold at least so much.
const LEAST_BYTES: u64 = 200 << 20;
const SEED: u64 = 20;
const POLL: Duration = Duration::from_millis(100);

/// Applies the manifests, fills the volumes and waits until the application is ready.
pub(super) async fn install(lab: &Lab, cluster: &str, namespace: &str) -> anyhow::Result<()> {
    let client = lab.client(cluster)?;
    apply(&client).await?;
    let mut bytes = 0;
    for (number, (claim, volume)) in (0..).zip(CLAIMS) {
        let folder = lab.cluster(cluster)?.bound_volume_dir(namespace, claim, READY_DEADLINE).await?;
        let filling = tokio::task::spawn_blocking(move || cms(&folder, volume, SEED + number));
        let made = filling
            .await
            .context("filling a volume was broken off")?
            .with_context(|| format!("filling the volume of claim {claim}"))?;
        println!("Claim {claim} holds {} files, {} MiB.", made.files, made.bytes >> 20);
        bytes += made.bytes;
    }
    ensure!(bytes >= LEAST_BYTES, "the volumes hold {bytes} bytes, less than the demo is to move");
    if rustix::process::geteuid().is_root() {
        println!("The files belong to user 999, as a database's do.");
    } else {
        println!("Without root the files can only belong to the user who runs this.");
    }
    ready(lab, cluster, namespace).await
}

async fn apply(client: &Client) -> anyhow::Result<()> {
    let documents: Vec<Value> =
        serde_saphyr::from_multiple(MANIFESTS).context("reading the application's manifests")?;
    let discovery =
        Discovery::new(client.clone()).run_aggregated().await.context("discovering the cluster's kinds")?;
    for document in documents {
        let object: DynamicObject = serde_json::from_value(document).context("reading a manifest")?;
        let name = object.name_any();
        let (resource, capabilities) = discovery
            .resolve_object(&object)
            .with_context(|| format!("the cluster does not serve the kind of {name}"))?;
        let namespace = object.namespace();
        let api = match (capabilities.scope, &namespace) {
            (Scope::Namespaced, Some(namespace)) => {
                if resource.kind == "Deployment" || resource.kind == "CronJob" {
                    default_account(client, namespace).await?;
                }
                Api::<DynamicObject>::namespaced_with(client.clone(), namespace, &resource)
            }
            _ => Api::<DynamicObject>::all_with(client.clone(), &resource),
        };
        api.patch(&name, &PatchParams::apply("isthmus-lab-demo"), &Patch::Apply(&object))
            .await
            .with_context(|| format!("applying {} {name}", resource.kind))?;
    }
    Ok(())
}

/// Pods are refused until the namespace has its default ServiceAccount.
async fn default_account(client: &Client, namespace: &str) -> anyhow::Result<()> {
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), namespace);
    let there = await_condition(accounts, "default", |account: Option<&ServiceAccount>| account.is_some());
    tokio::time::timeout(READY_DEADLINE, there)
        .await
        .with_context(|| format!("namespace {namespace} got no default ServiceAccount"))??;
    Ok(())
}

/// Waits until all Deployments have all their pods ready, and at least one.
pub(super) async fn ready(lab: &Lab, cluster: &str, namespace: &str) -> anyhow::Result<()> {
    let deployments = Api::<Deployment>::namespaced(lab.client(cluster)?, namespace);
    let waiting = async {
        loop {
            let all = deployments.list(&ListParams::default()).await?;
            if !all.items.is_empty() && all.iter().all(is_ready) {
                let ready = all.iter().map(|one| format!("{} {}", one.name_any(), wanted(one)));
                return Ok::<_, kube::Error>(ready.collect::<Vec<_>>().join(", "));
            }
            tokio::time::sleep(POLL).await;
        }
    };
    let ready = tokio::time::timeout(READY_DEADLINE, waiting)
        .await
        .with_context(|| format!("the application did not become ready in {cluster}"))??;
    println!("The application is ready in {cluster}: {ready}.");
    Ok(())
}

fn wanted(deployment: &Deployment) -> i32 {
    deployment.spec.as_ref().and_then(|spec| spec.replicas).unwrap_or(1)
}

fn is_ready(deployment: &Deployment) -> bool {
    let ready = deployment.status.as_ref().and_then(|status| status.ready_replicas).unwrap_or_default();
    let seen = deployment.status.as_ref().and_then(|status| status.observed_generation);
    wanted(deployment) > 0 && ready == wanted(deployment) && seen == deployment.metadata.generation
}
