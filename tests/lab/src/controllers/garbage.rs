//! The garbage collector: dependents go with their owners, first, later or not at all.
//!
//! - [`graph`] holds every object's owner references and decides what to do. Pure.
//! - This file keeps it up to date, by a metadata watch for each kind that the API server offers,
//!   discovered anew while it runs, and does what was decided.

mod graph;

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt;
use kube::api::{DeleteParams, Patch, PatchParams, Preconditions};
use kube::core::{DynamicObject, PartialObjectMeta};
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::overtaken;
use graph::{Act, Graph, Kind, Node, Owner};

/// How often the kinds are discovered anew.
const DISCOVER_EVERY: Duration = Duration::from_secs(5);
/// Changes that come within this time are looked at together.
const GATHER: Duration = Duration::from_millis(20);
/// The pause before what failed is tried again.
const RETRY: Duration = Duration::from_millis(500);
const WATCH_SECONDS: u32 = 200;
/// They own nothing, are owned by nothing that matters here, and change all the time.
const NOT_WATCHED: &[(&str, &str)] =
    &[("", "events"), ("events.k8s.io", "events"), ("", "componentstatuses"), ("", "bindings")];

#[derive(Default)]
struct Shared {
    graph: Mutex<Graph>,
    changed: Notify,
}

impl Shared {
    fn graph(&self) -> std::sync::MutexGuard<'_, Graph> {
        self.graph.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Starts the collector as tasks of `tasks`.
pub(super) fn spawn(client: &Client, tasks: &mut JoinSet<()>) {
    let shared = Arc::new(Shared::default());
    tasks.spawn(discover(client.clone(), shared.clone()));
    tasks.spawn(collect(client.clone(), shared));
}

/// Keeps one watch for each kind that there is.
async fn discover(client: Client, shared: Arc<Shared>) {
    let mut watches: HashMap<Kind, tokio_util::task::AbortOnDropHandle<()>> = HashMap::new();
    loop {
        match Discovery::new(client.clone()).run_aggregated().await {
            Ok(discovery) => {
                let mut offered = Vec::new();
                for (resource, capabilities) in
                    discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources)
                {
                    let watched = [verbs::LIST, verbs::WATCH, verbs::DELETE, verbs::PATCH]
                        .iter()
                        .all(|verb| capabilities.supports_operation(verb));
                    if watched && !NOT_WATCHED.contains(&(resource.group.as_str(), resource.plural.as_str()))
                    {
                        let namespaced = capabilities.scope == Scope::Namespaced;
                        offered.push(Kind { resource, namespaced });
                    }
                }
                watches.retain(|kind, _| {
                    let stays = offered.contains(kind);
                    if !stays {
                        shared.graph().forget(kind);
                    }
                    stays
                });
                for kind in offered {
                    watches.entry(kind.clone()).or_insert_with(|| {
                        tokio_util::task::AbortOnDropHandle::new(tokio::spawn(watch(
                            client.clone(),
                            kind,
                            shared.clone(),
                        )))
                    });
                }
            }
            Err(error) => tracing::debug!(%error, "the garbage collector will discover the kinds again"),
        }
        tokio::time::sleep(DISCOVER_EVERY).await;
    }
}

async fn watch(client: Client, kind: Kind, shared: Arc<Shared>) {
    let api = Api::<PartialObjectMeta<DynamicObject>>::all_with(client, &kind.resource);
    let events = watcher(api, watcher::Config::default().timeout(WATCH_SECONDS)).default_backoff();
    let mut events = std::pin::pin!(events);
    let mut listed: Vec<Node> = Vec::new();
    while let Some(event) = events.next().await {
        match event {
            Ok(watcher::Event::Init) => listed.clear(),
            Ok(watcher::Event::InitApply(object)) => listed.extend(node(&kind, &object)),
            Ok(watcher::Event::InitDone) => shared.graph().replace(&kind, std::mem::take(&mut listed)),
            Ok(watcher::Event::Apply(object)) => {
                if let Some(node) = node(&kind, &object) {
                    shared.graph().apply(node);
                }
            }
            Ok(watcher::Event::Delete(object)) => {
                if let Some(uid) = object.uid() {
                    shared.graph().delete(&uid);
                }
            }
            Err(error) => {
                tracing::debug!(kind = kind.resource.kind, %error, "the garbage collector watches anew");
            }
        }
        shared.changed.notify_one();
    }
}

fn node(kind: &Kind, object: &PartialObjectMeta<DynamicObject>) -> Option<Node> {
    Some(Node {
        kind: kind.clone(),
        uid: object.uid()?,
        namespace: object.namespace(),
        name: object.name_any(),
        version: object.resource_version(),
        deleting: object.metadata.deletion_timestamp.is_some(),
        finalizers: object.finalizers().to_vec(),
        owners: object.owner_references().to_vec(),
    })
}

async fn collect(client: Client, shared: Arc<Shared>) {
    let mut failed = false;
    loop {
        tokio::select! {
            () = shared.changed.notified() => {}
            () = tokio::time::sleep(RETRY), if failed => {}
        }
        tokio::time::sleep(GATHER).await;
        let acts = shared.graph().acts();
        failed = false;
        for act in acts {
            match act_on(&client, &shared, &act).await {
                Ok(()) => {}
                Err(kube::Error::Api(status)) if overtaken(&status) => {}
                Err(error) => {
                    failed = true;
                    tracing::debug!(%error, "the garbage collector will try again");
                }
            }
        }
    }
}

fn api(client: &Client, resource: &ApiResource, namespace: Option<&str>) -> Api<DynamicObject> {
    match namespace {
        Some(namespace) => Api::namespaced_with(client.clone(), namespace, resource),
        None => Api::all_with(client.clone(), resource),
    }
}

async fn act_on(client: &Client, shared: &Shared, act: &Act) -> kube::Result<()> {
    match act {
        Act::DeleteDependent { node, foreground } => {
            let how = if *foreground { DeleteParams::foreground() } else { DeleteParams::background() };
            let this = Preconditions { uid: Some(node.uid.clone()), resource_version: None };
            api(client, &node.kind.resource, node.namespace.as_deref())
                .delete(&node.name, &how.preconditions(this))
                .await
                .map(|_| ())
        }
        Act::RemoveFinalizer { node, finalizer } => {
            let left: Vec<_> = node.finalizers.iter().filter(|name| name != finalizer).collect();
            let patch = json!({"metadata": {"resourceVersion": node.version, "finalizers": left}});
            patch_node(client, node, &patch).await
        }
        Act::Disown { node, owner } => {
            let left: Vec<_> = node.owners.iter().filter(|reference| reference.uid != *owner).collect();
            let patch = json!({"metadata": {"resourceVersion": node.version, "ownerReferences": left}});
            patch_node(client, node, &patch).await
        }
        Act::DeleteIfOrphaned { node, owners } => {
            for owner in owners {
                if exists(client, node, owner).await? {
                    shared.graph().seen(&owner.uid);
                    return Ok(());
                }
            }
            let this = Preconditions { uid: Some(node.uid.clone()), resource_version: node.version.clone() };
            api(client, &node.kind.resource, node.namespace.as_deref())
                .delete(&node.name, &DeleteParams::background().preconditions(this))
                .await
                .map(|_| ())
        }
    }
}

async fn patch_node(client: &Client, node: &Node, patch: &serde_json::Value) -> kube::Result<()> {
    api(client, &node.kind.resource, node.namespace.as_deref())
        .patch_metadata(&node.name, &PatchParams::default(), &Patch::Merge(patch))
        .await
        .map(|_| ())
}

/// Asks live whether an owner that no watch has shown is there.
async fn exists(client: &Client, node: &Node, owner: &Owner) -> kube::Result<bool> {
    let Some(kind) = &owner.kind else {
        // A kind that is not offered (any more): its objects are kept, as the real collector does.
        return Ok(true);
    };
    let namespace = if kind.namespaced { node.namespace.as_deref() } else { None };
    if kind.namespaced && namespace.is_none() {
        return Ok(true);
    }
    let found = api(client, &kind.resource, namespace).get_metadata_opt(&owner.name).await?;
    Ok(found.is_some_and(|found| found.uid().as_deref() == Some(&owner.uid)))
}
