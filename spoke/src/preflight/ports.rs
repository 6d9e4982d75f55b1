//! Node ports: whether another Service of the destination has one that is to be kept. Pure.

use std::collections::BTreeMap;

use serde_json::Value;

use super::concern::Concern;
use crate::cluster::{array, describe, name, namespace, text};

/// Services whose ports are kept, by the ports.
#[derive(Clone, Debug, Default)]
pub struct Ports {
    wanted: BTreeMap<(i64, String), Wanted>,
    /// Services that the API server refused for a port, and its words.
    refused: BTreeMap<String, String>,
    /// Ports that two Services of the run want.
    twice: Vec<Concern>,
}

#[derive(Clone, Debug)]
struct Wanted {
    object: String,
    place: String,
    name: String,
}

impl Ports {
    /// Notes the ports that a Service keeps, as it would be applied.
    pub fn see(&mut self, service: &Value) {
        for (port, protocol) in ports(service) {
            let wanted = Wanted {
                object: describe(service),
                place: namespace(service).to_owned(),
                name: name(service).to_owned(),
            };
            if let Some(first) = self.wanted.insert((port, protocol), wanted.clone())
                && first.object != wanted.object
            {
                let message = format!(
                    "{} of the same migration keeps node port {port} too: have one of them get another by a transform",
                    first.object
                );
                self.twice.push(Concern::failure(wanted.object, "NodePortTaken", message));
            }
        }
    }

    /// Notes that the API server refused a Service for its port.
    pub fn refused(&mut self, object: &str, words: &str) {
        self.refused.insert(object.to_owned(), words.to_owned());
    }

    /// Whether there is anything to look at.
    pub fn is_empty(&self) -> bool {
        self.wanted.is_empty() && self.refused.is_empty()
    }

    /// Compares with a Service of the destination.
    pub fn meet(&mut self, live: &Value, concerns: &mut Vec<Concern>) {
        for key in ports(live) {
            let Some(wanted) = self.wanted.get(&key) else { continue };
            let itself = wanted.place == namespace(live) && wanted.name == name(live);
            if itself {
                continue;
            }
            let (port, _) = &key;
            let message = format!(
                "its node port {port} is taken by {} on the destination: free it there, or have this Service get \
                 another (without preserveNodePorts, or by a transform)",
                describe(live)
            );
            self.refused.remove(&wanted.object);
            concerns.push(Concern::failure(&wanted.object, "NodePortTaken", message));
        }
    }

    /// What else is in the way.
    pub fn rest(self) -> impl Iterator<Item = Concern> {
        let refused = self.refused.into_iter();
        let refused = refused.map(|(object, words)| Concern::failure(object, "PortTaken", words));
        self.twice.into_iter().chain(refused)
    }
}

fn ports(service: &Value) -> Vec<(i64, String)> {
    let protocol = |port: &Value| match text(port, "/protocol") {
        "" => "TCP".to_owned(),
        protocol => protocol.to_owned(),
    };
    let of_ports = array(service, "/spec/ports").iter();
    let mut all: Vec<_> = of_ports
        .filter_map(|port| Some((port.get("nodePort")?.as_i64().filter(|n| *n > 0)?, protocol(port))))
        .collect();
    let health = service.pointer("/spec/healthCheckNodePort").and_then(Value::as_i64).filter(|n| *n > 0);
    all.extend(health.map(|port| (port, "TCP".to_owned())));
    all
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(namespace: &str, name: &str, port: i64) -> Value {
        json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": namespace},
               "spec": {"ports": [{"port": 80, "nodePort": port}]}})
    }

    #[test]
    fn a_port_that_another_service_has_is_named_with_it() {
        let mut ports = Ports::default();
        ports.see(&service("cms", "web", 30080));
        ports.refused("Service cms/web", "provided port is already allocated");
        let mut concerns = Vec::new();
        ports.meet(&service("cms", "web", 30080), &mut concerns);
        ports.meet(&service("tools", "db", 30081), &mut concerns);
        assert!(concerns.is_empty(), "itself, and another port");
        ports.meet(&service("tools", "db", 30080), &mut concerns);
        assert!(concerns[0].finding.message.contains("30080 is taken by Service tools/db"), "{concerns:?}");
        assert_eq!(ports.rest().count(), 0, "the server's words say the same");
    }

    #[test]
    fn udp_and_tcp_have_ports_of_their_own() {
        let mut udp = service("tools", "dns", 30080);
        udp["spec"]["ports"][0]["protocol"] = json!("UDP");
        let mut ports = Ports::default();
        ports.see(&service("cms", "web", 30080));
        let mut concerns = Vec::new();
        ports.meet(&udp, &mut concerns);
        assert!(concerns.is_empty());
    }

    #[test]
    fn what_the_server_refuses_without_an_owner_to_be_seen_is_said_in_its_words() {
        let mut ports = Ports::default();
        ports.refused("Service cms/web", "provided port is already allocated");
        assert!(ports.rest().next().unwrap().finding.message.contains("already allocated"));
        let mut twice = Ports::default();
        twice.see(&service("a", "web", 30080));
        twice.see(&service("b", "web", 30080));
        assert!(twice.rest().next().unwrap().finding.message.contains("Service a/web of the same migration"));
    }
}
