//! The Node objects: two in each cluster, in a zone each, kept alive by their leases.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Node};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::controllers::{Context, Error, Settled};

/// The nodes of each cluster.
pub(super) const COUNT: usize = 2;
/// A node counts as lost 40 s after its last renewal.
const RENEW_EVERY: Duration = Duration::from_secs(10);
const LEASE_SECONDS: i32 = 40;
/// Where kubelets listen by default.
const USUAL_PORT: u16 = 10250;
const LEASES: &str = "kube-node-lease";
/// By this a node says that its kubelet takes WebSockets as they come.
const TAKES_WEBSOCKETS: &str = "ExtendWebSocketsToKubelet";
/// A new node carries it until its kubelet is ready, and the lab's is at once.
const NOT_READY_TAINT: &str = "node.kubernetes.io/not-ready";

/// What addresses of this cluster's pods begin with; clusters differ, so that mix-ups show.
pub(super) fn network(cluster: &str) -> String {
    format!("10.{}", 16 + blake3::hash(cluster.as_bytes()).as_bytes()[0] % 200)
}

fn object<K: serde::de::DeserializeOwned>(value: Value) -> Result<K, Error> {
    let name = value["metadata"]["name"].to_string();
    serde_json::from_value(value).map_err(|error| Error::Object { object: name, problem: error.to_string() })
}

/// Creates the nodes and returns their names; `ports` are where their kubelet listens, if it does.
pub(super) async fn register(cluster: &str, context: &Context, ports: &[u16]) -> Result<Vec<String>, Error> {
    let nodes = Api::<Node>::all(context.client.clone());
    let leases: Namespace = object(json!({"metadata": {"name": LEASES}}))?;
    Api::<Namespace>::all(context.client.clone())
        .create(&PostParams::default(), &leases)
        .await
        .settled("creating", &leases)?;
    let mut names = Vec::new();
    for number in 1..=COUNT {
        let name = format!("{cluster}-node-{number}");
        let zone = char::from(b'a' + u8::try_from(number - 1).unwrap_or_default());
        let node: Node = object(json!({"metadata": {"name": name, "labels": {
            "kubernetes.io/hostname": name,
            "kubernetes.io/os": "linux",
            "kubernetes.io/arch": architecture(),
            "topology.kubernetes.io/region": cluster,
            "topology.kubernetes.io/zone": format!("{cluster}-{zone}"),
        }}}))?;
        nodes.create(&PostParams::default(), &node).await.settled("creating", &node)?;
        let status = json!({"status": status(cluster, number, ports.get(number - 1).copied())});
        nodes
            .patch_status(&name, &PatchParams::default(), &Patch::Merge(&status))
            .await
            .settled("writing the status of", &node)?;
        trust(&nodes, &node, &name).await?;
        renew(context, &name).await?;
        names.push(name);
    }
    Ok(names)
}

/// Takes off the taint that keeps pods from a node that is not ready.
async fn trust(nodes: &Api<Node>, node: &Node, name: &str) -> Result<(), Error> {
    let live = nodes.get_opt(name).await.settled("reading", node)?.flatten();
    let taints = live.and_then(|node| node.spec?.taints).unwrap_or_default();
    let left: Vec<_> = taints.iter().filter(|taint| taint.key != NOT_READY_TAINT).collect();
    if left.len() == taints.len() {
        return Ok(());
    }
    nodes
        .patch(name, &PatchParams::default(), &Patch::Merge(&json!({"spec": {"taints": left}})))
        .await
        .settled("untainting", node)
        .map(|_| ())
}

/// Renews the nodes' leases for as long as the cluster lives.
pub(super) fn heartbeat(context: &Context, nodes: &[String], tasks: &mut JoinSet<()>) {
    let (context, nodes) = (context.clone(), nodes.to_vec());
    tasks.spawn(async move {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            for node in &nodes {
                if let Err(error) = renew(&context, node).await {
                    tracing::debug!(node, %error, "the node's lease will be renewed at the next beat");
                }
            }
        }
    });
}

async fn renew(context: &Context, node: &str) -> Result<(), Error> {
    let leases = Api::<Lease>::namespaced(context.client.clone(), LEASES);
    let spec = json!({
        "holderIdentity": node,
        "leaseDurationSeconds": LEASE_SECONDS,
        "renewTime": MicroTime(jiff::Timestamp::now()),
    });
    let lease: Lease = object(json!({"metadata": {"name": node, "namespace": LEASES}, "spec": spec}))?;
    let renewed = leases
        .patch(node, &PatchParams::default(), &Patch::Merge(&json!({"spec": spec})))
        .await
        .settled("renewing", &lease)?;
    if renewed.is_none() {
        leases.create(&PostParams::default(), &lease).await.settled("creating", &lease)?;
    }
    Ok(())
}

fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

fn status(cluster: &str, number: usize, port: Option<u16>) -> Value {
    let now = jiff::Timestamp::now().strftime("%FT%TZ").to_string();
    let condition = |kind: &str, value: &str, reason: &str| {
        json!({"type": kind, "status": value, "reason": reason, "message": "The lab's kubelet is running.",
            "lastHeartbeatTime": now, "lastTransitionTime": now})
    };
    let resources = json!({"cpu": "16", "memory": "64Gi", "pods": "500", "ephemeral-storage": "500Gi"});
    let mut status = json!({
        "capacity": resources,
        "allocatable": resources,
        "addresses": [
            {"type": "InternalIP", "address": format!("{}.255.{number}", network(cluster))},
            {"type": "Hostname", "address": format!("{cluster}-node-{number}")},
        ],
        "conditions": [
            condition("Ready", "True", "KubeletReady"),
            condition("MemoryPressure", "False", "KubeletHasSufficientMemory"),
            condition("DiskPressure", "False", "KubeletHasNoDiskPressure"),
            condition("PIDPressure", "False", "KubeletHasSufficientPID"),
        ],
        "nodeInfo": {
            "machineID": "", "systemUUID": "", "bootID": "", "kernelVersion": "lab", "osImage": "Isthmus lab",
            "containerRuntimeVersion": "processes://lab", "kubeletVersion": "v1.33.0-lab",
            "kubeProxyVersion": "", "operatingSystem": "linux", "architecture": architecture(),
        },
    });
    // Without a server of its own it is reached through the lab's API server alone, by no port.
    status["daemonEndpoints"] = json!({"kubeletEndpoint": {"Port": port.unwrap_or(USUAL_PORT)}});
    if port.is_some() {
        status["addresses"] = json!([
            {"type": "InternalIP", "address": format!("{}.255.{number}", network(cluster))},
            {"type": "Hostname", "address": format!("{cluster}-node-{number}")},
            {"type": "ExternalIP", "address": super::server::address().to_string()},
        ]);
        status["declaredFeatures"] = json!([TAKES_WEBSOCKETS]);
    }
    status
}
