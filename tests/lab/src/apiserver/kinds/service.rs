//! Services: addresses and node ports are handed out here.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use serde_json::{Value, json};

use super::Ranges;
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{default, list, number, object, set, text};
use crate::apiserver::store::Transaction;

/// A range of IPv4 addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cidr {
    base: u32,
    bits: u32,
}

impl Cidr {
    /// Reads `10.96.0.0/16`.
    pub fn parse(text: &str) -> Option<Self> {
        let (address, bits) = text.split_once('/')?;
        let bits: u32 = bits.parse().ok().filter(|b| (8..=30).contains(b))?;
        let base = u32::from(address.parse::<Ipv4Addr>().ok()?) & (u32::MAX << (32 - bits));
        Some(Self { base, bits })
    }

    /// Whether the address is in the range.
    pub fn contains(self, address: Ipv4Addr) -> bool {
        u32::from(address) & (u32::MAX << (32 - self.bits)) == self.base
    }

    /// The address at an offset.
    pub fn nth(self, offset: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + offset)
    }

    fn size(self) -> u32 {
        1 << (32 - self.bits)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

/// Defaults of a service.
pub fn set_defaults(service: &mut Value) {
    if !service["spec"].is_object() {
        return;
    }
    let spec = &mut service["spec"];
    default(spec, &["type"], "ClusterIP");
    default(spec, &["sessionAffinity"], "None");
    if text(spec, &["sessionAffinity"]) == "ClientIP" {
        default(spec, &["sessionAffinityConfig", "clientIP", "timeoutSeconds"], 10800);
    }
    for port in spec.get_mut("ports").and_then(Value::as_array_mut).into_iter().flatten() {
        default(port, &["protocol"], "TCP");
        let number = port["port"].clone();
        if port["targetPort"].is_null() || port["targetPort"] == json!(0) || port["targetPort"] == json!("") {
            set(port, &["targetPort"], number);
        }
    }
    let kind = text(spec, &["type"]).to_owned();
    if kind != "ExternalName" {
        default(spec, &["internalTrafficPolicy"], "Cluster");
    }
    if matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
        default(spec, &["externalTrafficPolicy"], "Cluster");
    }
    if kind == "LoadBalancer" {
        default(spec, &["allocateLoadBalancerNodePorts"], true);
    }
}

/// What an update that leaves allocated values out keeps.
pub fn keep(old: &Value, new: &mut Value) {
    let (before, after) = (text(old, &["spec", "type"]), text(new, &["spec", "type"]).to_owned());
    let has_address = |kind: &str| kind != "ExternalName";
    if has_address(before) && has_address(&after) {
        if new["spec"]["clusterIP"].is_null() && new["spec"]["clusterIPs"].is_null() {
            set(new, &["spec", "clusterIP"], old["spec"]["clusterIP"].clone());
            set(new, &["spec", "clusterIPs"], old["spec"]["clusterIPs"].clone());
        }
        for field in ["ipFamilies", "ipFamilyPolicy"] {
            if new["spec"][field].is_null() && !old["spec"][field].is_null() {
                set(new, &["spec", field], old["spec"][field].clone());
            }
        }
    }
    if before == "LoadBalancer" && after == "LoadBalancer" {
        let kept = old["spec"]["healthCheckNodePort"].clone();
        if text(new, &["spec", "externalTrafficPolicy"]) == "Local"
            && new["spec"]["healthCheckNodePort"].is_null()
        {
            set(new, &["spec", "healthCheckNodePort"], kept);
        }
    }
    // A field that the new type has no use for, and that nobody has touched, goes.
    let mut drop_unchanged = |fields: &[&str]| {
        for field in fields {
            if new["spec"][*field] == old["spec"][*field] {
                object(&mut new["spec"]).remove(*field);
            }
        }
    };
    if before == "LoadBalancer" && after != "LoadBalancer" {
        drop_unchanged(&["allocateLoadBalancerNodePorts", "loadBalancerClass", "healthCheckNodePort"]);
    }
    if !matches!(after.as_str(), "NodePort" | "LoadBalancer") && matches!(before, "NodePort" | "LoadBalancer")
    {
        drop_unchanged(&["externalTrafficPolicy"]);
    }
    if matches!(after.as_str(), "NodePort" | "LoadBalancer") && matches!(before, "NodePort" | "LoadBalancer")
    {
        for port in new.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten() {
            let same = list(old, &["spec", "ports"])
                .iter()
                .find(|p| p["port"] == port["port"] && p["protocol"] == port["protocol"]);
            if let Some(number) = same.and_then(|p| p["nodePort"].as_i64()) {
                default(port, &["nodePort"], number);
            }
        }
    }
}

/// Gives a service its address and ports, or checks the ones it asks for.
pub fn allocate(
    transaction: &Transaction<'_>,
    ranges: &Ranges,
    old: Option<&Value>,
    service: &mut Value,
) -> Vec<FieldError> {
    let kind = text(service, &["spec", "type"]).to_owned();
    let me = crate::apiserver::json::uid(service).to_owned();
    let others: Vec<_> = transaction
        .list("/services", None)
        .into_iter()
        .filter(|s| crate::apiserver::json::uid(s) != me)
        .collect();
    let mut errors = Vec::new();
    if kind == "ExternalName" {
        for field in ["clusterIP", "clusterIPs", "ipFamilies", "ipFamilyPolicy"] {
            object(&mut service["spec"]).remove(field);
        }
    } else {
        let taken: HashSet<&str> =
            others.iter().flat_map(|s| list(s, &["spec", "clusterIPs"])).filter_map(Value::as_str).collect();
        let given = match text(service, &["spec", "clusterIP"]) {
            "" => list(service, &["spec", "clusterIPs"])
                .first()
                .and_then(Value::as_str)
                .unwrap_or("")
                .to_owned(),
            address => address.to_owned(),
        };
        match address(&given, &taken, ranges.services) {
            Ok(address) => {
                set(service, &["spec", "clusterIP"], address.clone());
                set(service, &["spec", "clusterIPs"], json!([address]));
            }
            Err(why) => errors.push(FieldError::invalid("spec.clusterIPs", &json!([given]), &why)),
        }
        // Addresses of a headless service without a selector are whatever its endpoints have.
        let any = text(service, &["spec", "clusterIP"]) == "None" && service["spec"]["selector"].is_null();
        let families = if any { json!(["IPv4", "IPv6"]) } else { json!(["IPv4"]) };
        default(service, &["spec", "ipFamilies"], families);
        default(service, &["spec", "ipFamilyPolicy"], if any { "RequireDualStack" } else { "SingleStack" });
    }
    let wants_ports = kind == "NodePort"
        || (kind == "LoadBalancer" && service["spec"]["allocateLoadBalancerNodePorts"] != Value::Bool(false));
    // Ports are handed out to one service each; within it, protocols may share them.
    let mut taken: HashSet<(i64, String)> = HashSet::new();
    let mut foreign: HashSet<i64> = others
        .iter()
        .flat_map(|s| list(s, &["spec", "ports"]))
        .filter_map(|p| p["nodePort"].as_i64())
        .collect();
    foreign.extend(others.iter().filter_map(|s| s["spec"]["healthCheckNodePort"].as_i64()));
    for (index, port) in
        service.pointer_mut("/spec/ports").and_then(Value::as_array_mut).into_iter().flatten().enumerate()
    {
        if !matches!(kind.as_str(), "NodePort" | "LoadBalancer") {
            // A service that ceases to be on the nodes gives its ports back.
            if old.is_some() {
                object(port).remove("nodePort");
            } else if port["nodePort"].as_i64().is_some_and(|n| n != 0) {
                errors.push(FieldError::forbidden(
                    format!("spec.ports[{index}].nodePort"),
                    "may not be used when `type` is 'ClusterIP'",
                ));
            }
            continue;
        }
        let protocol = text(port, &["protocol"]).to_owned();
        match number(port, &["nodePort"]).filter(|n| *n != 0) {
            Some(wanted) => {
                let field = format!("spec.ports[{index}].nodePort");
                // Odd, and so with the real server: a dry run does not look at the range.
                let in_range = transaction.is_dry_run()
                    || u16::try_from(wanted).is_ok_and(|n| ranges.node_ports.contains(&n));
                if !in_range {
                    let why = format!(
                        "provided port is not in the valid range. The range of valid ports is {}-{}",
                        ranges.node_ports.start(),
                        ranges.node_ports.end()
                    );
                    errors.push(FieldError::invalid(field, &json!(wanted), &why));
                } else if foreign.contains(&wanted) || !taken.insert((wanted, protocol)) {
                    errors.push(FieldError::invalid(
                        field,
                        &json!(wanted),
                        "provided port is already allocated",
                    ));
                }
            }
            None if wants_ports => {
                let free = ranges
                    .node_ports
                    .clone()
                    .map(i64::from)
                    .find(|n| !foreign.contains(n) && !taken.iter().any(|(t, _)| t == n));
                match free {
                    Some(free) => {
                        taken.insert((free, protocol));
                        set(port, &["nodePort"], free);
                    }
                    None => errors.push(FieldError::invalid(
                        format!("spec.ports[{index}].nodePort"),
                        &json!(0),
                        "failed to allocate a nodePort: range is full",
                    )),
                }
            }
            None => {}
        }
    }
    foreign.extend(taken.iter().map(|(number, _)| *number));
    health_check(transaction, ranges, &foreign, service, &mut errors);
    errors
}

/// The port on which the nodes tell a load balancer whether they have pods of the service.
fn health_check(
    transaction: &Transaction<'_>,
    ranges: &Ranges,
    taken: &HashSet<i64>,
    service: &mut Value,
    errors: &mut Vec<FieldError>,
) {
    let spec = &mut service["spec"];
    if text(spec, &["type"]) != "LoadBalancer" || text(spec, &["externalTrafficPolicy"]) != "Local" {
        return;
    }
    match number(spec, &["healthCheckNodePort"]).filter(|n| *n != 0) {
        Some(wanted) if taken.contains(&wanted) && !transaction.is_dry_run() => {
            errors.push(FieldError::invalid(
                "spec.healthCheckNodePort",
                &json!(wanted),
                "provided port is already allocated",
            ));
        }
        Some(_) => {}
        None => {
            if let Some(free) = ranges.node_ports.clone().map(i64::from).find(|n| !taken.contains(n)) {
                set(spec, &["healthCheckNodePort"], free);
            }
        }
    }
}

fn address(given: &str, taken: &HashSet<&str>, range: Cidr) -> Result<String, String> {
    match given {
        "None" => Ok("None".to_owned()),
        "" => (1..range.size() - 1)
            .map(|n| range.nth(n).to_string())
            .find(|address| !taken.contains(address.as_str()))
            .ok_or_else(|| "failed to allocate a serviceIP: range is full".to_owned()),
        given => {
            // Text that is no address at all is refused with the rules of the fields.
            let Ok(parsed) = given.parse::<Ipv4Addr>() else { return Ok(given.to_owned()) };
            if !range.contains(parsed) {
                return Err(format!(
                    "failed to allocate IP {given}: the provided IP ({given}) is not in the valid range. The range of valid IPs is {range}"
                ));
            }
            if taken.contains(given) {
                return Err(format!("failed to allocate IP {given}: provided IP is already allocated"));
            }
            Ok(given.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_come_from_the_range_and_never_twice() {
        let range = Cidr::parse("10.96.0.0/24").unwrap();
        let taken = HashSet::from(["10.96.0.1"]);
        assert_eq!(address("", &taken, range).unwrap(), "10.96.0.2");
        assert_eq!(address("None", &taken, range).unwrap(), "None");
        assert!(address("10.96.0.1", &taken, range).unwrap_err().contains("already allocated"));
        assert!(address("10.97.0.1", &taken, range).unwrap_err().contains("not in the valid range"));
    }
}
