//! What stands beside a mover's Job: a service account without any rights, and the network policy
//! that lets movers out to where they work, and nothing in.

use std::net::{IpAddr, Ipv4Addr};

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
    /// The address, if it is one that a policy sees too. A name may be any address, and one of a private
    /// network may be a Service's: by the time that most networks look, it is that of a Pod.
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
        let address: Option<IpAddr> =
            url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse().ok());
        let address = address.filter(|address| !may_be_a_service(*address));
        let mut ports: Vec<u16> =
            url.port_or_known_default().into_iter().chain(more_ports.iter().copied()).collect();
        ports.dedup();
        Self { address, ports }
    }
}

/// Whether an address is of a private network, as those of Services are.
fn may_be_a_service(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_private() || is_shared(address),
        IpAddr::V6(address) => address.is_unique_local(),
    }
}

/// Whether an address is of 100.64.0.0/10, from which some clusters take theirs (RFC 6598).
fn is_shared(address: Ipv4Addr) -> bool {
    let [first, second, ..] = address.octets();
    first == 100 && (64..128).contains(&second)
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
        let peer = Peer::of("https://203.0.113.7:9000", &[]);
        assert_eq!(peer, Peer { address: Some("203.0.113.7".parse().unwrap()), ports: vec![9000] });
        let peer = Peer::of("https://s3.example.com", &[]);
        assert_eq!(peer, Peer { address: None, ports: vec![443] });
    }

    #[test]
    fn an_address_that_may_be_a_services_is_left_open_as_a_policy_sees_the_pods_behind_it() {
        for service in ["10.96.0.7", "172.30.0.1", "192.168.7.7", "100.64.0.1", "[fd00::7]"] {
            let peer = Peer::of(&format!("https://{service}:8444"), &[8444]);
            assert_eq!(peer, Peer { address: None, ports: vec![8444] }, "{service}");
        }
        assert!(Peer::of("https://100.128.0.1:8444", &[]).address.is_some());
        assert!(Peer::of("https://[2001:db8::7]:8444", &[]).address.is_some());
    }
}
