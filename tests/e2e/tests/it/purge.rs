//! Deleting on the destination what is gone from the source, and nothing else.

use isthmus_shared::protocol::ObjectAction;
use serde_json::json;

use crate::world::{World, eventually};

const SOURCE: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: purged}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: stays, namespace: purged}
data: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: goes, namespace: purged}
data: {a: b}
---
apiVersion: v1
kind: Secret
metadata: {name: goes, namespace: purged}
stringData: {a: b}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: left-out, namespace: purged}
data: {a: b}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: goes, namespace: purged}
spec:
  replicas: 1
  selector: {matchLabels: {app: goes}}
  template:
    metadata: {labels: {app: goes}}
    spec: {containers: [{name: c, image: 'c:1'}]}
";
/// Another namespace of the source, which goes to the same one of the destination.
const NEIGHBOUR: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: purged-neighbour}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: of-the-neighbour, namespace: purged-neighbour}
data: {a: b}
";
const BY_HAND: &str = r"
apiVersion: v1
kind: ConfigMap
metadata: {name: by-hand, namespace: purged}
data: {a: b}
";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_from_the_source_is_purged_and_what_others_brought_stays() {
    let world = World::shared().await;
    world.apply("east", SOURCE).await;
    world.apply("east", NEIGHBOUR).await;
    world.run("purge-first", json!({"namespaces": ["purged"]})).await.succeeded();
    world.run("purge-neighbour", json!({"namespaces": ["purged-neighbour:purged"]})).await.succeeded();
    world.apply("west", BY_HAND).await;
    let east = "/api/v1/namespaces/purged";
    for path in [
        format!("{east}/configmaps/goes"),
        format!("{east}/secrets/goes"),
        "/apis/apps/v1/namespaces/purged/deployments/goes".to_owned(),
    ] {
        world.delete("east", &path).await;
    }
    // Gone from the source is not the same as left behind there.
    let skip = json!({"metadata": {"annotations": {"isthmus.dev/skip": "true"}}});
    world.patch("east", &format!("{east}/configmaps/left-out"), skip).await;

    // Nothing is purged unless it is asked for, nor by a dry run.
    world.run("purge-not", json!({"namespaces": ["purged"]})).await.succeeded();
    let spec = json!({"namespaces": ["purged"], "purgeDeletedResources": true, "dryRun": true});
    let gone = ["ConfigMap purged/goes", "Secret purged/goes", "Deployment purged/goes"];
    world.run("purge-dry", spec).await.succeeded().came_to(ObjectAction::Deleted, &gone);
    assert!(world.config("west", "purged", "goes").await.is_some());

    let spec = json!({"namespaces": ["purged"], "purgeDeletedResources": true});
    let report = world.run("purge", spec.clone()).await.succeeded();
    report.came_to(ObjectAction::Deleted, &gone);
    assert_eq!(report.status.resources.deleted, 3, "{:?}", report.status.resources);
    assert_eq!(report.all(ObjectAction::Deleted).len(), 3);
    assert_eq!(world.config("west", "purged", "goes").await, None);
    assert_eq!(world.find("west", "/api/v1/namespaces/purged/secrets/goes").await, None);
    assert_eq!(world.find("west", "/apis/apps/v1/namespaces/purged/deployments/goes").await, None);
    for stays in ["stays", "left-out", "of-the-neighbour", "by-hand"] {
        assert!(world.config("west", "purged", stays).await.is_some(), "{stays} is gone");
    }

    let again = world.run("purge-again", spec).await.succeeded();
    assert_eq!(again.all(ObjectAction::Deleted), Vec::<String>::new());
}

const CLAIMS: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: purged-data}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: goes, namespace: purged-data}
data: {a: b}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: stays, namespace: purged-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: goes, namespace: purged-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: used, namespace: purged-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: swapped, namespace: purged-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
";
/// What others make on the destination: a claim of the name of one that a run brought, one of a
/// name of its own, and a Pod that uses what a run brought.
const CLAIMS_BY_HAND: &str = r"
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: swapped, namespace: purged-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: by-hand, namespace: purged-data}
spec: {accessModes: [ReadWriteOnce], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: user, namespace: purged-data}
spec:
  containers: [{name: user, image: 'user:1', volumeMounts: [{name: data, mountPath: /data}]}]
  volumes: [{name: data, persistentVolumeClaim: {claimName: used}}]
";

fn claim_path(name: &str) -> String {
    format!("/api/v1/namespaces/purged-data/persistentvolumeclaims/{name}")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_that_is_gone_from_the_source_is_purged_with_its_data_unless_it_is_used_or_anothers() {
    let world = World::shared().await;
    let namespace = "purged-data";
    world.apply("east", CLAIMS).await;
    for claim in ["stays", "goes", "used", "swapped"] {
        let volume = world.volume("east", namespace, claim).await;
        std::fs::write(volume.join("file"), claim).unwrap();
    }
    let report = world.run("purge-claims-first", json!({"namespaces": [namespace]})).await.succeeded();
    assert_eq!(report.status.volumes_summary.as_deref(), Some("4/4"));
    let gone = world.volume("west", namespace, "goes").await;
    assert_eq!(std::fs::read_to_string(gone.join("file")).unwrap(), "goes");

    world.delete("west", &claim_path("swapped")).await;
    world.apply("west", CLAIMS_BY_HAND).await;
    for claim in ["swapped", "by-hand"] {
        let volume = world.volume("west", namespace, claim).await;
        std::fs::write(volume.join("file"), "made by hand").unwrap();
    }
    for claim in ["goes", "used", "swapped"] {
        world.delete("east", &claim_path(claim)).await;
    }
    world.delete("east", "/api/v1/namespaces/purged-data/configmaps/goes").await;

    let spec = |dry: bool| json!({"namespaces": [namespace], "purgeDeletedResources": true, "dryRun": dry});
    let purged = ["ConfigMap purged-data/goes", "PersistentVolumeClaim purged-data/goes"];
    let used = "PersistentVolumeClaim purged-data/used";
    for (name, dry) in [("purge-claims-dry", true), ("purge-claims", false)] {
        let report = world.run(name, spec(dry)).await.succeeded();
        report.came_to(ObjectAction::Deleted, &purged);
        assert_eq!(report.all(ObjectAction::Deleted).len(), 2, "{:?}", report.all(ObjectAction::Deleted));
        report.came_to(ObjectAction::Skipped, &[used]);
        assert_eq!(report.of(used).reason.as_deref(), Some("ClaimInUse"));
        let warning = report.status.warnings.iter().find(|warning| warning.object == used);
        let warning = warning.unwrap_or_else(|| panic!("{:#?}", report.status.warnings));
        assert!(warning.message.contains("Pod"), "{warning:?}");
        if dry {
            assert!(world.config("west", namespace, "goes").await.is_some(), "a dry run deleted it");
            assert_eq!(std::fs::read_to_string(gone.join("file")).unwrap(), "goes");
        }
    }
    assert_eq!(world.config("west", namespace, "goes").await, None);
    eventually("the purged claim and its data to be gone", || async {
        let claim = world.find("west", &claim_path("goes")).await;
        if claim.is_none() && !gone.exists() { Ok(()) } else { Err(format!("{claim:?}")) }
    })
    .await;
    for (claim, content) in
        [("stays", "stays"), ("used", "used"), ("swapped", "made by hand"), ("by-hand", "made by hand")]
    {
        let there = world.get("west", &claim_path(claim)).await;
        assert_eq!(there["metadata"].get("deletionTimestamp"), None, "{claim} is being deleted");
        let file = world.volume("west", namespace, claim).await.join("file");
        assert_eq!(std::fs::read_to_string(file).unwrap(), content);
    }

    // Once nothing uses it any more it goes too.
    world.delete("west", "/api/v1/namespaces/purged-data/pods/user").await;
    let report = world.run("purge-claims-again", spec(false)).await.succeeded();
    assert_eq!(report.all(ObjectAction::Deleted), [used]);
    eventually("the claim to be gone", || async {
        world.find("west", &claim_path("used")).await.map_or(Ok(()), |claim| Err(claim.to_string()))
    })
    .await;
}
