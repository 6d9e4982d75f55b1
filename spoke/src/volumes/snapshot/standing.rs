//! What the statuses of a snapshot and of the claim from it say. Pure.

use serde_json::Value;

use crate::cluster::text;

/// How one of them stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Standing {
    /// It can be used.
    Ready,
    /// It is being made.
    Waits,
    /// The driver says that it could not; it may try again.
    Errs(String),
    /// It is being removed.
    Going,
}

/// How a VolumeSnapshot stands.
pub fn of_snapshot(snapshot: &Value) -> Standing {
    let error = text(snapshot, "/status/error/message");
    if is_going(snapshot) {
        Standing::Going
    } else if is_ready(snapshot) {
        Standing::Ready
    } else if snapshot.pointer("/status/error").is_some_and(|error| !error.is_null()) {
        Standing::Errs(if error.is_empty() { "without a message".to_owned() } else { error.to_owned() })
    } else {
        Standing::Waits
    }
}

/// Whether a VolumeSnapshot is ready to be used.
pub fn is_ready(snapshot: &Value) -> bool {
    snapshot.pointer("/status/readyToUse") == Some(&Value::Bool(true))
}

/// How large a volume must be that is made from it; empty if it does not say.
pub fn restore_size(snapshot: &Value) -> String {
    match snapshot.pointer("/status/restoreSize") {
        Some(Value::String(size)) => size.clone(),
        Some(Value::Number(size)) => size.to_string(),
        _ => String::new(),
    }
}

/// How the claim stands. One that waits for its consumer is ready for it.
pub fn of_claim(claim: &Value, waits_for_consumer: bool, warning: Option<&str>) -> Standing {
    match text(claim, "/status/phase") {
        _ if is_going(claim) => Standing::Going,
        "Bound" => Standing::Ready,
        "Lost" => Standing::Errs("its volume is gone".to_owned()),
        _ if waits_for_consumer => Standing::Ready,
        _ => warning.map_or(Standing::Waits, |warning| Standing::Errs(warning.to_owned())),
    }
}

fn is_going(object: &Value) -> bool {
    !text(object, "/metadata/deletionTimestamp").is_empty()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_snapshot_is_ready_once_its_driver_says_so() {
        assert_eq!(of_snapshot(&json!({})), Standing::Waits);
        assert_eq!(of_snapshot(&json!({"status": {"readyToUse": false}})), Standing::Waits);
        let late =
            json!({"status": {"readyToUse": true, "error": {"message": "at first"}, "restoreSize": "1Gi"}});
        assert_eq!(of_snapshot(&late), Standing::Ready);
        assert_eq!(restore_size(&late), "1Gi");
        assert_eq!(restore_size(&json!({"status": {"restoreSize": 5}})), "5");
        let failed = json!({"status": {"readyToUse": false, "error": {"message": "the array is full"}}});
        assert_eq!(of_snapshot(&failed), Standing::Errs("the array is full".to_owned()));
        assert_eq!(of_snapshot(&json!({"status": {"error": null}})), Standing::Waits);
        assert_eq!(of_snapshot(&json!({"metadata": {"deletionTimestamp": "now"}})), Standing::Going);
    }

    #[test]
    fn a_claim_is_awaited_unless_it_waits_itself() {
        let pending = json!({"status": {"phase": "Pending"}});
        assert_eq!(of_claim(&pending, false, None), Standing::Waits);
        assert_eq!(of_claim(&pending, true, None), Standing::Ready);
        assert_eq!(of_claim(&pending, false, Some("no space")), Standing::Errs("no space".to_owned()));
        assert_eq!(of_claim(&json!({"status": {"phase": "Bound"}}), false, Some("x")), Standing::Ready);
    }
}
