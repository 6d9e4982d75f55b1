//! A cluster in memory, and everything that is gathered from it.

#![allow(clippy::needless_pass_by_value, reason = "json! makes values")]

use isthmus_shared::resources::{Finding, MigrationSpec};
use serde_json::json;

use super::scope_reading::{Trouble, content, trouble};
use super::*;
use crate::cluster::Catalogue;
use crate::collect::fake::Fake;

/// What a gathering gave: `place: Kind name` of what was taken, in order, and `Kind name: Reason`
/// of what was left behind, sorted.
#[derive(Debug, Default)]
struct Collected {
    place: String,
    taken: Vec<String>,
    left: Vec<String>,
    warnings: Vec<Finding>,
    notes: Vec<String>,
}

impl Sink for Collected {
    async fn open(&mut self, place: Place<'_>) -> Result<(), TaskError> {
        self.place = match place {
            Place::Cluster => "cluster".to_owned(),
            Place::Namespace(name) => name.to_owned(),
        };
        Ok(())
    }

    async fn take(&mut self, object: &Value) -> Result<(), TaskError> {
        let (kind, name) = (crate::cluster::kind(object), crate::cluster::name(object));
        self.taken.push(format!("{}: {kind} {name}", self.place));
        Ok(())
    }

    async fn leave(&mut self, result: &ObjectResult) -> Result<(), TaskError> {
        self.left.push(format!("{} {}: {}", result.kind, result.name, result.reason.as_deref().unwrap()));
        self.left.sort();
        Ok(())
    }

    fn warn(&mut self, finding: Finding) {
        self.warnings.push(finding);
    }

    fn note(&mut self, line: String) {
        self.notes.push(line);
    }
}

fn spec(change: Value) -> MigrationSpec {
    let mut spec = json!({"clusterPair": "p", "namespaces": ["cms"]});
    crate::transform::merge(&mut spec, &change);
    serde_json::from_value(spec).unwrap()
}

async fn collect_to(fake: &Fake, destination: &Catalogue, change: Value) -> (Collected, Gathered) {
    let (scope, failures) = Scope::of(&spec(change), fake.catalogue(), destination);
    assert!(failures.is_empty(), "{failures:?}");
    let mut collected = Collected::default();
    let gathered = gather(&fake.cluster(), &scope, &["cms"], &mut collected).await.unwrap();
    assert_eq!(gathered.counts.total, collected.taken.len() as u64);
    assert_eq!(gathered.counts.left_behind, collected.left.len() as u64);
    (collected, gathered)
}

async fn collect(fake: &Fake, change: Value) -> (Collected, Gathered) {
    collect_to(fake, &fake.catalogue(), change).await
}

fn object(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name, "namespace": "cms"}})
}

fn clustered(api_version: &str, kind: &str, name: &str) -> Value {
    json!({"apiVersion": api_version, "kind": kind, "metadata": {"name": name}})
}

fn with(mut object: Value, more: Value) -> Value {
    crate::transform::merge(&mut object, &more);
    object
}

const RBAC: &str = "rbac.authorization.k8s.io/v1";

/// An application with an operator, and a cluster around it.
fn application() -> Fake {
    let mut fake = Fake::default();
    let owner = |kind: &str, name: &str| {
        json!({"metadata": {"ownerReferences": [{"apiVersion": "example.com/v1", "kind": kind, "name": name,
                                                 "uid": format!("{kind}/{name}"), "controller": true}]}})
    };
    let account = json!([{"kind": "ServiceAccount", "namespace": "cms", "name": "web"}]);
    let service = json!({"service": {"namespace": "cms", "name": "hook"}});
    for object in [
        object("v1", "ServiceAccount", "web"),
        object("v1", "ServiceAccount", "default"),
        object("v1", "ConfigMap", "kube-root-ca.crt"),
        object("v1", "ConfigMap", "settings"),
        object("v1", "PersistentVolumeClaim", "data"),
        with(object("v1", "Service", "web"), json!({"spec": {"selector": {"app": "web"}}})),
        object("v1", "Service", "hook"),
        object("v1", "Endpoints", "web"),
        object("v1", "Endpoints", "outside"),
        with(object(RBAC, "RoleBinding", "b"), json!({"roleRef": {"kind": "ClusterRole", "name": "reader"}})),
        with(object(RBAC, "RoleBinding", "v"), json!({"roleRef": {"kind": "ClusterRole", "name": "view"}})),
        object("example.com/v1", "Database", "db"),
        with(object("apps/v1", "StatefulSet", "db-set"), owner("Database", "db")),
        with(object("v1", "Secret", "db-key"), owner("Database", "db")),
        with(
            object("apps/v1", "Deployment", "web"),
            json!({"spec": {"template": {"spec": {"priorityClassName": "gold"}}}}),
        ),
        object("v1", "Event", "web.1"),
        with(
            clustered("apiextensions.k8s.io/v1", "CustomResourceDefinition", "databases.example.com"),
            json!({"spec": {"group": "example.com", "names": {"kind": "Database"}}}),
        ),
        with(
            clustered("apiextensions.k8s.io/v1", "CustomResourceDefinition", "others.example.com"),
            json!({"spec": {"group": "example.com", "names": {"kind": "Other"}}}),
        ),
        clustered("scheduling.k8s.io/v1", "PriorityClass", "gold"),
        clustered("scheduling.k8s.io/v1", "PriorityClass", "silver"),
        clustered(RBAC, "ClusterRole", "reader"),
        clustered(RBAC, "ClusterRole", "view"),
        clustered(RBAC, "ClusterRole", "bound"),
        clustered(RBAC, "ClusterRole", "stranger"),
        with(
            clustered(RBAC, "ClusterRoleBinding", "web"),
            json!({"subjects": account, "roleRef": {"kind": "ClusterRole", "name": "bound"}}),
        ),
        with(
            clustered(RBAC, "ClusterRoleBinding", "stranger"),
            json!({"roleRef": {"kind": "ClusterRole", "name": "stranger"}}),
        ),
        with(
            clustered("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "hook"),
            json!({"webhooks": [{"clientConfig": service}]}),
        ),
        clustered("admissionregistration.k8s.io/v1", "ValidatingWebhookConfiguration", "stranger"),
        with(
            clustered("apiregistration.k8s.io/v1", "APIService", "v1.api.example.com"),
            json!({"spec": service}),
        ),
        clustered("apiregistration.k8s.io/v1", "APIService", "v1."),
        clustered("v1", "Node", "node-1"),
    ] {
        fake.add(object);
    }
    fake
}

#[tokio::test]
async fn everything_is_taken_with_what_it_needs_or_left_behind_with_a_reason() {
    let fake = application();
    let (collected, gathered) = collect(&fake, json!({})).await;
    let of = |place: &str| -> Vec<&str> {
        let prefix = format!("{place}: ");
        collected.taken.iter().filter_map(|t| t.strip_prefix(&prefix)).collect()
    };
    let mut namespace = of("cms");
    assert_eq!(namespace.last(), Some(&"Deployment web"), "workloads come last");
    namespace.sort_unstable();
    assert_eq!(
        namespace,
        [
            "ConfigMap settings",
            "Database db",
            "Deployment web",
            "Endpoints outside",
            "PersistentVolumeClaim data",
            "RoleBinding b",
            "RoleBinding v",
            "Service hook",
            "Service web",
            "ServiceAccount web"
        ]
    );
    assert_eq!(
        of("cluster"),
        [
            "CustomResourceDefinition databases.example.com",
            "PriorityClass gold",
            "ClusterRole bound",
            "ClusterRole reader",
            "ClusterRoleBinding web",
            "APIService v1.api.example.com",
            "ValidatingWebhookConfiguration hook"
        ]
    );
    assert_eq!(
        collected.left,
        [
            "ClusterRole view: SystemObject",
            "ConfigMap kube-root-ca.crt: Generated",
            "Endpoints web: Endpoints",
            "Event web.1: Event",
            "Secret db-key: Owned",
            "ServiceAccount default: Generated",
            "StatefulSet db-set: Owned"
        ]
    );
    assert_eq!(gathered.claims.len(), 1);
    let database = gathered.kinds.iter().find(|k| k.kind == "Database").unwrap();
    assert!(database.crd && database.count == 1);
}

#[tokio::test]
async fn gathering_twice_chooses_the_same_in_the_same_order_of_places() {
    let fake = application();
    let (mut one, _) = collect(&fake, json!({})).await;
    let (mut other, _) = collect(&fake, json!({})).await;
    one.taken.sort();
    other.taken.sort();
    assert_eq!((one.taken, one.left), (other.taken, other.left));
}

#[tokio::test]
async fn none_of_cluster_scope_goes_where_none_is_wanted_and_the_definition_is_missed() {
    let fake = application();
    let (collected, gathered) = collect(&fake, json!({"includeClusterResources": "None"})).await;
    assert!(!collected.taken.iter().any(|t| t.starts_with("cluster")), "{collected:?}");
    assert!(gathered.failures.is_empty());
    let told: Vec<&str> =
        collected.left.iter().filter_map(|line| line.strip_suffix(": ClusterScope")).collect();
    assert_eq!(
        told,
        [
            "APIService v1.api.example.com",
            "ClusterRole bound",
            "ClusterRole reader",
            "ClusterRoleBinding web",
            "CustomResourceDefinition databases.example.com",
            "PriorityClass gold",
            "ValidatingWebhookConfiguration hook"
        ],
        "what is missed is told, and what nobody needs is not"
    );
    let without: Vec<_> =
        fake.catalogue().kinds().iter().filter(|k| k.group != "example.com").cloned().collect();
    let destination = Catalogue::of(without);
    let (_, missing) = collect_to(&fake, &destination, json!({"includeClusterResources": "None"})).await;
    assert_eq!(missing.failures.list[0].reason, "KindNotServed");
    let (_, along) = collect_to(&fake, &destination, json!({})).await;
    assert!(along.failures.is_empty(), "{:?}", along.failures);
    let (_, excluded) = collect_to(
        &fake,
        &destination,
        json!({"includeClusterResources": "None", "excludedResourceTypes": ["*.example.com"]}),
    )
    .await;
    assert!(excluded.failures.is_empty());
}

#[tokio::test]
async fn all_of_cluster_scope_is_all_that_is_not_the_clusters_own() {
    let fake = application();
    let (collected, _) = collect(&fake, json!({"includeClusterResources": "All"})).await;
    let taken: Vec<&str> = collected.taken.iter().filter_map(|t| t.strip_prefix("cluster: ")).collect();
    for expected in [
        "CustomResourceDefinition others.example.com",
        "PriorityClass silver",
        "ClusterRole stranger",
        "ClusterRoleBinding stranger",
        "ValidatingWebhookConfiguration stranger",
    ] {
        assert!(taken.contains(&expected), "{expected} in {taken:?}");
    }
    assert!(taken[0].starts_with("CustomResourceDefinition"));
    assert!(taken[taken.len() - 1].starts_with("ValidatingWebhookConfiguration"));
    for expected in
        ["Node node-1: Infrastructure", "APIService v1.: SystemObject", "ClusterRole view: SystemObject"]
    {
        assert!(collected.left.iter().any(|l| l == expected), "{expected} in {:?}", collected.left);
    }
}

#[tokio::test]
async fn types_choose_and_what_they_leave_behind_is_listed_still() {
    let fake = application();
    let (collected, _) =
        collect(&fake, json!({"includedResourceTypes": ["Deployment", "ConfigMap", "PriorityClass"]})).await;
    let mut taken = collected.taken.clone();
    taken.sort();
    assert_eq!(taken, ["cluster: PriorityClass gold", "cms: ConfigMap settings", "cms: Deployment web"]);
    assert!(collected.left.contains(&"Service web: TypeNotIncluded".to_owned()), "{collected:?}");
    assert_eq!(collected.warnings[0].reason, "ClaimsNotIncluded");
    let (collected, _) =
        collect(&fake, json!({"excludedResourceTypes": ["*.example.com", "PriorityClass"]})).await;
    // Its owner does not go along, so it goes itself.
    assert!(collected.taken.contains(&"cms: StatefulSet db-set".to_owned()), "{collected:?}");
    assert!(collected.left.contains(&"PriorityClass gold: TypeExcluded".to_owned()));
    assert!(collected.left.contains(&"Database db: TypeExcluded".to_owned()));
    assert!(!collected.taken.iter().any(|t| t.contains("CustomResourceDefinition")));
}

#[tokio::test]
async fn a_kind_is_read_in_the_version_that_both_sides_serve() {
    let mut fake = Fake::default();
    fake.serve("autoscaling", "v2", "HorizontalPodAutoscaler", true);
    fake.serve("autoscaling", "v1", "HorizontalPodAutoscaler", true);
    fake.add(object("autoscaling/v2", "HorizontalPodAutoscaler", "web"));
    let mut older = Fake::default();
    older.serve("autoscaling", "v1", "HorizontalPodAutoscaler", true);
    let requests = fake.requests();
    let (_, gathered) = collect_to(&fake, &older.catalogue(), json!({})).await;
    assert_eq!(gathered.kinds[0].version, "v1");
    assert_eq!(gathered.kinds[0].versions, ["v2", "v1"]);
    assert!(requests.lock().unwrap()[0].starts_with("/apis/autoscaling/v1/"));
    let mut newer = Fake::default();
    newer.serve("autoscaling", "v3", "HorizontalPodAutoscaler", true);
    let (_, gathered) = collect_to(&fake, &newer.catalogue(), json!({})).await;
    assert_eq!(gathered.failures.list[0].reason, "VersionNotServed");
    assert!(gathered.failures.list[0].message.contains("v3"));
}

#[tokio::test]
async fn a_kind_of_which_nothing_is_taken_may_be_unknown_to_the_destination() {
    let mut fake = application();
    fake.serve("rare.example.com", "v1", "Rarity", true);
    let without: Vec<_> = fake.catalogue().kinds().iter().filter(|k| k.kind != "Rarity").cloned().collect();
    let (_, gathered) = collect_to(&fake, &Catalogue::of(without), json!({})).await;
    assert!(gathered.failures.is_empty());
}

#[tokio::test]
async fn a_kind_that_may_not_be_read_fails_unless_nothing_of_it_is_wanted() {
    let forbidden = application().refusing(|path| {
        path.contains("/secrets?").then(|| (403, json!({"kind": "Status", "reason": "Forbidden"})))
    });
    let (scope, _) = Scope::of(&spec(json!({})), forbidden.catalogue(), &forbidden.catalogue());
    let failed = gather(&forbidden.cluster(), &scope, &["cms"], &mut Collected::default()).await.unwrap_err();
    assert!(failed.to_string().contains("reading its objects"), "{failed}");
    let (collected, _) = collect(&forbidden, json!({"excludedResourceTypes": ["secrets"]})).await;
    assert!(collected.notes[0].starts_with("secrets in cms"), "{collected:?}");
}

#[test]
fn a_kind_that_is_gone_or_whose_server_is_down_stops_nothing() {
    let fake = application();
    let (scope, _) = Scope::of(&spec(json!({})), fake.catalogue(), &fake.catalogue());
    let reading = |kind: &str| scope.namespaced.iter().find(|r| r.kind.kind == kind).unwrap();
    let of = |kind: &str, code| trouble(reading(kind), code);
    assert_eq!(of("Database", Some(404)), Trouble::None);
    assert_eq!((of("Database", Some(503)), of("Secret", Some(503))), (Trouble::Warned, Trouble::Fatal));
    assert_eq!((of("Secret", Some(403)), of("Secret", None)), (Trouble::Fatal, Trouble::Fatal));
}

#[tokio::test]
async fn what_owners_held_back_goes_last_and_what_is_gone_by_then_is_told() {
    let mut fake = Fake::default();
    let held = |name: &str, owner: &str| {
        with(
            object("v1", "ConfigMap", name),
            json!({"metadata": {"ownerReferences": [
                {"apiVersion": "apps/v1", "kind": "Deployment", "name": owner, "uid": format!("Deployment/{owner}")}]}}),
        )
    };
    fake.add(held("after", "web"));
    fake.add(held("free", "gone"));
    fake.add(object("apps/v1", "Deployment", "web"));
    let (collected, _) = collect(&fake, json!({})).await;
    assert_eq!(collected.taken[..3], ["cms: Deployment web", "cms: ConfigMap free", "cms: ConfigMap after"]);
}

#[tokio::test]
async fn what_was_not_held_is_read_again_and_only_if_it_is_the_same() {
    let mut fake = Fake::default();
    let owner = json!({"metadata": {"ownerReferences": [
        {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web", "uid": "u"}]}});
    let config = with(object("v1", "ConfigMap", "late"), owner.clone());
    fake.add(config.clone());
    let found = |uid: &str, name: &str| {
        let met = with(config.clone(), json!({"metadata": {"uid": uid, "name": name}}));
        let mut ownership = crate::collect::ownership::Ownership::without_room();
        ownership.meet(met, Choice::Keep, 0);
        let held = ownership.settle().remove(0).held;
        assert!(held.content.is_none());
        let (cluster, kind) = (fake.cluster(), fake.catalogue().kinds()[0].clone());
        async move { content(&cluster, Some("cms"), &kind, held).await.unwrap().is_some() }
    };
    assert!(found("ConfigMap/late", "late").await);
    assert!(!found("another", "late").await, "made anew meanwhile");
    assert!(!found("ConfigMap/late", "gone").await, "removed meanwhile");
}
