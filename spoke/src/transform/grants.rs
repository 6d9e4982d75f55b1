//! Bindings of cluster scope: what they grant beyond the run, and how they meet the
//! destination's.

use serde_json::{Value, json};

use super::{Scope, is};
use crate::cluster::{array, text};

/// The API group of subjects that are users and groups, where they name none.
const RBAC: &str = "rbac.authorization.k8s.io";

/// Tells of service accounts of namespaces that the run does not take: where the destination has
/// a namespace of that name, it is granted the role there too.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    if !is(object, RBAC, "ClusterRoleBinding") {
        return;
    }
    let names = &scope.options.namespaces;
    for subject in array(object, "/subjects") {
        let namespace = text(subject, "/namespace");
        if text(subject, "/kind") != "ServiceAccount" || names.takes(namespace) || names.is_unknown() {
            continue;
        }
        let message = format!(
            "it also grants {} {} to ServiceAccount {namespace}/{}, of a namespace that the migration does not take: drop that subject by a transform unless the destination's is to have it",
            text(object, "/roleRef/kind"),
            text(object, "/roleRef/name"),
            text(subject, "/name"),
        );
        scope.notes.push("SubjectOutsideRun", message);
    }
}

/// The subjects of a binding that is applied over one that the destination has: all of the
/// destination's, as they stand, and of the wanted ones those that it lacks. Never fewer: other
/// plans, and people, share the binding.
pub fn merge_subjects(wanted: &Value, live: &Value) -> Value {
    let mut subjects: Vec<Value> = array(live, "/subjects").to_vec();
    for subject in array(wanted, "/subjects") {
        if !subjects.iter().any(|present| identity(present) == identity(subject)) {
            subjects.push(subject.clone());
        }
    }
    json!(subjects)
}

/// Kind, group, namespace and name; a group that is left out is the default of the kind.
fn identity(subject: &Value) -> [&str; 4] {
    let kind = text(subject, "/kind");
    let group = match text(subject, "/apiGroup") {
        "" if kind != "ServiceAccount" => RBAC,
        group => group,
    };
    [kind, group, text(subject, "/namespace"), text(subject, "/name")]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subjects_are_added_and_never_taken_away() {
        let account =
            |namespace: &str| json!({"kind": "ServiceAccount", "name": "web", "namespace": namespace});
        let group = json!({"kind": "Group", "name": "ops"});
        let live =
            json!({"subjects": [account("other"), {"kind": "Group", "apiGroup": RBAC, "name": "ops"}]});
        let wanted = json!({"subjects": [account("shop"), group, account("other")]});
        let merged = merge_subjects(&wanted, &live);
        assert_eq!(merged, json!([account("other"), live["subjects"][1], account("shop")]));
        assert_eq!(merge_subjects(&json!({"subjects": merged}), &live), merged);
        assert_eq!(merge_subjects(&json!({}), &live), live["subjects"]);
        assert_eq!(merge_subjects(&wanted, &json!({"subjects": null})), wanted["subjects"]);
        assert_eq!(merge_subjects(&json!({"subjects": 7}), &json!(null)), json!([]));
    }
}
