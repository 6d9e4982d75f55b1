//! Pod Security, judged here for namespaces that are not there yet: their labels are known, and no
//! server can be asked. Pure.
//!
//! The rules are those of kubernetes.io/docs/concepts/security/pod-security-standards (1.33);
//! where a namespace is there, its API server's word counts instead.

use serde_json::{Map, Value};

use crate::cluster::{array, text};
use crate::volumes::ENFORCE;

/// Capabilities that `baseline` lets a container add.
const BASELINE_CAPABILITIES: &[&str] = &[
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];
/// Volumes that `restricted` allows.
const RESTRICTED_VOLUMES: &[&str] = &[
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "image",
    "persistentVolumeClaim",
    "projected",
    "secret",
];
/// Sysctls that `baseline` allows.
const SAFE_SYSCTLS: &[&str] = &[
    "kernel.shm_rmid_forced",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.ip_unprivileged_port_start",
    "net.ipv4.tcp_syncookies",
    "net.ipv4.ping_group_range",
    "net.ipv4.ip_local_reserved_ports",
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
    "net.ipv4.tcp_rmem",
    "net.ipv4.tcp_wmem",
];
/// SELinux types that `baseline` allows.
const SELINUX_TYPES: &[&str] =
    &["", "container_t", "container_init_t", "container_kvm_t", "container_engine_t"];

/// The level that a namespace's labels enforce, if it is one that refuses anything.
pub fn enforced(labels: &Map<String, Value>) -> Option<&str> {
    let level = labels.get(ENFORCE)?.as_str()?;
    matches!(level, "baseline" | "restricted").then_some(level)
}

/// What a level has against the Pods of a template.
pub fn violations(level: &str, template: &Value) -> Vec<String> {
    let spec = template.get("spec").unwrap_or(&Value::Null);
    let mut found = baseline(spec);
    if level == "restricted" {
        found.extend(restricted(spec));
    }
    found.dedup();
    found
}

fn containers(spec: &Value) -> impl Iterator<Item = &Value> {
    ["/initContainers", "/containers", "/ephemeralContainers"].into_iter().flat_map(|list| array(spec, list))
}

fn flag(value: &Value, pointer: &str) -> Option<bool> {
    value.pointer(pointer).and_then(Value::as_bool)
}

fn baseline(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for field in ["hostNetwork", "hostPID", "hostIPC"] {
        if flag(spec, &format!("/{field}")) == Some(true) {
            found.push(format!("{field} is set"));
        }
    }
    for volume in array(spec, "/volumes").iter().filter(|volume| volume.get("hostPath").is_some()) {
        found.push(format!("volume {} is a hostPath", text(volume, "/name")));
    }
    for sysctl in array(spec, "/securityContext/sysctls").iter().map(|sysctl| text(sysctl, "/name")) {
        if !SAFE_SYSCTLS.contains(&sysctl) {
            found.push(format!("sysctl {sysctl} is set"));
        }
    }
    contexts(spec, "the Pod", &mut found);
    for container in containers(spec) {
        let name = text(container, "/name");
        let whose = format!("container {name}");
        contexts(container, &whose, &mut found);
        if flag(container, "/securityContext/privileged") == Some(true) {
            found.push(format!("{whose} is privileged"));
        }
        for added in array(container, "/securityContext/capabilities/add").iter().filter_map(Value::as_str) {
            if !BASELINE_CAPABILITIES.contains(&added) {
                found.push(format!("{whose} adds the capability {added}"));
            }
        }
        let port = |port: &&Value| port.get("hostPort").and_then(Value::as_i64).is_some_and(|port| port != 0);
        if array(container, "/ports").iter().any(|p| port(&p)) {
            found.push(format!("{whose} has a hostPort"));
        }
        if !matches!(text(container, "/securityContext/procMount"), "" | "Default") {
            found.push(format!("{whose} has a procMount of its own"));
        }
    }
    found
}

/// What Pods and containers both may say in their security contexts.
fn contexts(value: &Value, whose: &str, found: &mut Vec<String>) {
    if text(value, "/securityContext/seccompProfile/type") == "Unconfined" {
        found.push(format!("the seccomp profile of {whose} is Unconfined"));
    }
    if text(value, "/securityContext/appArmorProfile/type") == "Unconfined" {
        found.push(format!("the AppArmor profile of {whose} is Unconfined"));
    }
    if flag(value, "/securityContext/windowsOptions/hostProcess") == Some(true) {
        found.push(format!("{whose} is a host process"));
    }
    let selinux = |field: &str| text(value, &format!("/securityContext/seLinuxOptions/{field}")).to_owned();
    if !SELINUX_TYPES.contains(&selinux("type").as_str())
        || !selinux("user").is_empty()
        || !selinux("role").is_empty()
    {
        found.push(format!("{whose} sets SELinux options"));
    }
}

fn restricted(spec: &Value) -> Vec<String> {
    let mut found = Vec::new();
    for volume in array(spec, "/volumes") {
        let kinds = volume.as_object().into_iter().flatten().map(|(key, _)| key.as_str());
        let other = kinds
            .filter(|key| *key != "name")
            .any(|kind| !RESTRICTED_VOLUMES.contains(&kind) && kind != "hostPath");
        if other {
            found.push(format!("volume {} is of a kind that it does not allow", text(volume, "/name")));
        }
    }
    let of_pod = |pointer: &str| spec.pointer(&format!("/securityContext/{pointer}")).cloned();
    for container in containers(spec) {
        let whose = format!("container {}", text(container, "/name"));
        let own = |pointer: &str| {
            container.pointer(&format!("/securityContext/{pointer}")).cloned().or_else(|| of_pod(pointer))
        };
        let has = |pointer: &str| container.pointer(&format!("/securityContext/{pointer}"));
        if has("allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false) {
            found.push(format!("{whose} does not set allowPrivilegeEscalation=false"));
        }
        if own("runAsNonRoot") != Some(Value::from(true)) {
            found.push(format!("{whose} does not set runAsNonRoot=true"));
        }
        if own("runAsUser") == Some(Value::from(0)) {
            found.push(format!("{whose} runs as user 0"));
        }
        let seccomp = own("seccompProfile/type").and_then(|kind| kind.as_str().map(str::to_owned));
        if !matches!(seccomp.as_deref(), Some("RuntimeDefault" | "Localhost")) {
            found.push(format!("{whose} has no seccomp profile RuntimeDefault or Localhost"));
        }
        if !array(container, "/securityContext/capabilities/drop").iter().any(|dropped| dropped == "ALL") {
            found.push(format!("{whose} does not drop the capabilities ALL"));
        }
        let added = array(container, "/securityContext/capabilities/add").iter().filter_map(Value::as_str);
        for added in
            added.filter(|added| *added != "NET_BIND_SERVICE" && BASELINE_CAPABILITIES.contains(added))
        {
            found.push(format!("{whose} adds the capability {added}"));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn labels(level: &str) -> Map<String, Value> {
        json!({ENFORCE: level}).as_object().unwrap().clone()
    }

    fn of(level: &str, spec: &Value) -> Vec<String> {
        violations(level, &json!({"spec": spec}))
    }

    #[test]
    fn only_levels_that_refuse_something_are_enforced() {
        assert_eq!(enforced(&labels("restricted")), Some("restricted"));
        assert_eq!(enforced(&labels("privileged")), None);
        assert_eq!(enforced(&Map::new()), None);
    }

    #[test]
    fn baseline_refuses_what_reaches_into_the_node() {
        let spec = json!({"hostNetwork": true, "volumes": [{"name": "h", "hostPath": {"path": "/"}}],
            "securityContext": {"sysctls": [{"name": "kernel.msgmax"}], "seccompProfile": {"type": "Unconfined"}},
            "containers": [{"name": "c", "ports": [{"hostPort": 80}], "securityContext": {
                "privileged": true, "procMount": "Unmasked", "seLinuxOptions": {"type": "spc_t"},
                "capabilities": {"add": ["SYS_ADMIN", "CHOWN"]}}}]});
        assert_eq!(of("baseline", &spec).len(), 9, "{:?}", of("baseline", &spec));
        assert!(of("baseline", &json!({"containers": [{"name": "c"}]})).is_empty());
    }

    #[test]
    fn restricted_wants_a_pod_to_give_up_what_it_need_not_have() {
        let plain = json!({"containers": [{"name": "c"}]});
        assert_eq!(of("restricted", &plain).len(), 4, "{:?}", of("restricted", &plain));
        let good = json!({
            "securityContext": {"runAsNonRoot": true, "seccompProfile": {"type": "RuntimeDefault"}},
            "volumes": [{"name": "d", "persistentVolumeClaim": {"claimName": "d"}}],
            "containers": [{"name": "c", "securityContext": {"allowPrivilegeEscalation": false,
                "capabilities": {"drop": ["ALL"], "add": ["NET_BIND_SERVICE"]}}}]});
        assert!(of("restricted", &good).is_empty(), "{:?}", of("restricted", &good));
        let mut root = good.clone();
        root["securityContext"]["runAsUser"] = json!(0);
        root["volumes"][0] = json!({"name": "n", "nfs": {}});
        assert_eq!(of("restricted", &root).len(), 2);
    }
}
