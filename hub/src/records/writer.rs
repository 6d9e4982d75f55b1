//! Writing statuses, finalizers and Secrets.

use std::sync::Arc;

use isthmus_shared::resources::FIELD_MANAGER;
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::json;

use super::kind::{Kind, Record};
use crate::leader::{LeaseLost, Term};

/// How often a change is decided anew because somebody else wrote in between.
const MAX_ATTEMPTS: usize = 6;

/// A write did not happen.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    #[error(transparent)]
    LeaseLost(#[from] LeaseLost),
    #[error(
        "{operation} {object} failed: {source}; the hub tries again by itself, look at its permissions if it goes on"
    )]
    Api { operation: &'static str, object: String, source: Box<kube::Error> },
    #[error(
        "{object} was changed by others {MAX_ATTEMPTS} times while its status was being written; the hub tries again by itself"
    )]
    Contended { object: String },
}

impl WriteError {
    pub(crate) fn api(
        operation: &'static str,
        object: impl Into<String>,
    ) -> impl FnOnce(kube::Error) -> Self {
        let object = object.into();
        move |source| Self::Api { operation, object, source: Box::new(source) }
    }

    /// Whether the object is gone, which ends whatever was to be written.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Api { source, .. } if matches!(&**source, kube::Error::Api(status) if status.is_not_found()))
    }
}

/// Writes during one term of leadership.
#[derive(Clone)]
pub(crate) struct Writer {
    /// For what has no function here.
    pub client: Client,
    /// The term.
    pub term: Arc<Term>,
}

impl Writer {
    /// Has a change of an object's status decided and writes it. `change` gets the newest known
    /// object and gives it back with the new status, or nothing if it is right as it is; it is
    /// called again with what is there by then if somebody else wrote in between.
    ///
    /// Gives the object as it is afterwards; nothing if there is none of that name.
    pub(crate) async fn status<K: Record>(
        &self,
        kind: &Kind<K>,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(&K) -> Option<K> + Send,
    ) -> Result<Option<Arc<K>>, WriteError> {
        let Some(known) = kind.get(namespace, name) else { return Ok(None) };
        self.status_from(kind, known, &mut change).await
    }

    /// The same, but on what the API server holds now: for decisions that must not be made on
    /// what may be a moment old.
    pub(crate) async fn status_of_now<K: Record>(
        &self,
        kind: &Kind<K>,
        namespace: &str,
        name: &str,
        mut change: impl FnMut(&K) -> Option<K> + Send,
    ) -> Result<Option<Arc<K>>, WriteError> {
        let Some(known) = self.read(kind, namespace, name).await? else { return Ok(None) };
        self.status_from(kind, known, &mut change).await
    }

    async fn status_from<K: Record>(
        &self,
        kind: &Kind<K>,
        mut known: Arc<K>,
        change: &mut (impl FnMut(&K) -> Option<K> + Send),
    ) -> Result<Option<Arc<K>>, WriteError> {
        let (namespace, name) = (known.namespace().unwrap_or_default(), known.name_any());
        let object = describe::<K>(&namespace, &name);
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        for _ in 0..MAX_ATTEMPTS {
            let Some(changed) = change(&known) else { return Ok(Some(known)) };
            self.term.check()?;
            let params =
                PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
            match api.replace_status(&name, &params, &changed).await {
                Ok(written) => return Ok(Some(kind.remember(written))),
                Err(kube::Error::Api(status)) if status.is_conflict() => {
                    tracing::debug!(object, "somebody else wrote in between; reading it again");
                }
                Err(error) => return Err(WriteError::api("writing the status of", object)(error)),
            }
            match self.read(kind, &namespace, &name).await? {
                Some(read) => known = read,
                None => return Ok(None),
            }
        }
        Err(WriteError::Contended { object })
    }

    async fn read<K: Record>(
        &self,
        kind: &Kind<K>,
        namespace: &str,
        name: &str,
    ) -> Result<Option<Arc<K>>, WriteError> {
        let api: Api<K> = Api::namespaced(self.client.clone(), namespace);
        let object = describe::<K>(namespace, name);
        let read = api.get_opt(name).await.map_err(WriteError::api("reading", object))?;
        Ok(read.map(|object| kind.remember(object)))
    }

    /// Adds or removes the hub's finalizer.
    pub(crate) async fn finalizer<K: Record>(
        &self,
        kind: &Kind<K>,
        object: &K,
        wanted: bool,
    ) -> Result<Option<Arc<K>>, WriteError> {
        let mut finalizers = object.finalizers().to_vec();
        if finalizers.iter().any(|f| f == isthmus_shared::resources::FINALIZER) == wanted {
            return Ok(None);
        }
        if wanted {
            finalizers.push(isthmus_shared::resources::FINALIZER.to_owned());
        } else {
            finalizers.retain(|f| f != isthmus_shared::resources::FINALIZER);
        }
        self.term.check()?;
        let (namespace, name) = (object.namespace().unwrap_or_default(), object.name_any());
        let api: Api<K> = Api::namespaced(self.client.clone(), &namespace);
        // With the resourceVersion, so that nobody else's finalizer is written over.
        let patch = json!({"metadata": {
            "resourceVersion": object.resource_version(),
            "finalizers": finalizers,
        }});
        match api.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await {
            Ok(written) => Ok(Some(kind.remember(written))),
            Err(kube::Error::Api(status)) if status.is_not_found() => Ok(None),
            Err(kube::Error::Api(status)) if status.is_conflict() => {
                self.read(kind, &namespace, &name).await?;
                Ok(None)
            }
            Err(error) => {
                Err(WriteError::api("changing the finalizers of", describe::<K>(&namespace, &name))(error))
            }
        }
    }
}

fn describe<K: Record>(namespace: &str, name: &str) -> String {
    format!("{} {namespace}/{name}", K::kind(&()))
}
