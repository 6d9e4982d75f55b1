//! What goes along and what stays, by each option; mostly asked of dry runs, which are as good.

use isthmus_shared::protocol::ObjectAction::Created;
use serde_json::{Value, json};

use crate::reading::in_namespace;
use crate::runs::{Report, name_of};
use crate::world::{World, eventually};

const NAMESPACES: &str = include_str!("../../cases/selection.yaml");

/// The source, once its Job has run and its Deployment's Pod does.
async fn settled() -> World {
    let world = World::start().await;
    world.apply("east", NAMESPACES).await;
    eventually("the Job to be done and the Deployment to run", || async {
        let job = world.get("east", "/apis/batch/v1/namespaces/pick-a/jobs/done").await;
        let web = world.get("east", "/apis/apps/v1/namespaces/pick-a/deployments/web").await;
        let done = job.pointer("/status/succeeded") == Some(&json!(1));
        let finished = job["status"]["conditions"]
            .as_array()
            .is_some_and(|all| all.iter().any(|c| c["type"] == "Complete" && c["status"] == "True"));
        let ready = web.pointer("/status/readyReplicas") == Some(&json!(1));
        if done && finished && ready { Ok(()) } else { Err(format!("{job} {web}")) }
    })
    .await;
    world
}

/// A dry run of `pick-a` with these fields of the spec.
async fn of_a(world: &World, name: &str, options: Value) -> Report {
    let mut spec = json!({"namespaces": ["pick-a"], "dryRun": true});
    spec.as_object_mut().unwrap().extend(options.as_object().unwrap().clone());
    world.run(name, spec).await
}

#[track_caller]
fn takes(report: &Report, names: &[&str]) {
    report.came_to(Created, names);
}

/// These objects stay, and a person is told why.
#[track_caller]
fn leaves(report: &Report, names: &[&str]) {
    for name in names {
        let reason = report.of(name).reason.clone().unwrap_or_default();
        assert!(!reason.is_empty(), "{name} stays for no reason");
        report.left_behind(&reason, &[name]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_option_of_selection_takes_what_it_says_and_every_object_is_accounted_for() {
    let world = settled().await;
    let before = in_namespace(world.client("east"), "pick-a").await;

    // By a glob, and by labels of namespaces; nothing of a namespace goes unmentioned.
    let globbed = world.run("globbed", json!({"namespaces": ["pick-*"], "dryRun": true})).await.succeeded();
    let labelled = json!({"namespaceSelector": {"matchLabels": {"wave": "one"}}, "dryRun": true});
    let labelled = world.run("labelled", labelled).await.succeeded();
    for report in [&globbed, &labelled] {
        let names: Vec<&str> = report.status.namespaces.iter().map(|ns| ns.from.as_str()).collect();
        assert_eq!(names, ["pick-a", "pick-b"]);
        takes(report, &["ConfigMap pick-b/of-b", "ConfigMap pick-a/plain", "Widget pick-a/one"]);
        assert!(report.find("ConfigMap other/elsewhere").is_none());
    }
    let after = in_namespace(world.client("east"), "pick-a").await;
    for object in before.keys().filter(|name| after.contains_key(*name)) {
        assert!(globbed.find(object).is_some(), "nothing is said of {object}");
    }
    let told = globbed.objects.iter().filter(|object| object.namespace.as_deref() == Some("pick-a"));
    for object in told.map(name_of) {
        assert!(before.contains_key(&object) || after.contains_key(&object), "{object} is not there");
    }
    let details = world.isthmus(&["migration", "describe", "globbed", "--details"]).await.ends_with(0).out;
    for object in before.keys().filter(|name| after.contains_key(*name)) {
        let name = object.rsplit('/').next().unwrap();
        assert!(details.contains(name), "{object} is not in\n{details}");
    }
    globbed.left_behind("Skipped", &["ConfigMap pick-a/skipped"]);
    globbed.left_behind("Pod", &["Pod pick-a/bare"]);
    globbed.left_behind("Finished", &["Job pick-a/done"]);
    globbed.left_behind("Lease", &["Lease pick-a/leader"]);
    globbed.left_behind("Event", &["Event pick-a/told.1"]);
    globbed.left_behind("Endpoints", &["Endpoints pick-a/web"]);
    globbed.left_behind("Generated", &["ConfigMap pick-a/kube-root-ca.crt"]);
    takes(&globbed, &["Endpoints pick-a/outside", "Service pick-a/outside", "ClusterRole pick-needed"]);
    assert!(globbed.find("ClusterRole pick-not-needed").is_none_or(|object| object.action != Created));
    assert_eq!(world.find("west", "/api/v1/namespaces/pick-a").await, None, "a dry run made a namespace");

    // Any of several selectors, in each form; none of several exclusions.
    let selected = json!({
        "selectors": ["tier=front", {"matchExpressions": [{"key": "zone", "operator": "In", "values": ["one", "two"]}]}],
        "excludeSelectors": ["zone=two", "tier in (side)"],
    });
    let report = of_a(&world, "selected", selected).await.succeeded();
    takes(&report, &["ConfigMap pick-a/front", "ConfigMap pick-a/back", "Deployment pick-a/web"]);
    leaves(&report, &["ConfigMap pick-a/back-two", "ConfigMap pick-a/plain", "NetworkPolicy pick-a/all"]);

    // Types, in each form.
    let included = json!({"includedResourceTypes": ["ConfigMap", "deployments.apps", "*.networking.k8s.io"]});
    let report = of_a(&world, "included", included).await.succeeded();
    takes(&report, &["ConfigMap pick-a/plain", "Deployment pick-a/web", "NetworkPolicy pick-a/all"]);
    leaves(&report, &["Secret pick-a/key", "Service pick-a/web", "Widget pick-a/one"]);
    let definition = report.find("CustomResourceDefinition widgets.pick.example.com");
    assert!(definition.is_none_or(|object| object.action != Created), "nobody needs {definition:?}");
    let excluded = json!({"excludedResourceTypes": ["Secret", "*.apps", "widgets.pick.example.com"]});
    let report = of_a(&world, "excluded", excluded).await.succeeded();
    takes(&report, &["ConfigMap pick-a/plain", "Service pick-a/web", "NetworkPolicy pick-a/all"]);
    leaves(&report, &["Secret pick-a/key", "Deployment pick-a/web", "Widget pick-a/one"]);

    // What is left behind unless it is asked for; a workload's Pod is not a bare one.
    let optional = json!({"includeOptionalResourceTypes": ["Pod", "Job"]});
    let report = of_a(&world, "optional", optional).await.succeeded();
    takes(&report, &["Pod pick-a/bare", "Job pick-a/done"]);
    let pods: Vec<_> = report.objects.iter().filter(|o| o.kind == "Pod" && o.name != "bare").collect();
    assert!(!pods.is_empty() && pods.iter().all(|pod| pod.action != Created), "{pods:?}");

    // Cluster scope: what is needed, all, none.
    let none = json!({"includeClusterResources": "None", "excludedResourceTypes": ["Widget"]});
    let report = of_a(&world, "none", none).await.succeeded();
    let of_cluster = |report: &Report| -> Vec<String> {
        let taken = report.objects.iter().filter(|o| o.namespace.is_none() && o.kind != "Namespace");
        taken.filter(|o| o.action == Created).map(name_of).collect()
    };
    assert_eq!(of_cluster(&report), Vec::<String>::new());
    let report = of_a(&world, "everything", json!({"includeClusterResources": "All"})).await.succeeded();
    takes(&report, &["ClusterRole pick-needed", "ClusterRole pick-not-needed"]);
    let own: Vec<String> = of_cluster(&report)
        .into_iter()
        .filter(|name| name.contains("system:") || name.starts_with("Node "))
        .collect();
    assert!(own.is_empty(), "the cluster's own are taken: {own:?}");

    // And for real: what a dry run says is what a run does.
    let spec = json!({"namespaces": ["pick-*"]});
    let real = world.run("real", spec).await.succeeded();
    let sorted = |report: &Report| {
        let mut names = report.all(Created);
        // Namespaces are prepared before objects are applied, and are none of the results.
        names.retain(|name| !name.starts_with("Namespace "));
        names.sort();
        names
    };
    assert_eq!(sorted(&real), sorted(&globbed));
    let there = in_namespace(world.client("west"), "pick-a").await;
    for name in sorted(&real).iter().filter(|name| name.contains(" pick-a/")) {
        assert!(there.contains_key(name), "{name} is not there");
    }
    for name in ["ConfigMap pick-a/skipped", "Pod pick-a/bare", "Job pick-a/done", "Lease pick-a/leader"] {
        assert!(!there.contains_key(name), "{name} was brought along");
    }
}
