//! One VolumeSnapshot brought on: content, copy, status; and its end as its deletion policy says.

use std::path::PathBuf;

use jiff::Timestamp;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use serde_json::{Value, json};

use super::{ERROR, GROUP, READY_AFTER, VERSION, asked, is_ready, resource, text};
use crate::apiserver::quantity::Quantity;
use crate::controllers::provisioner::{PROVISIONER, bound_volume, content_of, folder};
use crate::controllers::{Context, Error, backing, overtaken};

const DEFAULT_CLASS: &str = "snapshot.storage.kubernetes.io/is-default-class";
const SNAPSHOT_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshot-bound-protection";
const CONTENT_FINALIZER: &str = "snapshot.storage.kubernetes.io/volumesnapshotcontent-bound-protection";

pub(super) struct Taker<'a> {
    pub context: &'a Context,
    /// Where the copies lie.
    pub dir: PathBuf,
}

/// What a snapshot is taken of.
struct Source {
    path: PathBuf,
    volume: String,
    mode: &'static str,
    size: String,
}

impl Taker<'_> {
    fn contents(&self) -> Api<DynamicObject> {
        Api::all_with(self.context.client.clone(), &resource("VolumeSnapshotContent"))
    }

    fn snapshots(&self, of: &DynamicObject) -> Api<DynamicObject> {
        let namespace = of.namespace().unwrap_or_default();
        Api::namespaced_with(self.context.client.clone(), &namespace, &resource("VolumeSnapshot"))
    }

    /// Brings a snapshot on; tells whether there is nothing left to do.
    pub async fn settle(&self, snapshot: &DynamicObject, contents: &[DynamicObject]) -> Result<bool, Error> {
        let name = content_name(snapshot);
        let content = contents.iter().find(|content| content.name_any() == name);
        if snapshot.metadata.deletion_timestamp.is_some() {
            return self.end(snapshot, content).await;
        }
        if is_ready(snapshot) {
            return Ok(true);
        }
        let snapshots = self.snapshots(snapshot);
        finalizer(&snapshots, snapshot, SNAPSHOT_FINALIZER, true).await?;
        let problem = match self.class_of(snapshot).await? {
            Ok(class) => match self.source_of(snapshot) {
                Ok(source) => match text(&class, &parameter(ERROR)) {
                    "" => return self.take(snapshot, content, &class, &source).await,
                    error => error.to_owned(),
                },
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        if text(snapshot, "/status/error/message") != problem {
            let now = Timestamp::now().strftime("%FT%TZ").to_string();
            let status = json!({"readyToUse": false, "error": {"message": problem, "time": now}});
            self.write(&snapshots, snapshot, &status).await?;
        }
        Ok(false)
    }

    async fn class_of(&self, snapshot: &DynamicObject) -> Result<Result<DynamicObject, String>, Error> {
        let classes: Api<DynamicObject> =
            Api::all_with(self.context.client.clone(), &resource("VolumeSnapshotClass"));
        let named = text(snapshot, "/spec/volumeSnapshotClassName");
        if !named.is_empty() {
            let found = asked("reading VolumeSnapshotClass", named, classes.get_opt(named).await)?;
            return Ok(found
                .filter(|class| text(class, "/driver") == PROVISIONER)
                .ok_or_else(|| format!("no VolumeSnapshotClass {named} of driver {PROVISIONER}")));
        }
        let all = asked("listing", "VolumeSnapshotClasses", classes.list(&ListParams::default()).await)?;
        let default = |class: &&DynamicObject| {
            text(class, "/driver") == PROVISIONER
                && class.annotations().get(DEFAULT_CLASS).is_some_and(|value| value == "true")
        };
        Ok(all.iter().find(default).cloned().ok_or_else(|| {
            "Failed to set default snapshot class with error cannot find default snapshot class".to_owned()
        }))
    }

    fn source_of(&self, snapshot: &DynamicObject) -> Result<Source, String> {
        let claim = text(snapshot, "/spec/source/persistentVolumeClaimName");
        if claim.is_empty() {
            return Err("the lab takes snapshots of claims only".to_owned());
        }
        let cache = &self.context.cache;
        let found = cache
            .claim(&snapshot.namespace().unwrap_or_default(), claim)
            .and_then(|found| Some((cache.volume(bound_volume(&found)?)?, found)));
        let Some((volume, found)) = found else {
            return Err(format!(
                "the PVC {claim} is not yet bound to a PV, will not attempt to take a snapshot"
            ));
        };
        let path = folder(&volume).ok_or_else(|| format!("the volume of {claim} is not of this lab"))?;
        let capacity = volume.spec.as_ref().and_then(|spec| spec.capacity.as_ref()?.get("storage"));
        Ok(Source {
            path: path.to_owned(),
            volume: volume.name_any(),
            mode: match content_of(&found) {
                backing::Content::Folder => "Filesystem",
                backing::Content::Device(_) => "Block",
            },
            size: capacity.map_or_else(|| "0".to_owned(), |size| size.0.clone()),
        })
    }

    async fn take(
        &self,
        snapshot: &DynamicObject,
        content: Option<&DynamicObject>,
        class: &DynamicObject,
        source: &Source,
    ) -> Result<bool, Error> {
        let name = content_name(snapshot);
        let Some(content) = content else {
            let made =
                self.contents().create(&PostParams::default(), &Self::content(snapshot, class, source)).await;
            return match made {
                Err(kube::Error::Api(status)) if overtaken(&status) => Ok(false),
                other => asked("creating VolumeSnapshotContent", &name, other).map(|_| false),
            };
        };
        let copy = self.dir.join(&name);
        let taken = content.data.pointer("/status/creationTime").and_then(Value::as_i64);
        let nanos = if let Some(nanos) = taken {
            nanos
        } else {
            let now = i64::try_from(Timestamp::now().as_nanosecond()).unwrap_or(i64::MAX);
            std::fs::create_dir_all(&self.dir).map_err(|source| Error::Folder {
                action: "making",
                path: self.dir.clone(),
                source,
            })?;
            backing::copy(&source.path, &copy, backing::Content::Folder).await?;
            let size = Quantity::parse(&source.size).map_or(0, Quantity::units);
            let status = json!({"snapshotHandle": name, "creationTime": now, "restoreSize": size, "readyToUse": false});
            self.write(&self.contents(), content, &status).await?;
            now
        };
        let created = Timestamp::from_nanosecond(i128::from(nanos)).unwrap_or_default();
        let wait: i64 = text(class, &parameter(READY_AFTER)).parse().unwrap_or_default();
        let ready = Timestamp::now().duration_since(created).as_secs() >= wait;
        if ready {
            self.write(&self.contents(), content, &json!({"readyToUse": true})).await?;
        }
        let status = json!({
            "boundVolumeSnapshotContentName": name,
            "creationTime": created.strftime("%FT%TZ").to_string(),
            "restoreSize": source.size,
            "readyToUse": ready,
            "error": null,
        });
        if ready || text(snapshot, "/status/boundVolumeSnapshotContentName").is_empty() {
            self.write(&self.snapshots(snapshot), snapshot, &status).await?;
        }
        Ok(ready)
    }

    fn content(snapshot: &DynamicObject, class: &DynamicObject, source: &Source) -> DynamicObject {
        let mut content = DynamicObject::new(&content_name(snapshot), &resource("VolumeSnapshotContent"));
        content.metadata.finalizers = Some(vec![CONTENT_FINALIZER.to_owned()]);
        content.data = json!({"spec": {
            "deletionPolicy": text(class, "/deletionPolicy"),
            "driver": PROVISIONER,
            "source": {"volumeHandle": source.volume},
            "sourceVolumeMode": source.mode,
            "volumeSnapshotClassName": class.name_any(),
            "volumeSnapshotRef": {
                "apiVersion": format!("{GROUP}/{VERSION}"),
                "kind": "VolumeSnapshot",
                "namespace": snapshot.namespace(),
                "name": snapshot.name_any(),
                "uid": snapshot.uid(),
            },
        }});
        content
    }

    /// Ends a deleted snapshot: with its content, or without it where that is to stay.
    async fn end(&self, snapshot: &DynamicObject, content: Option<&DynamicObject>) -> Result<bool, Error> {
        if let Some(content) = content.filter(|content| text(content, "/spec/deletionPolicy") == "Delete") {
            if content.metadata.deletion_timestamp.is_none() {
                let name = content.name_any();
                let deleted = self.contents().delete(&name, &DeleteParams::default()).await;
                asked("deleting VolumeSnapshotContent", &name, deleted)?;
            }
            return Ok(false);
        }
        finalizer(&self.snapshots(snapshot), snapshot, SNAPSHOT_FINALIZER, false).await?;
        Ok(true)
    }

    /// Ends a deleted content, and its copy where that is not to stay.
    pub async fn remove(&self, content: &DynamicObject) -> Result<(), Error> {
        if text(content, "/spec/deletionPolicy") == "Delete" {
            backing::remove(&self.dir.join(content.name_any())).await?;
        }
        finalizer(&self.contents(), content, CONTENT_FINALIZER, false).await
    }

    async fn write(
        &self,
        api: &Api<DynamicObject>,
        object: &DynamicObject,
        status: &Value,
    ) -> Result<(), Error> {
        let name = object.name_any();
        let patch = Patch::Merge(json!({"status": status}));
        match api.patch_status(&name, &PatchParams::default(), &patch).await {
            Err(kube::Error::Api(status)) if overtaken(&status) => Ok(()),
            other => asked("writing the status of", &name, other).map(drop),
        }
    }
}

fn content_name(snapshot: &DynamicObject) -> String {
    format!("snapcontent-{}", snapshot.uid().unwrap_or_default())
}

/// Where a class has a parameter.
fn parameter(name: &str) -> String {
    format!("/parameters/{}", name.replace('/', "~1"))
}

/// Puts a finalizer on an object, or takes it off.
async fn finalizer(
    api: &Api<DynamicObject>,
    object: &DynamicObject,
    finalizer: &str,
    wanted: bool,
) -> Result<(), Error> {
    let mut finalizers = object.finalizers().to_vec();
    if finalizers.iter().any(|name| name == finalizer) == wanted {
        return Ok(());
    }
    if wanted {
        finalizers.push(finalizer.to_owned());
    } else {
        finalizers.retain(|name| name != finalizer);
    }
    let version = object.resource_version();
    let patch = json!({"metadata": {"resourceVersion": version, "finalizers": finalizers}});
    let name = object.name_any();
    match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
        Err(kube::Error::Api(status)) if overtaken(&status) => Ok(()),
        other => asked("protecting", &name, other).map(drop),
    }
}
