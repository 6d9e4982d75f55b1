//! What stands beside a mover's Job: a service account without any rights, and the network policy
//! that lets movers out to where they work, and nothing in.

use std::net::IpAddr;

use serde_json::{Value, json};

use super::MOVER;
use isthmus_shared::resources::{COMPONENT, COMPONENT_MOVER};

/// The service account, which may do nothing and has no token of its own.
pub fn service_account(namespace: &str) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ServiceAccount",
        "metadata": {"name": MOVER, "namespace": namespace, "labels": {COMPONENT: COMPONENT_MOVER}},
        "automountServiceAccountToken": false
    })
}

/// Where movers may connect to.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Peer {
    /// The address, if it is one; a name may be any address.
    pub address: Option<IpAddr>,
    /// The ports.
    pub ports: Vec<u16>,
}

impl Peer {
    /// The server of a URL, and these ports besides.
    pub fn of(url: &str, more_ports: &[u16]) -> Self {
        let Ok(url) = reqwest::Url::parse(url) else {
            return Self { address: None, ports: more_ports.to_vec() };
        };
        let address = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        let mut ports: Vec<u16> =
            url.port_or_known_default().into_iter().chain(more_ports.iter().copied()).collect();
        ports.dedup();
        Self { address, ports }
    }
}

/// The network policy: movers reach DNS, the spoke and the store; nothing reaches them. Policies
/// add up, so it opens what a namespace that denies everything by default has closed, for movers
/// alone. Movers only ever dial out: what answers them needs no rule of its own.
pub fn network_policy(namespace: &str, peers: &[Peer]) -> Value {
    let port = |protocol: &str, port: u16| json!({"protocol": protocol, "port": port});
    // OpenShift's DNS pods listen on 5353; a policy sees the port behind the Service.
    let mut egress = vec![json!({"ports": [
        port("UDP", 53), port("TCP", 53), port("UDP", 5353), port("TCP", 5353)
    ]})];
    for peer in peers {
        let mut rule = json!({"ports": peer.ports.iter().map(|p| port("TCP", *p)).collect::<Vec<_>>()});
        if let Some(address) = peer.address {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            rule["to"] = json!([{"ipBlock": {"cidr": format!("{address}/{bits}")}}]);
        }
        egress.push(rule);
    }
    json!({
        "apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy",
        "metadata": {"name": MOVER, "namespace": namespace, "labels": {COMPONENT: COMPONENT_MOVER}},
        "spec": {
            "podSelector": {"matchLabels": {COMPONENT: COMPONENT_MOVER}},
            "policyTypes": ["Ingress", "Egress"],
            "egress": egress
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_policy_lets_movers_out_to_dns_spoke_and_store_only() {
        let spoke = Peer { address: Some("10.0.0.1".parse().unwrap()), ports: vec![8444] };
        let store = Peer { address: None, ports: vec![443] };
        let policy = network_policy("cms", &[spoke, store]);
        let egress = policy["spec"]["egress"].as_array().unwrap();
        assert_eq!(egress.len(), 3);
        assert_eq!(egress[1]["to"][0]["ipBlock"]["cidr"], "10.0.0.1/32");
        assert!(egress[2].get("to").is_none());
        assert!(policy["spec"].get("ingress").is_none());
    }

    #[test]
    fn the_policys_peers_are_read_from_urls() {
        let peer = Peer::of("https://10.1.2.3:8444", &[8444]);
        assert_eq!(peer, Peer { address: Some("10.1.2.3".parse().unwrap()), ports: vec![8444] });
        let peer = Peer::of("https://s3.example.com", &[]);
        assert_eq!(peer, Peer { address: None, ports: vec![443] });
    }
}
