//! Which fields a person (or their tool) set, as opposed to what the cluster filled in.
//!
//! Two records tell: the configuration that kubectl keeps of an object, and the field sets of its
//! managers. The API server allocates after it has noted who set what, so an allocated value is in
//! no set - unless the object was first managed after it had been made, which is noted as
//! `before-first-apply` and says nothing. Velero decides alike.

use serde_json::{Map, Value};

/// What kubectl keeps of an object: what was last applied.
pub const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Managers that are no people's tools.
const CLUSTERS_OWN: &[&str] = &["before-first-apply", "kube-apiserver", "kube-controller-manager"];
/// How the controllers of cloud providers call themselves.
const CLOUD: &str = "cloud-controller-manager";

/// What is known of an object's fields.
#[derive(Debug)]
pub enum Chosen {
    /// The object is itself what a person wrote.
    All,
    /// What the records tell.
    Recorded {
        /// What was last applied.
        applied: Option<Value>,
        /// The field sets of managers.
        sets: Vec<Value>,
    },
}

/// A port of a Service, as far as it tells one from another.
#[derive(Clone, Copy, Debug)]
pub struct ServicePort<'a> {
    /// Its name; empty if it has none.
    pub name: &'a str,
    /// Its number.
    pub port: i64,
    /// Its protocol.
    pub protocol: &'a str,
    /// Its port on the nodes.
    pub node_port: i64,
}

impl<'a> ServicePort<'a> {
    /// Reads a port of a Service.
    pub fn of(port: &'a Map<String, Value>) -> Self {
        let text = |key: &str| port.get(key).and_then(Value::as_str);
        let number = |key: &str| port.get(key).and_then(Value::as_i64).unwrap_or_default();
        Self {
            name: text("name").unwrap_or_default(),
            port: number("port"),
            protocol: text("protocol").unwrap_or("TCP"),
            node_port: number("nodePort"),
        }
    }
}

impl Chosen {
    /// Reads an object's records.
    pub fn of(object: &Value) -> Self {
        let applied = crate::cluster::annotation(object, LAST_APPLIED);
        let entries = object.pointer("/metadata/managedFields").and_then(Value::as_array);
        let sets = entries.into_iter().flatten().filter(|entry| is_a_persons(entry));
        Self::Recorded {
            applied: applied.and_then(|text| serde_json::from_str(text).ok()),
            sets: sets.filter_map(|entry| entry.get("fieldsV1").cloned()).collect(),
        }
    }

    /// Whether a field of the spec was chosen.
    pub fn spec(&self, field: &str) -> bool {
        match self {
            Self::All => true,
            Self::Recorded { applied, sets } => {
                let set = |value: &Value| !(value.is_null() || value == 0 || value == "");
                applied.as_ref().and_then(|a| a.get("spec")?.get(field)).is_some_and(set)
                    || sets.iter().any(|set| {
                        set.get("f:spec").and_then(|spec| spec.get(format!("f:{field}"))).is_some()
                    })
            }
        }
    }

    /// Whether the port on the nodes of a port of a Service was chosen.
    pub fn node_port(&self, port: ServicePort<'_>) -> bool {
        match self {
            Self::All => true,
            Self::Recorded { applied, sets } => {
                let applied = applied
                    .as_ref()
                    .and_then(|applied| applied.pointer("/spec/ports")?.as_array())
                    .into_iter()
                    .flatten()
                    .filter_map(Value::as_object)
                    .map(ServicePort::of)
                    .any(|applied| applied.node_port > 0 && applied.is_same(port));
                applied || sets.iter().any(|set| owns_node_port(set, port))
            }
        }
    }
}

impl ServicePort<'_> {
    /// Named ports are told apart by their names, others by what they are on the nodes.
    fn is_same(self, other: Self) -> bool {
        (!self.name.is_empty() && self.name == other.name) || self.node_port == other.node_port
    }
}

fn is_a_persons(entry: &Value) -> bool {
    let text = |key: &str| entry.get(key).and_then(Value::as_str).unwrap_or_default();
    let manager = text("manager");
    text("subresource").is_empty() && !CLUSTERS_OWN.contains(&manager) && !manager.ends_with(CLOUD)
}

/// In a field set a port is named `k:{"port":80,"protocol":"TCP"}`.
fn owns_node_port(set: &Value, port: ServicePort<'_>) -> bool {
    let ports = set.pointer("/f:spec/f:ports").and_then(Value::as_object);
    ports.into_iter().flatten().any(|(key, fields)| {
        let key = key.strip_prefix("k:").and_then(|key| serde_json::from_str::<Value>(key).ok());
        let key = key.as_ref().and_then(Value::as_object).map(ServicePort::of);
        key.is_some_and(|key| key.port == port.port && key.protocol == port.protocol)
            && fields.get("f:nodePort").is_some()
    })
}
