//! The rules that come along, each by what the operator's own sources say stops it: these are named with
//! their project and file, as of August 2026.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Dependent, Field, Rule};

/// Kinds of Elastic's operator that have a count: group and kind. Of elastic/cloud-on-k8s,
/// pkg/apis/{kibana,apm,enterprisesearch,maps,logstash,packageregistry}/*/*_types.go: `count`.
const ELASTIC_COUNTED: &[(&str, &str)] = &[
    ("kibana.k8s.elastic.co", "Kibana"),
    ("apm.k8s.elastic.co", "ApmServer"),
    ("enterprisesearch.k8s.elastic.co", "EnterpriseSearch"),
    ("maps.k8s.elastic.co", "ElasticMapsServer"),
    ("logstash.k8s.elastic.co", "Logstash"),
    ("packageregistry.k8s.elastic.co", "PackageRegistry"),
];

/// Operators with a field that is true while all is stopped: group, kind and field.
const PAUSED: &[(&str, &str, &str)] = &[
    // percona/percona-xtradb-cluster-operator, pkg/apis/pxc/v1/pxc_types.go.
    ("pxc.percona.com", "PerconaXtraDBCluster", "/spec/pause"),
    // percona/percona-server-mysql-operator, api/v1/perconaservermysql_types.go.
    ("ps.percona.com", "PerconaServerMySQL", "/spec/pause"),
    // percona/percona-server-mongodb-operator, pkg/apis/psmdb/v1/psmdb_types.go.
    ("psmdb.percona.com", "PerconaServerMongoDB", "/spec/pause"),
    // percona/percona-postgresql-operator, before version 2 was done: pkg/apis/pg.percona.com/v2beta1/
    // perconapgcluster_types.go; since: pkg/apis/pgv2.percona.com/v2/perconapgcluster_types.go, which sets the `shutdown` of the
    // PostgresCluster that it makes.
    ("pg.percona.com", "PerconaPGCluster", "/spec/pause"),
    ("pgv2.percona.com", "PerconaPGCluster", "/spec/pause"),
    // The same, pkg/apis/upstream.pgv2.percona.com/v1beta1/postgrescluster_types.go, where it was called by
    // Crunchy's own group before.
    ("postgres-operator.crunchydata.com", "PostgresCluster", "/spec/shutdown"),
    ("upstream.pgv2.percona.com", "PostgresCluster", "/spec/shutdown"),
    // openkruise/kruise, apis/apps/{v1alpha1,v1beta1}/advancedcronjob_types.go.
    ("apps.kruise.io", "AdvancedCronJob", "/spec/paused"),
];

/// Kinds that run as many Pods as they are told to: group, kind and field.
const COUNTED: &[(&str, &str, &str)] = &[
    // strimzi/strimzi-kafka-operator, packaging/install/cluster-operator/{041,046,048}-Crd-*.yaml; its
    // KafkaConnectAssemblyOperator and the others have a way of their own for none.
    ("kafka.strimzi.io", "KafkaConnect", "/spec/replicas"),
    ("kafka.strimzi.io", "KafkaBridge", "/spec/replicas"),
    ("kafka.strimzi.io", "KafkaMirrorMaker2", "/spec/replicas"),
    // cloudnative-pg/cloudnative-pg, api/v1/pooler_types.go.
    ("postgresql.cnpg.io", "Pooler", "/spec/instances"),
    // kubevirt/api, core/v1/types.go and pool/v1beta1/types.go.
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
    // cloudnative-pg/cloudnative-pg, docs/src/declarative_hibernation.md; EDB's is made of it.
    rules.push(hibernating("postgresql.cnpg.io", "cnpg.io~1hibernation"));
    rules.push(hibernating("postgresql.k8s.enterprisedb.io", "k8s.enterprisedb.io~1hibernation"));
    // kedacore/keda, apis/keda/v1alpha1/{scaledobject,scaledjob}_types.go: the one scales up what stands
    // at none, the other makes Jobs.
    let paused = "/metadata/annotations/autoscaling.keda.sh~1paused";
    rules.extend(
        ["ScaledObject", "ScaledJob"].map(|kind| rule("keda.sh", kind, vec![set(paused, json!("true"))])),
    );
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
/// told to look away, and the StatefulSets under it are stopped as they are.
fn elasticsearch() -> Rule {
    Rule {
        stops: kinds(&["StatefulSet"]),
        ..rule("elasticsearch.k8s.elastic.co", "Elasticsearch", unmanaged())
    }
}

/// As Elasticsearch: Beats and Agents have no count of their own.
fn beat(group: &str, kind: &str) -> Rule {
    Rule { stops: kinds(&["Deployment", "DaemonSet", "StatefulSet"]), ..rule(group, kind, unmanaged()) }
}

/// Of elastic/cloud-on-k8s: pkg/controller/common/unmanaged.go knows the first, which versions from 3.5.0
/// on deprecate (docs/release-notes/deprecations.md) for the second, which those before do not know. With
/// both, every version looks away.
fn unmanaged() -> Vec<Field> {
    vec![
        set("/metadata/annotations/eck.k8s.elastic.co~1managed", json!("false")),
        set("/metadata/annotations/eck.k8s.elastic.co~1pause-orchestration", json!("true")),
    ]
}

/// Strimzi neither scales brokers to none nor has a way to stop them: what its maintainers advise is to
/// pause the Kafka and to delete the StrimziPodSets under it, which come back when it goes on; claims
/// belong to the Kafka and stay. The Deployments beside the brokers are stopped as they are. Of
/// strimzi/strimzi-kafka-operator: documentation/modules/operators/proc-pausing-reconciliation.adoc. Pod
/// sets belong to KafkaNodePools, so labels tell whose they are (KafkaPool.java, AbstractModel.java): that
/// of the kind too, as a KafkaConnect may have the Kafka's name.
fn kafka() -> Rule {
    Rule {
        labels: [
            ("strimzi.io/cluster".to_owned(), "{name}".to_owned()),
            ("strimzi.io/kind".to_owned(), "Kafka".to_owned()),
        ]
        .into(),
        stops: kinds(&["Deployment", "StatefulSet"]),
        deletes: vec![Dependent { group: "core.strimzi.io".to_owned(), kind: "StrimziPodSet".to_owned() }],
        ..rule(
            "kafka.strimzi.io",
            "Kafka",
            vec![set("/metadata/annotations/strimzi.io~1pause-reconciliation", json!("true"))],
        )
    }
}

/// Zalando's operator takes no instances for an answer, unless its own `min_instances` says otherwise; its
/// poolers, and StatefulSets unless it is set up so, carry no owner reference. Poolers it does not stop. Of
/// zalando/postgres-operator: manifests/postgresql.crd.yaml (`numberOfInstances`, 0 at least), labels by
/// pkg/cluster/k8sres.go and connection_pooler.go.
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
/// people did last, which no field says: going back does not start it. Of kubevirt/api: core/v1/types.go.
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
