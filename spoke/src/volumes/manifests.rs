//! What a mover consists of in the application's namespace: a Job, a service account without any
//! rights, and a network policy. Pure: values in, JSON out.
//!
//! None of it holds a secret: the Job's one token is projected into its Pod by the kubelet, good
//! for the spoke alone.

use isthmus_shared::protocol::{Direction, MOVER_AUDIENCE, TaskId};
use isthmus_shared::resources::{COMPONENT, COMPONENT_MOVER, TASK};
use serde_json::{Value, json};

use crate::cluster::{annotation, label};

/// The service account and the network policy.
pub const MOVER: &str = "isthmus-mover";
/// Label: the migration that a Job belongs to.
pub const MIGRATION: &str = "isthmus.dev/migration";
/// Annotation on a Job: its mover's result, as JSON.
pub const RESULT: &str = "isthmus.dev/result";
/// Annotation on a Job: which attempt at its task it is, from 1.
pub const ATTEMPT: &str = "isthmus.dev/attempt";
/// The container.
pub const CONTAINER: &str = "mover";
/// A finished Job whose run never cleaned up goes after this long, seconds.
const TTL_SECONDS: u64 = 7 * 24 * 3600;
/// How long a mover may take to stop, seconds.
const GRACE_SECONDS: u64 = 20;

/// What a mover's Job is made of.
#[derive(Clone, Debug)]
pub struct MoverJob<'a> {
    /// The claim's namespace.
    pub namespace: &'a str,
    /// The claim.
    pub claim: &'a str,
    /// Which way.
    pub direction: Direction,
    /// The task.
    pub task: &'a TaskId,
    /// The migration's uid.
    pub migration: &'a str,
    /// The attempt, from 1.
    pub attempt: u32,
    /// The image.
    pub image: &'a str,
    /// The spoke's URL.
    pub spoke_url: &'a str,
    /// The CA of the spoke's endpoint, PEM.
    pub spoke_ca: &'a str,
    /// The node that it must run on.
    pub node: Option<&'a str>,
}

/// The name of a task's Job: short, and the same each time.
pub fn job_name(task: &TaskId, direction: Direction) -> String {
    let way = match direction {
        Direction::Send => "send",
        Direction::Receive => "recv",
    };
    let hash = blake3::hash(task.to_string().as_bytes()).to_hex();
    format!("isthmus-{way}-{}", &hash[..12])
}

/// Whether an object is of a mover.
pub fn is_mover(object: &Value) -> bool {
    label(object, COMPONENT) == Some(COMPONENT_MOVER)
}

/// The attempt that a Job is.
pub fn attempt_of(job: &Value) -> u32 {
    annotation(job, ATTEMPT).and_then(|text| text.parse().ok()).unwrap_or(1)
}

fn labels(migration: &str) -> Value {
    json!({
        COMPONENT: COMPONENT_MOVER,
        MIGRATION: migration,
        // Meshes that choose by label rather than by annotation.
        "sidecar.istio.io/inject": "false",
        "app.kubernetes.io/name": MOVER,
        "app.kubernetes.io/managed-by": "isthmus"
    })
}

/// The Job.
pub fn mover_job(job: &MoverJob<'_>) -> Value {
    let labels = labels(job.migration);
    json!({
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {
            "name": job_name(job.task, job.direction),
            "namespace": job.namespace,
            "labels": labels,
            "annotations": {TASK: job.task.to_string(), ATTEMPT: job.attempt.to_string()}
        },
        "spec": {
            // Attempts are counted by us, who know what the last one came to.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": {
                        "sidecar.istio.io/inject": "false",
                        "linkerd.io/inject": "disabled",
                        "kuma.io/sidecar-injection": "disabled",
                        // A node that is to be emptied by the autoscaler waits for the volume.
                        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
                        TASK: job.task.to_string()
                    }
                },
                "spec": pod_spec(job)
            }
        }
    })
}

fn pod_spec(job: &MoverJob<'_>) -> Value {
    let send = job.direction == Direction::Send;
    let way = if send { "send" } else { "receive" };
    let mut spec = json!({
        "restartPolicy": "Never",
        "serviceAccountName": MOVER,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsUser": 0,
            "runAsGroup": 0,
            "seccompProfile": {"type": "RuntimeDefault"}
        },
        "containers": [{
            "name": CONTAINER,
            "image": job.image,
            "imagePullPolicy": "IfNotPresent",
            "command": [
                "isthmus-spoke", "mover",
                "--direction", way,
                "--spoke-url", job.spoke_url,
                "--token-file", "/var/run/secrets/isthmus/token",
                "--task", job.task.to_string(),
                "--root", "/volume"
            ],
            "env": [{"name": "ISTHMUS_SPOKE_CA", "value": job.spoke_ca}],
            "resources": {
                "requests": {"cpu": "100m", "memory": "256Mi"},
                "limits": {"cpu": "2", "memory": "1Gi"}
            },
            "securityContext": security_context(send),
            "volumeMounts": [
                {"name": "volume", "mountPath": "/volume", "readOnly": send},
                {"name": "token", "mountPath": "/var/run/secrets/isthmus", "readOnly": true},
                {"name": "tmp", "mountPath": "/tmp"}
            ],
            "terminationMessagePolicy": "FallbackToLogsOnError"
        }],
        "volumes": [
            {"name": "volume", "persistentVolumeClaim": {"claimName": job.claim}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {
                "audience": MOVER_AUDIENCE, "expirationSeconds": 3600, "path": "token"
            }}]}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}
        ]
    });
    if let Some(node) = job.node {
        // Where the volume is attached is where it must be read, whatever the node's taints are.
        spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}]
        }}});
        spec["tolerations"] = json!([{"operator": "Exists"}]);
    }
    spec
}

/// Root without what root does not need here; all of it is within the level `baseline`.
fn security_context(send: bool) -> Value {
    let capabilities: &[&str] = if send {
        // To read files of every owner and mode.
        &["DAC_OVERRIDE"]
    } else {
        // And to set owners, modes, device nodes and file capabilities.
        &["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "MKNOD", "SETFCAP"]
    };
    json!({
        "allowPrivilegeEscalation": false,
        "readOnlyRootFilesystem": true,
        "capabilities": {"drop": ["ALL"], "add": capabilities}
    })
}

/// A Pod as the Job would make it, to be tried by a dry run. It stands under the default service
/// account, because the mover's own is not there yet, and without the volume.
pub fn trial_pod(namespace: &str, image: &str) -> Value {
    let task = TaskId { record: "trial".to_owned(), step: "Preflight".to_owned(), item: None };
    let job = MoverJob {
        namespace,
        claim: "trial",
        direction: Direction::Receive,
        task: &task,
        migration: "trial",
        attempt: 1,
        image,
        spoke_url: "https://trial",
        spoke_ca: "",
        node: None,
    };
    let mut spec = pod_spec(&job);
    spec["serviceAccountName"] = json!("default");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "isthmus-trial", "namespace": namespace, "labels": labels("trial")},
        "spec": spec
    })
}

/// The service account, which may do nothing and has no token of its own.
pub fn service_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": MOVER, "namespace": namespace, "labels": {COMPONENT: COMPONENT_MOVER}},
        "automountServiceAccountToken": false
    })
}

/// Where movers may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address, if it is one; a name may be any address.
    pub address: Option<std::net::IpAddr>,
    /// The ports.
    pub ports: Vec<u16>,
}

/// The network policy: movers reach DNS, the spoke and the store; nothing reaches them.
pub fn network_policy(namespace: &str, peers: &[Peer]) -> Value {
    let port = |protocol: &str, port: u16| json!({"protocol": protocol, "port": port});
    // OpenShift's DNS pods listen on 5353; a policy sees the port behind the Service.
    let mut egress = vec![json!({"ports": [
        port("UDP", 53), port("TCP", 53), port("UDP", 5353), port("TCP", 5353)
    ]})];
    for peer in peers {
        let mut rule = json!({"ports": peer.ports.iter().map(|p| port("TCP", *p)).collect::<Vec<_>>()});
        if let Some(address) = peer.address {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            rule["to"] = json!([{"ipBlock": {"cidr": format!("{address}/{bits}")}}]);
        }
        egress.push(rule);
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": MOVER, "namespace": namespace, "labels": {COMPONENT: COMPONENT_MOVER}},
        "spec": {
            "podSelector": {"matchLabels": {COMPONENT: COMPONENT_MOVER}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": egress
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::text;

    fn job(direction: Direction, node: Option<&str>) -> Value {
        let task: TaskId = "1234/FinalVolumes/send.abcd".parse().unwrap();
        mover_job(&MoverJob {
            namespace: "cms",
            claim: "data",
            direction,
            task: &task,
            migration: "1234",
            attempt: 2,
            image: "isthmus",
            spoke_url: "https://spoke:8444",
            spoke_ca: "PEM",
            node,
        })
    }

    #[test]
    fn the_sender_reads_only_and_stays_on_its_node() {
        let job = job(Direction::Send, Some("node-1"));
        let spec = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["readOnly"], true);
        assert_eq!(spec["containers"][0]["securityContext"]["capabilities"]["add"], json!(["DAC_OVERRIDE"]));
        assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
        let term = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(term["nodeSelectorTerms"][0]["matchFields"][0]["values"], json!(["node-1"]));
        assert_eq!(attempt_of(&job), 2);
        assert!(is_mover(&job));
    }

    #[test]
    fn the_receiver_writes_and_goes_where_the_scheduler_puts_it() {
        let job = job(Direction::Receive, None);
        let spec = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["readOnly"], false);
        assert!(spec.get("affinity").is_none() && spec.get("tolerations").is_none());
        assert!(text(&job, "/metadata/name").starts_with("isthmus-recv-"));
    }

    #[test]
    fn no_capability_is_beyond_the_baseline_level() {
        let baseline =
            ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP", "SETGID", "SETUID"];
        for direction in [Direction::Send, Direction::Receive] {
            let job = job(direction, None);
            let added =
                job.pointer("/spec/template/spec/containers/0/securityContext/capabilities/add").unwrap();
            for capability in added.as_array().unwrap() {
                assert!(baseline.contains(&capability.as_str().unwrap()), "{capability}");
            }
        }
    }

    #[test]
    fn the_only_token_is_projected_for_the_spoke_alone() {
        let job = job(Direction::Send, None);
        let spec = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["automountServiceAccountToken"], false);
        let source = &spec["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(source["audience"], MOVER_AUDIENCE);
        assert!(!job.to_string().contains("secretKeyRef"));
    }

    #[test]
    fn the_policy_lets_movers_out_to_dns_spoke_and_store_only() {
        let spoke = Peer { address: Some("10.0.0.1".parse().unwrap()), ports: vec![8444] };
        let store = Peer { address: None, ports: vec![443] };
        let policy = network_policy("cms", &[spoke, store]);
        let egress = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(egress.len(), 3);
        assert_eq!(egress[1]["to"][0]["ipBlock"]["cidr"], "10.0.0.1/32");
        assert!(egress[2].get("to").is_none());
        assert!(policy["spec"].get("ingress").is_none());
    }

    #[test]
    fn a_job_has_the_same_short_name_each_time() {
        let task: TaskId = "1234/FinalVolumes/send.abcd".parse().unwrap();
        assert_eq!(job_name(&task, Direction::Send), job_name(&task, Direction::Send));
        assert!(job_name(&task, Direction::Send).len() < 30);
    }
}
