//! The table of built-in resources.

use k8s_openapi::api;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1 as apiextensions;
use k8s_openapi::kube_aggregator::pkg::apis::apiregistration::v1 as apiregistration;
use schemars::{JsonSchema, Schema, SchemaGenerator};

/// A part of a resource with a path of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sub {
    /// The observed state.
    Status,
    /// The replica count, as `autoscaling/v1` `Scale`.
    Scale,
    /// A service account's tokens.
    Token,
    /// A pod's node.
    Binding,
    /// Deletion that a disruption budget may refuse.
    Eviction,
    /// A container's output.
    Log,
    /// A command in a container.
    Exec,
    /// What a node's kubelet serves.
    Proxy,
    /// A namespace's own finalizers.
    Finalize,
}

impl Sub {
    /// The path segment.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Status => "status",
            Self::Scale => "scale",
            Self::Token => "token",
            Self::Binding => "binding",
            Self::Eviction => "eviction",
            Self::Log => "log",
            Self::Exec => "exec",
            Self::Proxy => "proxy",
            Self::Finalize => "finalize",
        }
    }
}

/// A built-in resource.
#[derive(Debug)]
pub struct Builtin {
    /// API group; empty for the core group.
    pub group: &'static str,
    /// Version in the group.
    pub version: &'static str,
    /// Kind of one object.
    pub kind: &'static str,
    /// Path segment.
    pub plural: &'static str,
    /// Short names.
    pub short: &'static [&'static str],
    /// Categories, such as `all`.
    pub categories: &'static [&'static str],
    /// Whether objects live in namespaces.
    pub namespaced: bool,
    /// Parts with paths of their own.
    pub subs: &'static [Sub],
    /// Whether `metadata.generation` counts changes of the spec.
    pub generation: bool,
    /// Whether objects are stored; reviews are answered and forgotten.
    pub stored: bool,
    /// The published type.
    pub schema: fn(&mut SchemaGenerator) -> Schema,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

const ALL: &[&str] = &["all"];
const NONE: &[&str] = &[];
const STATUS: &[Sub] = &[Sub::Status];
const STATUS_SCALE: &[Sub] = &[Sub::Status, Sub::Scale];
const PLAIN: &[Sub] = &[];

macro_rules! row {
    ($group:literal, $version:literal, $kind:literal, $plural:literal, $short:expr, $categories:expr, $namespaced:literal, $subs:expr, $generation:literal, $stored:literal, $type:ty) => {
        Builtin {
            group: $group,
            version: $version,
            kind: $kind,
            plural: $plural,
            short: $short,
            categories: $categories,
            namespaced: $namespaced,
            subs: $subs,
            generation: $generation,
            stored: $stored,
            schema: of::<$type>,
        }
    };
}

/// Every built-in resource. The columns: group, version, kind, plural, short names, categories,
/// namespaced, parts, counts generations, stored, type.
#[rustfmt::skip]
pub const BUILTINS: &[Builtin] = &[
    row!("", "v1", "Binding", "bindings", NONE, NONE, true, PLAIN, false, false, api::core::v1::Binding),
    row!("", "v1", "ConfigMap", "configmaps", &["cm"], NONE, true, PLAIN, false, true, api::core::v1::ConfigMap),
    row!("", "v1", "Endpoints", "endpoints", &["ep"], NONE, true, PLAIN, false, true, api::core::v1::Endpoints),
    row!("", "v1", "Event", "events", &["ev"], NONE, true, PLAIN, false, true, api::core::v1::Event),
    row!("", "v1", "LimitRange", "limitranges", &["limits"], NONE, true, PLAIN, false, true, api::core::v1::LimitRange),
    row!("", "v1", "Namespace", "namespaces", &["ns"], NONE, false, &[Sub::Status, Sub::Finalize], false, true, api::core::v1::Namespace),
    row!("", "v1", "Node", "nodes", &["no"], NONE, false, &[Sub::Status, Sub::Proxy], false, true, api::core::v1::Node),
    row!("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", &["pvc"], NONE, true, STATUS, false, true, api::core::v1::PersistentVolumeClaim),
    row!("", "v1", "PersistentVolume", "persistentvolumes", &["pv"], NONE, false, STATUS, false, true, api::core::v1::PersistentVolume),
    row!("", "v1", "Pod", "pods", &["po"], ALL, true, &[Sub::Status, Sub::Binding, Sub::Eviction, Sub::Log, Sub::Exec], true, true, api::core::v1::Pod),
    row!("", "v1", "PodTemplate", "podtemplates", NONE, NONE, true, PLAIN, true, true, api::core::v1::PodTemplate),
    row!("", "v1", "ReplicationController", "replicationcontrollers", &["rc"], ALL, true, STATUS_SCALE, true, true, api::core::v1::ReplicationController),
    row!("", "v1", "ResourceQuota", "resourcequotas", &["quota"], NONE, true, STATUS, false, true, api::core::v1::ResourceQuota),
    row!("", "v1", "Secret", "secrets", NONE, NONE, true, PLAIN, false, true, api::core::v1::Secret),
    row!("", "v1", "ServiceAccount", "serviceaccounts", &["sa"], NONE, true, &[Sub::Token], false, true, api::core::v1::ServiceAccount),
    row!("", "v1", "Service", "services", &["svc"], ALL, true, STATUS, false, true, api::core::v1::Service),
    row!("admissionregistration.k8s.io", "v1", "MutatingWebhookConfiguration", "mutatingwebhookconfigurations", NONE, &["api-extensions"], false, PLAIN, true, true, api::admissionregistration::v1::MutatingWebhookConfiguration),
    row!("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicy", "validatingadmissionpolicies", NONE, &["api-extensions"], false, STATUS, true, true, api::admissionregistration::v1::ValidatingAdmissionPolicy),
    row!("admissionregistration.k8s.io", "v1", "ValidatingAdmissionPolicyBinding", "validatingadmissionpolicybindings", NONE, &["api-extensions"], false, PLAIN, true, true, api::admissionregistration::v1::ValidatingAdmissionPolicyBinding),
    row!("admissionregistration.k8s.io", "v1", "ValidatingWebhookConfiguration", "validatingwebhookconfigurations", NONE, &["api-extensions"], false, PLAIN, true, true, api::admissionregistration::v1::ValidatingWebhookConfiguration),
    row!("apiextensions.k8s.io", "v1", "CustomResourceDefinition", "customresourcedefinitions", &["crd", "crds"], &["api-extensions"], false, STATUS, true, true, apiextensions::CustomResourceDefinition),
    row!("apiregistration.k8s.io", "v1", "APIService", "apiservices", NONE, &["api-extensions"], false, STATUS, false, true, apiregistration::APIService),
    row!("apps", "v1", "ControllerRevision", "controllerrevisions", NONE, NONE, true, PLAIN, false, true, api::apps::v1::ControllerRevision),
    row!("apps", "v1", "DaemonSet", "daemonsets", &["ds"], ALL, true, STATUS, true, true, api::apps::v1::DaemonSet),
    row!("apps", "v1", "Deployment", "deployments", &["deploy"], ALL, true, STATUS_SCALE, true, true, api::apps::v1::Deployment),
    row!("apps", "v1", "ReplicaSet", "replicasets", &["rs"], ALL, true, STATUS_SCALE, true, true, api::apps::v1::ReplicaSet),
    row!("apps", "v1", "StatefulSet", "statefulsets", &["sts"], ALL, true, STATUS_SCALE, true, true, api::apps::v1::StatefulSet),
    row!("authentication.k8s.io", "v1", "SelfSubjectReview", "selfsubjectreviews", NONE, NONE, false, PLAIN, false, false, api::authentication::v1::SelfSubjectReview),
    row!("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", NONE, NONE, false, PLAIN, false, false, api::authentication::v1::TokenReview),
    row!("authorization.k8s.io", "v1", "LocalSubjectAccessReview", "localsubjectaccessreviews", NONE, NONE, true, PLAIN, false, false, api::authorization::v1::LocalSubjectAccessReview),
    row!("authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", NONE, NONE, false, PLAIN, false, false, api::authorization::v1::SelfSubjectAccessReview),
    row!("authorization.k8s.io", "v1", "SelfSubjectRulesReview", "selfsubjectrulesreviews", NONE, NONE, false, PLAIN, false, false, api::authorization::v1::SelfSubjectRulesReview),
    row!("authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", NONE, NONE, false, PLAIN, false, false, api::authorization::v1::SubjectAccessReview),
    row!("autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], ALL, true, STATUS, false, true, api::autoscaling::v2::HorizontalPodAutoscaler),
    row!("autoscaling", "v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers", &["hpa"], ALL, true, STATUS, false, true, api::autoscaling::v1::HorizontalPodAutoscaler),
    row!("batch", "v1", "CronJob", "cronjobs", &["cj"], ALL, true, STATUS, true, true, api::batch::v1::CronJob),
    row!("batch", "v1", "Job", "jobs", NONE, ALL, true, STATUS, true, true, api::batch::v1::Job),
    row!("coordination.k8s.io", "v1", "Lease", "leases", NONE, NONE, true, PLAIN, false, true, api::coordination::v1::Lease),
    row!("discovery.k8s.io", "v1", "EndpointSlice", "endpointslices", NONE, NONE, true, PLAIN, true, true, api::discovery::v1::EndpointSlice),
    row!("events.k8s.io", "v1", "Event", "events", &["ev"], NONE, true, PLAIN, false, true, api::events::v1::Event),
    row!("networking.k8s.io", "v1", "IngressClass", "ingressclasses", NONE, NONE, false, PLAIN, true, true, api::networking::v1::IngressClass),
    row!("networking.k8s.io", "v1", "Ingress", "ingresses", &["ing"], NONE, true, STATUS, true, true, api::networking::v1::Ingress),
    row!("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", &["netpol"], NONE, true, PLAIN, true, true, api::networking::v1::NetworkPolicy),
    row!("node.k8s.io", "v1", "RuntimeClass", "runtimeclasses", NONE, NONE, false, PLAIN, false, true, api::node::v1::RuntimeClass),
    row!("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", &["pdb"], NONE, true, STATUS, true, true, api::policy::v1::PodDisruptionBudget),
    row!("rbac.authorization.k8s.io", "v1", "ClusterRoleBinding", "clusterrolebindings", NONE, NONE, false, PLAIN, false, true, api::rbac::v1::ClusterRoleBinding),
    row!("rbac.authorization.k8s.io", "v1", "ClusterRole", "clusterroles", NONE, NONE, false, PLAIN, false, true, api::rbac::v1::ClusterRole),
    row!("rbac.authorization.k8s.io", "v1", "RoleBinding", "rolebindings", NONE, NONE, true, PLAIN, false, true, api::rbac::v1::RoleBinding),
    row!("rbac.authorization.k8s.io", "v1", "Role", "roles", NONE, NONE, true, PLAIN, false, true, api::rbac::v1::Role),
    row!("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", &["pc"], NONE, false, PLAIN, true, true, api::scheduling::v1::PriorityClass),
    row!("storage.k8s.io", "v1", "CSIDriver", "csidrivers", NONE, NONE, false, PLAIN, false, true, api::storage::v1::CSIDriver),
    row!("storage.k8s.io", "v1", "CSINode", "csinodes", NONE, NONE, false, PLAIN, false, true, api::storage::v1::CSINode),
    row!("storage.k8s.io", "v1", "CSIStorageCapacity", "csistoragecapacities", NONE, NONE, true, PLAIN, false, true, api::storage::v1::CSIStorageCapacity),
    row!("storage.k8s.io", "v1", "StorageClass", "storageclasses", &["sc"], NONE, false, PLAIN, false, true, api::storage::v1::StorageClass),
    row!("storage.k8s.io", "v1", "VolumeAttachment", "volumeattachments", NONE, NONE, false, STATUS, false, true, api::storage::v1::VolumeAttachment),
];
