//! A person's own rewritings: each has one patch, and the patch can be read.

use serde_json::Value;

use super::{Problems, glob_matcher, label_selector};
use crate::resources::Transform;

/// The operations of RFC 6902, and what each needs beside its path.
const OPERATIONS: [(&str, Option<&str>); 6] = [
    ("add", Some("value")),
    ("remove", None),
    ("replace", Some("value")),
    ("move", Some("from")),
    ("copy", Some("from")),
    ("test", Some("value")),
];

pub(super) fn check(transforms: &[Transform], found: &mut Problems) {
    for (at, transform) in transforms.iter().enumerate() {
        let field = format!("spec.transforms[{at}]");
        matching(&field, transform, found);
        forms(&field, transform, found);
        for (at, operation) in transform.json_patch.iter().enumerate() {
            json_patch(&format!("{field}.jsonPatch[{at}]"), operation, found);
        }
    }
}

fn matching(field: &str, transform: &Transform, found: &mut Problems) {
    let matching = &transform.matching;
    for (list, globs) in [("names", &matching.names), ("namespaces", &matching.namespaces)] {
        for (at, glob) in globs.iter().enumerate() {
            if let Err(problem) = glob_matcher(glob) {
                found.add(format!("{field}.match.{list}[{at}]"), "BadTransform", problem);
            }
        }
    }
    if let Some(labels) = &matching.labels {
        label_selector(&format!("{field}.match.labels"), labels, found);
    }
}

fn forms(field: &str, transform: &Transform, found: &mut Problems) {
    let patches =
        [("mergePatch", &transform.merge_patch), ("strategicMergePatch", &transform.strategic_merge_patch)];
    let given = usize::from(!transform.json_patch.is_empty())
        + patches.iter().filter(|(_, patch)| patch.is_some()).count();
    match given {
        1 => {}
        0 => found.add(
            field,
            "BadTransform",
            "it has no patch: give jsonPatch, mergePatch or strategicMergePatch",
        ),
        _ => found.add(field, "BadTransform", "it has more than one patch: make a transform of each"),
    }
    for (form, patch) in patches {
        if patch.as_ref().is_some_and(|patch| !patch.is_object()) {
            let message = "it is no object: write the fields to change as they stand in the object";
            found.add(format!("{field}.{form}"), "BadTransform", message);
        }
    }
    if transform.strategic_merge_patch.is_some() && transform.matching.kind.is_none() {
        let message =
            "a strategicMergePatch is for one kind of Kubernetes itself: give match.kind, or use mergePatch";
        found.add(format!("{field}.match.kind"), "BadTransform", message);
    }
}

fn json_patch(field: &str, operation: &Value, found: &mut Problems) {
    let text = |part: &str| operation.get(part).and_then(Value::as_str);
    let known = text("op").and_then(|op| OPERATIONS.iter().find(|(name, _)| *name == op));
    let Some((op, needs)) = known else {
        let message = "write one of add, remove, replace, move, copy and test";
        found.add(format!("{field}.op"), "BadTransform", message);
        return;
    };
    for part in ["path"].into_iter().chain(needs.filter(|part| *part == "from")) {
        match text(part) {
            Some(pointer) if is_pointer(pointer) => {}
            Some(pointer) => {
                let message = format!(
                    "{pointer:?} is no JSON pointer: write one such as /spec/template/spec/containers/0/image, with ~1 for a '/' and ~0 for a '~' within a name"
                );
                found.add(format!("{field}.{part}"), "BadTransform", message);
            }
            None => {
                let message = format!("{op} needs a {part}, such as /spec/replicas");
                found.add(format!("{field}.{part}"), "BadTransform", message);
            }
        }
    }
    if *needs == Some("value") && operation.get("value").is_none() {
        found.add(format!("{field}.value"), "BadTransform", format!("{op} needs a value"));
    }
}

/// Whether it is a JSON pointer of RFC 6901.
fn is_pointer(text: &str) -> bool {
    let escaped = text.split('~').skip(1).all(|rest| rest.starts_with(['0', '1']));
    escaped && (text.is_empty() || text.starts_with('/'))
}
