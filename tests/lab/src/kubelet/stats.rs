//! What a kubelet tells at `/stats/summary` of the volumes that the pods of its node have mounted.
//!
//! Each is told as a filesystem of its own and as large as its PersistentVolume, which is how storage
//! with a driver looks. Nothing keeps a folder to that size.

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use k8s_openapi::api::core::v1::{PersistentVolume, Pod};
use kube::ResourceExt;
use serde_json::{Value, json};

use super::Kubelet;
use crate::apiserver::quantity::Quantity;
use crate::controllers::{bound_volume, folder, namespace_of, pods};

/// A volume with more entries is not measured: nobody waits for it.
const MAX_ENTRIES: usize = 100_000;
/// The unit of a file's blocks, whatever the filesystem's own are.
const BLOCK: u64 = 512;

impl Kubelet {
    /// The summary of a node.
    pub async fn summary(&self, node: &str) -> Value {
        let of_node = |pod: &Pod| {
            let on = pod.spec.as_ref().and_then(|spec| spec.node_name.as_deref());
            on == Some(node) && pods::phase(pod) == "Running"
        };
        let mut told = Vec::new();
        for pod in self.context.cache.pods.state_filter(of_node) {
            let (mut volumes, namespace) = (Vec::new(), namespace_of(&*pod));
            for (volume, claim) in claims(&pod) {
                volumes.extend(self.volume(&namespace, &volume, &claim).await);
            }
            let reference = json!({"name": pod.name_any(), "namespace": namespace, "uid": pod.uid()});
            told.push(json!({"podRef": reference, "volume": volumes}));
        }
        json!({"node": {"nodeName": node}, "pods": told})
    }

    /// What is told of a claim's volume, if it has files and can be measured.
    async fn volume(&self, namespace: &str, volume: &str, claim: &str) -> Option<Value> {
        let cache = &self.context.cache;
        let found = cache.claim(namespace, claim)?;
        let bound = cache.volume(bound_volume(&found)?)?;
        let capacity = capacity(&bound)?;
        let root = folder(&bound)?.to_owned();
        let used = tokio::task::spawn_blocking(move || used(&root)).await.ok()?.ok()??;
        Some(json!({
            "time": jiff::Timestamp::now().strftime("%FT%TZ").to_string(),
            "name": volume,
            "pvcRef": {"name": claim, "namespace": namespace},
            "capacityBytes": capacity,
            "usedBytes": used,
            "availableBytes": capacity.saturating_sub(used),
        }))
    }
}

/// The claims that a pod mounts, with the names of its volumes.
fn claims(pod: &Pod) -> Vec<(String, String)> {
    let volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes
        .filter_map(|volume| {
            let source = volume.persistent_volume_claim.as_ref()?;
            Some((volume.name.clone(), source.claim_name.clone()))
        })
        .collect()
}

/// Bytes; none of raw blocks, which have no filesystem to be measured.
fn capacity(volume: &PersistentVolume) -> Option<u64> {
    let spec = volume.spec.as_ref().filter(|spec| spec.volume_mode.as_deref() != Some("Block"))?;
    let storage = spec.capacity.as_ref()?.get("storage")?;
    Some(Quantity::parse(&storage.0)?.units())
}

/// The bytes that all below a folder takes up; none if that is too much to be counted.
fn used(root: &Path) -> io::Result<Option<u64>> {
    let (mut folders, mut linked) = (vec![root.to_owned()], HashSet::new());
    let (mut blocks, mut entries) = (0, 0);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder)? {
            let entry = entry?;
            // What goes away meanwhile takes up nothing.
            let Ok(found) = entry.metadata() else { continue };
            entries += 1;
            if entries > MAX_ENTRIES {
                return Ok(None);
            }
            if found.is_dir() {
                folders.push(entry.path());
            } else if found.nlink() > 1 && !linked.insert(found.ino()) {
                continue;
            }
            blocks += found.blocks();
        }
    }
    Ok(Some(blocks * BLOCK))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_files_take_up_is_counted_once_and_holes_are_not() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("deep")).unwrap();
        let file = dir.path().join("deep/file");
        fs::write(&file, vec![7; 1 << 20]).unwrap();
        let once = used(dir.path()).unwrap().unwrap();
        assert!((1 << 20..2 << 20).contains(&once), "{once}");
        fs::hard_link(&file, dir.path().join("again")).unwrap();
        fs::File::create(dir.path().join("hollow")).unwrap().set_len(1 << 30).unwrap();
        let again = used(dir.path()).unwrap().unwrap();
        assert!(again < once + (1 << 16), "{again} instead of {once}");
        assert!(used(&dir.path().join("nowhere")).is_err());
    }
}
