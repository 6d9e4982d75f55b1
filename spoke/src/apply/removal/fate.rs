//! Which objects a run made, and which of those are taken away when it is undone: pure, and
//! cautious. What it is not sure of, it leaves and says so.

use std::collections::BTreeSet;

use isthmus_shared::resources::{COMPONENT, MIGRATED_BY, VolumeReclaim};
use jiff::Timestamp;
use serde_json::Value;

use crate::apply::ownership;
use crate::apply::purge::follows_another;
use crate::cluster::{Kind, label, name, namespace, text};
use crate::volumes::is_retained;

/// The run that is undone.
#[derive(Clone, Copy, Debug)]
pub struct Undoing<'a> {
    /// Its mark.
    pub uid: &'a str,
    /// When it began.
    pub since: Option<Timestamp>,
    /// What becomes of claims.
    pub reclaim: VolumeReclaim,
    /// The namespaces and names of claims whose volume itself moved: the data is the source's, and
    /// there is none to retain.
    pub kept_claims: &'a BTreeSet<(String, String)>,
}

/// What becomes of an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It goes.
    Remove,
    /// It stays, for a reason that a person should know.
    Keep(&'static str),
    /// It is none of the run's, or goes with what owns it.
    Foreign,
}

impl Undoing<'_> {
    /// Decides on one object, which is not yet being deleted.
    pub fn fate(&self, kind: &Kind, live: &Value) -> Fate {
        let marked = label(live, MIGRATED_BY) == Some(self.uid) && label(live, COMPONENT).is_none();
        if !marked
            || follows_another(&kind.group, &kind.kind, live)
            || !text(live, "/metadata/deletionTimestamp").is_empty()
        {
            return Fate::Foreign;
        }
        if ownership::was_applied(live) || self.is_older(live) {
            return Fate::Keep("it was there before the run, which has changed it");
        }
        match (kind.group.as_str(), kind.kind.as_str()) {
            ("", "PersistentVolume") if !is_retained(live) => {
                Fate::Keep("its reclaim policy is not Retain, and its data is the source's too")
            }
            ("", "PersistentVolumeClaim")
                if self.reclaim == VolumeReclaim::Retain && !self.is_of_kept_volume(live) =>
            {
                Fate::Keep("claims are retained")
            }
            // With a definition all objects of the kind would go, whoever made them.
            ("apiextensions.k8s.io", "CustomResourceDefinition") => {
                Fate::Keep("with a definition every object of its kind would go")
            }
            _ => Fate::Remove,
        }
    }

    fn is_of_kept_volume(&self, claim: &Value) -> bool {
        let names = (namespace(claim).to_owned(), name(claim).to_owned());
        self.kept_claims.contains(&names)
    }

    fn is_older(&self, live: &Value) -> bool {
        let made: Option<Timestamp> = text(live, "/metadata/creationTimestamp").parse().ok();
        match (made, self.since) {
            // The API server tells whole seconds.
            (Some(made), Some(since)) => made.as_second() < since.as_second(),
            _ => false,
        }
    }
}

/// Whether an object is what Kubernetes or OpenShift puts into every namespace, or says of one.
pub fn is_furniture(kind: &Kind, live: &Value) -> bool {
    let name = text(live, "/metadata/name");
    match (kind.group.as_str(), kind.kind.as_str()) {
        ("", "ServiceAccount") => matches!(name, "default" | "builder" | "deployer" | "pipeline"),
        ("", "ConfigMap") => matches!(name, "kube-root-ca.crt" | "openshift-service-ca.crt"),
        ("", "Secret") => {
            text(live, "/type").starts_with("kubernetes.io/service-account-token")
                || text(live, "/type") == "kubernetes.io/dockercfg"
        }
        ("rbac.authorization.k8s.io", "RoleBinding") => name.starts_with("system:"),
        ("", "Endpoints" | "Event")
        | ("events.k8s.io" | "discovery.k8s.io" | "coordination.k8s.io" | "metrics.k8s.io", _) => true,
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn kind(group: &str, kind: &str) -> Kind {
        Kind {
            group: group.to_owned(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            plural: kind.to_lowercase() + "s",
            namespaced: true,
            verbs: Vec::new(),
        }
    }

    fn fate(of: &Kind, extra: &Value) -> Fate {
        let mut live = json!({"metadata": {
            "name": "x", "labels": {MIGRATED_BY: "run"}, "creationTimestamp": "2026-11-23T10:00:05Z",
            "managedFields": [{"manager": "isthmus", "operation": "Update", "fieldsV1": {}}]
        }});
        crate::transform::merge(&mut live, extra);
        let since = "2026-11-23T10:00:00Z".parse().ok();
        let kept = BTreeSet::from([("cms".to_owned(), "kept".to_owned())]);
        Undoing { uid: "run", since, reclaim: VolumeReclaim::Retain, kept_claims: &kept }.fate(of, &live)
    }

    #[test]
    fn only_what_the_run_made_goes() {
        let service = kind("", "Service");
        assert_eq!(fate(&service, &json!({})), Fate::Remove);
        assert_eq!(fate(&service, &json!({"metadata": {"labels": {MIGRATED_BY: "other"}}})), Fate::Foreign);
        assert_eq!(fate(&service, &json!({"metadata": {"labels": {MIGRATED_BY: null}}})), Fate::Foreign);
        let older = json!({"metadata": {"creationTimestamp": "2026-11-23T09:59:59Z"}});
        assert!(matches!(fate(&service, &older), Fate::Keep(_)));
        let applied = json!({"metadata": {"managedFields": [{"manager": "isthmus", "operation": "Apply", "fieldsV1": {}}]}});
        assert!(matches!(fate(&service, &applied), Fate::Keep(_)));
        assert_eq!(fate(&service, &json!({"metadata": {"deletionTimestamp": "t"}})), Fate::Foreign);
    }

    #[test]
    fn what_controllers_make_goes_with_its_owner() {
        let owned = json!({"metadata": {"ownerReferences": [{"controller": true}]}});
        assert_eq!(fate(&kind("apps", "ReplicaSet"), &owned), Fate::Foreign);
        let kept = json!({"metadata": {"labels": {"endpointslice.kubernetes.io/managed-by": "endpointslice-controller.k8s.io"}}});
        assert_eq!(fate(&kind("discovery.k8s.io", "EndpointSlice"), &kept), Fate::Foreign);
        assert_eq!(
            fate(&kind("discovery.k8s.io", "EndpointSlice"), &json!({})),
            Fate::Remove,
            "made by hand"
        );
        assert_eq!(
            fate(&kind("", "Pod"), &json!({"metadata": {"labels": {COMPONENT: "mover"}}})),
            Fate::Foreign
        );
    }

    #[test]
    fn of_a_volume_that_was_kept_object_and_claim_go_and_never_its_data() {
        let volume = kind("", "PersistentVolume");
        let policy = |policy: &str| json!({"spec": {"persistentVolumeReclaimPolicy": policy}});
        assert_eq!(fate(&volume, &policy("Retain")), Fate::Remove);
        assert!(matches!(fate(&volume, &policy("Delete")), Fate::Keep(_)));
        let foreign = json!({"metadata": {"labels": {MIGRATED_BY: null}}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        assert_eq!(fate(&volume, &foreign), Fate::Foreign);
        let claim = |name: &str| json!({"metadata": {"namespace": "cms", "name": name}});
        assert_eq!(fate(&kind("", "PersistentVolumeClaim"), &claim("kept")), Fate::Remove);
        assert!(matches!(fate(&kind("", "PersistentVolumeClaim"), &claim("copied")), Fate::Keep(_)));
    }

    #[test]
    fn claims_go_only_where_that_is_asked_for_and_definitions_never() {
        let claim = kind("", "PersistentVolumeClaim");
        assert_eq!(fate(&claim, &json!({})), Fate::Keep("claims are retained"));
        let live = json!({"metadata": {"labels": {MIGRATED_BY: "run"}}});
        let none = BTreeSet::new();
        let deleting =
            Undoing { uid: "run", since: None, reclaim: VolumeReclaim::Delete, kept_claims: &none };
        assert_eq!(deleting.fate(&claim, &live), Fate::Remove);
        let definition = kind("apiextensions.k8s.io", "CustomResourceDefinition");
        assert!(matches!(deleting.fate(&definition, &live), Fate::Keep(_)));
    }
}
