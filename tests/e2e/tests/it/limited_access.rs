//! A source whose spoke has no more than the chart's `access: source`: what it needs is in that role,
//! and what is missing from it is named before anything is begun.

use isthmus_lab::cluster::ClusterTraits;
use isthmus_lab::programs::SpokeOptions;
use isthmus_lab::trees::{CompareOptions, compare_trees};
use isthmus_lab::{Lab, LabOptions};
use isthmus_shared::resources::MigrationPhase;
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::authorization::v1::{ResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec};
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::Api;
use kube::api::PostParams;
use serde_json::{Value, json};

use crate::snapshots::{run_of, succeeded};
use crate::world::{NAMESPACE, World, apply, bare_with, eventually};

const CHART: &str = include_str!("../../../../deploy/charts/isthmus-spoke/templates/rbac.yaml");
const ACCOUNT: &str = "limited-spoke";
const ROLE: &str = "/apis/rbac.authorization.k8s.io/v1/clusterroles/limited-spoke";

/// The rules of the chart's `access: source`, which stand there without templates.
fn chart_rules() -> Vec<Value> {
    let limited = CHART.split("{{- else }}").nth(1).unwrap().split("\n---").next().unwrap();
    // What may be switched off is on.
    let rules: Vec<&str> = limited.lines().filter(|line| !line.trim_start().starts_with("{{")).collect();
    serde_saphyr::from_str(&rules.join("\n")).unwrap()
}

/// Those of its Role in its own namespace.
fn own_rules() -> Vec<Value> {
    let role = CHART.split("\n---").find(|part| part.contains("\nkind: Role\n")).unwrap();
    serde_saphyr::from_str(role.split("\nrules:\n").nth(1).unwrap()).unwrap()
}

/// What stands for the spoke in its cluster.
async fn bring_account(lab: &Lab) {
    let reference =
        |kind: &str| json!({"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": ACCOUNT});
    let subjects = json!([{"kind": "ServiceAccount", "name": ACCOUNT, "namespace": NAMESPACE}]);
    let metadata = |namespaced: bool| {
        if namespaced { json!({"name": ACCOUNT, "namespace": NAMESPACE}) } else { json!({"name": ACCOUNT}) }
    };
    let rbac = |kind: &str, namespaced: bool, more: Value| {
        let mut object = json!({"apiVersion": "rbac.authorization.k8s.io/v1", "kind": kind, "metadata": metadata(namespaced)});
        object.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        object
    };
    let all = [
        json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}}),
        json!({"apiVersion": "v1", "kind": "ServiceAccount", "metadata": metadata(true)}),
        rbac("ClusterRole", false, json!({"rules": chart_rules()})),
        rbac("ClusterRoleBinding", false, json!({"roleRef": reference("ClusterRole"), "subjects": subjects})),
        rbac("Role", true, json!({"rules": own_rules()})),
        rbac("RoleBinding", true, json!({"roleRef": reference("Role"), "subjects": subjects})),
    ];
    for object in all {
        apply(lab.client("east").unwrap(), &object.to_string()).await;
    }
}

/// The administrator's kubeconfig with the account's token in the place of theirs.
async fn kubeconfig(lab: &Lab) -> std::path::PathBuf {
    let accounts = Api::<ServiceAccount>::namespaced(lab.client("east").unwrap(), NAMESPACE);
    let spec = TokenRequestSpec { expiration_seconds: Some(3600), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let issued = accounts.create_token_request(ACCOUNT, &PostParams::default(), &request).await.unwrap();
    let token = issued.status.unwrap().token;
    let text = std::fs::read_to_string(lab.kubeconfig("east").unwrap()).unwrap();
    let old = text.lines().find_map(|line| line.trim().strip_prefix("token: ")).unwrap();
    let path = lab.dir().join("limited-kubeconfig");
    std::fs::write(&path, text.replace(old, &token)).unwrap();
    path
}

/// Waits until the API server goes by the account's new rules.
async fn may_no_more(world: &World, verb: &str, resource: &str) {
    let reviews = Api::<SubjectAccessReview>::all(world.client("east"));
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{NAMESPACE}:{ACCOUNT}")),
            resource_attributes: Some(ResourceAttributes {
                group: Some("snapshot.storage.k8s.io".to_owned()),
                resource: Some(resource.to_owned()),
                verb: Some(verb.to_owned()),
                namespace: Some("frugal".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    eventually("the account's rights to be taken away", || async {
        let answer = reviews.create(&PostParams::default(), &review).await.unwrap();
        if answer.status.as_ref().is_some_and(|status| status.allowed) {
            Err(format!("{answer:?}"))
        } else {
            Ok(())
        }
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_spoke_with_a_sources_rights_reads_from_snapshots_and_names_the_right_that_it_lacks() {
    let traits = ClusterTraits { snapshots: true, ..ClusterTraits::default() };
    let options = LabOptions { traits: [("east".to_owned(), traits)].into(), ..LabOptions::default() };
    let lab = bare_with(options).await;
    bring_account(&lab).await;
    let kubeconfig = Some(kubeconfig(&lab).await);
    let world =
        World::start_as(lab, SpokeOptions { kubeconfig, ..SpokeOptions::new("east", NAMESPACE) }).await;

    let east = world.install("frugal", "lab-local", "ReadWriteOnce", "Filesystem").await;
    std::fs::write(east.join("file"), "content").unwrap();
    let must = run_of("frugal", &json!({"method": "Snapshot"}));
    world.create_migration("limited", must.clone()).await.unwrap();
    succeeded(&world.ended("limited").await, "Snapshot");
    let west = world.volume("west", "frugal", "data").await;
    assert_eq!(compare_trees(&east, &west, &CompareOptions::default()).unwrap(), []);
    world.nothing_stays("frugal").await;

    // Without the right to make snapshots a run that must have them is refused, and another tells.
    let mut rules = chart_rules();
    let makes_snapshots = |rule: &Value| rule["resources"] == json!(["volumesnapshots"]);
    assert!(rules.iter().any(makes_snapshots), "{rules:#?}");
    rules.retain(|rule| !makes_snapshots(rule));
    world.patch("east", ROLE, json!({"rules": rules})).await;
    may_no_more(&world, "create", "volumesnapshots").await;
    world.create_migration("limited-must", must).await.unwrap();
    let status = world.ended("limited-must").await;
    assert_eq!(status.status, MigrationPhase::Failed, "{status:#?}");
    let failure = status.failures.iter().find(|failure| failure.reason == "Forbidden");
    let failure = failure.unwrap_or_else(|| panic!("{status:#?}"));
    for said in ["volumesnapshots", "grant the spoke's service account", "ClusterRole in deploy/"] {
        assert!(failure.message.contains(said), "{said}: {failure:?}");
    }
    world.create_migration("limited-auto", run_of("frugal", &json!({}))).await.unwrap();
    let status = world.ended("limited-auto").await;
    assert_eq!(status.status, MigrationPhase::SucceededWithWarnings, "{status:#?}");
    assert_eq!(status.volumes[0].method.as_deref(), Some("Live"));
    let warning = status.warnings.iter().find(|warning| warning.reason == "SnapshotFailed");
    assert!(
        warning.is_some_and(|warning| warning.message.contains("grant the spoke's service account")),
        "{status:#?}"
    );
    world.nothing_stays("frugal").await;
}
