//! What a mover consists of in the application's namespace. Pure: values in, JSON out.
//!
//! ```text
//!   the Job, and what is written on it
//!    ├─ pod      its Pod
//!    └─ policy   the service account and the network policy beside it
//! ```
//!
//! None of it holds a secret: the Job's one token is projected into its Pod by the kubelet, good
//! for the spoke alone.

mod pod;
mod policy;

use isthmus_shared::protocol::{Direction, TaskId, VolumeContent};
use isthmus_shared::resources::{COMPONENT, COMPONENT_MOVER, MoverOptions, TASK};
use serde_json::{Value, json};

use pod::pod_spec;
pub use policy::{Peer, network_policy, service_account};

use super::identity::Identity;
use super::placement::Placement;
use crate::cluster::{annotation, label};
use crate::own_pods;
use crate::serve::MoverSettings;

/// The service account and the network policy.
pub const MOVER: &str = "isthmus-mover";
/// Label: the migration that a Job belongs to.
pub const MIGRATION: &str = "isthmus.dev/migration";
/// Annotation on a Job: its mover's result, as JSON.
pub const RESULT: &str = "isthmus.dev/result";
/// Annotation on a Job: which attempt at its task it is, from 1.
pub const ATTEMPT: &str = "isthmus.dev/attempt";
/// Annotation on a Job: as which user and group its mover runs.
pub const RUNS_AS: &str = "isthmus.dev/runs-as";
/// Annotation on a Job: what it asks of its node, shortened.
pub const PLACE: &str = "isthmus.dev/place";
/// The container.
pub const CONTAINER: &str = "mover";
/// A finished Job whose run never cleaned up goes after this long, seconds.
const TTL_SECONDS: u64 = 7 * 24 * 3600;

/// What a mover's Job is made of.
#[derive(Clone, Debug)]
pub struct MoverJob<'a> {
    /// The claim's namespace.
    pub namespace: &'a str,
    /// The claim.
    pub claim: &'a str,
    /// What the volume holds.
    pub content: VolumeContent,
    /// Which way.
    pub direction: Direction,
    /// The task.
    pub task: &'a TaskId,
    /// The migration's uid.
    pub migration: &'a str,
    /// The attempt, from 1.
    pub attempt: u32,
    /// How movers are started.
    pub movers: &'a MoverSettings,
    /// What the run says of its movers.
    pub options: &'a MoverOptions,
    /// Where it may run.
    pub placement: &'a Placement,
    /// As whom it runs.
    pub identity: &'a Identity,
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

/// Whether a Job's mover runs as an ordinary user, and as which.
pub fn ordinary_user(job: &Value) -> Option<&str> {
    annotation(job, RUNS_AS)?.split(':').next().filter(|user| *user != "0")
}

/// Whether a Job asks something else of its node than this placement would.
pub fn is_elsewhere(job: &Value, placement: &Placement) -> bool {
    annotation(job, PLACE).is_some_and(|mark| mark != placement.mark())
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
            "annotations": {
                TASK: job.task.to_string(),
                ATTEMPT: job.attempt.to_string(),
                RUNS_AS: job.identity.number(),
                PLACE: job.placement.mark()
            }
        },
        "spec": {
            // Attempts are counted by us, who know what the last one came to.
            "backoffLimit": 0,
            "ttlSecondsAfterFinished": TTL_SECONDS,
            "template": {
                "metadata": {
                    "labels": labels,
                    "annotations": own_pods::annotations(TASK, &job.task.to_string())
                },
                "spec": pod_spec(job)
            }
        }
    })
}

/// A Pod as the Job would make it, to be tried by a dry run. It stands under the default service
/// account, because the mover's own is not there yet, and without the priority class, which is
/// looked at by its name.
pub fn trial_pod(
    namespace: &str,
    movers: &MoverSettings,
    options: &MoverOptions,
    direction: Direction,
    identity: &Identity,
) -> Value {
    let task = TaskId { record: "trial".to_owned(), step: "Preflight".to_owned(), item: None };
    let job = MoverJob {
        namespace,
        claim: "trial",
        content: VolumeContent::Filesystem,
        direction,
        task: &task,
        migration: "trial",
        attempt: 1,
        movers,
        options: &MoverOptions { priority_class_name: None, ..options.clone() },
        placement: &Placement::asked(options),
        identity,
    };
    let mut spec = pod_spec(&job);
    spec["serviceAccountName"] = json!("default");
    json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": "isthmus-trial", "namespace": namespace, "labels": labels("trial")},
        "spec": spec
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use isthmus_shared::protocol::MOVER_AUDIENCE;

    use super::*;
    use crate::cluster::text;

    fn job_with(
        direction: Direction,
        content: VolumeContent,
        options: &MoverOptions,
        placement: &Placement,
    ) -> Value {
        let task: TaskId = "1234/FinalVolumes/send.abcd".parse().unwrap();
        mover_job(&MoverJob {
            namespace: "cms",
            claim: "data",
            content,
            direction,
            task: &task,
            migration: "1234",
            attempt: 2,
            movers: &MoverSettings {
                image: "isthmus".to_owned(),
                pull_secrets: vec!["registry".to_owned()],
                node_selector: BTreeMap::new(),
                tolerations: Vec::new(),
                endpoint: "https://spoke:8444".to_owned(),
                port: 8444,
                ca: "PEM".to_owned(),
            },
            options,
            placement,
            identity: &Identity::root(options),
        })
    }

    fn on_node(node: &str) -> Placement {
        Placement {
            node: Some(node.to_owned()),
            tolerations: vec![json!({"operator": "Exists"})],
            ..Placement::default()
        }
    }

    fn job(direction: Direction, placement: &Placement) -> Value {
        job_with(direction, VolumeContent::Filesystem, &MoverOptions::default(), placement)
    }

    #[test]
    fn the_sender_reads_only_and_stays_on_its_node() {
        let job = job(Direction::Send, &on_node("node-1"));
        let spec = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["readOnly"], true);
        assert_eq!(spec["containers"][0]["securityContext"]["capabilities"]["add"], json!(["DAC_OVERRIDE"]));
        assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
        let term = &spec["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"];
        assert_eq!(term["nodeSelectorTerms"][0]["matchFields"][0]["values"], json!(["node-1"]));
        assert_eq!(spec["imagePullSecrets"], json!([{"name": "registry"}]));
        assert_eq!(attempt_of(&job), 2);
        assert_eq!(ordinary_user(&job), None);
        assert!(is_mover(&job));
    }

    #[test]
    fn a_job_that_would_be_placed_otherwise_by_now_is_known() {
        let job = job(Direction::Send, &on_node("node-1"));
        assert!(!is_elsewhere(&job, &on_node("node-1")));
        assert!(is_elsewhere(&job, &on_node("node-2")) && is_elsewhere(&job, &Placement::default()));
        assert!(!is_elsewhere(&json!({}), &on_node("node-2")), "an older spoke's Job does not say");
    }

    #[test]
    fn the_receiver_writes_and_goes_where_the_scheduler_puts_it() {
        let job = job(Direction::Receive, &Placement::default());
        let spec = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["containers"][0]["volumeMounts"][0]["readOnly"], false);
        assert!(spec.get("affinity").is_none() && spec.get("tolerations").is_none());
        assert!(text(&job, "/metadata/name").starts_with("isthmus-recv-"));
    }

    #[test]
    fn a_raw_volume_is_a_device_and_no_mount() {
        for direction in [Direction::Send, Direction::Receive] {
            let options = MoverOptions::default();
            let job = job_with(direction, VolumeContent::Block, &options, &Placement::default());
            let container = job.pointer("/spec/template/spec/containers/0").unwrap();
            assert_eq!(
                container["volumeDevices"],
                json!([{"name": "volume", "devicePath": "/dev/isthmus-volume"}])
            );
            let mounts = container["volumeMounts"].as_array().unwrap();
            assert!(mounts.iter().all(|mount| mount["name"] != "volume"));
            let command = container["command"].as_array().unwrap();
            assert_eq!(command.last().unwrap(), "/dev/isthmus-volume");
        }
    }

    #[test]
    fn the_runs_options_are_in_the_job_of_either_side() {
        let options: MoverOptions = serde_json::from_value(json!({
            "resources": {"requests": {"cpu": "1"}, "limits": {"cpu": "4"}}, "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "db", "operator": "Exists"}], "priorityClassName": "movers"
        }))
        .unwrap();
        for direction in [Direction::Send, Direction::Receive] {
            let placement = Placement::asked(&options);
            let job = job_with(direction, VolumeContent::Filesystem, &options, &placement);
            let spec = job.pointer("/spec/template/spec").unwrap();
            assert_eq!(spec["priorityClassName"], "movers");
            assert_eq!(spec["nodeSelector"], json!({"disk": "fast"}));
            assert_eq!(spec["tolerations"], json!([{"key": "db", "operator": "Exists"}]));
            assert_eq!(spec["containers"][0]["resources"]["limits"], json!({"cpu": "4", "memory": "1Gi"}));
        }
    }

    #[test]
    fn no_capability_is_beyond_the_baseline_level() {
        let baseline =
            ["CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD", "SETFCAP", "SETGID", "SETUID"];
        for direction in [Direction::Send, Direction::Receive] {
            let job = job(direction, &Placement::default());
            let added =
                job.pointer("/spec/template/spec/containers/0/securityContext/capabilities/add").unwrap();
            for capability in added.as_array().unwrap() {
                assert!(baseline.contains(&capability.as_str().unwrap()), "{capability}");
            }
        }
    }

    #[test]
    fn the_only_token_is_projected_for_the_spoke_alone() {
        let job = job(Direction::Send, &Placement::default());
        let spec = job.pointer("/spec/template/spec").unwrap();
        assert_eq!(spec["automountServiceAccountToken"], false);
        let source = &spec["volumes"][1]["projected"]["sources"][0]["serviceAccountToken"];
        assert_eq!(source["audience"], MOVER_AUDIENCE);
        assert!(!job.to_string().contains("secretKeyRef"));
    }

    #[test]
    fn a_job_has_the_same_short_name_each_time() {
        let task: TaskId = "1234/FinalVolumes/send.abcd".parse().unwrap();
        assert_eq!(job_name(&task, Direction::Send), job_name(&task, Direction::Send));
        assert!(job_name(&task, Direction::Send).len() < 30);
    }
}
