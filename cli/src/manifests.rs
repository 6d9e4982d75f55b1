//! The records that commands make: values in, complete objects out.

use std::collections::BTreeMap;

use isthmus_shared::resources::{
    Cluster, ClusterPair, ClusterPairSpec, ClusterSpec, Migration, MigrationPlan, MigrationPlanSpec,
    MigrationSchedule, MigrationScheduleSpec, MigrationSpec, ObjectStore, ObjectStoreSpec, SecretRef,
    StsSpec,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use crate::args::{MigrationOptions, PairCreate};
use crate::error::Error;

/// The keys to a bucket. They are in memory only as long as it takes to make the Secret.
pub struct Keys {
    /// `AWS_ACCESS_KEY_ID`.
    pub id: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret: String,
    /// `AWS_SESSION_TOKEN`, of temporary keys.
    pub session: Option<String>,
}

/// Where a bucket is.
pub struct StoreFacts {
    /// The store's name.
    pub name: String,
    /// The server.
    pub endpoint: String,
    /// The region.
    pub region: String,
    /// The bucket.
    pub bucket: String,
    /// The key prefix.
    pub prefix: Option<String>,
    /// Whether the bucket is in the path.
    pub path_style: bool,
    /// Certificates to trust, PEM.
    pub ca_bundle: Option<String>,
    /// Where movers' credentials come from, if not from the Secret.
    pub sts: Option<StsSpec>,
}

/// A cluster that is to join.
pub fn cluster(
    namespace: &str,
    name: &str,
    api_endpoint: Option<String>,
    join_request: Option<String>,
) -> Cluster {
    let spec = ClusterSpec { api_endpoint, join_request, ..ClusterSpec::default() };
    let mut cluster = Cluster::new(name, spec);
    cluster.metadata.namespace = Some(namespace.to_owned());
    cluster
}

/// How the Secret with a store's keys is called where we make it.
pub fn secret_name(store: &str) -> String {
    format!("{store}-credentials")
}

/// A Secret with the keys to a bucket.
pub fn store_secret(namespace: &str, store: &str, keys: &Keys) -> Secret {
    let mut data = BTreeMap::from([
        ("AWS_ACCESS_KEY_ID".to_owned(), ByteString(keys.id.clone().into_bytes())),
        ("AWS_SECRET_ACCESS_KEY".to_owned(), ByteString(keys.secret.clone().into_bytes())),
    ]);
    if let Some(session) = &keys.session {
        data.insert("AWS_SESSION_TOKEN".to_owned(), ByteString(session.clone().into_bytes()));
    }
    let metadata = ObjectMeta {
        name: Some(secret_name(store)),
        namespace: Some(namespace.to_owned()),
        labels: Some(BTreeMap::from([("app.kubernetes.io/part-of".to_owned(), "isthmus".to_owned())])),
        ..ObjectMeta::default()
    };
    Secret { metadata, data: Some(data), type_: Some("Opaque".to_owned()), ..Secret::default() }
}

/// A store that uses the keys of a Secret.
pub fn store(namespace: &str, facts: StoreFacts, secret: &str) -> ObjectStore {
    let spec = ObjectStoreSpec {
        endpoint: facts.endpoint,
        region: facts.region,
        bucket: facts.bucket,
        prefix: facts.prefix,
        path_style: facts.path_style,
        ca_bundle: facts.ca_bundle,
        sts: facts.sts,
        credentials_secret_ref: SecretRef { name: secret.to_owned() },
    };
    let mut store = ObjectStore::new(&facts.name, spec);
    store.metadata.namespace = Some(namespace.to_owned());
    store
}

/// A pair.
pub fn pair(namespace: &str, args: &PairCreate) -> ClusterPair {
    let allowed = &args.allowed_namespaces;
    let spec = ClusterPairSpec {
        source: args.source.clone(),
        destination: args.destination.clone(),
        object_store: args.store.clone(),
        bidirectional: args.bidirectional,
        allowed_namespaces: if allowed.is_empty() { None } else { Some(allowed.clone()) },
        prune: None,
    };
    let mut pair = ClusterPair::new(&args.name, spec);
    pair.metadata.namespace = Some(namespace.to_owned());
    pair
}

/// A migration, of the spec that its options make.
pub fn migration(namespace: &str, name: &str, options: &MigrationOptions) -> Result<Migration, Error> {
    Ok(run(namespace, name, options.spec()?))
}

/// A migration of a spec.
pub fn run(namespace: &str, name: &str, spec: MigrationSpec) -> Migration {
    let mut migration = Migration::new(name, spec);
    migration.metadata.namespace = Some(namespace.to_owned());
    migration
}

/// A plan, of the spec that its options make, without what only a run says.
pub fn plan(namespace: &str, name: &str, options: &MigrationOptions) -> Result<MigrationPlan, Error> {
    let mut plan = MigrationPlan::new(name, MigrationPlanSpec { options: options.spec()? });
    plan.metadata.namespace = Some(namespace.to_owned());
    Ok(plan)
}

/// A schedule of a spec.
pub fn schedule(namespace: &str, name: &str, spec: MigrationScheduleSpec) -> MigrationSchedule {
    let mut schedule = MigrationSchedule::new(name, spec);
    schedule.metadata.namespace = Some(namespace.to_owned());
    schedule
}
