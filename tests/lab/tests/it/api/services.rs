//! Services: addresses, ports, and what goes with their types.

use serde_json::{Value, json};

use super::{APPLY, MERGE, message, servers};

fn service(name: &str, more: &Value) -> Value {
    let mut spec = json!({"ports": [{"port": 80}]});
    spec.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name}, "spec": spec})
}

#[tokio::test]
async fn an_address_stays_and_a_port_belongs_to_one_service() {
    for s in servers().await {
        let services = s.path("services");
        let made = s.post(&services, &service("a", &json!({}))).await.1;
        let address = made["spec"]["clusterIP"].as_str().unwrap();
        let applied = format!("{services}/a?fieldManager=m&force=true&dryRun=All");
        for other in ["10.96.77.7", "None"] {
            let refused = s.patch(&applied, APPLY, &service("a", &json!({"clusterIP": other}))).await;
            assert_eq!(refused.0, 422, "{}", refused.1);
            assert!(message(&refused).contains("spec.clusterIPs[0]: Invalid value"), "{}", message(&refused));
        }
        // What leaves the address out, or names it, changes nothing.
        let put = s.put(&format!("{services}/a?dryRun=All"), &service("a", &json!({}))).await;
        assert_eq!((put.0, &put.1["spec"]["clusterIP"]), (200, &json!(address)));
        assert_eq!(s.patch(&applied, APPLY, &service("a", &json!({"clusterIP": address}))).await.0, 200);

        let ports = |port: i64| json!({"type": "NodePort", "ports": [{"port": 80, "nodePort": port}]});
        let made = s.post(&services, &service("b", &json!({"type": "NodePort"}))).await.1;
        let port = made["spec"]["ports"][0]["nodePort"].as_i64().unwrap();
        let words =
            format!("spec.ports[0].nodePort: Invalid value: {port}: provided port is already allocated");
        for dry_run in ["", "?dryRun=All"] {
            let taken = s.post(&format!("{services}{dry_run}"), &service("c", &ports(port))).await;
            assert_eq!(taken.0, 422);
            assert!(message(&taken).ends_with(&words), "{}", message(&taken));
        }
        let taken = s
            .patch(&format!("{services}/c?fieldManager=m&dryRun=All"), APPLY, &service("c", &ports(port)))
            .await;
        assert_eq!(taken.0, 422);
        let mut other_protocol = ports(port);
        other_protocol["ports"][0]["protocol"] = json!("UDP");
        assert_eq!(s.post(&services, &service("c", &other_protocol)).await.0, 422);
        let outside = s.post(&services, &service("c", &ports(80))).await;
        assert_eq!(outside.0, 422);
        assert!(
            message(&outside)
                .contains("provided port is not in the valid range. The range of valid ports is 30000-32767")
        );
        // A dry run does not look at the range: who relies on it must look for himself.
        assert_eq!(s.post(&format!("{services}?dryRun=All"), &service("c", &ports(80))).await.0, 201);
        s.done().await;
    }
}

#[tokio::test]
async fn a_service_has_the_fields_of_its_type() {
    for s in servers().await {
        let services = s.path("services");
        let tried = format!("{services}?dryRun=All");
        let balanced = json!({"type": "LoadBalancer", "externalTrafficPolicy": "Local"});
        let (code, made) = s.post(&services, &service("lb", &balanced)).await;
        assert_eq!(code, 201, "{made}");
        let port = made["spec"]["healthCheckNodePort"].as_i64().unwrap();
        assert!((30000..=32767).contains(&port));
        let one = format!("{services}/lb?dryRun=All");
        let moved = s.patch(&one, MERGE, &json!({"spec": {"healthCheckNodePort": 32001}})).await;
        assert_eq!(
            (moved.0, message(&moved)),
            (422, "Service \"lb\" is invalid: spec.healthCheckNodePort: Forbidden: field is immutable")
        );
        let plain = s.patch(&one, MERGE, &json!({"spec": {"type": "ClusterIP"}})).await.1;
        for gone in ["healthCheckNodePort", "externalTrafficPolicy", "allocateLoadBalancerNodePorts"] {
            assert!(plain["spec"].get(gone).is_none(), "{plain}");
        }
        for (spec, words) in [
            (json!({"externalTrafficPolicy": "Local"}), "may only be set for externally-accessible services"),
            (
                json!({"type": "LoadBalancer", "healthCheckNodePort": 32002}),
                "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
            ),
            (json!({"loadBalancerClass": "example.com/x"}), "may only be used when `type` is 'LoadBalancer'"),
            (json!({"ports": []}), "spec.ports: Required value"),
            (json!({"ports": [{"port": 80}, {"port": 81}]}), "spec.ports[1].name: Required value]"),
            (
                json!({"clusterIP": "nonsense"}),
                "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)",
            ),
            (json!({"clusterIP": "192.0.2.1"}), "The range of valid IPs is 10.96.0.0/16"),
            (
                json!({"type": "ExternalName", "externalName": "Bad_Name"}),
                "regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
            ),
        ] {
            let refused = s.post(&tried, &service("x", &spec)).await;
            assert_eq!(refused.0, 422, "{spec}: {}", refused.1);
            assert!(message(&refused).ends_with(words), "{} is not {words}", message(&refused));
        }
        let anywhere = s.post(&tried, &service("x", &json!({"clusterIP": "None"}))).await.1;
        assert_eq!(anywhere["spec"]["ipFamilyPolicy"], "RequireDualStack");
        let selected = json!({"clusterIP": "None", "selector": {"a": "b"}});
        let selected = s.post(&tried, &service("x", &selected)).await.1;
        assert_eq!(
            (&selected["spec"]["ipFamilyPolicy"], &selected["spec"]["ipFamilies"]),
            (&json!("SingleStack"), &json!(["IPv4"]))
        );
        s.done().await;
    }
}
