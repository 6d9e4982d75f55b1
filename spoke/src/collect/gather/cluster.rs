//! What the namespaces' objects need of cluster scope: taken with `includeClusterResources: Auto`,
//! told as left behind with `None`.
//!
//! Of each kind the names that are needed are found first, then their objects are read one by
//! one: they are few, in collections that may be large.

use std::collections::BTreeSet;

use futures::StreamExt as _;
use futures::stream;
use isthmus_shared::resources::IncludeClusterResources;
use serde_json::Value;

use super::{Gathering, Place, Sink, definition_name};
use crate::cluster::{ObjectId, name};
use crate::collect::cluster_scope::{self, Needs, RoleFacts, bound_role, with_sources};
use crate::collect::kinds::{Reading, Refused};
use crate::collect::listing;
use crate::collect::selection::Choice;
use crate::task::TaskError;

/// Objects that are read at a time.
const PARALLEL: usize = 8;

/// Why what is needed stays with `None`.
const NOT_WANTED: &str = "what goes along needs it, and the migration takes nothing of cluster scope (includeClusterResources: None): see to it that the destination has it";

const RBAC: &str = "rbac.authorization.k8s.io";
const ADMISSION: &str = "admissionregistration.k8s.io";

impl<S: Sink> Gathering<'_, S> {
    pub(super) async fn needs_of_cluster_scope(&mut self) -> Result<(), TaskError> {
        self.sink.open(Place::Cluster).await?;
        let definitions = self.custom_kinds();
        self.take_named("apiextensions.k8s.io", "CustomResourceDefinition", definitions).await?;
        let classes = self.needs.priority_classes.clone();
        self.take_named("scheduling.k8s.io", "PriorityClass", classes).await?;
        let volumes = self.scope.context.kept_volumes.clone();
        self.take_named("", "PersistentVolume", volumes).await?;

        let mut bindings = BTreeSet::new();
        let mut roles = self.needs.cluster_roles.clone();
        let needs = self.needs.clone();
        self.each(RBAC, "ClusterRoleBinding", |binding| {
            if needs.is_bound_by(binding) {
                bindings.insert(name(binding).to_owned());
                roles.extend(bound_role(binding));
            }
        })
        .await?;
        if !roles.is_empty() {
            let mut facts = Vec::new();
            self.each(RBAC, "ClusterRole", |role| facts.push(RoleFacts::of(role))).await?;
            roles = with_sources(&roles, &facts);
        }
        self.take_named(RBAC, "ClusterRole", roles).await?;
        self.take_named(RBAC, "ClusterRoleBinding", bindings).await?;

        self.take_where("apiregistration.k8s.io", "APIService", Needs::is_serving).await?;
        self.take_where(ADMISSION, "MutatingWebhookConfiguration", Needs::is_called_by).await?;
        self.take_where(ADMISSION, "ValidatingWebhookConfiguration", Needs::is_called_by).await
    }

    /// The names of the definitions of the custom kinds of which objects are taken.
    fn custom_kinds(&self) -> BTreeSet<String> {
        let taken = |reading: &&Reading| {
            self.taken.contains_key(&(reading.kind.group.clone(), reading.kind.kind.clone()))
        };
        let names = self.scope.namespaced.iter().filter(taken).map(definition_name);
        names.filter(|name| !name.is_empty()).collect()
    }

    async fn take_where(
        &mut self,
        group: &str,
        kind: &str,
        is_needed: fn(&Needs, &Value) -> bool,
    ) -> Result<(), TaskError> {
        let mut names = BTreeSet::new();
        let needs = self.needs.clone();
        self.each(group, kind, |object| {
            if is_needed(&needs, object) {
                names.insert(name(object).to_owned());
            }
        })
        .await?;
        self.take_named(group, kind, names).await
    }

    fn reading(&self, group: &str, kind: &str) -> Option<Reading> {
        self.scope.clustered.iter().find(|r| r.kind.group == group && r.kind.kind == kind).cloned()
    }

    /// Looks at every object of a kind, if the source serves it.
    async fn each(&self, group: &str, kind: &str, mut look: impl FnMut(&Value)) -> Result<(), TaskError> {
        let Some(reading) = self.reading(group, kind) else { return Ok(()) };
        let mut pages = std::pin::pin!(listing::pages(self.cluster, reading.kind.collection(None)));
        while let Some(page) = pages.next().await {
            let page = page.map_err(|e| TaskError::cluster(reading.kind.resource(), "listing it", &e))?;
            page.iter().for_each(&mut look);
        }
        Ok(())
    }

    /// Takes the objects of these names, if they are there, are not the cluster's own, and anything
    /// of cluster scope is wanted; tells why the others stay.
    async fn take_named(
        &mut self,
        group: &str,
        kind: &str,
        names: BTreeSet<String>,
    ) -> Result<(), TaskError> {
        let Some(reading) = self.reading(group, kind) else { return Ok(()) };
        let cluster = self.cluster.clone();
        let kind = reading.kind.clone();
        let mut objects = stream::iter(names)
            .map(|name| {
                let (cluster, path) = (cluster.clone(), kind.object(None, &name));
                async move { (name, cluster.find(&path).await) }
            })
            .buffered(PARALLEL);
        while let Some((name, found)) = objects.next().await {
            let object = found
                .map_err(|e| TaskError::cluster(format!("{} {name}", reading.kind.kind), "reading it", &e))?;
            let Some(object) = object else { continue };
            if let Some(Refused::ByType(refusal)) = reading.refusal
                && !self.scope.context.keeps(&object)
            {
                let (reason, message) = refusal.told();
                self.leave(&ObjectId::of(&object), reason, message).await?;
                continue;
            }
            let mut choice = cluster_scope::choose(&object, &self.scope.context);
            if choice == Choice::Keep && self.scope.mode == IncludeClusterResources::None {
                choice = Choice::leave("ClusterScope", NOT_WANTED);
            }
            self.settle(&reading, object, choice).await?;
        }
        Ok(())
    }
}
