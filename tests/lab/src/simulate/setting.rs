//! The records of the simulation, as people would make them: a store, clusters, pairs of two clusters
//! each, and migrations spread over the pairs.

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use isthmus_shared::resources::{
    Cluster, ClusterPair, ClusterSpec, LinkState, Migration, MigrationPhase, MigrationSpec, NamespaceEntry,
    ObjectStore,
};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::Secret;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt as _};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;

use super::eventually;
use crate::lab::{BUCKET, Lab};
use crate::s3::REGION;

/// The store's record, and the Secret with its keys.
const STORE: &str = "stage";
/// Requests in flight while records are made.
const PARALLEL: usize = 16;
/// Objects to a page when records are listed.
const PAGE: u32 = 500;

/// Where the records are, and how many.
pub struct Setting {
    client: Client,
    namespace: String,
    spokes: u32,
    migrations: u32,
}

/// The name of a cluster's record.
fn cluster(number: u32) -> String {
    format!("spoke-{number:05}")
}

fn pair(number: u32) -> String {
    format!("pair-{number:05}")
}

impl Setting {
    pub fn new(client: Client, namespace: &str, spokes: u32, migrations: u32) -> Self {
        Self { client, namespace: namespace.to_owned(), spokes, migrations }
    }

    fn api<K>(&self) -> Api<K>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>,
    {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    async fn create<K>(&self, object: &K) -> anyhow::Result<()>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + Serialize
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let created = self.api::<K>().create(&PostParams::default(), object).await;
        created.with_context(|| format!("creating {} {}", K::kind(&()), object.name_any()))?;
        Ok(())
    }

    /// A page after the other, so that nothing large is held.
    async fn count<K>(&self, is: impl Fn(&K) -> bool) -> anyhow::Result<usize>
    where
        K: Resource<Scope = NamespaceResourceScope, DynamicType = ()>
            + Clone
            + DeserializeOwned
            + std::fmt::Debug,
    {
        let mut params = ListParams::default().limit(PAGE);
        let mut count = 0;
        loop {
            let page =
                self.api::<K>().list(&params).await.with_context(|| format!("listing {}", K::plural(&())))?;
            count += page.items.iter().filter(|object| is(object)).count();
            match page.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => params = params.continue_token(&token),
                None => return Ok(count),
            }
        }
    }

    /// Makes the store, the clusters and the pairs.
    pub async fn create_records(&self, lab: &Lab) -> anyhow::Result<()> {
        let keys = lab.s3_keys();
        let secret = Secret {
            metadata: kube::api::ObjectMeta { name: Some(STORE.to_owned()), ..Default::default() },
            string_data: Some(BTreeMap::from([
                ("AWS_ACCESS_KEY_ID".to_owned(), keys.access_key.clone()),
                ("AWS_SECRET_ACCESS_KEY".to_owned(), keys.secret_key.clone()),
            ])),
            ..Secret::default()
        };
        self.create(&secret).await?;
        let store: ObjectStore = serde_json::from_value(json!({
            "apiVersion": "isthmus.dev/v1alpha1", "kind": "ObjectStore", "metadata": {"name": STORE},
            "spec": {"endpoint": lab.s3().endpoint(), "bucket": BUCKET, "region": REGION,
                "credentialsSecretRef": {"name": STORE}},
        }))?;
        self.create(&store).await?;
        self.each(self.spokes, async |number| {
            self.create(&Cluster::new(&cluster(number), ClusterSpec::default())).await
        })
        .await?;
        self.each(self.spokes / 2, async |number| {
            let made: ClusterPair = serde_json::from_value(json!({
                "apiVersion": "isthmus.dev/v1alpha1", "kind": "ClusterPair", "metadata": {"name": pair(number)},
                "spec": {"source": cluster(2 * number), "destination": cluster(2 * number + 1), "objectStore": STORE},
            }))?;
            self.create(&made).await
        })
        .await
    }

    async fn each(&self, count: u32, make: impl AsyncFn(u32) -> anyhow::Result<()>) -> anyhow::Result<()> {
        stream::iter(0..count).map(|number| make(number)).buffer_unordered(PARALLEL).try_collect().await
    }

    /// The join tokens of all clusters, by name, once the hub has issued them.
    pub async fn join_tokens(&self) -> anyhow::Result<Vec<(String, String)>> {
        let wanted = usize::try_from(self.spokes)?;
        eventually("join tokens", async || {
            let secrets = self.api::<Secret>().list(&ListParams::default()).await?;
            let token = |secret: &Secret| {
                let cluster = secret.name_any().strip_suffix("-join-token")?.to_owned();
                let token = secret.data.as_ref()?.get("token")?;
                Some((cluster, String::from_utf8(token.0.clone()).ok()?))
            };
            let mut tokens: Vec<_> = secrets.items.iter().filter_map(token).collect();
            tokens.sort();
            // What the status says of a token is written after its Secret.
            let issued = |cluster: &Cluster| cluster.status.as_ref().is_some_and(|s| s.join.is_some());
            let issued = self.count::<Cluster>(issued).await?;
            let ready = tokens.len().min(issued);
            Ok(if ready == wanted { Ok(tokens) } else { Err(wanted.saturating_sub(ready)) })
        })
        .await
    }

    /// Waits until all pairs can be used.
    pub async fn pairs_ready(&self) -> anyhow::Result<()> {
        let wanted = usize::try_from(self.spokes / 2)?;
        eventually("pairs to become Ready", async || {
            let ready = |pair: &ClusterPair| {
                pair.status.as_ref().is_some_and(|s| {
                    (s.scheduler_status, s.storage_status) == (LinkState::Ready, LinkState::Ready)
                })
            };
            let ready = self.count(ready).await?;
            Ok(if ready >= wanted { Ok(()) } else { Err(wanted - ready) })
        })
        .await
    }

    /// Makes the migrations, each of a namespace of its own.
    pub async fn create_migrations(&self) -> anyhow::Result<()> {
        self.each(self.migrations, async |number| {
            let name = format!("run-{number:06}");
            let spec = MigrationSpec {
                namespaces: vec![NamespaceEntry::from(format!("app-{number:06}").as_str())],
                ..MigrationSpec::through(&pair(number % (self.spokes / 2)))
            };
            self.create(&Migration::new(&name, spec)).await
        })
        .await
    }

    /// Makes sure that no migration went wrong.
    pub async fn none_failed(&self) -> anyhow::Result<()> {
        let failed = |migration: &Migration| {
            migration.status.as_ref().is_some_and(|status| {
                matches!(status.status, MigrationPhase::Failed | MigrationPhase::RolledBack)
                    || status.failures_total > 0
            })
        };
        match self.count(failed).await? {
            0 => Ok(()),
            count => bail!("{count} migrations failed: read the hub's log"),
        }
    }
}
