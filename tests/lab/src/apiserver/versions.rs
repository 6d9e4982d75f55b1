//! Objects between the version that they are stored at and the version that is asked for.

use std::borrow::Cow;

use serde_json::Value;

use super::json::{object, set, text};
use super::kinds::policy::convert_autoscaler;
use super::registry::Resource;

/// Fields that the two event APIs name differently: core, then events.k8s.io.
const EVENT_FIELDS: [(&str, &str); 7] = [
    ("involvedObject", "regarding"),
    ("message", "note"),
    ("source", "deprecatedSource"),
    ("firstTimestamp", "deprecatedFirstTimestamp"),
    ("lastTimestamp", "deprecatedLastTimestamp"),
    ("count", "deprecatedCount"),
    ("reportingComponent", "reportingController"),
];

/// A stored object at the resource's version.
pub fn presented<'a>(resource: &Resource, stored: &'a Value) -> Cow<'a, Value> {
    let wanted = resource.api_version();
    if text(stored, &["apiVersion"]) == wanted {
        return Cow::Borrowed(stored);
    }
    let mut converted = stored.clone();
    convert(resource, &mut converted, &wanted);
    Cow::Owned(converted)
}

/// Turns an object into the version that it is stored at.
pub fn to_storage(resource: &Resource, object: &mut Value) {
    if text(object, &["apiVersion"]) != resource.storage_version {
        convert(resource, object, &resource.storage_version);
    }
}

fn convert(resource: &Resource, value: &mut Value, to: &str) {
    if resource.is_custom() {
        set(value, &["apiVersion"], to);
        return;
    }
    match resource.kind.as_str() {
        "HorizontalPodAutoscaler" => convert_autoscaler(value, to),
        "Event" => {
            let to_core = to == "v1";
            for (core, new) in EVENT_FIELDS {
                let (from, into) = if to_core { (new, core) } else { (core, new) };
                if let Some(field) = object(value).remove(from) {
                    object(value).insert(into.to_owned(), field);
                }
            }
            set(value, &["apiVersion"], to);
        }
        _ => set(value, &["apiVersion"], to),
    }
}
