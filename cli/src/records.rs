//! Reading and writing records, with errors that name the object and say what to do.
//!
//! Nothing here repeats a request, except where a write is guarded by a resourceVersion.

use std::fmt::Debug;

use isthmus_shared::resources::{
    Cluster, ClusterPair, GROUP, Migration, MigrationPlan, MigrationSchedule, ObjectStore,
};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::{Event, Secret};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams, Preconditions};
use kube::core::Status;
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::connect::{Session, full};

/// Objects a page of a listing.
const PAGE: u32 = 500;
/// The most objects that a listing reads.
const MAX_LISTED: usize = 10_000;
/// How often a change is tried again because somebody else changed the object meanwhile.
const MAX_CHANGE_ATTEMPTS: usize = 10;

/// A kind that we read and write.
pub trait Record:
    Resource<DynamicType = (), Scope = NamespaceResourceScope>
    + Clone
    + Debug
    + DeserializeOwned
    + Serialize
    + Send
    + 'static
{
    /// How a person finds out what objects of it there are.
    const LIST: &'static str;
}

impl Record for Cluster {
    const LIST: &'static str = "isthmus cluster list";
}
impl Record for ObjectStore {
    const LIST: &'static str = "isthmus store list";
}
impl Record for ClusterPair {
    const LIST: &'static str = "isthmus pair list";
}
impl Record for Migration {
    const LIST: &'static str = "isthmus migration list";
}
impl Record for MigrationPlan {
    const LIST: &'static str = "isthmus plan list";
}
impl Record for MigrationSchedule {
    const LIST: &'static str = "isthmus schedule list";
}
impl Record for Secret {
    const LIST: &'static str = "kubectl get secrets";
}
impl Record for Event {
    const LIST: &'static str = "kubectl get events";
}

/// Which object, for messages: `ClusterPair isthmus/prod`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectName(String);

impl std::fmt::Display for ObjectName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// A record could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// It is not there.
    #[error("there is no {object}: `{list}` shows what there is (--namespace selects the namespace)")]
    Missing {
        /// Which.
        object: ObjectName,
        /// How to find out what there is.
        list: &'static str,
    },
    /// The name is taken.
    #[error("{object} is there already and was not changed: choose another name")]
    Taken {
        /// Which.
        object: ObjectName,
    },
    /// The namespace is not there.
    #[error(
        "{doing} {object} failed: its namespace is not there: create it, or select another with --namespace"
    )]
    NoNamespace {
        /// What was tried.
        doing: &'static str,
        /// On what.
        object: ObjectName,
    },
    /// The cluster does not know the kind.
    #[error(
        "{server} does not know the kind of {object}: is this the cluster where the hub runs? Select it with --kubeconfig and --context, or install the hub there"
    )]
    UnknownKind {
        /// The API server.
        server: String,
        /// Of which object.
        object: ObjectName,
    },
    /// The user may not.
    #[error("{doing} {object} is not allowed: {message}: ask for the role isthmus-user or isthmus-admin")]
    Forbidden {
        /// What was tried.
        doing: &'static str,
        /// On what.
        object: ObjectName,
        /// What the API server said.
        message: String,
    },
    /// The user is not known.
    #[error(
        "{server} does not accept the kubeconfig's user: log in anew, or use another kubeconfig or context"
    )]
    Unauthorized {
        /// The API server.
        server: String,
    },
    /// The API server says that the object is not well-formed.
    #[error("{object} was not accepted, and nothing was created or changed: {message}")]
    Invalid {
        /// Which.
        object: ObjectName,
        /// What the API server said.
        message: String,
    },
    /// Someone else changes it all the time.
    #[error("changing {object} failed: others changed it {MAX_CHANGE_ATTEMPTS} times meanwhile: try again")]
    Contended {
        /// Which.
        object: ObjectName,
    },
    /// There are too many.
    #[error("there are more than {MAX_LISTED} objects like {object}: use kubectl with a selector")]
    TooMany {
        /// Like which.
        object: ObjectName,
    },
    /// Something else that the API server said.
    #[error(
        "{doing} {object} failed: {message} (HTTP {code}): try again; if it stays so, look at the API server's log"
    )]
    Answer {
        /// What was tried.
        doing: &'static str,
        /// On what.
        object: ObjectName,
        /// What the API server said.
        message: String,
        /// And its code.
        code: u16,
    },
    /// No answer.
    #[error(
        "{doing} {object} failed: no answer from {server}: {detail}: check the connection and --kubeconfig, --context"
    )]
    Unreachable {
        /// What was tried.
        doing: &'static str,
        /// On what.
        object: ObjectName,
        /// The API server.
        server: String,
        /// Why.
        detail: String,
    },
}

impl RecordError {
    /// Whether the object was simply not there.
    pub fn is_missing(&self) -> bool {
        matches!(self, Self::Missing { .. })
    }
}

/// How far a deletion is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Deletion {
    /// The object is gone.
    Done,
    /// It goes once the hub has removed what belongs to it.
    Begun,
}

impl Deletion {
    /// The same for a person: `is deleted`.
    pub fn words(self) -> &'static str {
        match self {
            Self::Done => "is deleted",
            Self::Begun => "is being deleted, and goes once the hub has removed what belongs to it",
        }
    }
}

/// The records of one kind in one namespace.
pub struct Records<K> {
    api: Api<K>,
    watches: Api<K>,
    namespace: Option<String>,
    server: String,
}

impl<K: Record> Records<K> {
    /// Those of a namespace.
    pub fn of(session: &Session, namespace: &str) -> Self {
        let api = |client: &Client| Api::namespaced(client.clone(), namespace);
        Self {
            api: api(&session.client),
            watches: api(&session.watches),
            namespace: Some(namespace.to_owned()),
            server: session.server(),
        }
    }

    /// Those of all namespaces, to be listed.
    pub fn everywhere(session: &Session) -> Self {
        Self {
            api: Api::all(session.client.clone()),
            watches: Api::all(session.watches.clone()),
            namespace: None,
            server: session.server(),
        }
    }

    /// For watches of an object.
    pub fn watches(&self) -> Api<K> {
        self.watches.clone()
    }

    /// How messages call an object.
    pub fn named(&self, name: &str) -> ObjectName {
        let kind = K::kind(&());
        ObjectName(match &self.namespace {
            Some(namespace) => format!("{kind} {namespace}/{name}"),
            None => format!("{kind} {name} of all namespaces"),
        })
    }

    /// The object.
    pub async fn get(&self, name: &str) -> Result<K, RecordError> {
        self.api.get(name).await.map_err(|error| self.failed("reading", name, error))
    }

    /// The object, if it is there.
    pub async fn find(&self, name: &str) -> Result<Option<K>, RecordError> {
        match self.get(name).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_missing() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// All that match a field selector, without their managed fields.
    pub async fn list(&self, fields: Option<&str>) -> Result<Vec<K>, RecordError> {
        self.all(ListParams { field_selector: fields.map(str::to_owned), ..ListParams::default() }).await
    }

    /// All that match a label selector, likewise.
    pub async fn labelled(&self, labels: &str) -> Result<Vec<K>, RecordError> {
        self.all(ListParams::default().labels(labels)).await
    }

    async fn all(&self, params: ListParams) -> Result<Vec<K>, RecordError> {
        let mut params = params.limit(PAGE);
        let mut items = Vec::new();
        loop {
            let page = self.api.list(&params).await.map_err(|error| self.failed("listing", "*", error))?;
            items.extend(page.items);
            if items.len() > MAX_LISTED {
                return Err(RecordError::TooMany { object: self.named("*") });
            }
            params.continue_token = page.metadata.continue_.filter(|token| !token.is_empty());
            if params.continue_token.is_none() {
                break;
            }
        }
        for item in &mut items {
            item.meta_mut().managed_fields = None;
        }
        Ok(items)
    }

    /// Creates the object; it is an error if the name is taken.
    pub async fn create(&self, object: &K) -> Result<K, RecordError> {
        let params = PostParams { field_manager: Some("isthmus-cli".to_owned()), ..PostParams::default() };
        let made = self.api.create(&params, object).await;
        let mut made = made.map_err(|error| self.failed("creating", &object.name_any(), error))?;
        made.meta_mut().managed_fields = None;
        Ok(made)
    }

    /// Changes the object as it is now, again if somebody else has changed it meanwhile.
    pub async fn change<E>(&self, name: &str, change: impl Fn(&mut K) -> Result<(), E>) -> Result<K, E>
    where
        E: From<RecordError>,
    {
        let params = PostParams { field_manager: Some("isthmus-cli".to_owned()), ..PostParams::default() };
        for _ in 0..MAX_CHANGE_ATTEMPTS {
            let mut object = self.get(name).await?;
            change(&mut object)?;
            match self.api.replace(name, &params, &object).await {
                Ok(changed) => return Ok(changed),
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => return Err(self.failed("changing", name, error).into()),
            }
        }
        Err(RecordError::Contended { object: self.named(name) }.into())
    }

    /// Sets one annotation, whatever else becomes of the object meanwhile.
    pub async fn annotate(&self, name: &str, annotation: &str, value: &str) -> Result<K, RecordError> {
        let params = PatchParams { field_manager: Some("isthmus-cli".to_owned()), ..PatchParams::default() };
        let patch = serde_json::json!({"metadata": {"annotations": {annotation: value}}});
        let changed = self.api.patch(name, &params, &Patch::Merge(&patch)).await;
        let mut changed = changed.map_err(|error| self.failed("changing", name, error))?;
        changed.meta_mut().managed_fields = None;
        Ok(changed)
    }

    /// Deletes this very object, not another that has got its name meanwhile, and what it owns.
    pub async fn delete(&self, object: &K) -> Result<Deletion, RecordError> {
        self.end(object, DeleteParams::default()).await
    }

    /// Deletes this very object, and leaves what it owns.
    pub async fn delete_alone(&self, object: &K) -> Result<Deletion, RecordError> {
        self.end(object, DeleteParams::orphan()).await
    }

    async fn end(&self, object: &K, params: DeleteParams) -> Result<Deletion, RecordError> {
        let name = object.name_any();
        let preconditions = Preconditions { uid: object.uid(), resource_version: None };
        let params = params.preconditions(preconditions);
        match self.api.delete(&name, &params).await {
            Ok(answer) => {
                let held = answer.left().is_some_and(|left| left.meta().deletion_timestamp.is_some());
                Ok(if held { Deletion::Begun } else { Deletion::Done })
            }
            Err(error) => match self.failed("deleting", &name, error) {
                error if error.is_missing() => Ok(Deletion::Done),
                error => Err(error),
            },
        }
    }

    /// What an error of the client means, for a person.
    pub fn failed(&self, doing: &'static str, name: &str, error: kube::Error) -> RecordError {
        let object = self.named(name);
        match error {
            kube::Error::Api(status) => self.answered(doing, object, &status),
            other => {
                RecordError::Unreachable { doing, object, server: self.server.clone(), detail: full(&other) }
            }
        }
    }

    fn answered(&self, doing: &'static str, object: ObjectName, status: &Status) -> RecordError {
        let message = status.message.clone();
        let details = status.details.as_ref();
        match status.code {
            401 => RecordError::Unauthorized { server: self.server.clone() },
            403 => RecordError::Forbidden { doing, object, message },
            404 if details.is_some_and(|d| d.kind == "namespaces") => {
                RecordError::NoNamespace { doing, object }
            }
            404 if Self::knows_kind(status) => RecordError::Missing { object, list: K::LIST },
            404 => RecordError::UnknownKind { server: self.server.clone(), object },
            409 if doing == "creating" => RecordError::Taken { object },
            400 | 422 => RecordError::Invalid { object, message },
            code => RecordError::Answer { doing, object, message, code },
        }
    }

    /// Whether a 404 is about the object: one about an unknown kind names no object, and the
    /// core kinds are always known.
    fn knows_kind(status: &Status) -> bool {
        K::group(&()) != GROUP || status.details.as_ref().is_some_and(|details| !details.name.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use kube::core::response::StatusDetails;

    use super::*;

    fn pairs() -> Records<ClusterPair> {
        crate::install_crypto();
        let config = kube::Config::new("https://127.0.0.1:1".parse().unwrap());
        let client = Client::try_from(config).unwrap();
        let api = || Api::namespaced(client.clone(), "isthmus");
        Records {
            api: api(),
            watches: api(),
            namespace: Some("isthmus".to_owned()),
            server: "https://hub".to_owned(),
        }
    }

    fn answer(code: u16, kind: &str, name: &str) -> kube::Error {
        let details = StatusDetails {
            kind: kind.to_owned(),
            name: name.to_owned(),
            group: GROUP.to_owned(),
            uid: String::new(),
            causes: Vec::new(),
            retry_after_seconds: 0,
        };
        kube::Error::Api(
            Status { code, message: "said so".to_owned(), details: Some(details), ..Status::failure("", "") }
                .boxed(),
        )
    }

    #[tokio::test]
    async fn every_error_names_the_object_and_what_to_do() {
        let pairs = pairs();
        let said = |doing, error| pairs.failed(doing, "prod", error).to_string();
        let lines = [
            said("reading", answer(404, "clusterpairs", "prod")),
            said("reading", answer(404, "", "")),
            said("creating", answer(404, "namespaces", "isthmus")),
            said("creating", answer(409, "clusterpairs", "prod")),
            said("creating", answer(422, "clusterpairs", "prod")),
            said("listing", answer(403, "clusterpairs", "")),
            said("listing", answer(401, "", "")),
            said("listing", answer(500, "", "")),
        ];
        insta::assert_snapshot!(lines.join("\n"));
    }

    #[tokio::test]
    async fn a_server_that_does_not_answer_is_named() {
        let error = pairs().get("prod").await.unwrap_err().to_string();
        assert!(error.contains("no answer from https://hub"), "{error}");
    }
}
