//! What a service may be: the rules of its fields. Addresses and ports are handed out elsewhere.

use std::collections::HashSet;
use std::net::IpAddr;

use serde_json::{Value, json};

use super::names::subdomain_problem;
use crate::apiserver::error::FieldError;
use crate::apiserver::json::{at, list, number, text};

const IP: &str = "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)";

/// What is wrong with a service.
pub fn validate(service: &Value) -> Vec<FieldError> {
    let spec = &service["spec"];
    let mut errors = Vec::new();
    let kinds = ["ClusterIP", "ExternalName", "LoadBalancer", "NodePort"].map(str::to_owned);
    let kind = text(spec, &["type"]);
    if !kinds.iter().any(|k| k == kind) {
        errors.push(FieldError::unsupported("spec.type", &spec["type"], &kinds));
    }
    let headless =
        text(spec, &["clusterIP"]) == "None" || list(spec, &["clusterIPs"]).first() == Some(&json!("None"));
    if list(spec, &["ports"]).is_empty() && !headless && kind != "ExternalName" {
        errors.push(FieldError::required("spec.ports", ""));
    }
    if kind == "ExternalName" {
        external_name(text(spec, &["externalName"]), &mut errors);
    }
    let address = text(spec, &["clusterIP"]);
    if !matches!(address, "" | "None") && address.parse::<IpAddr>().is_err() {
        errors.push(FieldError::invalid("spec.clusterIPs[0]", &json!(address), IP));
    }
    ports(list(spec, &["ports"]), &mut errors);
    outside(spec, kind, &mut errors);
    errors
}

fn external_name(name: &str, errors: &mut Vec<FieldError>) {
    let name = name.strip_suffix('.').unwrap_or(name);
    if name.is_empty() {
        errors.push(FieldError::required("spec.externalName", ""));
    } else if let Some(why) = subdomain_problem(name) {
        errors.push(FieldError::invalid("spec.externalName", &json!(name), &why));
    }
}

fn ports(ports: &[Value], errors: &mut Vec<FieldError>) {
    let (mut names, mut taken) = (HashSet::new(), HashSet::new());
    for (index, port) in ports.iter().enumerate() {
        let name = text(port, &["name"]);
        if name.is_empty() && ports.len() > 1 {
            errors.push(FieldError::required(format!("spec.ports[{index}].name"), ""));
        } else if !names.insert(name) {
            errors.push(FieldError::duplicate(format!("spec.ports[{index}].name"), &json!(name)));
        }
        if !number(port, &["port"]).is_some_and(|p| (1..=65535).contains(&p)) {
            let value = if port["port"].is_null() { json!(0) } else { port["port"].clone() };
            errors.push(FieldError::invalid(
                format!("spec.ports[{index}].port"),
                &value,
                "must be between 1 and 65535, inclusive",
            ));
        }
        let protocol = if text(port, &["protocol"]).is_empty() { "TCP" } else { text(port, &["protocol"]) };
        if !taken.insert((number(port, &["port"]), protocol)) {
            // The part of the server's own type that tells ports apart, as it prints.
            let shown = json!({"Name": "", "Protocol": protocol, "AppProtocol": null,
                "Port": port["port"], "TargetPort": 0, "NodePort": 0});
            errors.push(FieldError::duplicate(format!("spec.ports[{index}]"), &shown));
        }
    }
}

/// The fields of services that are reached from outside.
fn outside(spec: &Value, kind: &str, errors: &mut Vec<FieldError>) {
    let policy = text(spec, &["externalTrafficPolicy"]);
    let balanced = kind == "LoadBalancer";
    let reached = balanced || kind == "NodePort" || !list(spec, &["externalIPs"]).is_empty();
    if !policy.is_empty() && !reached {
        errors.push(FieldError::invalid(
            "spec.externalTrafficPolicy",
            &json!(policy),
            "may only be set for externally-accessible services",
        ));
    }
    let port = number(spec, &["healthCheckNodePort"]).filter(|n| *n != 0);
    if let Some(port) = port.filter(|_| !(balanced && policy == "Local")) {
        errors.push(FieldError::invalid(
            "spec.healthCheckNodePort",
            &json!(port),
            "may only be set when `type` is 'LoadBalancer' and `externalTrafficPolicy` is 'Local'",
        ));
    }
    for field in ["loadBalancerClass", "allocateLoadBalancerNodePorts"] {
        if !balanced && !spec[field].is_null() {
            let why = "may only be used when `type` is 'LoadBalancer'";
            errors.push(FieldError::forbidden(format!("spec.{field}"), why));
        }
    }
}

/// What of a service may not change.
pub fn validate_update(old: &Value, new: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let (before, after) = (text(old, &["spec", "type"]), text(new, &["spec", "type"]));
    let (was, is) = (at(old, &["spec", "clusterIP"]), at(new, &["spec", "clusterIP"]));
    if before != "ExternalName" && after != "ExternalName" && was != is && !was.is_null() {
        errors.push(FieldError::invalid(
            "spec.clusterIPs[0]",
            at(new, &["spec", "clusterIPs"]),
            "may not change once set",
        ));
    }
    if before == "LoadBalancer" && after == "LoadBalancer" {
        let port = |service: &Value| number(service, &["spec", "healthCheckNodePort"]).unwrap_or(0);
        if port(old) != port(new) && port(old) != 0 && port(new) != 0 {
            errors.push(FieldError::forbidden("spec.healthCheckNodePort", "field is immutable"));
        }
        if old["spec"]["loadBalancerClass"] != new["spec"]["loadBalancerClass"] {
            let why = "may not change once set";
            errors.push(FieldError::invalid(
                "spec.loadBalancerClass",
                &new["spec"]["loadBalancerClass"],
                why,
            ));
        }
    }
    errors
}
