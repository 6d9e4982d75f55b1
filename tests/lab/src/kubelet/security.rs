//! What a pod's security contexts come to for its processes and its volumes.
//!
//! It counts where the lab runs as root; else everything is that user's, as whom the lab runs.

use std::ffi::OsString;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, lchown};
use std::path::Path;

use k8s_openapi::api::core::v1::{Capabilities, Container, Pod};
use rustix::thread::CapabilitySet;

use crate::programs::credentials::Credentials;

/// What container runtimes let root do in a container where nothing is said.
const DEFAULT: CapabilitySet = CapabilitySet::CHOWN
    .union(CapabilitySet::DAC_OVERRIDE)
    .union(CapabilitySet::FSETID)
    .union(CapabilitySet::FOWNER)
    .union(CapabilitySet::MKNOD)
    .union(CapabilitySet::NET_RAW)
    .union(CapabilitySet::SETGID)
    .union(CapabilitySet::SETUID)
    .union(CapabilitySet::SETFCAP)
    .union(CapabilitySet::SETPCAP)
    .union(CapabilitySet::NET_BIND_SERVICE)
    .union(CapabilitySet::SYS_CHROOT)
    .union(CapabilitySet::KILL);
/// What a group may do in a volume that is given to it.
const GROUP_FILE: u32 = 0o060;
const GROUP_FOLDER: u32 = 0o2070;

/// Whether the lab can run processes as somebody else.
pub(super) fn applies() -> bool {
    rustix::process::geteuid().is_root()
}

/// As whom a container's process runs; `None` where nothing says so.
pub(super) fn credentials(pod: &Pod, container: &Container) -> Option<Credentials> {
    let of_pod = pod.spec.as_ref()?.security_context.as_ref();
    let own = container.security_context.as_ref();
    let id = |id: i64| u32::try_from(id).ok();
    let user = own.and_then(|own| own.run_as_user).or(of_pod.and_then(|of_pod| of_pod.run_as_user))?;
    let group = own.and_then(|own| own.run_as_group).or(of_pod.and_then(|of_pod| of_pod.run_as_group));
    let supplemental = of_pod.and_then(|of_pod| of_pod.supplemental_groups.clone()).unwrap_or_default();
    let groups = supplemental.into_iter().chain(fs_group(pod).map(i64::from)).filter_map(id).collect();
    let privileged = own.and_then(|own| own.privileged) == Some(true);
    let capabilities = if privileged {
        CapabilitySet::all()
    } else {
        capabilities(own.and_then(|own| own.capabilities.as_ref()))
    };
    Some(Credentials { user: id(user)?, group: id(group.unwrap_or(0))?, groups, capabilities })
}

fn capabilities(said: Option<&Capabilities>) -> CapabilitySet {
    let set = |names: Option<&Vec<String>>| {
        names.into_iter().flatten().fold(CapabilitySet::empty(), |set, name| {
            set | match name.as_str() {
                "ALL" => CapabilitySet::all(),
                name => CapabilitySet::from_name(name.trim_start_matches("CAP_"))
                    .unwrap_or(CapabilitySet::empty()),
            }
        })
    };
    let (add, drop) =
        (set(said.and_then(|said| said.add.as_ref())), set(said.and_then(|said| said.drop.as_ref())));
    DEFAULT.difference(drop).union(add)
}

/// The group that a pod's volumes are given.
pub(super) fn fs_group(pod: &Pod) -> Option<u32> {
    let group = pod.spec.as_ref()?.security_context.as_ref()?.fs_group?;
    u32::try_from(group).ok()
}

/// Gives a volume to a group, as a kubelet does with `fsGroupChangePolicy: OnRootMismatch`: nothing is
/// done where its root is that group's already.
pub(super) fn give_to_group(root: &Path, group: u32) -> io::Result<()> {
    let now = fs::symlink_metadata(root)?;
    let wanted = if now.is_dir() { GROUP_FOLDER } else { GROUP_FILE };
    if now.gid() == group && now.mode() & wanted == wanted {
        return Ok(());
    }
    let mut names: Vec<OsString> = vec![root.as_os_str().to_owned()];
    while let Some(path) = names.pop() {
        let path = Path::new(&path);
        let now = fs::symlink_metadata(path)?;
        lchown(path, None, Some(group))?;
        if now.is_symlink() {
            continue;
        }
        let more = if now.is_dir() { GROUP_FOLDER } else { GROUP_FILE };
        fs::set_permissions(path, fs::Permissions::from_mode(now.mode() & 0o7777 | more))?;
        if now.is_dir() {
            for entry in fs::read_dir(path)? {
                names.push(entry?.path().into_os_string());
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(pod_context: &serde_json::Value, own: &serde_json::Value) -> Option<Credentials> {
        let pod: Pod = serde_json::from_value(json!({"spec": {"securityContext": pod_context,
            "containers": [{"name": "c", "securityContext": own}]}}))
        .unwrap();
        credentials(&pod, &pod.spec.as_ref().unwrap().containers[0])
    }

    #[test]
    fn the_containers_own_context_goes_before_the_pods_and_the_volumes_group_is_one_of_its_groups() {
        let pod = json!({"runAsUser": 5, "runAsGroup": 6, "fsGroup": 2000, "supplementalGroups": [7]});
        let found = of(&pod, &json!({"runAsUser": 1000})).unwrap();
        assert_eq!((found.user, found.group, found.groups), (1000, 6, vec![7, 2000]));
        assert_eq!(of(&json!({}), &json!({})), None, "the image decides");
    }

    #[test]
    fn capabilities_are_those_of_a_runtime_less_what_is_dropped_and_what_is_added() {
        let root = json!({"runAsUser": 0});
        let added = json!({"capabilities": {"drop": ["ALL"], "add": ["CHOWN", "SYS_ADMIN"]}});
        assert_eq!(of(&root, &added).unwrap().capabilities, CapabilitySet::CHOWN | CapabilitySet::SYS_ADMIN);
        let plain = of(&root, &json!({})).unwrap().capabilities;
        assert!(plain.contains(CapabilitySet::MKNOD) && !plain.contains(CapabilitySet::SYS_ADMIN));
        let fewer = of(&root, &json!({"capabilities": {"drop": ["CAP_MKNOD"]}})).unwrap().capabilities;
        assert!(!fewer.contains(CapabilitySet::MKNOD) && fewer.contains(CapabilitySet::CHOWN));
        assert_eq!(of(&root, &json!({"privileged": true})).unwrap().capabilities, CapabilitySet::all());
    }
}
