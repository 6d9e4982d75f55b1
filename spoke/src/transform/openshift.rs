//! OpenShift's own kinds: hosts that its router generated, and images that its triggers resolved.

use serde_json::Value;

use super::{Scope, is, remove};
use crate::cluster::annotation;

/// On a Route whose host nobody chose.
const HOST_GENERATED: &str = "openshift.io/host.generated";

/// Drops what the source's cluster filled in.
pub fn rewrite(object: &mut Value, _: &mut Scope<'_>) {
    if is(object, "route.openshift.io", "Route") {
        if annotation(object, HOST_GENERATED) == Some("true") {
            remove(object, "/spec", &["host"]);
            remove(object, "/metadata/annotations", &[HOST_GENERATED]);
        }
    } else if is(object, "image.openshift.io", "ImageStream") {
        // The repository in the source's own registry, and what was found there.
        remove(object, "/metadata/annotations", &["openshift.io/image.dockerRepositoryCheck"]);
        for tag in items(object, "/spec/tags") {
            remove(tag, "", &["generation"]);
        }
    } else if is(object, "image.openshift.io", "ImageStreamTag") {
        remove(object, "", &["image", "generation", "conditions"]);
        remove(object, "/tag", &["generation"]);
    } else if is(object, "apps.openshift.io", "DeploymentConfig") {
        for trigger in items(object, "/spec/triggers") {
            remove(trigger, "/imageChangeParams", &["lastTriggeredImage"]);
        }
    } else if is(object, "build.openshift.io", "BuildConfig") {
        for trigger in items(object, "/spec/triggers") {
            remove_only(trigger, "/imageChange", "lastTriggeredImageID");
        }
    }
}

fn items<'a>(object: &'a mut Value, pointer: &str) -> impl Iterator<Item = &'a mut Value> {
    object.pointer_mut(pointer).and_then(Value::as_array_mut).into_iter().flatten()
}

/// An empty `imageChange` says something: the trigger follows the image that is built from.
fn remove_only(object: &mut Value, pointer: &str, key: &str) {
    if let Some(Value::Object(map)) = object.pointer_mut(pointer) {
        map.remove(key);
    }
}
