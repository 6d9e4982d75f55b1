//! The shapes of the kinds that are Kubernetes' own and that people keep: a tree of the published
//! definitions, made once when it is first asked for.

use std::sync::LazyLock;

use k8s_openapi::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value};

use super::rules::{list_merge, rules_of};
use super::{ListMerge, Shape};

/// Where the definitions lie in an OpenAPI v3 document.
const REFERENCE: &str = "#/components/schemas/";

/// A group, a kind, and its definition.
type Row = (&'static str, &'static str, fn(&mut SchemaGenerator) -> Schema);

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// The kinds; where a group serves several versions, the merge keys are the same in all.
#[rustfmt::skip]
const KINDS: &[Row] = &[
    ("", "ConfigMap", of::<api::core::v1::ConfigMap>),
    ("", "Endpoints", of::<api::core::v1::Endpoints>),
    ("", "LimitRange", of::<api::core::v1::LimitRange>),
    ("", "Namespace", of::<api::core::v1::Namespace>),
    ("", "PersistentVolume", of::<api::core::v1::PersistentVolume>),
    ("", "PersistentVolumeClaim", of::<api::core::v1::PersistentVolumeClaim>),
    ("", "Pod", of::<api::core::v1::Pod>),
    ("", "PodTemplate", of::<api::core::v1::PodTemplate>),
    ("", "ReplicationController", of::<api::core::v1::ReplicationController>),
    ("", "ResourceQuota", of::<api::core::v1::ResourceQuota>),
    ("", "Secret", of::<api::core::v1::Secret>),
    ("", "Service", of::<api::core::v1::Service>),
    ("", "ServiceAccount", of::<api::core::v1::ServiceAccount>),
    ("admissionregistration.k8s.io", "MutatingWebhookConfiguration", of::<api::admissionregistration::v1::MutatingWebhookConfiguration>),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicy", of::<api::admissionregistration::v1::ValidatingAdmissionPolicy>),
    ("admissionregistration.k8s.io", "ValidatingAdmissionPolicyBinding", of::<api::admissionregistration::v1::ValidatingAdmissionPolicyBinding>),
    ("admissionregistration.k8s.io", "ValidatingWebhookConfiguration", of::<api::admissionregistration::v1::ValidatingWebhookConfiguration>),
    ("apiextensions.k8s.io", "CustomResourceDefinition", of::<apiextensions::CustomResourceDefinition>),
    ("apiregistration.k8s.io", "APIService", of::<apiregistration::APIService>),
    ("apps", "ControllerRevision", of::<api::apps::v1::ControllerRevision>),
    ("apps", "DaemonSet", of::<api::apps::v1::DaemonSet>),
    ("apps", "Deployment", of::<api::apps::v1::Deployment>),
    ("apps", "ReplicaSet", of::<api::apps::v1::ReplicaSet>),
    ("apps", "StatefulSet", of::<api::apps::v1::StatefulSet>),
    ("autoscaling", "HorizontalPodAutoscaler", of::<api::autoscaling::v2::HorizontalPodAutoscaler>),
    ("batch", "CronJob", of::<api::batch::v1::CronJob>),
    ("batch", "Job", of::<api::batch::v1::Job>),
    ("discovery.k8s.io", "EndpointSlice", of::<api::discovery::v1::EndpointSlice>),
    ("networking.k8s.io", "Ingress", of::<api::networking::v1::Ingress>),
    ("networking.k8s.io", "IngressClass", of::<api::networking::v1::IngressClass>),
    ("networking.k8s.io", "NetworkPolicy", of::<api::networking::v1::NetworkPolicy>),
    ("node.k8s.io", "RuntimeClass", of::<api::node::v1::RuntimeClass>),
    ("policy", "PodDisruptionBudget", of::<api::policy::v1::PodDisruptionBudget>),
    ("rbac.authorization.k8s.io", "ClusterRole", of::<api::rbac::v1::ClusterRole>),
    ("rbac.authorization.k8s.io", "ClusterRoleBinding", of::<api::rbac::v1::ClusterRoleBinding>),
    ("rbac.authorization.k8s.io", "Role", of::<api::rbac::v1::Role>),
    ("rbac.authorization.k8s.io", "RoleBinding", of::<api::rbac::v1::RoleBinding>),
    ("scheduling.k8s.io", "PriorityClass", of::<api::scheduling::v1::PriorityClass>),
    ("storage.k8s.io", "CSIDriver", of::<api::storage::v1::CSIDriver>),
    ("storage.k8s.io", "StorageClass", of::<api::storage::v1::StorageClass>),
];

struct Definitions {
    types: Map<String, Value>,
    /// The references to the kinds' own definitions, in the order of [`KINDS`].
    roots: Vec<Value>,
    object_meta: Value,
}

static DEFINITIONS: LazyLock<Definitions> = LazyLock::new(|| {
    let mut generator = SchemaSettings::openapi3().into_generator();
    let roots = KINDS.iter().map(|(_, _, schema)| schema(&mut generator).to_value()).collect();
    let object_meta = of::<ObjectMeta>(&mut generator).to_value();
    Definitions { types: generator.take_definitions(true), roots, object_meta }
});

/// A place in a built-in kind.
#[derive(Clone, Copy, Debug)]
pub struct Builtin {
    definition: &'static Value,
    /// The rules of the field that led here.
    rules: &'static [&'static str],
}

/// The shape of a built-in kind; none for any other kind.
pub fn shape(group: &str, kind: &str) -> Option<Builtin> {
    let at = KINDS.iter().position(|(g, k, _)| *g == group && *k == kind)?;
    DEFINITIONS.roots.get(at).map(|definition| Builtin { definition, rules: &[] })
}

/// Whether a kind of this name is built in, in any group.
pub fn is_builtin(kind: &str) -> bool {
    KINDS.iter().any(|(_, k, _)| *k == kind)
}

impl Builtin {
    /// The name of the type and its definition, where the place refers to one.
    fn resolved(self) -> (Option<&'static str>, &'static Value) {
        let reference = self
            .definition
            .get("$ref")
            .or_else(|| self.definition.pointer("/allOf/0/$ref"))
            .and_then(Value::as_str)
            .and_then(|reference| reference.strip_prefix(REFERENCE));
        match reference.and_then(|name| DEFINITIONS.types.get(name).map(|found| (name, found))) {
            Some((name, definition)) => (Some(name), definition),
            None => (None, self.definition),
        }
    }
}

impl Shape for Builtin {
    fn object_meta() -> Option<Self> {
        Some(Self { definition: &DEFINITIONS.object_meta, rules: &[] })
    }

    fn field(self, key: &str) -> Option<Self> {
        let (name, definition) = self.resolved();
        if let Some(property) = definition.get("properties").and_then(|p| p.get(key)) {
            let rules = name.and_then(rules_of).and_then(|rules| rules.get(key));
            return Some(Self { definition: property, rules: rules.map_or(&[], Vec::as_slice) });
        }
        let definition = definition.get("additionalProperties").filter(|a| a.is_object())?;
        Some(Self { definition, rules: &[] })
    }

    fn item(self) -> Option<Self> {
        self.resolved().1.get("items").map(|definition| Self { definition, rules: &[] })
    }

    fn list_merge(self) -> Option<ListMerge> {
        list_merge(self.rules)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_knows_its_merge_key_through_references() {
        let spec = shape("batch", "CronJob")
            .and_then(|s| s.field("spec"))
            .and_then(|s| s.field("jobTemplate"))
            .and_then(|s| s.field("spec"))
            .and_then(|s| s.field("template"))
            .and_then(|s| s.field("spec"))
            .unwrap();
        let containers = spec.field("containers").unwrap();
        assert_eq!(containers.list_merge(), Some(ListMerge::By("name".to_owned())));
        let mounts = containers.item().and_then(|c| c.field("volumeMounts")).unwrap();
        assert_eq!(mounts.list_merge(), Some(ListMerge::By("mountPath".to_owned())));
        assert_eq!(spec.field("tolerations").unwrap().list_merge(), None);
    }

    #[test]
    fn metadata_has_the_shape_of_all_metadata() {
        let meta = Builtin::object_meta().unwrap();
        assert_eq!(meta.field("finalizers").unwrap().list_merge(), Some(ListMerge::Scalars));
    }

    #[test]
    fn other_kinds_have_none() {
        assert!(shape("example.com", "Deployment").is_none() && !is_builtin("Widget"));
    }
}
