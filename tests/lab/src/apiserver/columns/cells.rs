//! The texts of cells.

use serde_json::{Value, json};

use crate::apiserver::json::{at, list, terminating, text};

/// `5m`, as kubectl shows ages.
pub fn age(seconds: i64) -> String {
    let (m, h, d) = (60, 3600, 86400);
    match seconds {
        s if s < 0 => "<invalid>".to_owned(),
        s if s < 120 => format!("{s}s"),
        s if s < 10 * m => both(s / m, "m", s % m, "s"),
        s if s < 3 * h => format!("{}m", s / m),
        s if s < 8 * h => both(s / h, "h", s % h / m, "m"),
        s if s < 48 * h => format!("{}h", s / h),
        s if s < 8 * d => both(s / d, "d", s % d / h, "h"),
        s if s < 730 * d => format!("{}d", s / d),
        s => format!("{}y", s / (365 * d)),
    }
}

pub fn both(a: i64, a_unit: &str, b: i64, b_unit: &str) -> String {
    if b == 0 { format!("{a}{a_unit}") } else { format!("{a}{a_unit}{b}{b_unit}") }
}

pub fn since(time: &Value) -> Value {
    let parsed = time.as_str().and_then(|t| t.parse::<jiff::Timestamp>().ok());
    match parsed {
        Some(then) => json!(age(jiff::Timestamp::now().as_second() - then.as_second())),
        None => json!("<unknown>"),
    }
}

pub fn created(object: &Value) -> Value {
    since(at(object, &["metadata", "creationTimestamp"]))
}

pub fn or_none(text: &str) -> Value {
    if text.is_empty() { json!("<none>") } else { json!(text) }
}

pub fn joined(values: &[Value]) -> String {
    values.iter().filter_map(Value::as_str).collect::<Vec<_>>().join(",")
}

pub fn count(object: &Value, path: &[&str]) -> i64 {
    at(object, path).as_i64().unwrap_or(0)
}

pub fn ready_of(object: &Value, ready: &str) -> Value {
    json!(format!("{}/{}", count(object, &["status", ready]), count(object, &["spec", "replicas"])))
}

pub fn short_modes(modes: &[Value]) -> String {
    let short = |mode: &Value| match mode.as_str().unwrap_or("") {
        "ReadWriteOnce" => "RWO",
        "ReadOnlyMany" => "ROX",
        "ReadWriteMany" => "RWX",
        "ReadWriteOncePod" => "RWOP",
        _ => "?",
    };
    modes.iter().map(short).collect::<Vec<_>>().join(",")
}

pub fn pod_status(pod: &Value) -> Value {
    if terminating(pod) {
        return json!("Terminating");
    }
    let reason = list(pod, &["status", "containerStatuses"]).iter().find_map(|c| {
        let state = &c["state"];
        state["waiting"]["reason"].as_str().or_else(|| state["terminated"]["reason"].as_str())
    });
    let phase = text(pod, &["status", "phase"]);
    json!(reason.or_else(|| pod["status"]["reason"].as_str()).unwrap_or(phase))
}

pub fn ports(service: &Value) -> Value {
    let one = |p: &Value| {
        let protocol = text(p, &["protocol"]);
        match p["nodePort"].as_i64() {
            Some(node) => format!("{}:{node}/{protocol}", p["port"]),
            None => format!("{}/{protocol}", p["port"]),
        }
    };
    or_none(&list(service, &["spec", "ports"]).iter().map(one).collect::<Vec<_>>().join(","))
}

pub fn selector(object: &Value) -> Value {
    let labels = at(object, &["spec", "selector", "matchLabels"])
        .as_object()
        .or_else(|| at(object, &["spec", "selector"]).as_object());
    let pairs: Vec<String> =
        labels.into_iter().flatten().map(|(k, v)| format!("{k}={}", v.as_str().unwrap_or(""))).collect();
    or_none(&pairs.join(","))
}

pub fn images(object: &Value) -> Value {
    let containers = list(object, &["spec", "template", "spec", "containers"]);
    or_none(&containers.iter().map(|c| text(c, &["image"])).collect::<Vec<_>>().join(","))
}

pub fn data_count(object: &Value) -> Value {
    let of = |field: &str| at(object, &[field]).as_object().map_or(0, serde_json::Map::len);
    json!(of("data") + of("binaryData"))
}

pub fn job_state(job: &Value) -> Value {
    let condition = |kind: &str| {
        list(job, &["status", "conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
    };
    json!(if condition("Complete") {
        "Complete"
    } else if condition("Failed") {
        "Failed"
    } else if terminating(job) {
        "Terminating"
    } else if condition("Suspended") {
        "Suspended"
    } else {
        "Running"
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ages_are_shown_as_kubectl_shows_them() {
        for (seconds, shown) in [
            (5, "5s"),
            (119, "119s"),
            (125, "2m5s"),
            (3600, "60m"),
            (4 * 3600, "4h"),
            (3 * 86400, "3d"),
            (900 * 86400, "2y"),
        ] {
            assert_eq!(age(seconds), shown);
        }
    }
}
