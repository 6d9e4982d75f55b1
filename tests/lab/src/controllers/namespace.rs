//! Empties a namespace that is being deleted, then lets it go.

use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, PostParams, Preconditions};
use kube::core::DynamicObject;
use kube::discovery::{ApiResource, Discovery, Scope, verbs};
use kube::{Api, ResourceExt};

use super::cache::{Cache, Topic};
use super::{Again, Context, Controller, Error, Settled, deleting, full_name, overtaken};

/// How soon a namespace is looked at again while something in it is still ending.
const AGAIN: Duration = Duration::from_millis(200);
/// The page size of listings.
const PAGE: u32 = 500;

pub(super) struct Namespaces {
    context: Context,
}

impl Namespaces {
    pub fn new(context: Context) -> Self {
        Self { context }
    }

    fn failed(action: &'static str, object: String) -> impl FnOnce(kube::Error) -> Error {
        move |source| Error::Api { action, object, source: Box::new(source) }
    }

    /// Asks for the deletion of all objects of a kind; returns how many are still there.
    async fn empty(&self, namespace: &str, resource: &ApiResource) -> Result<usize, Error> {
        let api = Api::<DynamicObject>::namespaced_with(self.context.client.clone(), namespace, resource);
        let mut page = ListParams::default().limit(PAGE);
        let mut left = 0;
        loop {
            let list = match api.list_metadata(&page).await {
                Ok(list) => list,
                // The kind itself was removed meanwhile, or cannot be listed by nature.
                Err(kube::Error::Api(status)) if matches!(status.code, 404 | 405) => return Ok(left),
                Err(error) => return Err(Self::failed("listing", resource.plural.clone())(error)),
            };
            for object in &list.items {
                left += 1;
                if deleting(object) {
                    continue;
                }
                let this = Preconditions { uid: object.uid(), resource_version: None };
                let how = DeleteParams::background().preconditions(this);
                match api.delete(&object.name_any(), &how).await {
                    Ok(_) => {}
                    Err(kube::Error::Api(status)) if overtaken(&status) => {}
                    Err(error) => {
                        let object = format!("{} {}", resource.kind, full_name(object));
                        return Err(Self::failed("deleting", object)(error));
                    }
                }
            }
            match list.metadata.continue_.filter(|token| !token.is_empty()) {
                Some(token) => page.continue_token = Some(token),
                None => return Ok(left),
            }
        }
    }

    async fn finalize(&self, namespace: &Namespace) -> Result<(), Error> {
        let api = Api::<Namespace>::all(self.context.client.clone());
        let live = api.get_opt(&namespace.name_any()).await.settled("reading", namespace)?.flatten();
        let Some(mut live) = live.filter(|live| live.uid() == namespace.uid()) else { return Ok(()) };
        live.spec.get_or_insert_default().finalizers = Some(Vec::new());
        api.replace_subresource("finalize", &namespace.name_any(), &PostParams::default(), &live)
            .await
            .settled("finalizing", namespace)
            .map(|_| ())
    }
}

impl Controller for Namespaces {
    type Object = Namespace;
    const TOPICS: &'static [Topic] = &[Topic::Namespaces];

    fn objects(&self, cache: &Cache) -> Vec<Arc<Namespace>> {
        cache.namespaces.state_filter(deleting)
    }

    async fn reconcile(&self, namespace: &Namespace) -> Result<Again, Error> {
        let name = namespace.name_any();
        let discovery = Discovery::new(self.context.client.clone())
            .run_aggregated()
            .await
            .map_err(Self::failed("discovering the kinds of", name.clone()))?;
        let mut left = 0;
        for (resource, capabilities) in
            discovery.groups().flat_map(kube::discovery::ApiGroup::recommended_resources)
        {
            let deletable = capabilities.supports_operation(verbs::LIST)
                && capabilities.supports_operation(verbs::DELETE);
            if capabilities.scope == Scope::Namespaced && deletable {
                left += self.empty(&name, &resource).await?;
            }
        }
        if left > 0 {
            return Ok(Some(AGAIN));
        }
        self.finalize(namespace).await?;
        Ok(None)
    }
}
