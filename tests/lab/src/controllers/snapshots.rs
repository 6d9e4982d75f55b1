//! A stand-in for the CSI snapshot controller and its driver, for volumes of the lab's provisioner.
//!
//! ```text
//!   definitions   the kinds of snapshot.storage.k8s.io/v1, and a class for the provisioner
//!   taking        one VolumeSnapshot: its content, the copy, its status; and their end
//!   this file     the loop around it, and where the provisioner finds a snapshot's data
//! ```
//!
//! Only clusters with [`crate::cluster::ClusterTraits::snapshots`] have it. A snapshot is a copy of the
//! volume's folder or file, made at once. Two parameters of its class change how it goes, for tests:
//! [`READY_AFTER`] and [`ERROR`].

mod definitions;
mod taking;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use kube::api::{ApiResource, DynamicObject, ListParams};
use kube::core::GroupVersionKind;
use kube::runtime::{WatchStreamExt, watcher};
use kube::{Api, ResourceExt};
use serde_json::Value;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::{Context, Error};
pub(crate) use definitions::install;
use taking::Taker;

/// Parameter of a class: the seconds until a snapshot that was taken is ready to be used.
pub const READY_AFTER: &str = "lab.isthmus.dev/ready-after";
/// Parameter of a class: what the driver says instead of taking a snapshot.
pub const ERROR: &str = "lab.isthmus.dev/error";

const GROUP: &str = "snapshot.storage.k8s.io";
const VERSION: &str = "v1";
/// Without a change, all are looked at again after this time.
const RESYNC: Duration = Duration::from_secs(30);
/// The pause before what failed, or is not ready yet, is looked at again.
const AGAIN: Duration = Duration::from_millis(300);

fn resource(kind: &str) -> ApiResource {
    let plural = if kind.ends_with("Class") { format!("{kind}es") } else { format!("{kind}s") };
    ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, kind), &plural.to_lowercase())
}

fn text<'a>(object: &'a DynamicObject, pointer: &str) -> &'a str {
    object.data.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

fn is_ready(object: &DynamicObject) -> bool {
    object.data.pointer("/status/readyToUse") == Some(&Value::Bool(true))
}

/// Reads the answer to a call about an object.
fn asked<T>(action: &'static str, object: &str, answer: kube::Result<T>) -> Result<T, Error> {
    answer.map_err(|source| Error::Api { action, object: object.to_owned(), source: Box::new(source) })
}

/// Where the copies lie.
fn folder(context: &Context) -> PathBuf {
    context.volumes_dir.with_file_name("snapshots")
}

/// Where a snapshot's data is and how large a volume of it must be at least, once it is ready.
pub(super) async fn data_of(
    context: &Context,
    namespace: &str,
    name: &str,
) -> Result<(PathBuf, String), String> {
    let what = format!("VolumeSnapshot {namespace}/{name}");
    let failed = |error: Error| error.to_string();
    let snapshots: Api<DynamicObject> =
        Api::namespaced_with(context.client.clone(), namespace, &resource("VolumeSnapshot"));
    let found = asked("reading", &what, snapshots.get_opt(name).await).map_err(failed)?;
    let snapshot = found.ok_or_else(|| format!("{what} is not there"))?;
    if !is_ready(&snapshot) {
        return Err(format!("{what} is not ready to be used"));
    }
    let contents: Api<DynamicObject> =
        Api::all_with(context.client.clone(), &resource("VolumeSnapshotContent"));
    let content = text(&snapshot, "/status/boundVolumeSnapshotContentName");
    let content = asked("reading", content, contents.get(content).await).map_err(failed)?;
    let size = text(&snapshot, "/status/restoreSize").to_owned();
    Ok((folder(context).join(text(&content, "/status/snapshotHandle")), size))
}

/// Starts the controller as tasks of `tasks`.
pub(crate) fn start(context: &Context, tasks: &mut JoinSet<()>) {
    let changed = Arc::new(Notify::new());
    for kind in ["VolumeSnapshot", "VolumeSnapshotContent"] {
        let api: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource(kind));
        let changed = changed.clone();
        tasks.spawn(async move {
            let watched = watcher(api, watcher::Config::default()).default_backoff();
            let mut watched = std::pin::pin!(watched);
            while let Some(event) = watched.next().await {
                match event {
                    Ok(_) => changed.notify_one(),
                    Err(error) => tracing::debug!(kind, %error, "a watch of snapshots begins anew"),
                }
            }
        });
    }
    let context = context.clone();
    tasks.spawn(async move {
        loop {
            let pause = match sweep(&context).await {
                Ok(true) => RESYNC,
                Ok(false) => AGAIN,
                Err(error) => {
                    tracing::debug!(%error, "the snapshot controller will try again");
                    AGAIN
                }
            };
            // Whether there is news or it is time: either way, look.
            drop(tokio::time::timeout(pause, changed.notified()).await);
        }
    });
}

/// Looks at every snapshot and content; tells whether all is as it should be.
async fn sweep(context: &Context) -> Result<bool, Error> {
    let list = ListParams::default();
    let snapshots: Api<DynamicObject> = Api::all_with(context.client.clone(), &resource("VolumeSnapshot"));
    let snapshots = asked("listing", "VolumeSnapshots", snapshots.list(&list).await)?;
    let contents: Api<DynamicObject> =
        Api::all_with(context.client.clone(), &resource("VolumeSnapshotContent"));
    let contents = asked("listing", "VolumeSnapshotContents", contents.list(&list).await)?;
    let taker = Taker { context, dir: folder(context) };
    let mut settled = true;
    for content in contents.iter().filter(|content| content.metadata.deletion_timestamp.is_some()) {
        taker.remove(content).await?;
        settled = false;
    }
    for snapshot in &snapshots {
        let name = snapshot.name_any();
        settled &= match taker.settle(snapshot, &contents.items).await {
            Ok(settled) => settled,
            Err(error) => {
                tracing::debug!(name, %error, "a snapshot will be looked at again");
                false
            }
        };
    }
    Ok(settled)
}
