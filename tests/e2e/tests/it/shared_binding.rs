//! Namespaces that go on their own, though one ClusterRoleBinding names them all.

use isthmus_shared::protocol::ObjectAction;
use serde_json::{Value, json};

use crate::reading::text;
use crate::world::World;

const TEAM: &str = r"
apiVersion: v1
kind: Namespace
metadata: {name: NAME}
---
apiVersion: v1
kind: ServiceAccount
metadata: {name: reader, namespace: NAME}
";
const SHARED: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all-teams}
rules: [{apiGroups: [''], resources: [nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: all-teams}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all-teams}
subjects:
- {kind: ServiceAccount, name: reader, namespace: team-blue}
- {kind: ServiceAccount, name: reader, namespace: team-red}
";
/// What an administrator of the destination has bound to a role of the same name there.
const THERE: &str = r"
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRole
metadata: {name: all-teams}
rules: [{apiGroups: [''], resources: [nodes], verbs: [get, list]}]
---
apiVersion: rbac.authorization.k8s.io/v1
kind: ClusterRoleBinding
metadata: {name: all-teams}
roleRef: {apiGroup: rbac.authorization.k8s.io, kind: ClusterRole, name: all-teams}
subjects:
- {kind: Group, apiGroup: rbac.authorization.k8s.io, name: auditors}
";
const BINDING: &str = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/all-teams";

/// The namespaces of the binding's service accounts, and the names of its other subjects.
fn subjects(binding: &Value) -> Vec<String> {
    let mut subjects: Vec<String> = binding["subjects"]
        .as_array()
        .unwrap()
        .iter()
        .map(|subject| match text(subject, "/kind") {
            "ServiceAccount" => format!("{}/{}", text(subject, "/namespace"), text(subject, "/name")),
            _ => text(subject, "/name").to_owned(),
        })
        .collect();
    subjects.sort();
    subjects
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn plans_that_share_a_binding_add_their_subjects_and_take_nobody_elses_away() {
    let world = World::shared().await;
    for team in ["team-blue", "team-red"] {
        world.apply("east", &TEAM.replace("NAME", team)).await;
    }
    world.apply("east", SHARED).await;
    world.apply("west", THERE).await;

    world.run("blue", json!({"namespaces": ["team-blue"]})).await.succeeded();
    let binding = world.get("west", BINDING).await;
    let now = subjects(&binding);
    for subject in ["auditors", "team-blue/reader"] {
        assert!(now.contains(&subject.to_owned()), "{subject} is not in {now:?}");
    }

    // Under another name on the destination, it is that name's account which is bound.
    world.run("red", json!({"namespaces": ["team-red:team-crimson"]})).await.succeeded();
    let binding = world.get("west", BINDING).await;
    let now = subjects(&binding);
    for subject in ["auditors", "team-blue/reader", "team-crimson/reader"] {
        assert!(now.contains(&subject.to_owned()), "{subject} is not in {now:?}");
    }

    // Each again: nothing to add, nothing written.
    for (name, namespaces) in [("blue-2", "team-blue"), ("red-2", "team-red:team-crimson")] {
        let again = world.run(name, json!({"namespaces": [namespaces]})).await.succeeded();
        again.came_to(ObjectAction::Unchanged, &["ClusterRoleBinding all-teams", "ClusterRole all-teams"]);
        assert_eq!(world.get("west", BINDING).await, binding, "written by {name}");
    }
}
