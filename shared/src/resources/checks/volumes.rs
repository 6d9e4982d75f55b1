//! How volumes are moved: amounts, paths and what mover Pods are given.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::names::{is_label_value, is_qualified_name, is_subdomain};
use super::{MigrationSpec, Problems};
use crate::quantity::Amount;
use crate::resources::{Exclusions, MoverOptions};

/// The least bandwidth of a run, bytes a second. With less, a single block of a volume would take
/// longer than the servers on the way keep a request open.
pub const MIN_BANDWIDTH: i64 = 64 << 10;
/// The least memory limit of a mover, bytes: it takes up to 128 MiB of its own, and the page cache
/// of a file that is being written counts too until it is on disk.
pub const MIN_MOVER_MEMORY: i64 = 160 << 20;
/// The most files of a volume at a time.
const MAX_PARALLEL_FILES: u32 = 8;
/// The most passes that are kept.
const MAX_PASSES: u32 = 100;

pub(super) fn check(spec: &MigrationSpec, found: &mut Problems) {
    if spec.parallel_files.is_some_and(|files| !(1..=MAX_PARALLEL_FILES).contains(&files)) {
        let message = format!("write 1 to {MAX_PARALLEL_FILES}, or leave it out");
        found.add("spec.parallelFiles", "OutOfRange", message);
    }
    if let Some(limit) = &spec.bandwidth_limit {
        bandwidth(limit, found);
    }
    if let Err(error) = Exclusions::new(&spec.exclude_paths) {
        found.add(format!("spec.excludePaths[{}]", error.index), "BadPattern", error.to_string());
    }
    mover(&spec.mover, found);
    if spec.retention.passes > MAX_PASSES {
        let message = format!("at most {MAX_PASSES} passes are kept");
        found.add("spec.retention.passes", "OutOfRange", message);
    }
}

fn bandwidth(limit: &str, found: &mut Problems) {
    let message = match Amount::parse(limit) {
        Some(amount) if amount >= Amount::of(MIN_BANDWIDTH) => return,
        Some(_) => format!(
            "{limit:?} a second is too little to move anything: write 64Ki or more, or leave it out for no limit"
        ),
        None => format!("{limit:?} is no quantity: write bytes a second such as 50Mi or 100M"),
    };
    found.add("spec.bandwidthLimit", "BadQuantity", message);
}

fn mover(mover: &MoverOptions, found: &mut Problems) {
    if let Some(resources) = &mover.resources {
        resource_amounts(resources, found);
    }
    for (key, value) in &mover.node_selector {
        let field = || format!("spec.mover.nodeSelector[{key}]");
        if !is_qualified_name(key) {
            let message = "it is not the name of a label: write one such as disk or example.com/disk";
            found.add(field(), "BadLabel", message);
        } else if !is_label_value(value) {
            let message = format!(
                "{value:?} is not the value of a label: write at most 63 of a-z, A-Z, 0-9, '-', '_' and '.', with a letter or digit at both ends"
            );
            found.add(field(), "BadLabel", message);
        }
    }
    for (at, toleration) in mover.tolerations.iter().enumerate() {
        tolerated(&format!("spec.mover.tolerations[{at}]"), toleration, found);
    }
    if let Some(name) = mover.priority_class_name.as_ref().filter(|name| !is_subdomain(name)) {
        let message = format!(
            "{name:?} is not the name of a PriorityClass: write a-z, 0-9, '-' and '.', with a letter or digit at both ends"
        );
        found.add("spec.mover.priorityClassName", "BadName", message);
    }
}

fn resource_amounts(resources: &ResourceRequirements, found: &mut Problems) {
    let field = "spec.mover.resources";
    if resources.claims.as_ref().is_some_and(|claims| !claims.is_empty()) {
        let message = "a mover has no use for devices: leave claims out";
        found.add(format!("{field}.claims"), "NotPossible", message);
    }
    let requests = amounts(&format!("{field}.requests"), resources.requests.as_ref(), found);
    let limits = amounts(&format!("{field}.limits"), resources.limits.as_ref(), found);
    for (resource, limit) in &limits {
        let field = format!("{field}.limits[{resource}]");
        if *resource == "memory" && *limit < Amount::of(MIN_MOVER_MEMORY) {
            let least = Amount::of(MIN_MOVER_MEMORY);
            let message = format!(
                "{limit} is less than a mover needs: write {least} or more, or leave it out for the default"
            );
            found.add(field, "TooLittle", message);
        } else if let Some(request) = requests.get(resource).filter(|request| *request > limit) {
            let message = format!("{limit} is less than the {request} that are requested: raise it");
            found.add(field, "LimitBelowRequest", message);
        }
    }
}

fn amounts<'a>(
    field: &str,
    quantities: Option<&'a BTreeMap<String, Quantity>>,
    found: &mut Problems,
) -> BTreeMap<&'a str, Amount> {
    let mut sound = BTreeMap::new();
    for (resource, quantity) in quantities.into_iter().flatten() {
        let field = format!("{field}[{resource}]");
        let plain = ["cpu", "memory", "ephemeral-storage"].contains(&resource.as_str());
        let extended = resource.contains('/') && is_qualified_name(resource);
        if !plain && !extended {
            let message = "a mover has no use for it: write cpu, memory, ephemeral-storage, or one with its domain such as example.com/io";
            found.add(field, "BadResource", message);
            continue;
        }
        match Amount::parse(&quantity.0) {
            Some(amount) if amount >= Amount::ZERO => {
                sound.insert(resource.as_str(), amount);
            }
            _ => {
                let message = format!("{:?} is no amount: write one such as 500m, 2 or 512Mi", quantity.0);
                found.add(field, "BadQuantity", message);
            }
        }
    }
    sound
}

fn tolerated(field: &str, toleration: &Toleration, found: &mut Problems) {
    let mut add = |part: &str, message: &str| found.add(format!("{field}.{part}"), "BadToleration", message);
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    let (key, value) = (text(&toleration.key), text(&toleration.value));
    let exists = match toleration.operator.as_deref() {
        None | Some("" | "Equal") => false,
        Some("Exists") => true,
        Some(_) => return add("operator", "write Exists or Equal"),
    };
    if key.is_empty() && !exists {
        add("key", "name the taint's key, or write operator Exists to tolerate every taint");
    } else if !key.is_empty() && !is_qualified_name(&key) {
        add("key", "it is not the key of a taint: write one such as dedicated or example.com/dedicated");
    }
    if exists && !value.is_empty() {
        add("value", "with operator Exists any value is tolerated: leave it out, or write operator Equal");
    } else if !is_label_value(&value) {
        add(
            "value",
            "it is not the value of a taint: write at most 63 of a-z, A-Z, 0-9, '-', '_' and '.', with a letter or digit at both ends",
        );
    }
    let effect = text(&toleration.effect);
    if !["", "NoSchedule", "PreferNoSchedule", "NoExecute"].contains(&effect.as_str()) {
        add("effect", "write NoSchedule, PreferNoSchedule or NoExecute, or leave it out for all of them");
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        add("tolerationSeconds", "only a taint of effect NoExecute is tolerated for a time: leave it out");
    }
}
