//! What a container's command becomes on this machine. Pure.
//!
//! There is no mount namespace: a path at or below a mount is rewritten to the folder that is mounted
//! there, in arguments and in variables, alone or behind `--flag=`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use k8s_openapi::api::core::v1::{Container, Pod};
use kube::ResourceExt;

use super::{LEDGER_IMAGE, MOVER_IMAGE, SHELL_IMAGE};

/// An image whose containers the lab runs as processes of its own executable.
struct Image {
    name: &'static str,
    /// The one program in it.
    program: &'static str,
    /// The lab's subcommand for it.
    subcommand: &'static str,
}

const IMAGES: [Image; 2] = [
    Image { name: MOVER_IMAGE, program: "isthmus-spoke", subcommand: "spoke" },
    Image { name: LEDGER_IMAGE, program: "ledger", subcommand: "ledger" },
];

fn image(container: &Container) -> Option<&'static Image> {
    let name = container.image.as_deref()?;
    IMAGES.iter().find(|image| image.name == name)
}

/// A volume mounted into a container, or a device of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Mount {
    pub at: PathBuf,
    pub folder: PathBuf,
}

/// Whether the pod runs as processes.
pub(super) fn has_processes(pod: &Pod) -> bool {
    let containers =
        pod.spec.iter().flat_map(|spec| spec.containers.iter().chain(spec.init_containers.iter().flatten()));
    containers.into_iter().any(|container| is_shell(container) || image(container).is_some())
}

fn is_shell(container: &Container) -> bool {
    container.image.as_deref() == Some(SHELL_IMAGE)
}

/// The program of a container and its arguments, where its image is the machine's own programs; none
/// of any other.
pub(super) fn of_shell(
    container: &Container,
    env: &BTreeMap<String, String>,
    mounts: &[Mount],
) -> Option<(OsString, Vec<OsString>)> {
    if !is_shell(container) {
        return None;
    }
    let words = container.command.iter().flatten().chain(container.args.iter().flatten());
    let mut words = words.map(|word| rewrite_within(&expand(word, env), mounts).into());
    Some((words.next().unwrap_or_else(|| "true".into()), words.collect()))
}

/// The arguments for the lab's executable, or why the container cannot start.
pub(super) fn arguments(
    container: &Container,
    env: &BTreeMap<String, String>,
    mounts: &[Mount],
) -> Result<Vec<OsString>, String> {
    let Some(image) = image(container) else {
        let image = container.image.as_deref().unwrap_or_default();
        let known = IMAGES.map(|image| image.name).join(" and ");
        return Err(format!("the lab runs processes of {known} only, not of {image}"));
    };
    let mut command = container.command.clone().unwrap_or_default();
    let args = container.args.clone().unwrap_or_default();
    if command.is_empty() {
        command.push(image.program.to_owned());
    }
    let program = Path::new(&command[0]).file_name().unwrap_or_default();
    if program != image.program {
        return Err(format!("exec: {:?}: executable file not found in the image", command[0]));
    }
    let rest = command.into_iter().skip(1).chain(args);
    let mut all = vec![OsString::from(image.subcommand)];
    all.extend(rest.map(|arg| rewrite(&expand(&arg, env), mounts).into()));
    Ok(all)
}

/// Replaces `$(NAME)` by the variable's value; `$$(NAME)` stays as `$(NAME)`.
pub(super) fn expand(text: &str, env: &BTreeMap<String, String>) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        if let Some(escaped) = rest.strip_prefix("$$") {
            out.push('$');
            rest = escaped;
            continue;
        }
        let name = rest.strip_prefix("$(").and_then(|name| name.split_once(')'));
        if let Some((value, after)) = name.and_then(|(name, after)| Some((env.get(name)?, after))) {
            out.push_str(value);
            rest = after;
        } else {
            out.push('$');
            rest = &rest[1..];
        }
    }
    out + rest
}

/// Rewrites a path at or below a mount, the deepest mount first.
pub(super) fn rewrite(text: &str, mounts: &[Mount]) -> String {
    if let Some((flag, value)) = text.split_once('=')
        && flag.starts_with('-')
    {
        return format!("{flag}={}", rewrite(value, mounts));
    }
    let path = Path::new(text);
    let below = mounts.iter().filter_map(|mount| Some((mount, path.strip_prefix(&mount.at).ok()?)));
    match below.max_by_key(|(mount, _)| mount.at.components().count()) {
        Some((mount, rest)) if rest.as_os_str().is_empty() => mount.folder.to_string_lossy().into_owned(),
        Some((mount, rest)) => mount.folder.join(rest).to_string_lossy().into_owned(),
        None => text.to_owned(),
    }
}

/// Rewrites all paths at or below a mount that stand in a text, such as a script.
pub(super) fn rewrite_within(text: &str, mounts: &[Mount]) -> String {
    let of_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let mut deepest: Vec<(String, &Mount)> = mounts
        .iter()
        .map(|mount| (mount.at.to_string_lossy().trim_end_matches('/').to_owned(), mount))
        .collect();
    deepest.sort_by_key(|(at, _)| std::cmp::Reverse(at.len()));
    let mut out = String::new();
    let mut rest = text;
    while let Some(next) = rest.chars().next() {
        let begins = !out.ends_with(|c| of_name(c) || c == '/');
        let found = deepest.iter().find_map(|(at, mount)| {
            let after = rest.strip_prefix(at.as_str()).filter(|_| begins && !at.is_empty())?;
            (!after.starts_with(of_name)).then_some((mount, after))
        });
        if let Some((mount, after)) = found {
            out.push_str(&mount.folder.to_string_lossy());
            rest = after;
        } else {
            out.push(next);
            rest = &rest[next.len_utf8()..];
        }
    }
    out
}

/// The value of a pod's field, as the downward API names it.
pub(super) fn field(pod: &Pod, path: &str, address: &str) -> Option<String> {
    let spec = pod.spec.as_ref();
    let lines = |map: &BTreeMap<String, String>| {
        map.iter().map(|(key, value)| format!("{key}={value:?}")).collect::<Vec<_>>().join("\n")
    };
    let keyed = |map: &BTreeMap<String, String>, prefix: &str| {
        let key = path.strip_prefix(prefix)?.strip_prefix("['")?.strip_suffix("']")?;
        Some(map.get(key).cloned().unwrap_or_default())
    };
    match path {
        "metadata.name" => Some(pod.name_any()),
        "metadata.namespace" => pod.namespace(),
        "metadata.uid" => pod.uid(),
        "metadata.labels" => Some(lines(pod.labels())),
        "metadata.annotations" => Some(lines(pod.annotations())),
        "spec.nodeName" => spec?.node_name.clone(),
        "spec.serviceAccountName" => spec?.service_account_name.clone(),
        "status.podIP" | "status.podIPs" => Some(address.to_owned()),
        "status.hostIP" | "status.hostIPs" => Some("127.0.0.1".to_owned()),
        _ => keyed(pod.labels(), "metadata.labels")
            .or_else(|| keyed(pod.annotations(), "metadata.annotations")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn mounts() -> Vec<Mount> {
        let mount = |at: &str, folder: &str| Mount { at: at.into(), folder: folder.into() };
        vec![mount("/volume", "/host/v"), mount("/volume/inner", "/host/i")]
    }

    #[test]
    fn a_path_below_a_mount_becomes_the_folders() {
        assert_eq!(rewrite("/volume", &mounts()), "/host/v");
        assert_eq!(rewrite("/volume/a/b", &mounts()), "/host/v/a/b");
        assert_eq!(rewrite("--root=/volume/inner/x", &mounts()), "--root=/host/i/x");
        assert_eq!(rewrite("/volumes", &mounts()), "/volumes");
    }

    #[test]
    fn paths_within_a_script_become_the_folders() {
        let text = "cp /volume/a '/volume/inner' && ls /volumes x/volume; echo >/volume";
        let wanted = "cp /host/v/a '/host/i' && ls /volumes x/volume; echo >/host/v";
        assert_eq!(rewrite_within(text, &mounts()), wanted);
    }

    #[test]
    fn variables_are_expanded_unless_escaped_or_unknown() {
        let env = [("A".to_owned(), "1".to_owned())].into();
        assert_eq!(expand("x$(A)y $$(A) $(B) $", &env), "x1y $(A) $(B) $");
    }

    #[test]
    fn the_movers_program_becomes_the_labs_subcommand() {
        let container: Container = serde_json::from_value(json!({
            "name": "c", "image": MOVER_IMAGE, "command": ["isthmus-spoke", "mover"], "args": ["--root", "/volume"],
        }))
        .unwrap();
        let args = arguments(&container, &BTreeMap::new(), &mounts()).unwrap();
        assert_eq!(args, ["spoke", "mover", "--root", "/host/v"]);
    }

    #[test]
    fn another_program_is_not_in_the_image() {
        let container: Container =
            serde_json::from_value(json!({"name": "c", "image": MOVER_IMAGE, "command": ["sh"]})).unwrap();
        assert!(arguments(&container, &BTreeMap::new(), &[]).is_err());
    }
}
