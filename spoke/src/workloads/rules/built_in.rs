//! The rules that come along, each by what the operator's own documentation says stops it.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Dependent, Field, Rule};

/// Kinds of Elastic's operator that have a count: group and kind.
const ELASTIC_COUNTED: &[(&str, &str)] = &[
    ("kibana.k8s.elastic.co", "Kibana"),
    ("apm.k8s.elastic.co", "ApmServer"),
    ("enterprisesearch.k8s.elastic.co", "EnterpriseSearch"),
    ("maps.k8s.elastic.co", "ElasticMapsServer"),
    ("logstash.k8s.elastic.co", "Logstash"),
];

/// Operators with a field that is true while all is stopped: group, kind and field.
const PAUSED: &[(&str, &str, &str)] = &[
    // https://docs.percona.com: "Pause/resume" of each of the operators.
    ("pxc.percona.com", "PerconaXtraDBCluster", "/spec/pause"),
    ("ps.percona.com", "PerconaServerMySQL", "/spec/pause"),
    ("psmdb.percona.com", "PerconaServerMongoDB", "/spec/pause"),
    ("pg.percona.com", "PerconaPGCluster", "/spec/pause"),
    ("pgv2.percona.com", "PerconaPGCluster", "/spec/pause"),
    // What the latter is made on.
    ("postgres-operator.crunchydata.com", "PostgresCluster", "/spec/shutdown"),
    ("upstream.pgv2.percona.com", "PostgresCluster", "/spec/shutdown"),
    ("apps.kruise.io", "AdvancedCronJob", "/spec/paused"),
];

/// Kinds that run as many Pods as they are told to: group, kind and field.
const COUNTED: &[(&str, &str, &str)] = &[
    ("kafka.strimzi.io", "KafkaConnect", "/spec/replicas"),
    ("kafka.strimzi.io", "KafkaBridge", "/spec/replicas"),
    ("kafka.strimzi.io", "KafkaMirrorMaker2", "/spec/replicas"),
    ("postgresql.cnpg.io", "Pooler", "/spec/instances"),
    ("kubevirt.io", "VirtualMachineInstanceReplicaSet", "/spec/replicas"),
    ("pool.kubevirt.io", "VirtualMachinePool", "/spec/replicas"),
];

/// All of them.
pub fn rules() -> Vec<Rule> {
    let mut rules =
        vec![elasticsearch(), beat("beat.k8s.elastic.co", "Beat"), kafka(), zalando(), kubevirt()];
    rules.push(beat("agent.k8s.elastic.co", "Agent"));
    rules.extend(
        ELASTIC_COUNTED.iter().map(|(group, kind)| rule(group, kind, vec![set("/spec/count", json!(0))])),
    );
    rules.extend(PAUSED.iter().map(|(group, kind, path)| rule(group, kind, vec![set(path, json!(true))])));
    rules.extend(COUNTED.iter().map(|(group, kind, path)| rule(group, kind, vec![set(path, json!(0))])));
    // https://cloudnative-pg.io/documentation/current/declarative_hibernation/
    rules.push(hibernating("postgresql.cnpg.io", "cnpg.io~1hibernation"));
    rules.push(hibernating("postgresql.k8s.enterprisedb.io", "k8s.enterprisedb.io~1hibernation"));
    // https://keda.sh/docs/latest/concepts/scaling-deployments/ - it scales up what stands at none.
    let paused = "/metadata/annotations/autoscaling.keda.sh~1paused";
    rules.push(rule("keda.sh", "ScaledObject", vec![set(paused, json!("true"))]));
    rules
}

fn rule(group: &str, kind: &str, fields: Vec<Field>) -> Rule {
    Rule {
        group: group.to_owned(),
        kind: kind.to_owned(),
        fields,
        labels: BTreeMap::new(),
        stops: Vec::new(),
        deletes: Vec::new(),
        stopped: None,
    }
}

fn set(path: &str, value: Value) -> Field {
    Field { path: path.to_owned(), value, if_present: false }
}

fn either(path: &str, value: Value) -> Field {
    Field { path: path.to_owned(), value, if_present: true }
}

fn kinds(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// Elastic's operator has no way to stop Elasticsearch, whose nodes it would drain one by one: it is
/// told to look away, and the StatefulSets under it are stopped as they are. The annotation is known to
/// all its versions; the newer `pause-orchestration` is not.
/// <https://www.elastic.co/docs/deploy-manage/deploy/cloud-on-k8s/k8s-pause-orchestration>
fn elasticsearch() -> Rule {
    Rule {
        stops: kinds(&["StatefulSet"]),
        ..rule("elasticsearch.k8s.elastic.co", "Elasticsearch", vec![unmanaged()])
    }
}

/// As Elasticsearch: Beats and Agents have no count of their own.
fn beat(group: &str, kind: &str) -> Rule {
    Rule { stops: kinds(&["Deployment", "DaemonSet", "StatefulSet"]), ..rule(group, kind, vec![unmanaged()]) }
}

fn unmanaged() -> Field {
    set("/metadata/annotations/eck.k8s.elastic.co~1managed", json!("false"))
}

/// Strimzi neither scales brokers to none nor has a way to stop them: what its maintainers advise is to
/// pause the Kafka and to delete the StrimziPodSets under it, which come back when it goes on; claims
/// belong to the Kafka and stay. The Deployments beside the brokers are stopped as they are.
/// <https://strimzi.io/docs/operators/latest/deploying#proc-pausing-reconciliation-str>
fn kafka() -> Rule {
    Rule {
        labels: [("strimzi.io/cluster".to_owned(), "{name}".to_owned())].into(),
        stops: kinds(&["Deployment", "StatefulSet"]),
        deletes: vec![Dependent { group: "core.strimzi.io".to_owned(), kind: "StrimziPodSet".to_owned() }],
        ..rule(
            "kafka.strimzi.io",
            "Kafka",
            vec![set("/metadata/annotations/strimzi.io~1pause-reconciliation", json!("true"))],
        )
    }
}

/// Zalando's operator takes no instances for an answer; its poolers, and StatefulSets unless it is set
/// up so, carry no owner reference. Poolers it does not stop.
/// <https://postgres-operator.readthedocs.io/en/latest/reference/cluster_manifest/>
fn zalando() -> Rule {
    Rule {
        labels: [
            ("cluster-name".to_owned(), "{name}".to_owned()),
            ("application".to_owned(), "spilo".to_owned()),
        ]
        .into(),
        stops: kinds(&["Deployment"]),
        ..rule("acid.zalan.do", "postgresql", vec![set("/spec/numberOfInstances", json!(0))])
    }
}

/// A virtual machine has one of the two fields. One whose strategy is `Manual` runs or not by what its
/// people did last, which no field says: going back does not start it.
/// <https://kubevirt.io/user-guide/compute/run_strategies>
fn kubevirt() -> Rule {
    rule(
        "kubevirt.io",
        "VirtualMachine",
        vec![either("/spec/running", json!(false)), either("/spec/runStrategy", json!("Halted"))],
    )
}

fn hibernating(group: &str, annotation: &str) -> Rule {
    rule(group, "Cluster", vec![set(&format!("/metadata/annotations/{annotation}"), json!("on"))])
}
