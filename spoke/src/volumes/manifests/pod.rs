//! The Pod of a mover.
//!
//! It opts out of injected sidecars, keeps nothing on disk, and runs as root without what root does
//! not need here, or as somebody else where the namespace lets no root in
//! ([`super::super::identity`]).

use isthmus_shared::protocol::{Direction, MOVER_AUDIENCE, VolumeContent};
use isthmus_shared::quantity::Amount;
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

/// What a mover asks for and may take: as the run says, and the defaults for what it leaves out. A
/// default gives way where it would be beyond what the run says of the same resource.
fn resources(options: &MoverOptions) -> Value {
    // Quantities are texts and serialise always.
    let asked = options.resources.as_ref().and_then(|asked| serde_json::to_value(asked).ok());
    let mut resources = asked.unwrap_or_else(|| json!({}));
    for (resource, request, limit) in DEFAULT_RESOURCES {
        let said = |of: &str| resources.pointer(&format!("/{of}/{resource}")).cloned();
        let (said_request, said_limit) = (said("requests"), said("limits"));
        let amount = |value: &Value| Amount::read(value).unwrap_or_default();
        let (request, limit) = (json!(request), json!(limit));
        let request = match (&said_request, &said_limit) {
            (Some(said), _) => said.clone(),
            (None, Some(limit)) if amount(limit) < amount(&request) => limit.clone(),
            (None, _) => request,
        };
        let limit = match said_limit {
            Some(said) => said,
            None if amount(&request) > amount(&limit) => request.clone(),
            None => limit,
        };
        for (of, amount) in [("requests", request), ("limits", limit)] {
            if !resources[of].is_object() {
                resources[of] = Value::Object(Map::new());
            }
            resources[of][resource] = amount;
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
    fn defaults_fill_what_the_run_leaves_out_and_give_way_to_what_it_says() {
        assert_eq!(
            resources(&MoverOptions::default()),
            json!({"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"cpu": "2", "memory": "1Gi"}})
        );
        let small = options(&json!({"resources": {"limits": {"cpu": "50m"}}}));
        assert_eq!(
            resources(&small),
            json!({"requests": {"cpu": "50m", "memory": "256Mi"}, "limits": {"cpu": "50m", "memory": "1Gi"}}),
            "a default request above the limit would be refused"
        );
        let large = options(&json!({"resources": {"requests": {"memory": "2Gi", "example.com/nic": "1"}}}));
        assert_eq!(
            resources(&large),
            json!({"requests": {"cpu": "100m", "memory": "2Gi", "example.com/nic": "1"},
                   "limits": {"cpu": "2", "memory": "2Gi"}})
        );
    }
}
