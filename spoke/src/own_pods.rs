//! The Pods that a spoke makes for its own use in applications' namespaces: movers, and the Jobs of hooks.

use serde_json::{Value, json};

/// The annotations that all of them carry, and one of the kind's own: no mesh puts a sidecar into
/// them, which would keep their Jobs from ending, and a node that the autoscaler wants to empty waits.
pub fn annotations(key: &str, value: &str) -> Value {
    json!({
        "sidecar.istio.io/inject": "false",
        "linkerd.io/inject": "disabled",
        "kuma.io/sidecar-injection": "disabled",
        "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
        key: value
    })
}
