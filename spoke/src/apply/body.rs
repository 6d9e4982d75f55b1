//! The bodies of calls, and what of an answer is compared: pure.

use serde_json::Value;

use crate::cluster::uid;

/// The body with the live object's uid: one of the same name that took its place is not touched.
pub fn of_uid(mut body: Value, live: &Value) -> Value {
    if let (Some(metadata), false) =
        (body.get_mut("metadata").and_then(Value::as_object_mut), uid(live).is_empty())
    {
        metadata.insert("uid".to_owned(), uid(live).into());
    }
    body
}

/// The object without the book of who set what.
pub fn without_managed(mut object: Value) -> Value {
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}

/// The object as it is wanted of somebody else: without our marks.
pub fn unmarked(wanted: &Value) -> Value {
    let mut wanted = wanted.clone();
    let labels = wanted.pointer_mut("/metadata/labels").and_then(Value::as_object_mut);
    let emptied = labels.is_some_and(|labels| {
        labels.retain(|key, _| !key.starts_with("isthmus.dev/"));
        labels.is_empty()
    });
    // Where the marks were all there was, an object without labels is as wanted.
    if emptied && let Some(metadata) = wanted.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("labels");
    }
    wanted
}
