//! Services: addresses and ports that the source's cluster allocated, and what load balancers of
//! the source wrote.
//!
//! `None` is no address but a headless Service, which stays one. Node ports that a person chose
//! stay, as do all with `preserveNodePorts`; which those are, [`Chosen`] tells.

use serde_json::Value;

use super::chosen::{Chosen, ServicePort};
use super::{Scope, is, remove};
use crate::cluster::text;

/// Written by providers' controllers about what they made on the source. A load balancer's id
/// among them would make the destination's controller take over the source's.
const PROVIDER_MADE: &[&str] = &[
    "cloud.google.com/neg-status",
    "kube-vip.io/vipHost",
    "kubernetes.civo.com/loadbalancer-id",
    "kubernetes.digitalocean.com/load-balancer-id",
    "load-balancer.hetzner.cloud/id",
    "load-balancer.hetzner.cloud/ipv4",
    "load-balancer.hetzner.cloud/ipv6",
    "loadbalancer.openstack.org/load-balancer-address",
    "loadbalancer.openstack.org/load-balancer-id",
    "metallb.io/ip-allocated-from-pool",
    "metallb.universe.tf/ip-allocated-from-pool",
    "service.alpha.openshift.io/serving-cert-signed-by",
    "service.beta.kubernetes.io/exoscale-loadbalancer-id",
    "service.beta.kubernetes.io/scw-loadbalancer-id",
    "service.beta.openshift.io/serving-cert-signed-by",
    "service.kubernetes.io/backend-service",
    "service.kubernetes.io/firewall-rule",
    "service.kubernetes.io/firewall-rule-for-hc",
    "service.kubernetes.io/healthcheck",
    "service.kubernetes.io/tcp-forwarding-rule",
    "service.kubernetes.io/udp-forwarding-rule",
];

/// Drops what was allocated.
pub fn rewrite(object: &mut Value, scope: &mut Scope<'_>) {
    if !is(object, "", "Service") {
        return;
    }
    let chosen = if scope.as_written { Chosen::All } else { Chosen::of(object) };
    addresses(object, &chosen, scope);
    node_ports(object, &chosen, scope.options.preserve_node_ports);
    remove(object, "/metadata/annotations", PROVIDER_MADE);
}

fn addresses(object: &mut Value, chosen: &Chosen, scope: &mut Scope<'_>) {
    let address = text(object, "/spec/clusterIP").to_owned();
    if address != "None" {
        if !address.is_empty() && chosen.spec("clusterIP") {
            let message = format!(
                "spec.clusterIP was chosen as {address} on the source; the destination allocates its own: if clients know the address, set one by a transform"
            );
            scope.notes.push("ClusterIPNotKept", message);
        }
        remove(object, "/spec", &["clusterIP", "clusterIPs"]);
    }
    if !chosen.spec("ipFamilies") {
        remove(object, "/spec", &["ipFamilies"]);
    }
    let balancer = text(object, "/spec/loadBalancerIP").to_owned();
    if balancer.is_empty() || !chosen.spec("loadBalancerIP") {
        remove(object, "/spec", &["loadBalancerIP"]);
    } else {
        let message = format!(
            "spec.loadBalancerIP asks for {balancer}, as on the source: change or remove it by a transform if the destination's network does not have the address"
        );
        scope.notes.push("LoadBalancerIPKept", message);
    }
}

fn node_ports(object: &mut Value, chosen: &Chosen, preserve: bool) {
    if preserve {
        return;
    }
    if !chosen.spec("healthCheckNodePort") {
        remove(object, "/spec", &["healthCheckNodePort"]);
    }
    let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        if !chosen.node_port(ServicePort::of(port)) {
            port.remove("nodePort");
        }
    }
}
