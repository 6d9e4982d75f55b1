//! The Pod of a mover.
//!
//! It opts out of injected sidecars, keeps nothing on disk, and runs as root without what root does
//! not need here, or as somebody else where the namespace lets no root in
//! ([`super::super::identity`]).

use isthmus_shared::protocol::{Direction, MOVER_AUDIENCE, VolumeContent};
use isthmus_shared::resources::MoverOptions;
use serde_json::{Map, Value, json};

use super::{CONTAINER, MOVER, MoverJob};

/// How long a mover may take to stop, seconds.
const GRACE_SECONDS: u64 = 20;
/// Where the volume's filesystem is mounted.
const FOLDER: &str = "/volume";
/// Where a raw volume's device is.
const DEVICE: &str = "/dev/isthmus-volume";
/// What a mover asks for where the run does not say: resource, request, limit.
const DEFAULT_RESOURCES: [(&str, &str, &str); 2] = [("cpu", "100m", "2"), ("memory", "256Mi", "1Gi")];

/// The spec of a mover's Pod.
pub fn pod_spec(job: &MoverJob<'_>) -> Value {
    let send = job.direction == Direction::Send;
    let way = if send { "send" } else { "receive" };
    let (root, mounted) = match job.content {
        VolumeContent::Filesystem => (FOLDER, "volumeMounts"),
        VolumeContent::Block => (DEVICE, "volumeDevices"),
    };
    let mut container = json!({
        "name": CONTAINER,
        "image": job.movers.image,
        "imagePullPolicy": "IfNotPresent",
        "command": [
            "isthmus-spoke", "mover",
            "--direction", way,
            "--spoke-url", job.movers.endpoint,
            "--token-file", "/var/run/secrets/isthmus/token",
            "--task", job.task.to_string(),
            "--root", root
        ],
        "env": [{"name": "ISTHMUS_SPOKE_CA", "value": job.movers.ca}],
        "resources": resources(job.options),
        "securityContext": job.identity.of_container(job.direction),
        "volumeMounts": [
            {"name": "token", "mountPath": "/var/run/secrets/isthmus", "readOnly": true},
            {"name": "tmp", "mountPath": "/tmp"}
        ],
        "terminationMessagePolicy": "FallbackToLogsOnError"
    });
    let volume = match job.content {
        VolumeContent::Filesystem => json!({"name": "volume", "mountPath": root, "readOnly": send}),
        // A device has no read-only mount: the sender opens it so.
        VolumeContent::Block => json!({"name": "volume", "devicePath": root}),
    };
    match container[mounted].as_array_mut() {
        Some(list) => list.insert(0, volume),
        None => container[mounted] = json!([volume]),
    }
    let mut spec = json!({
        "restartPolicy": "Never",
        "serviceAccountName": MOVER,
        "automountServiceAccountToken": false,
        "enableServiceLinks": false,
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": job.identity.of_pod(),
        "containers": [container],
        "volumes": [
            {"name": "volume", "persistentVolumeClaim": {"claimName": job.claim}},
            {"name": "token", "projected": {"sources": [{"serviceAccountToken": {
                "audience": MOVER_AUDIENCE, "expirationSeconds": 3600, "path": "token"
            }}]}},
            {"name": "tmp", "emptyDir": {"sizeLimit": "64Mi"}}
        ]
    });
    job.placement.write(&mut spec);
    if !job.movers.pull_secrets.is_empty() {
        let secrets = job.movers.pull_secrets.iter().map(|name| json!({"name": name}));
        spec["imagePullSecrets"] = secrets.collect();
    }
    if let Some(class) = &job.options.priority_class_name {
        spec["priorityClassName"] = json!(class);
    }
    spec
}

/// What a mover asks for and may take: as the run says; for processors or memory of which it says
/// nothing at all, the defaults.
pub fn resources(options: &MoverOptions) -> Value {
    // Quantities are texts and serialise always.
    let asked = options.resources.as_ref().and_then(|asked| serde_json::to_value(asked).ok());
    let mut resources = asked.unwrap_or_else(|| json!({}));
    for (resource, request, limit) in DEFAULT_RESOURCES {
        let said = |of: &str| resources.pointer(&format!("/{of}/{resource}")).is_some();
        if said("requests") || said("limits") {
            continue;
        }
        for (of, amount) in [("requests", request), ("limits", limit)] {
            if !resources[of].is_object() {
                resources[of] = Value::Object(Map::new());
            }
            resources[of][resource] = json!(amount);
        }
    }
    resources
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(value: &Value) -> MoverOptions {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn what_the_run_says_of_a_resource_takes_the_place_of_both_its_defaults() {
        assert_eq!(
            resources(&MoverOptions::default()),
            json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}})
        );
        let small = options(&json!({"resources": {"limits": {"cpu": "50m"}}}));
        assert_eq!(
            resources(&small),
            json!({"requests": {"memory": "256Mi"}, "limits": {"cpu": "50m", "memory": "1Gi"}}),
            "a default request above the limit would be refused"
        );
        let all = json!({"requests": {"cpu": "1", "memory": "1Gi", "example.com/nic": "1"},
                         "limits": {"example.com/nic": "1"}});
        assert_eq!(resources(&options(&json!({"resources": all}))), all);
    }
}
