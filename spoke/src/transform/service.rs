//! Services: addresses and ports that the source's cluster allocated.
//!
//! `None` is no address but a headless Service, which stays one. Node ports are dropped whether
//! allocated or chosen: the destination allocates its own.

use serde_json::Value;

use super::{Scope, is, remove};
use crate::cluster::text;

/// Drops what was allocated.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    if !is(object, "", "Service") {
        return;
    }
    if text(object, "/spec/clusterIP") != "None" {
        remove(object, "/spec", &["clusterIP", "clusterIPs"]);
    }
    remove(object, "/spec", &["healthCheckNodePort"]);
    let ports = object.pointer_mut("/spec/ports").and_then(Value::as_array_mut);
    for port in ports.into_iter().flatten().filter_map(Value::as_object_mut) {
        port.remove("nodePort");
    }
}
