//! Owner references: who controls an object, and taking over what nobody controls.

use std::fmt::Debug;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{LabelSelector, OwnerReference};
use kube::api::{Patch, PatchParams};
use kube::core::{Selector, SelectorExt};
use kube::{Api, Resource, ResourceExt};
use serde::de::DeserializeOwned;
use serde_json::json;

use super::{Error, Settled};

/// A reference that says "controlled by this object".
pub(crate) fn controller_of<K: Resource<DynamicType = ()>>(owner: &K) -> OwnerReference {
    let meta = owner.meta();
    OwnerReference {
        api_version: K::api_version(&()).into_owned(),
        kind: K::kind(&()).into_owned(),
        name: meta.name.clone().unwrap_or_default(),
        uid: meta.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The reference of the object's controller.
pub(crate) fn controller<K: Resource>(object: &K) -> Option<&OwnerReference> {
    object.meta().owner_references.iter().flatten().find(|owner| owner.controller == Some(true))
}

/// Whether the object of this uid controls `object`.
pub(crate) fn controls<K: Resource>(uid: &str, object: &K) -> bool {
    controller(object).is_some_and(|owner| owner.uid == uid)
}

/// Whether a label selector matches; one that cannot be read matches nothing.
pub(crate) fn selects(selector: &LabelSelector, labels: &std::collections::BTreeMap<String, String>) -> bool {
    Selector::try_from(selector.clone()).is_ok_and(|selector| selector.matches(labels))
}

/// Makes `owner` the controller of an object that has none.
pub(crate) async fn adopt<O, K>(api: &Api<K>, object: &K, owner: &O) -> Result<(), Error>
where
    O: Resource<DynamicType = ()>,
    K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
{
    let mut owners = object.owner_references().to_vec();
    owners.push(controller_of(owner));
    let patch = json!({"metadata": {"uid": object.uid(), "ownerReferences": owners}});
    api.patch(&object.name_any(), &PatchParams::default(), &Patch::Merge(&patch))
        .await
        .settled("adopting", object)
        .map(|_| ())
}
