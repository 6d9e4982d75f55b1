//! The objects of the benchmark: the same each time, in fixed proportions, 0.5 to 4 KiB each.

use base64::Engine as _;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use serde_json::{Value, json};

/// The same objects each time.
const SEED: u64 = 2026;
/// Of twenty objects, so many are of each kind.
const PROPORTIONS: [(Kind, usize); 4] =
    [(Kind::ConfigMap, 8), (Kind::Secret, 6), (Kind::Deployment, 3), (Kind::Service, 3)];
/// Objects of one namespace; one that is given more is split.
const PER_NAMESPACE: usize = 2_500;
const SMALLEST: usize = 512;
const LARGEST: usize = 4096;

/// A kind that the benchmark makes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Text.
    ConfigMap,
    /// Base64.
    Secret,
    /// At 0 replicas, so that no pods are made.
    Deployment,
    /// With a cluster IP.
    Service,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::ConfigMap, Self::Secret, Self::Deployment, Self::Service];

    /// The collection's path in a namespace.
    pub fn path(self, namespace: &str) -> String {
        match self {
            Self::ConfigMap => format!("/api/v1/namespaces/{namespace}/configmaps"),
            Self::Secret => format!("/api/v1/namespaces/{namespace}/secrets"),
            Self::Deployment => format!("/apis/apps/v1/namespaces/{namespace}/deployments"),
            Self::Service => format!("/api/v1/namespaces/{namespace}/services"),
        }
    }
}

/// One object, ready to be sent.
#[derive(Debug, Clone)]
pub struct Object {
    /// Its kind.
    pub kind: Kind,
    /// Which of the namespaces it is in.
    pub namespace: usize,
    /// Its JSON, without a namespace: the path gives it.
    pub body: bytes::Bytes,
}

/// How many namespaces so many objects are in.
pub fn namespaces(objects: usize) -> usize {
    objects.div_ceil(PER_NAMESPACE).max(1)
}

/// The objects, kinds mixed.
pub fn generate(objects: usize) -> Vec<Object> {
    let mut random = StdRng::seed_from_u64(SEED);
    let spaces = namespaces(objects);
    let cycle: Vec<Kind> =
        PROPORTIONS.iter().flat_map(|(kind, share)| std::iter::repeat_n(*kind, *share)).collect();
    (0..objects)
        .map(|index| {
            // Co-prime with the cycle's length, so that kinds alternate and keep their proportions.
            let kind = cycle[(index * 7) % cycle.len()];
            let size = random.random_range(SMALLEST..=LARGEST);
            let object = object(kind, index, size, &mut random);
            Object { kind, namespace: index % spaces, body: object.to_string().into() }
        })
        .collect()
}

fn object(kind: Kind, index: usize, size: usize, random: &mut StdRng) -> Value {
    let app = format!("app-{}", index / 20);
    let name = format!("{app}-{index}");
    let labels = json!({
        "app.kubernetes.io/name": app,
        "app.kubernetes.io/part-of": "bench",
        "app.kubernetes.io/managed-by": "isthmus-lab",
    });
    let annotations = json!({"example.com/owner": "team-platform", "example.com/revision": index.to_string(),
        "example.com/description": "One of the objects that isthmus-lab bench-objects moves from one cluster to the other."});
    let metadata = json!({"name": name, "labels": labels, "annotations": annotations});
    match kind {
        Kind::ConfigMap => json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata,
            "data": {"application.properties": text(size / 2, random), "logging.xml": text(size / 2, random)}}),
        Kind::Secret => {
            let encoded = |bytes: usize, random: &mut StdRng| {
                base64::engine::general_purpose::STANDARD.encode(text(bytes, random))
            };
            json!({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque",
                "data": {"username": encoded(12, random), "password": encoded(32, random),
                    "keystore": encoded(size / 2, random)}})
        }
        Kind::Deployment => deployment(&metadata, &app, size, random),
        Kind::Service => json!({"apiVersion": "v1", "kind": "Service", "metadata": metadata, "spec": {
            "type": "ClusterIP", "selector": {"app.kubernetes.io/name": app},
            "ports": [
                {"name": "http", "port": 80, "targetPort": "http", "protocol": "TCP"},
                {"name": "metrics", "port": 9090, "targetPort": "metrics", "protocol": "TCP"}]}}),
    }
}

fn deployment(metadata: &Value, app: &str, size: usize, random: &mut StdRng) -> Value {
    let variables: Vec<Value> =
        (0..size / 128).map(|n| json!({"name": format!("SETTING_{n}"), "value": text(24, random)})).collect();
    let probe = |path: &str| json!({"httpGet": {"path": path, "port": "http"}, "periodSeconds": 10});
    let pod_labels = json!({"app.kubernetes.io/name": app});
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata, "spec": {
        "replicas": 0,
        "selector": {"matchLabels": pod_labels},
        "template": {"metadata": {"labels": pod_labels}, "spec": {
            "serviceAccountName": "default",
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "containers": [{
                "name": "app", "image": format!("registry.example.com/bench/{app}:1.4.2"),
                "ports": [{"name": "http", "containerPort": 8080}, {"name": "metrics", "containerPort": 9090}],
                "env": variables,
                "envFrom": [{"configMapRef": {"name": format!("{app}-0"), "optional": true}}],
                "resources": {"requests": {"cpu": "100m", "memory": "128Mi"}, "limits": {"memory": "256Mi"}},
                "livenessProbe": probe("/healthz"), "readinessProbe": probe("/readyz")}]}}}})
}

/// So many bytes of lines that look like settings.
fn text(bytes: usize, random: &mut StdRng) -> String {
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyz0123456789";
    (0..bytes)
        .map(|at| match at % 48 {
            47 => '\n',
            15 => '=',
            _ => char::from(LETTERS[random.random_range(0..LETTERS.len())]),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_objects_are_the_same_each_time_in_their_proportions_and_sizes() {
        let (first, second) = (generate(400), generate(400));
        assert!(first.iter().zip(&second).all(|(a, b)| a.body == b.body));
        let count = |kind| first.iter().filter(|object| object.kind == kind).count();
        assert_eq!(Kind::ALL.map(count), [160, 120, 60, 60]);
        assert!(first.iter().all(|object| (500..=6_000).contains(&object.body.len())));
        let whole: usize = first.iter().map(|object| object.body.len()).sum();
        assert!((1_000..3_000).contains(&(whole / 400)), "{} bytes on average", whole / 400);
    }

    #[test]
    fn ten_thousand_objects_fill_four_namespaces_evenly() {
        assert_eq!(namespaces(10_000), 4);
        assert_eq!(namespaces(1), 1);
        let objects = generate(1000);
        assert!(objects.iter().all(|object| object.namespace == 0));
    }
}
