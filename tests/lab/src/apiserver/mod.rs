//! An embedded Kubernetes API server: objects as JSON in memory, behind the API that clients know.
//!
//! It exists so that hub, spokes and `kubectl` have a cluster to talk to where nothing is installed.
//! For all that an operator or a migration meets, it answers as kube-apiserver does.
//!
//! ```text
//! serve ── auth ─┬─ discovery, openapi
//!                ├─ read (get, list, watch) ──────────┐
//!                └─ write (create … delete) ── store ─┘
//!                     │ request, versions   bodies and representations
//!                     │ schema, kinds       shape, defaults and rules of kinds
//!                     │ admission           what may change or refuse objects
//!                     └ managed, patch      the patches and who set which field
//! ```
//!
//! [`builtins`] is the table of built-in resources, [`registry`] what is served now.
//!
//! # Differences from kube-apiserver
//!
//! - Nothing survives the process; there is no etcd. No webhook is called, no API is proxied (the groups
//!   of an APIService with a service answer 503), and admission webhooks, admission policies and API
//!   services are kept, defaulted and checked, without effect.
//! - Answers are JSON alone; JSON, YAML and, of the kinds that typed clients write, protobuf are read;
//!   there is no CBOR. `/openapi/v2` has no types. `/metrics` counts requests and nothing else.
//! - `attach`, `port-forward`, ephemeral containers, and proxies to pods and services are not served; of
//!   `nodes/proxy` only the kubelet's `stats/summary` is.
//! - Authentication is by bearer token alone; tokens are signed with ES256; there is no OIDC
//!   discovery and no audit log; impersonation knows users and groups. There is no priority and
//!   fairness; its headers are there, and overloads are made by [`Faults`].
//! - Namespaces are emptied, dependents collected, claims bound and protected by the lab's
//!   controllers; CustomResourceDefinitions are established, and their objects removed, by the server.
//!   They have no APIServices of their own; built-in groups do.
//! - Validation of built-in kinds covers what a migration meets, not every field, and values in messages
//!   are shown as JSON, not as Go prints them. Defaults are those of version 1.33, and so are rules that
//!   later versions relaxed: names of services begin with a letter.
//! - A quota's status follows its objects at once, without a controller. Changing the Pod Security labels
//!   of a namespace warns of no pods that are there.
//! - Autoscalers at version 1 show other metrics in version 2's spelling, and no behavior.
//! - CustomResourceDefinitions convert only by changing the apiVersion. CEL rules are parsed, and fields
//!   of `self` must have a type, but expressions are not type checked; costs are not estimated;
//!   Kubernetes' own CEL libraries (quantities, IPs, URLs) are missing.
//! - PUT never creates. Watches end after half an hour unless the client says otherwise.
//! - History holds the last 50,000 changes of the whole server; what began before them gets 410.

mod admission;
mod auth;
mod builtins;
mod columns;
mod discovery;
mod error;
mod exec;
mod faults;
mod json;
mod jsonpath;
mod kinds;
mod managed;
mod metrics;
mod openapi;
mod options;
mod patch;
mod protobuf;
pub(crate) mod quantity;
mod read;
mod registry;
mod reply;
mod request;
mod schema;
mod seed;
mod selectors;
mod serve;
mod store;
mod strict;
mod subresources;
mod tls;
mod versions;
mod write;

use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::sync::Arc;
use std::time::Duration;

use futures::future::BoxFuture;
use futures::stream::BoxStream;
use parking_lot::{Mutex, RwLock};
use serde_json::Value;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use auth::tokens::Tokens;
use error::{ApiError, ApiResult};
pub use faults::{Faults, Overload};
use registry::{Registry, Resource};
use store::{Range, Store};

/// How long open requests may take to end when the server stops.
const STOP_GRACE: Duration = Duration::from_secs(5);
const DEFINITIONS: &str = "apiextensions.k8s.io/customresourcedefinitions";

/// How to run a server.
#[derive(Debug, Clone)]
pub struct ApiServerOptions {
    /// Where to listen; port 0 takes a free one.
    pub listen: SocketAddr,
    /// The cluster's name, for certificates and the kubeconfig.
    pub name: String,
    /// The version that the server says it is.
    pub version: String,
    /// The bearer token of the administrator, who may do everything.
    pub admin_token: String,
    /// More tokens: token, user, groups.
    pub tokens: Vec<(String, String, Vec<String>)>,
    /// Built-in group versions that are not served, such as `autoscaling/v2`, so that clusters can differ.
    pub groups_disabled: Vec<String>,
    /// Ports that services of type NodePort get.
    pub service_node_ports: RangeInclusive<u16>,
    /// The IPv4 range that services get their addresses from.
    pub service_cidr: String,
}

impl Default for ApiServerOptions {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            name: "lab".to_owned(),
            version: "v1.33.0+isthmus-lab".to_owned(),
            admin_token: uuid::Uuid::new_v4().to_string(),
            tokens: Vec::new(),
            groups_disabled: Vec::new(),
            service_node_ports: 30000..=32767,
            service_cidr: "10.96.0.0/16".to_owned(),
        }
    }
}

/// Why a server could not start.
#[derive(Debug, thiserror::Error)]
pub enum ApiServerError {
    /// The address cannot be listened on.
    #[error(
        "cannot listen on {address} for the API server of cluster {name}: {source}; choose another address or port 0"
    )]
    Listen {
        /// The cluster.
        name: String,
        /// The address.
        address: SocketAddr,
        /// What the system said.
        source: std::io::Error,
    },
    /// The certificates or keys cannot be made.
    #[error(
        "cannot make the keys of cluster {name}: {reason}; check the cluster's name and the machine's random source"
    )]
    Keys {
        /// The cluster.
        name: String,
        /// What failed.
        reason: String,
    },
    /// The service range is no IPv4 range.
    #[error("{given:?} is no IPv4 range for the services of cluster {name}; use one such as 10.96.0.0/16")]
    ServiceRange {
        /// The cluster.
        name: String,
        /// What was given.
        given: String,
    },
    /// The objects that every cluster starts with cannot be made.
    #[error("cannot fill the new cluster {name}: {reason}; check the service range and the disabled groups")]
    Seed {
        /// The cluster.
        name: String,
        /// What failed.
        reason: String,
    },
}

/// Which output of a pod is wanted.
#[derive(Debug, Clone)]
pub struct LogRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The pod's uid.
    pub pod_uid: String,
    /// The container.
    pub container: String,
    /// Whether to go on until the container ends.
    pub follow: bool,
    /// Whether the output before the last restart is wanted.
    pub previous: bool,
    /// Only the last lines.
    pub tail_lines: Option<u64>,
    /// Only so many bytes.
    pub limit_bytes: Option<u64>,
}

/// Chunks of a container's output.
pub type LogStream = BoxStream<'static, bytes::Bytes>;

/// Gives the output of pods' containers: the kubelet's part of the `log` subresource.
pub trait LogProvider: Send + Sync {
    /// The output, or why there is none.
    fn logs(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, String>>;
}

/// Which command is to be run where.
#[derive(Debug, Clone)]
pub struct ExecRequest {
    /// The pod's namespace.
    pub namespace: String,
    /// The pod.
    pub pod: String,
    /// The container.
    pub container: String,
    /// The command with its arguments.
    pub command: Vec<String>,
}

/// Runs commands in pods' containers: the kubelet's part of the `exec` subresource.
pub trait ExecProvider: Send + Sync {
    /// What a WebSocket's handshake is answered with: the accepted key and the chosen protocol.
    fn handshake(&self, headers: &http::HeaderMap) -> Option<(String, &'static str)>;

    /// Serves a session until its command has ended.
    fn exec(&self, io: hyper::upgrade::Upgraded, request: ExecRequest) -> BoxFuture<'static, ()>;
}

/// Tells of the volumes of a node's pods: the kubelet's part of `nodes/proxy`.
pub trait SummaryProvider: Send + Sync {
    /// What a kubelet answers at `/stats/summary`.
    fn summary<'a>(&'a self, node: &'a str) -> BoxFuture<'a, Value>;
}

/// What all requests share.
pub(crate) struct Server {
    store: Store,
    builtin: Registry,
    served: RwLock<Arc<Registry>>,
    /// Rebuilds of `served`, one at a time.
    rebuilding: Mutex<()>,
    tokens: Tokens,
    ranges: kinds::Ranges,
    version: String,
    address: String,
    requests: metrics::Requests,
    faults: faults::Armed,
    logs: RwLock<Option<Arc<dyn LogProvider>>>,
    exec: RwLock<Option<Arc<dyn ExecProvider>>>,
    summaries: RwLock<Option<Arc<dyn SummaryProvider>>>,
    stopping: CancellationToken,
    connections: TaskTracker,
}

impl Server {
    fn registry(&self) -> Arc<Registry> {
        Arc::clone(&self.served.read())
    }

    /// Serves what the definitions in the store define, after one of them has changed.
    fn after_write(&self, resource: &Resource) {
        let definitions_changed = resource.is("apiextensions.k8s.io", "CustomResourceDefinition")
            || resource.is_custom() && self.is_ending(resource);
        if !definitions_changed {
            return;
        }
        let _one_at_a_time = self.rebuilding.lock();
        let definitions = self
            .store
            .list(DEFINITIONS, &Range::default(), |_| true)
            .map(|listing| listing.objects)
            .unwrap_or_default();
        let next = Arc::new(self.builtin.with_definitions(definitions.iter().map(AsRef::as_ref)));
        let before = std::mem::replace(&mut *self.served.write(), Arc::clone(&next));
        for gone in before.all().iter().filter(|r| r.is_custom() && next.of_storage(&r.storage).is_none()) {
            self.store.end_watches(&gone.storage);
        }
    }

    /// Whether the resource's definition is gone from the store but still served.
    fn is_ending(&self, resource: &Resource) -> bool {
        let key = (String::new(), format!("{}.{}", resource.plural, resource.group));
        self.store.get(DEFINITIONS, &key).is_none()
    }
}

/// A running server. Stops when told to, or when dropped.
pub struct ApiServer {
    server: Arc<Server>,
    name: String,
    ca_pem: String,
    admin_token: String,
    listening: Option<tokio::task::JoinHandle<()>>,
}

impl std::fmt::Debug for ApiServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiServer")
            .field("name", &self.name)
            .field("address", &self.server.address)
            .finish_non_exhaustive()
    }
}

impl ApiServer {
    /// Starts a server with the objects that every cluster starts with.
    pub async fn start(options: ApiServerOptions) -> Result<Self, ApiServerError> {
        let name = options.name.clone();
        let keys = |reason: String| ApiServerError::Keys { name: name.clone(), reason };
        let services = kinds::service::Cidr::parse(&options.service_cidr).ok_or_else(|| {
            ApiServerError::ServiceRange { name: name.clone(), given: options.service_cidr.clone() }
        })?;
        let identity = tls::identity(&options.name, options.listen).map_err(keys)?;
        let tokens = Tokens::new(&options.admin_token, &options.tokens).map_err(keys)?;
        let listen_error =
            |source| ApiServerError::Listen { name: name.clone(), address: options.listen, source };
        let listener = TcpListener::bind(options.listen).await.map_err(listen_error)?;
        let address = listener.local_addr().map_err(listen_error)?;
        let builtin = Registry::builtin(&options.groups_disabled);
        let served = builtin.with_definitions(std::iter::empty());
        let server = Arc::new(Server {
            store: Store::default(),
            builtin,
            served: RwLock::new(Arc::new(served)),
            rebuilding: Mutex::new(()),
            tokens,
            ranges: kinds::Ranges { services, node_ports: options.service_node_ports },
            version: options.version,
            address: address.to_string(),
            requests: metrics::Requests::default(),
            faults: faults::Armed::default(),
            logs: RwLock::new(None),
            exec: RwLock::new(None),
            summaries: RwLock::new(None),
            stopping: CancellationToken::new(),
            connections: TaskTracker::new(),
        });
        seed::fill(&server, address.port(), &identity.ca_pem)
            .map_err(|e| ApiServerError::Seed { name: name.clone(), reason: e.message().to_owned() })?;
        let listening = tokio::spawn(serve::run(Arc::clone(&server), listener, identity.server));
        Ok(Self {
            server,
            name: options.name,
            ca_pem: identity.ca_pem,
            admin_token: options.admin_token,
            listening: Some(listening),
        })
    }

    /// `https://127.0.0.1:PORT`.
    pub fn url(&self) -> String {
        format!("https://{}", self.server.address)
    }

    /// The certificate of the authority that the server's certificate is from.
    pub fn ca_pem(&self) -> &str {
        &self.ca_pem
    }

    /// A kubeconfig for the administrator, with everything inline.
    pub fn kubeconfig(&self) -> String {
        use base64::Engine;
        let name = &self.name;
        let ca = base64::engine::general_purpose::STANDARD.encode(&self.ca_pem);
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: {name}\nclusters:\n- name: {name}\n  cluster:\n    server: {url}\n    \
             certificate-authority-data: {ca}\ncontexts:\n- name: {name}\n  context:\n    cluster: {name}\n    user: {name}-admin\n\
             users:\n- name: {name}-admin\n  user:\n    token: {token}\n",
            url = self.url(),
            token = self.admin_token,
        )
    }

    /// The server's faults on demand.
    pub fn faults(&self) -> Faults {
        Faults(Arc::clone(&self.server))
    }

    /// Says who gives the output of pods' containers.
    pub fn set_log_provider(&self, provider: Arc<dyn LogProvider>) {
        *self.server.logs.write() = Some(provider);
    }

    /// Puts a definition into the store as it is, past validation, and serves what it defines.
    pub fn store_definition(&self, definition: &Value) -> ApiResult<()> {
        let registry = self.server.registry();
        let version = json::text(definition, &["apiVersion"]);
        let (group, version) = version.split_once('/').unwrap_or_default();
        let Some(resource) = registry.find(group, version, "customresourcedefinitions") else {
            return Err(ApiError::not_found(group, "customresourcedefinitions", json::name(definition)));
        };
        let key = (String::new(), json::name(definition).to_owned());
        self.server.store.write(false, |t| {
            t.put(&resource.storage, key.clone(), definition.clone());
            Ok(())
        })?;
        self.server.after_write(resource);
        Ok(())
    }

    /// Says who runs commands in pods' containers.
    pub fn set_exec_provider(&self, provider: Arc<dyn ExecProvider>) {
        *self.server.exec.write() = Some(provider);
    }

    /// Says who tells of the volumes of nodes' pods.
    pub fn set_summary_provider(&self, provider: Arc<dyn SummaryProvider>) {
        *self.server.summaries.write() = Some(provider);
    }

    /// Stops: ends watches, lets other requests finish for a few seconds, closes the listener.
    pub async fn stop(mut self) {
        self.server.stopping.cancel();
        if let Some(listening) = self.listening.take()
            && let Err(error) = listening.await
        {
            tracing::warn!(cluster = %self.name, %error, "the API server's listener ended badly");
        }
        self.server.connections.close();
        if tokio::time::timeout(STOP_GRACE, self.server.connections.wait()).await.is_err() {
            tracing::debug!(cluster = %self.name, "connections were still open when the API server stopped");
        }
    }
}

impl Drop for ApiServer {
    fn drop(&mut self) {
        self.server.stopping.cancel();
    }
}
