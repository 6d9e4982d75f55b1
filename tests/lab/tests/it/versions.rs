//! Clusters of one lab that serve different versions.

use isthmus_lab::cluster::{ClusterTraits, Flavour};
use isthmus_lab::{Lab, LabOptions};
use k8s_openapi::api::autoscaling::v1::HorizontalPodAutoscaler;
use kube::api::PostParams;
use kube::{Api, Client, Discovery};
use serde_json::json;

async fn versions(client: &Client, group: &str) -> Vec<String> {
    let discovery = Discovery::new(client.clone()).filter(&[group]).run_aggregated().await.unwrap();
    discovery.groups().flat_map(kube::discovery::ApiGroup::versions).map(str::to_owned).collect()
}

async fn an_older_cluster_serves_what_the_newer_one_reads_in_both_versions(flavour: Flavour) {
    crate::use_lab_executable();
    let older = ClusterTraits::without(["autoscaling/v2", "policy/v1"]);
    let options = LabOptions {
        clusters: vec!["newer".to_owned(), "older".to_owned()],
        flavour: Some(flavour),
        traits: [("older".to_owned(), older)].into(),
        ..LabOptions::default()
    };
    let lab = Lab::start(options).await.unwrap();
    let (newer, older) = (lab.client("newer").unwrap(), lab.client("older").unwrap());
    assert_eq!(versions(&newer, "autoscaling").await, ["v2", "v1"]);
    assert_eq!(versions(&older, "autoscaling").await, ["v1"]);
    assert!(versions(&older, "policy").await.is_empty());
    let autoscaler: HorizontalPodAutoscaler = serde_json::from_value(json!({
        "metadata": {"name": "web"},
        "spec": {"scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": "web"},
            "maxReplicas": 3, "targetCPUUtilizationPercentage": 70}}))
    .unwrap();
    for client in [newer, older] {
        let api = Api::<HorizontalPodAutoscaler>::namespaced(client, "default");
        let made = api.create(&PostParams::default(), &autoscaler).await.unwrap();
        assert_eq!(made.spec.unwrap().target_cpu_utilization_percentage, Some(70));
    }
    lab.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_serves_what_the_newer_one_reads_in_both_versions_embedded() {
    if crate::is_wanted(false) {
        an_older_cluster_serves_what_the_newer_one_reads_in_both_versions(Flavour::Embedded).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_cluster_serves_what_the_newer_one_reads_in_both_versions_real() {
    if let Some(real) = Flavour::real().filter(|_| crate::is_wanted(true)) {
        an_older_cluster_serves_what_the_newer_one_reads_in_both_versions(real).await;
    }
}

#[tokio::test]
async fn traits_of_a_cluster_that_is_not_there_are_refused() {
    let options = LabOptions {
        clusters: vec!["east".to_owned()],
        traits: [("west".to_owned(), ClusterTraits::default())].into(),
        ..LabOptions::default()
    };
    let error = Lab::start(options).await.unwrap_err().to_string();
    assert_eq!(error, "the lab has no cluster west; it has hub, east");
}
