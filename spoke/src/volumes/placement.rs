//! Where a mover runs. Pure: the claim, its volume, who uses it, what the run asks, and the nodes.
//!
//! - A claim that one node may mount is moved where it is mounted, whatever the taints of that
//!   node are and whether or not it is cordoned.
//! - A claim that is not bound yet goes where the application would: the mover is the first
//!   consumer, and storage that waits for one makes the volume where that is.
//! - Any other follows its volume; the application's own selectors too, where a node meets both.
//!   If all nodes that reach the volume keep Pods away, their taints are not minded.

use std::collections::BTreeMap;

use isthmus_shared::resources::MoverOptions;
use serde_json::{Value, json};

use super::nodes::Node;
use super::users::ClaimUser;
use crate::cluster::{array, text};

/// Where a mover's Pod may be put.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Placement {
    /// The one node that it must run on.
    pub node: Option<String>,
    /// Labels that its node must have.
    pub node_selector: BTreeMap<String, String>,
    /// A `nodeAffinity`.
    pub node_affinity: Option<Value>,
    /// Taints that it does not mind.
    pub tolerations: Vec<Value>,
}

impl Placement {
    /// What the run says of all its movers.
    pub fn asked(options: &MoverOptions) -> Self {
        Self {
            node_selector: options.node_selector.clone(),
            // Tolerations have text keys only and serialise always.
            tolerations: options.tolerations.iter().filter_map(|t| serde_json::to_value(t).ok()).collect(),
            ..Self::default()
        }
    }

    /// On this node and no other, whatever its taints are: also on one that is cordoned.
    fn on_node(self, node: &str) -> Self {
        Self { node: Some(node.to_owned()), ..self }.minding_nothing()
    }

    fn minding_nothing(self) -> Self {
        Self { tolerations: vec![json!({"operator": "Exists"})], ..self }
    }

    /// Also where the application may run. What the run asks for counts before it.
    fn with(mut self, user: &ClaimUser) -> Self {
        let Some(spec) = user.specs().next() else { return self };
        let selector = spec.get("nodeSelector").and_then(Value::as_object);
        for (key, value) in selector.into_iter().flatten() {
            if let Some(value) = value.as_str() {
                self.node_selector.entry(key.clone()).or_insert_with(|| value.to_owned());
            }
        }
        self.node_affinity = spec.pointer("/affinity/nodeAffinity").cloned();
        self.tolerating(user)
    }

    /// Also what the application tolerates.
    fn tolerating(mut self, user: &ClaimUser) -> Self {
        for toleration in user.specs().flat_map(|spec| array(spec, "/tolerations")) {
            if !self.tolerations.contains(toleration) {
                self.tolerations.push(toleration.clone());
            }
        }
        self
    }

    /// Whether a node has what is asked for, taints aside.
    fn wants(&self, node: &Node) -> bool {
        let required = "/requiredDuringSchedulingIgnoredDuringExecution/nodeSelectorTerms";
        let terms = self.node_affinity.as_ref().filter(|affinity| affinity.pointer(required).is_some());
        self.node.as_ref().is_none_or(|name| *name == node.name)
            && node.has(&self.node_selector)
            && terms.is_none_or(|affinity| node.matches(array(affinity, required)))
    }

    /// Whether a Pod of this placement may go to a node.
    pub fn allows(&self, node: &Node) -> bool {
        self.wants(node) && node.takes(&self.tolerations)
    }

    /// A short mark of it: the same for the same placement only.
    pub fn mark(&self) -> String {
        let mut asked = json!({});
        self.write(&mut asked);
        blake3::hash(asked.to_string().as_bytes()).to_hex()[..16].to_owned()
    }

    /// Writes it into the spec of a Pod.
    pub fn write(&self, spec: &mut Value) {
        if let Some(node) = &self.node {
            // By affinity, not by name: a Pod with a node's name passes by the scheduler, which
            // binds claims that wait for their consumer.
            spec["affinity"] = json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {
                "nodeSelectorTerms": [
                    {"matchFields": [{"key": "metadata.name", "operator": "In", "values": [node]}]}
                ]
            }}});
        } else if let Some(affinity) = &self.node_affinity {
            spec["affinity"] = json!({"nodeAffinity": affinity});
        }
        if !self.node_selector.is_empty() {
            spec["nodeSelector"] = json!(self.node_selector);
        }
        if !self.tolerations.is_empty() {
            spec["tolerations"] = json!(self.tolerations);
        }
    }
}

/// What is known of a claim on the side where its mover runs.
#[derive(Clone, Copy, Debug)]
pub struct Situation<'a> {
    /// The claim; one that is yet to be made says what is asked for.
    pub claim: &'a Value,
    /// Its volume, if it is bound.
    pub volume: Option<&'a Value>,
    /// A node on which it is mounted now.
    pub mounted_on: Option<&'a str>,
    /// Who uses it.
    pub user: &'a ClaimUser,
    /// What the run says of its movers.
    pub options: &'a MoverOptions,
    /// The nodes; none if they are not known.
    pub nodes: &'a [Node],
}

impl Situation<'_> {
    /// The nodes that reach the volume.
    fn reached(&self) -> Vec<&Node> {
        let required = "/spec/nodeAffinity/required/nodeSelectorTerms";
        let bound_to = self.volume.filter(|volume| volume.pointer(required).is_some());
        self.nodes
            .iter()
            .filter(|node| bound_to.is_none_or(|volume| node.matches(array(volume, required))))
            .collect()
    }

    /// Where its mover runs.
    pub fn placement(&self) -> Placement {
        let asked = Placement::asked(self.options);
        if let Some(node) = self.mounted_on.filter(|_| !is_shared(self.claim)) {
            return asked.on_node(node);
        }
        if self.volume.is_none() {
            return asked.with(self.user);
        }
        let reached = self.reached();
        let as_application = asked.clone().with(self.user);
        let placement = if reached.iter().any(|node| as_application.allows(node)) {
            as_application
        } else {
            asked.tolerating(self.user)
        };
        let open = reached.iter().any(|node| node.ready && placement.allows(node));
        let closed = reached.iter().any(|node| node.ready && placement.wants(node));
        if !open && closed { placement.minding_nothing() } else { placement }
    }

    /// Why no mover can run there: surely, or because no node meets what is asked for at the
    /// moment.
    pub fn obstacle(&self) -> Option<Obstacle> {
        let placement = self.placement();
        if self.nodes.is_empty() {
            return None;
        }
        if let Some(name) = &placement.node {
            let Some(node) = self.nodes.iter().find(|node| node.name == *name) else {
                return Some(Obstacle::Lost(format!("it is mounted on node {name}, which is gone")));
            };
            if !node.ready {
                return Some(Obstacle::Lost(format!("it is mounted on node {name}, which is not ready")));
            }
        }
        let reached = self.reached();
        let names =
            |nodes: &[&Node]| nodes.iter().map(|node| node.name.as_str()).collect::<Vec<_>>().join(", ");
        if reached.is_empty() {
            return Some(Obstacle::Lost(
                "its volume is bound to nodes of which the cluster has none any more".to_owned(),
            ));
        }
        if self.volume.is_some() && !reached.iter().any(|node| node.ready) {
            let message = match reached.len() {
                1 => format!("the only node that reaches its volume, {}, is not ready", names(&reached)),
                _ => "none of the nodes that reach its volume is ready".to_owned(),
            };
            return Some(Obstacle::Lost(message));
        }
        if reached.iter().any(|node| placement.allows(node)) {
            return None;
        }
        let mut asked = Vec::new();
        if !placement.node_selector.is_empty() {
            let labels = placement.node_selector.iter().map(|(key, value)| format!("{key}={value}"));
            asked.push(format!("the labels {}", labels.collect::<Vec<_>>().join(", ")));
        }
        if placement.node_affinity.is_some() {
            asked.push("a node affinity".to_owned());
        }
        if asked.is_empty() {
            asked.push("no taint but those that it tolerates".to_owned());
        }
        let whose =
            self.user.describe().map(|user| format!(" (of {user} and spec.mover)")).unwrap_or_default();
        Some(Obstacle::Unmet(format!("no node for its mover has {}{whose}", asked.join(" and "))))
    }
}

/// Why a mover has no place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// Its volume cannot be reached.
    Lost(String),
    /// No node meets what is asked for, at the moment.
    Unmet(String),
}

/// Whether several nodes may mount a claim.
fn is_shared(claim: &Value) -> bool {
    array(claim, "/spec/accessModes").iter().any(|mode| mode == "ReadWriteMany" || mode == "ReadOnlyMany")
}

/// The volume of a claim, by its name, if it is bound.
pub fn bound_volume(claim: &Value) -> Option<&str> {
    Some(text(claim, "/spec/volumeName"))
        .filter(|name| !name.is_empty() && text(claim, "/status/phase") == "Bound")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(name: &str, zone: &str, spec: &Value) -> Node {
        Node::of(
            &json!({"metadata": {"name": name, "labels": {"zone": zone, "kubernetes.io/hostname": name}}, "spec": spec,
                         "status": {"conditions": [{"type": "Ready", "status": "True"}]}}),
        )
    }

    fn nodes() -> Vec<Node> {
        vec![node("n1", "a", &json!({})), node("n2", "b", &json!({"unschedulable": true}))]
    }

    fn user(spec: &Value) -> ClaimUser {
        let workload = json!({"apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "db", "namespace": "cms"}, "spec": {"template": {"spec": spec}}});
        ClaimUser { workload: Some(workload), ..ClaimUser::default() }
    }

    fn in_zone(zone: &str) -> Value {
        json!({"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "zone", "operator": "In", "values": [zone]}]}]}}})
    }

    fn volume(node: &str) -> Value {
        json!({"spec": {"nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
            {"key": "kubernetes.io/hostname", "operator": "In", "values": [node]}]}]}}}})
    }

    struct Of {
        claim: Value,
        volume: Option<Value>,
        mounted_on: Option<&'static str>,
        user: ClaimUser,
        options: MoverOptions,
        nodes: Vec<Node>,
    }

    impl Of {
        fn new(user: ClaimUser) -> Self {
            Self {
                claim: json!({"spec": {"accessModes": ["ReadWriteOnce"]}}),
                volume: None,
                mounted_on: None,
                user,
                options: MoverOptions::default(),
                nodes: nodes(),
            }
        }

        fn situation(&self) -> Situation<'_> {
            Situation {
                claim: &self.claim,
                volume: self.volume.as_ref(),
                mounted_on: self.mounted_on,
                user: &self.user,
                options: &self.options,
                nodes: &self.nodes,
            }
        }
    }

    #[test]
    fn a_claim_of_one_node_is_moved_where_it_is_mounted_and_a_shared_one_anywhere() {
        let mut of = Of::new(ClaimUser::default());
        (of.volume, of.mounted_on) = (Some(json!({"spec": {}})), Some("n2"));
        let placement = of.situation().placement();
        assert_eq!(placement.node.as_deref(), Some("n2"));
        assert!(placement.allows(&of.nodes[1]) && !placement.allows(&of.nodes[0]), "though it is cordoned");
        assert_eq!(of.situation().obstacle(), None);
        of.claim = json!({"spec": {"accessModes": ["ReadWriteMany"]}});
        assert_eq!(of.situation().placement(), Placement::default());
    }

    #[test]
    fn a_claim_that_is_not_bound_goes_where_the_application_would() {
        let spec = json!({"nodeSelector": {"disk": "fast", "tier": "1"}, "affinity": in_zone("a"),
                          "tolerations": [{"key": "db", "operator": "Exists"}]});
        let mut of = Of::new(user(&spec));
        of.options.node_selector.insert("tier".to_owned(), "2".to_owned());
        let placement = of.situation().placement();
        let selector: Vec<_> = placement.node_selector.iter().map(|(k, v)| format!("{k}={v}")).collect();
        assert_eq!(selector, ["disk=fast", "tier=2"], "the run's word counts");
        assert_eq!(placement.node_affinity, in_zone("a").get("nodeAffinity").cloned());
        assert_eq!(placement.tolerations, [json!({"key": "db", "operator": "Exists"})]);
        let Some(Obstacle::Unmet(message)) = of.situation().obstacle() else { panic!("no node is so") };
        assert!(message.contains("disk=fast") && message.contains("Deployment cms/db"), "{message}");
    }

    #[test]
    fn a_bound_claim_follows_its_volume_and_the_application_where_a_node_meets_both() {
        let mut of = Of::new(user(&json!({"affinity": in_zone("b")})));
        of.volume = Some(volume("n1"));
        assert_eq!(of.situation().placement().node_affinity, None, "n1 is not in zone b");
        of.user = user(&json!({"affinity": in_zone("a")}));
        assert!(of.situation().placement().node_affinity.is_some());
        assert_eq!(of.situation().obstacle(), None);
    }

    #[test]
    fn a_volume_of_a_cordoned_node_is_reached_all_the_same() {
        let mut of = Of::new(ClaimUser::default());
        of.volume = Some(volume("n2"));
        let placement = of.situation().placement();
        assert_eq!(placement.tolerations, [json!({"operator": "Exists"})]);
        assert_eq!(of.situation().obstacle(), None);
        // Where another node reaches it, the cordoned one is left alone.
        of.volume = Some(json!({"spec": {}}));
        assert!(of.situation().placement().tolerations.is_empty());
    }

    #[test]
    fn a_volume_whose_node_is_gone_or_not_ready_is_named() {
        let mut of = Of::new(ClaimUser::default());
        of.volume = Some(volume("n9"));
        assert!(matches!(of.situation().obstacle(), Some(Obstacle::Lost(m)) if m.contains("none any more")));
        of.volume = Some(volume("n1"));
        of.nodes[0].ready = false;
        assert!(
            matches!(of.situation().obstacle(), Some(Obstacle::Lost(m)) if m.contains("n1, is not ready"))
        );
        of.mounted_on = Some("n1");
        assert!(
            matches!(of.situation().obstacle(), Some(Obstacle::Lost(m)) if m.contains("mounted on node n1"))
        );
        of.mounted_on = Some("n7");
        assert!(matches!(of.situation().obstacle(), Some(Obstacle::Lost(m)) if m.contains("gone")));
    }

    #[test]
    fn a_node_selector_that_no_node_meets_is_named() {
        let mut of = Of::new(ClaimUser::default());
        of.options.node_selector.insert("disk".to_owned(), "fast".to_owned());
        of.volume = Some(volume("n1"));
        assert!(matches!(of.situation().obstacle(), Some(Obstacle::Unmet(m)) if m.contains("disk=fast")));
    }

    #[test]
    fn what_the_run_asks_of_its_movers_is_in_their_pods() {
        let options: MoverOptions = serde_json::from_value(json!({
            "nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]
        }))
        .unwrap();
        let mut spec = json!({});
        Placement::asked(&options).write(&mut spec);
        assert_eq!(
            spec,
            json!({"nodeSelector": {"disk": "fast"}, "tolerations": [{"key": "gpu", "operator": "Exists"}]})
        );
        let mut spec = json!({});
        Placement::asked(&options).on_node("n1").write(&mut spec);
        assert_eq!(spec["nodeSelector"]["disk"], "fast");
        assert_eq!(spec["tolerations"], json!([{"operator": "Exists"}]));
        assert!(
            spec.pointer("/affinity/nodeAffinity/requiredDuringSchedulingIgnoredDuringExecution").is_some()
        );
    }
}
