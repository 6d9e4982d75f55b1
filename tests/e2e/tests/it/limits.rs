//! Objects at the limits of what Kubernetes takes: large ones, long names, all of Unicode, all bytes.

use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_shared::protocol::ObjectAction;
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::{World, apply};

const DEFINITION: &str = r"
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: blobs.limits.example.com}
spec:
  group: limits.example.com
  scope: Namespaced
  names: {kind: Blob, plural: blobs, singular: blob, listKind: BlobList}
  versions:
  - name: v1
    served: true
    storage: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
";
/// 1 MiB, the most that a ConfigMap's or a Secret's values may have together.
const MOST_DATA: usize = 1024 * 1024;
/// etcd takes requests of 1.5 MiB by default.
const LARGE: usize = 1_250_000;
const UNICODE: &str = "Größenträger – 日本語 – العربية – 🚢\u{200d}🌊 – \"'\\ \t – Ω≠Ω";

/// Text that does not compress to nothing.
fn text_of(length: usize) -> String {
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    (0..length)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            char::from(b'a' + u8::try_from(state % 26).unwrap())
        })
        .collect()
}

/// A name of this length: labels of 63 with dots between them.
fn long_name(length: usize) -> String {
    let mut name = String::new();
    while name.len() < length {
        let rest = length - name.len();
        name.push_str(&"n".repeat(rest.min(63)));
        if rest > 64 {
            name.push('.');
        }
    }
    name
}

/// What is put on the source, as the path of its collection and the object.
fn objects(namespace: &str) -> Vec<(String, Value)> {
    let core = |plural: &str| format!("/api/v1/namespaces/{namespace}/{plural}");
    let (subdomain, label) = (long_name(253), long_name(63));
    let longest_key = format!("{}/{label}", long_name(253));
    let bytes: Vec<u8> = (0..=255).collect();
    let base64 = |bytes: &[u8]| k8s_openapi::ByteString(bytes.to_vec());
    let large = text_of(MOST_DATA);
    let marked = json!({
        "name": "unicode",
        "labels": {longest_key.as_str(): label.as_str()},
        "annotations": {"example.com/note": UNICODE, longest_key.as_str(): text_of(200_000)},
    });
    let pod = json!({"metadata": {"labels": {"app": "long"}}, "spec": {"containers": [{"name": label, "image": "long:1"}]}});
    vec![
        (
            core("configmaps"),
            json!({"kind": "ConfigMap", "metadata": {"name": "large"}, "data": {"a": &large[..MOST_DATA / 2], "b": &large[MOST_DATA / 2..]}}),
        ),
        (
            core("configmaps"),
            json!({"kind": "ConfigMap", "metadata": {"name": subdomain}, "data": {long_name(253): "k"}}),
        ),
        (
            core("configmaps"),
            json!({"kind": "ConfigMap", "metadata": marked, "data": {"text": UNICODE, "empty": ""}, "binaryData": {"bytes": base64(&bytes)}}),
        ),
        (
            core("secrets"),
            json!({"kind": "Secret", "metadata": {"name": "large"}, "data": {"key": base64(large.as_bytes())}}),
        ),
        (
            core("secrets"),
            json!({"kind": "Secret", "metadata": {"name": subdomain}, "immutable": true, "data": {"bytes": base64(&bytes)}}),
        ),
        (
            core("services"),
            json!({"kind": "Service", "metadata": {"name": label}, "spec": {"ports": [{"port": 80}], "selector": {"app": "long"}}}),
        ),
        (
            core("persistentvolumeclaims"),
            json!({"kind": "PersistentVolumeClaim", "metadata": {"name": subdomain}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
        ),
        (
            format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": label}, "spec": {"replicas": 0, "selector": {"matchLabels": {"app": "long"}}, "template": pod}}),
        ),
        (
            format!("/apis/batch/v1/namespaces/{namespace}/cronjobs"),
            json!({"apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": long_name(52)}, "spec": {"schedule": "0 0 1 1 *", "suspend": true, "jobTemplate": {"spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "long:1"}]}}}}}}),
        ),
        (
            format!("/apis/limits.example.com/v1/namespaces/{namespace}/blobs"),
            json!({"apiVersion": "limits.example.com/v1", "kind": "Blob", "metadata": {"name": "large"}, "spec": {"content": text_of(LARGE), "nothing": null, "numbers": [0, -1, 1.5, 9_007_199_254_740_993_i64]}}),
        ),
        (
            format!("/apis/limits.example.com/v1/namespaces/{namespace}/blobs"),
            json!({"apiVersion": "limits.example.com/v1", "kind": "Blob", "metadata": {"name": subdomain}, "ünïcödé": UNICODE}),
        ),
    ]
}

/// What a person put into an object: all but what servers and Isthmus write.
fn content(mut object: Value) -> Value {
    let fields = object.as_object_mut().unwrap();
    fields.remove("status");
    fields.remove("metadata");
    if let Some(spec) = fields.get_mut("spec").and_then(Value::as_object_mut) {
        for field in ["clusterIP", "clusterIPs", "volumeName"] {
            spec.remove(field);
        }
    }
    object
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_at_the_limits_arrive_to_the_last_byte() {
    let world = World::shared().await;
    let namespace = long_name(63);
    let made = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}");
    world.apply("east", &made).await;
    world.apply("east", DEFINITION).await;
    // The API server of the definition's group may be a moment behind its discovery.
    let first = format!(
        "apiVersion: limits.example.com/v1\nkind: Blob\nmetadata: {{name: small, namespace: {namespace}}}"
    );
    apply(world.client("east"), &first).await;
    let objects = objects(&namespace);
    for (path, object) in &objects {
        let mut object = object.clone();
        if object.get("apiVersion").is_none() {
            object["apiVersion"] = json!("v1");
        }
        world.post("east", path, &object).await;
    }
    let claim = long_name(253);
    let volume = world.volume("east", &namespace, &claim).await;
    std::fs::write(volume.join("n".repeat(255)), UNICODE).unwrap();
    std::fs::write(volume.join(UNICODE.replace('/', "-")), "a file of any name").unwrap();

    let report = world.run("limits", json!({"namespaces": [namespace]})).await.succeeded();
    // The namespace is told of, and is not one of the objects.
    let created = report.all(ObjectAction::Created);
    let made = created.iter().filter(|name| !name.starts_with("Namespace ")).count();
    assert_eq!((created.len(), report.status.resources.created), (made + 1, made.try_into().unwrap()));

    for (path, object) in &objects {
        let path = format!("{path}/{}", text(object, "/metadata/name"));
        let (there, here) = (world.get("west", &path).await, world.get("east", &path).await);
        for field in ["annotations", "labels"] {
            for (key, value) in here["metadata"][field].as_object().into_iter().flatten() {
                // What the lab's provisioner and binder write of a volume is of that cluster.
                if !key.contains("kubernetes.io/") {
                    assert_eq!(there["metadata"][field].get(key), Some(value), "{field} {key} of {path}");
                }
            }
        }
        assert!(content(there) == content(here), "{path} is not as it was");
    }
    let (east, west) =
        (world.volume("east", &namespace, &claim).await, world.volume("west", &namespace, &claim).await);
    let differences = compare_trees(&east, &west, &CompareOptions::default()).unwrap();
    assert!(differences.is_empty(), "{differences:?}");

    let again = world.run("limits-again", json!({"namespaces": [namespace]})).await.succeeded();
    assert_eq!(again.all(ObjectAction::Created), Vec::<String>::new());
    assert_eq!(again.all(ObjectAction::Updated), Vec::<String>::new());
}
