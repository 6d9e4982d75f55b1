use super::*;

fn of(fields: Vec<Field>) -> Rule {
    Rule {
        group: "example.com".to_owned(),
        kind: "Database".to_owned(),
        fields,
        labels: BTreeMap::new(),
        stops: Vec::new(),
        deletes: Vec::new(),
        stopped: None,
    }
}

fn field(path: &str, value: Value) -> Field {
    Field { path: path.to_owned(), value, if_present: false }
}

fn database(spec: &Value) -> Value {
    json!({"apiVersion": "example.com/v1", "kind": "Database", "metadata": {"name": "db", "annotations": {"a": "b"}},
           "spec": spec})
}

fn patched(object: &Value, patch: Option<Value>) -> Value {
    let mut after = object.clone();
    merge(&mut after, &patch.unwrap_or_else(|| json!({})));
    after
}

#[test]
fn fields_that_were_not_there_are_gone_again_with_the_maps_around_them() {
    let rule = of(vec![
        field("/spec/a/b/x", json!(0)),
        field("/spec/a/b/y", json!("off")),
        field("/spec/c", json!(true)),
    ]);
    for spec in
        [json!({}), json!({"a": {}}), json!({"a": {"b": {"x": 3}}}), json!({"a": {"d": 1}, "c": false})]
    {
        let object = database(&spec);
        let stopped = patched(&object, rule.stop(&object));
        assert!(rule.is_stopped(&stopped));
        assert!(rule.stop(&stopped).is_none());
        assert_eq!(patched(&stopped, rule.start(&stopped).unwrap()), object);
    }
}

#[test]
fn what_a_person_has_changed_meanwhile_stays() {
    let rule = of(vec![field("/spec/a/x", json!(0)), field("/spec/y", json!(true))]);
    let object = database(&json!({"y": false}));
    let mut stopped = patched(&object, rule.stop(&object));
    stopped["spec"]["a"]["z"] = json!(1);
    stopped["spec"]["y"] = json!("later");
    let started = patched(&stopped, rule.start(&stopped).unwrap());
    assert_eq!(started["spec"], json!({"a": {"z": 1}, "y": "later"}));
}

#[test]
fn of_two_fields_that_exclude_each_other_the_one_that_is_there_is_set() {
    let rule = Registry::built_in().rule("kubevirt.io", "VirtualMachine").unwrap();
    for (spec, stopped) in [
        (json!({"running": true}), json!({"running": false})),
        (json!({"runStrategy": "Always"}), json!({"runStrategy": "Halted"})),
    ] {
        let machine = database(&spec);
        let after = patched(&machine, rule.stop(&machine));
        assert_eq!(after["spec"], stopped);
        assert_eq!(patched(&after, rule.start(&after).unwrap()), machine);
    }
    assert!(rule.stop(&database(&json!({}))).is_none());
}

#[test]
fn a_field_inside_what_is_no_map_is_not_touched() {
    let rule = of(vec![field("/spec/sets/count", json!(0))]);
    let object = database(&json!({"sets": [{"count": 3}]}));
    assert!(rule.stop(&object).is_none() && !rule.is_stopped(&object));
}

#[test]
fn a_kept_value_that_is_not_of_the_rule_is_an_error() {
    let rule = of(vec![field("/spec/x", json!(0))]);
    for kept in ["true", "{", "{\"/metadata/name\": \"other\"}", "{\"/spec\": null, \"/spec/secret\": 1}"] {
        let mut object = database(&json!({"x": 0}));
        object["metadata"]["annotations"][MIGRATION_SUSPEND] = json!(kept);
        assert!(rule.start(&object).is_err(), "{kept}");
    }
}

#[test]
fn labels_say_what_belongs_to_a_custom_resource() {
    let rule = Registry::built_in().rule("acid.zalan.do", "postgresql").unwrap();
    let resource = json!({"metadata": {"name": "acid-db"}});
    let labelled = |cluster: &str, application: &str| json!({"metadata": {"name": "x", "labels": {"cluster-name": cluster, "application": application}}});
    assert!(rule.claims(&resource, &labelled("acid-db", "spilo")));
    assert!(!rule.claims(&resource, &labelled("acid-db", "db-connection-pooler")));
    assert!(!rule.claims(&resource, &labelled("acid-other", "spilo")));
    let unlabelled = Registry::built_in().rule("pxc.percona.com", "PerconaXtraDBCluster").unwrap();
    assert!(!unlabelled.claims(&resource, &labelled("acid-db", "spilo")));
}

#[test]
fn what_belongs_to_another_kind_of_the_same_name_is_not_the_kafkas() {
    let rule = Registry::built_in().rule("kafka.strimzi.io", "Kafka").unwrap();
    let kafka = json!({"metadata": {"name": "events"}});
    let labelled = |kind: &str| {
        let labels = json!({"strimzi.io/cluster": "events", "strimzi.io/kind": kind});
        json!({"metadata": {"name": "events-broker", "labels": labels}})
    };
    assert!(rule.claims(&kafka, &labelled("Kafka")), "pod sets of its KafkaNodePools too");
    assert!(!rule.claims(&kafka, &labelled("KafkaConnect")));
}

#[test]
fn every_operator_is_stopped_by_its_own_field() {
    let stop = |group: &str, kind: &str, spec: Value| {
        let rule = Registry::built_in().rule(group, kind).unwrap();
        let object = json!({"apiVersion": format!("{group}/v1"), "kind": kind, "metadata": {"name": "x"}, "spec": spec});
        patched(&object, rule.stop(&object))
    };
    assert_eq!(stop("pxc.percona.com", "PerconaXtraDBCluster", json!({}))["spec"]["pause"], true);
    assert_eq!(
        stop("acid.zalan.do", "postgresql", json!({"numberOfInstances": 3}))["spec"]["numberOfInstances"],
        0
    );
    assert_eq!(stop("kibana.k8s.elastic.co", "Kibana", json!({"count": 1}))["spec"]["count"], 0);
    let annotated = |object: Value, key: &str| object["metadata"]["annotations"][key].clone();
    let elastic = stop("elasticsearch.k8s.elastic.co", "Elasticsearch", json!({}));
    assert_eq!(annotated(elastic.clone(), "eck.k8s.elastic.co/managed"), "false");
    assert_eq!(annotated(elastic, "eck.k8s.elastic.co/pause-orchestration"), "true", "versions from 3.5 on");
    let jobs = stop("keda.sh", "ScaledJob", json!({}));
    assert_eq!(annotated(jobs, "autoscaling.keda.sh/paused"), "true");
    assert_eq!(
        stop("packageregistry.k8s.elastic.co", "PackageRegistry", json!({"count": 2}))["spec"]["count"],
        0
    );
    assert_eq!(annotated(stop("postgresql.cnpg.io", "Cluster", json!({})), "cnpg.io/hibernation"), "on");
    let kafka = stop("kafka.strimzi.io", "Kafka", json!({}));
    assert_eq!(annotated(kafka, "strimzi.io/pause-reconciliation"), "true");
    let kinds = Registry::built_in().kinds();
    assert_eq!(kinds.len(), Registry::built_in().rules.len(), "no kind has two rules");
}
