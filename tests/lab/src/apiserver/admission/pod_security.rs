//! The PodSecurity plugin: a namespace's label says which standard its pods must meet.

use serde_json::Value;

use crate::apiserver::json::{at, list, text};

const LABEL: &str = "pod-security.kubernetes.io/";
const BASELINE_CAPABILITIES: [&str; 13] = [
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
const RESTRICTED_VOLUMES: [&str; 9] = [
    "configMap",
    "csi",
    "downwardAPI",
    "emptyDir",
    "ephemeral",
    "persistentVolumeClaim",
    "projected",
    "secret",
    "image",
];
const SAFE_SYSCTLS: [&str; 10] = [
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
];

/// What a namespace asks for in a mode (`enforce`, `warn`, `audit`), as `level:version`, and what of
/// it the pod violates.
pub fn violations(namespace: &Value, mode: &str, spec: &Value) -> Option<(String, String)> {
    let label = |suffix: &str| text(namespace, &["metadata", "labels", &format!("{LABEL}{mode}{suffix}")]);
    let level = label("");
    let version = match label("-version") {
        "" => "latest",
        version => version,
    };
    let found = match level {
        "baseline" => baseline(spec, false),
        "restricted" => baseline(spec, true),
        _ => return None,
    };
    (!found.is_empty()).then(|| (format!("{level}:{version}"), found.join(", ")))
}

fn containers(spec: &Value) -> Vec<&Value> {
    ["initContainers", "containers", "ephemeralContainers"]
        .iter()
        .flat_map(|kind| list(spec, &[kind]))
        .collect()
}

/// `container "a"` or `containers "a", "b"`, with the verb that goes with it.
fn told(names: &[&str]) -> String {
    let quoted: Vec<String> = names.iter().map(|n| format!("{n:?}")).collect();
    format!("{} {}", if names.len() == 1 { "container" } else { "containers" }, quoted.join(", "))
}

fn bad(spec: &Value, test: impl Fn(&Value) -> bool) -> Vec<&str> {
    containers(spec).into_iter().filter(|c| test(c)).map(|c| text(c, &["name"])).collect()
}

fn baseline(spec: &Value, restricted: bool) -> Vec<String> {
    let mut found = Vec::new();
    let hosts: Vec<String> = ["hostNetwork", "hostPID", "hostIPC"]
        .iter()
        .filter(|field| spec[**field] == Value::Bool(true))
        .map(|field| format!("{field}=true"))
        .collect();
    if !hosts.is_empty() {
        found.push(format!("host namespaces ({})", hosts.join(", ")));
    }
    let ports: Vec<String> = containers(spec)
        .into_iter()
        .flat_map(|c| list(c, &["ports"]))
        .filter_map(|p| p["hostPort"].as_i64().filter(|n| *n != 0))
        .map(|n| n.to_string())
        .collect();
    if !ports.is_empty() {
        let names =
            bad(spec, |c| list(c, &["ports"]).iter().any(|p| p["hostPort"].as_i64().is_some_and(|n| n != 0)));
        let (verb, noun) = (
            if names.len() == 1 { "uses" } else { "use" },
            if ports.len() == 1 { "hostPort" } else { "hostPorts" },
        );
        found.push(format!("hostPort ({} {verb} {noun} {})", told(&names), ports.join(", ")));
    }
    let host_paths: Vec<String> = list(spec, &["volumes"])
        .iter()
        .filter(|v| v.get("hostPath").is_some())
        .map(|v| format!("{:?}", text(v, &["name"])))
        .collect();
    // The restricted standard says it of all its volume types at once.
    if !host_paths.is_empty() && !restricted {
        let noun = if host_paths.len() == 1 { "volume" } else { "volumes" };
        found.push(format!("hostPath volumes ({noun} {})", host_paths.join(", ")));
    }
    let privileged = bad(spec, |c| at(c, &["securityContext", "privileged"]) == &Value::Bool(true));
    if !privileged.is_empty() {
        found
            .push(format!("privileged ({} must not set securityContext.privileged=true)", told(&privileged)));
    }
    let seccomp =
        |holder: &Value| text(holder, &["securityContext", "seccompProfile", "type"]) == "Unconfined";
    let unconfined = bad(spec, seccomp);
    if !unconfined.is_empty() && !restricted {
        found.push(format!(
            "seccompProfile ({} must not set securityContext.seccompProfile.type to \"Unconfined\")",
            told(&unconfined)
        ));
    }
    if seccomp(spec) && !restricted {
        found.push(
            "seccompProfile (pod must not set securityContext.seccompProfile.type to \"Unconfined\")"
                .to_owned(),
        );
    }
    let sysctls: Vec<&str> = list(spec, &["securityContext", "sysctls"])
        .iter()
        .map(|s| text(s, &["name"]))
        .filter(|n| !SAFE_SYSCTLS.contains(n))
        .collect();
    if !sysctls.is_empty() {
        found.push(format!("forbidden sysctls ({})", sysctls.join(", ")));
    }
    let proc_mount = bad(spec, |c| !matches!(text(c, &["securityContext", "procMount"]), "" | "Default"));
    if !proc_mount.is_empty() {
        found.push(format!(
            "procMount ({} must not set securityContext.procMount to \"Unmasked\")",
            told(&proc_mount)
        ));
    }
    if restricted {
        self::restricted(spec, &mut found);
    } else {
        let extra = |c: &Value| -> Vec<String> {
            list(c, &["securityContext", "capabilities", "add"])
                .iter()
                .filter_map(Value::as_str)
                .filter(|cap| !BASELINE_CAPABILITIES.contains(cap))
                .map(|cap| format!("{cap:?}"))
                .collect()
        };
        let names = bad(spec, |c| !extra(c).is_empty());
        if !names.is_empty() {
            let mut added: Vec<String> = containers(spec).into_iter().flat_map(extra).collect();
            added.sort();
            added.dedup();
            found.push(format!(
                "non-default capabilities ({} must not include {} in securityContext.capabilities.add)",
                told(&names),
                added.join(", ")
            ));
        }
    }
    found
}

fn restricted(spec: &Value, found: &mut Vec<String>) {
    let escalating =
        bad(spec, |c| at(c, &["securityContext", "allowPrivilegeEscalation"]) != &Value::Bool(false));
    if !escalating.is_empty() {
        found.push(format!(
            "allowPrivilegeEscalation != false ({} must set securityContext.allowPrivilegeEscalation=false)",
            told(&escalating)
        ));
    }
    let drops_all =
        |c: &Value| list(c, &["securityContext", "capabilities", "drop"]).iter().any(|d| d == "ALL");
    let keeping = bad(spec, |c| !drops_all(c));
    let adds = |c: &Value| -> Vec<String> {
        list(c, &["securityContext", "capabilities", "add"])
            .iter()
            .filter_map(Value::as_str)
            .filter(|cap| *cap != "NET_BIND_SERVICE")
            .map(|cap| format!("{cap:?}"))
            .collect()
    };
    let adding = bad(spec, |c| !adds(c).is_empty());
    let mut capabilities = Vec::new();
    if !keeping.is_empty() {
        capabilities.push(format!("{} must set securityContext.capabilities.drop=[\"ALL\"]", told(&keeping)));
    }
    if !adding.is_empty() {
        let mut added: Vec<String> = containers(spec).into_iter().flat_map(adds).collect();
        added.sort();
        added.dedup();
        capabilities.push(format!(
            "{} must not include {} in securityContext.capabilities.add",
            told(&adding),
            added.join(", ")
        ));
    }
    if !capabilities.is_empty() {
        found.push(format!("unrestricted capabilities ({})", capabilities.join("; ")));
    }
    let volumes: Vec<(&str, &str)> = list(spec, &["volumes"])
        .iter()
        .filter_map(|v| {
            let kind = v.as_object()?.keys().find(|k| *k != "name")?;
            (!RESTRICTED_VOLUMES.contains(&kind.as_str())).then(|| (text(v, &["name"]), kind.as_str()))
        })
        .collect();
    if !volumes.is_empty() {
        let names: Vec<String> = volumes.iter().map(|(name, _)| format!("{name:?}")).collect();
        let mut kinds: Vec<String> = volumes.iter().map(|(_, kind)| format!("{kind:?}")).collect();
        kinds.sort();
        kinds.dedup();
        let (noun, verb) = if names.len() == 1 { ("volume", "uses") } else { ("volumes", "use") };
        let restricted = if kinds.len() == 1 { "restricted volume type" } else { "restricted volume types" };
        found.push(format!(
            "restricted volume types ({noun} {} {verb} {restricted} {})",
            names.join(", "),
            kinds.join(", ")
        ));
    }
    run_as(spec, found);
    seccomp_restricted(spec, found);
}

fn seccomp_restricted(spec: &Value, found: &mut Vec<String>) {
    let profile = |holder: &Value| text(holder, &["securityContext", "seccompProfile", "type"]).to_owned();
    let good = |kind: &str| matches!(kind, "RuntimeDefault" | "Localhost");
    let pod = profile(spec);
    let mut forbidden = Vec::new();
    if !pod.is_empty() && !good(&pod) {
        forbidden.push(format!("pod must not set securityContext.seccompProfile.type to {pod:?}"));
    }
    let explicit = bad(spec, |c| !profile(c).is_empty() && !good(&profile(c)));
    if !explicit.is_empty() {
        let mut kinds: Vec<String> = containers(spec)
            .into_iter()
            .map(profile)
            .filter(|k| !k.is_empty() && !good(k))
            .map(|k| format!("{k:?}"))
            .collect();
        kinds.sort();
        kinds.dedup();
        forbidden.push(format!(
            "{} must not set securityContext.seccompProfile.type to {}",
            told(&explicit),
            kinds.join(", ")
        ));
    }
    let implicit = bad(spec, |c| profile(c).is_empty() && !good(&pod));
    if !forbidden.is_empty() {
        found.push(format!("seccompProfile ({})", forbidden.join("; ")));
    } else if !implicit.is_empty() {
        found.push(format!(
            "seccompProfile (pod or {} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")",
            told(&implicit)
        ));
    }
}

fn run_as(spec: &Value, found: &mut Vec<String>) {
    let pod = at(spec, &["securityContext", "runAsNonRoot"]).as_bool();
    let own = |c: &Value| at(c, &["securityContext", "runAsNonRoot"]).as_bool();
    let explicit = bad(spec, |c| own(c) == Some(false));
    let implicit = bad(spec, |c| own(c).is_none() && pod != Some(true));
    let mut problems = Vec::new();
    if pod == Some(false) {
        problems.push("pod must not set securityContext.runAsNonRoot=false".to_owned());
    }
    if !explicit.is_empty() {
        problems.push(format!("{} must not set securityContext.runAsNonRoot=false", told(&explicit)));
    }
    if problems.is_empty() && !implicit.is_empty() {
        problems.push(format!("pod or {} must set securityContext.runAsNonRoot=true", told(&implicit)));
    }
    if !problems.is_empty() {
        found.push(format!("runAsNonRoot != true ({})", problems.join("; ")));
    }
    let root = |holder: &Value| at(holder, &["securityContext", "runAsUser"]).as_i64() == Some(0);
    let as_root = bad(spec, root);
    let mut who = Vec::new();
    if root(spec) {
        who.push("pod".to_owned());
    }
    if !as_root.is_empty() {
        who.push(told(&as_root));
    }
    if !who.is_empty() {
        found.push(format!("runAsUser=0 ({} must not set runAsUser=0)", who.join(" and ")));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_plain_pod_violates_restricted_with_the_known_message() {
        let namespace = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "restricted"}}});
        let (level, found) =
            violations(&namespace, "enforce", &json!({"containers": [{"name": "a", "image": "b"}]})).unwrap();
        assert_eq!(level, "restricted:latest");
        assert_eq!(
            found,
            "allowPrivilegeEscalation != false (container \"a\" must set securityContext.allowPrivilegeEscalation=false), \
             unrestricted capabilities (container \"a\" must set securityContext.capabilities.drop=[\"ALL\"]), \
             runAsNonRoot != true (pod or container \"a\" must set securityContext.runAsNonRoot=true), \
             seccompProfile (pod or container \"a\" must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\")"
        );
    }

    #[test]
    fn baseline_refuses_host_access_and_lets_the_rest_pass() {
        let namespace = json!({"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}});
        let plain = json!({"containers": [{"name": "a"}]});
        assert!(violations(&namespace, "enforce", &plain).is_none());
        let host = json!({"hostNetwork": true, "containers": [{"name": "a", "securityContext": {"privileged": true}}],
            "volumes": [{"name": "v", "hostPath": {"path": "/"}}]});
        assert_eq!(
            violations(&namespace, "enforce", &host).unwrap().1,
            "host namespaces (hostNetwork=true), hostPath volumes (volume \"v\"), \
             privileged (container \"a\" must not set securityContext.privileged=true)"
        );
    }
}
