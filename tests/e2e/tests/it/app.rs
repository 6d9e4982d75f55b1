//! The application that the tests move: the CMS of the walk-through, in a namespace of the
//! test's choice, with files in its volumes that a careless copy would get wrong.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};
use std::path::Path;

use isthmus_lab::trees::{CompareOptions, compare_trees};
use kube::api::{DynamicObject, ListParams};
use kube::discovery::{Discovery, Scope, verbs};
use kube::{Api, Client, ResourceExt};
use serde_json::Value;

use crate::world::{World, eventually};

/// The CMS application as the walk-through has it.
const CMS: &str = include_str!("../../cases/cms.yaml");
/// Its claims.
pub const CLAIMS: [&str; 2] = ["px-mysql-pvc", "px-wp-pvc"];

/// The CMS application in another namespace.
pub fn cms(namespace: &str) -> String {
    CMS.replace("namespace: cms", &format!("namespace: {namespace}"))
        .replace(
            "kind: Namespace\nmetadata:\n  name: cms\n",
            &format!("kind: Namespace\nmetadata:\n  name: {namespace}\n"),
        )
        // No two of one cluster want the same host.
        .replace("host: cms.", &format!("host: {namespace}."))
}

impl World {
    /// Puts the CMS application into a namespace of cluster east, its claims bound and filled.
    pub async fn install_cms(&self, namespace: &str) {
        self.apply("east", &cms(namespace)).await;
        for (number, claim) in CLAIMS.iter().enumerate() {
            let dir = self.volume("east", namespace, claim).await;
            fill(&dir, number);
        }
    }

    /// The folder of a claim's volume, once it is bound.
    pub async fn volume(&self, cluster: &str, namespace: &str, claim: &str) -> std::path::PathBuf {
        eventually(&format!("{claim} in {cluster} to be bound"), || async move {
            self.lab.volume_dir(cluster, namespace, claim).await.map_err(|error| error.to_string())
        })
        .await
    }

    /// Both volumes of the application are the same on both sides, to the last byte and mode.
    pub async fn volumes_are_equal(&self, namespace: &str) {
        for claim in CLAIMS {
            let east = self.volume("east", namespace, claim).await;
            let west = self.volume("west", namespace, claim).await;
            let differences = compare_trees(&east, &west, &CompareOptions::default()).unwrap();
            assert!(differences.is_empty(), "{claim}: {differences:?}");
        }
    }
}

/// Files that a careless copy gets wrong, different for each volume.
fn fill(root: &Path, seed: usize) {
    fs::create_dir_all(root.join("deep/er")).unwrap();
    fs::create_dir(root.join("empty")).unwrap();
    for number in 0..40 {
        let size = (number * 7919 + seed * 131) % 30_000;
        let content: Vec<u8> =
            (0..size).map(|at| u8::try_from((at * 31 + number * 7 + seed) % 251).unwrap()).collect();
        fs::write(root.join(format!("deep/er/file-{number}")), content).unwrap();
    }
    let big: Vec<u8> =
        (0..3_500_000_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13).to_le_bytes()[0]).collect();
    fs::write(root.join("big.bin"), big).unwrap();
    let sparse = File::create(root.join("sparse.img")).unwrap();
    sparse.write_all_at(b"end", 9_000_000).unwrap();
    fs::set_permissions(root.join("deep/er/file-1"), Permissions::from_mode(0o4751)).unwrap();
    fs::set_permissions(root.join("empty"), Permissions::from_mode(0o1770)).unwrap();
    fs::hard_link(root.join("deep/er/file-2"), root.join("linked")).unwrap();
    symlink("deep/er/file-3", root.join("pointer")).unwrap();
    symlink("nowhere", root.join("dangling")).unwrap();
}

/// What every namespace gets by itself, at a time of the cluster's choice.
const GIVEN: [&str; 3] =
    ["ConfigMap/kube-root-ca.crt", "ConfigMap/openshift-service-ca.crt", "ServiceAccount/default"];

/// Every object of a namespace as `kind/name`, sorted; without Events and what every namespace
/// gets by itself.
pub async fn objects(client: Client, namespace: &str) -> Vec<(String, Value)> {
    let discovery = Discovery::new(client.clone()).run().await.unwrap();
    let mut found = Vec::new();
    for group in discovery.groups() {
        for (resource, capabilities) in group.recommended_resources() {
            if capabilities.scope != Scope::Namespaced || !capabilities.supports_operation(verbs::LIST) {
                continue;
            }
            let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), namespace, &resource);
            // A server that has just got a CRD asks to be asked again.
            let list = eventually(&format!("{} to be listed", resource.plural), || async {
                match api.list(&ListParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 429 => Err(status.message),
                    answer => Ok(answer.unwrap()),
                }
            })
            .await;
            for object in list {
                let name = format!("{}/{}", resource.kind, object.name_any());
                if resource.kind == "Event" || GIVEN.contains(&name.as_str()) {
                    continue;
                }
                found.push((name, serde_json::to_value(&object).unwrap()));
            }
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    found
}

/// What the CMS application consists of, as `kind/name`.
pub const CMS_OBJECTS: [&str; 13] = [
    "ConfigMap/wp-settings",
    "CronJob/wp-cron",
    "Deployment/mysql",
    "Deployment/wordpress",
    "Ingress/wp",
    "PersistentVolumeClaim/px-mysql-pvc",
    "PersistentVolumeClaim/px-wp-pvc",
    "Role/cms-config-reader",
    "RoleBinding/cms-config-reader",
    "Secret/mysql-pass",
    "Service/mysql",
    "Service/wordpress",
    "ServiceAccount/cms",
];
