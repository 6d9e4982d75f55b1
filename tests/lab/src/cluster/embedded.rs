//! The lab's own API server as a cluster's, with the kubelet behind `pods/log`, `pods/exec` and
//! `nodes/proxy`.

use std::sync::Arc;

use futures::future::BoxFuture;
use futures::{FutureExt, StreamExt};
use hyper_util::rt::TokioIo;

use super::{ClusterError, ClusterTraits, Endpoint};
use crate::apiserver::{
    ApiServer, ApiServerOptions, ExecProvider, ExecRequest, Faults, LogProvider, LogRequest, LogStream,
    SummaryProvider,
};
use crate::kubelet::{self, ExecQuery, Kubelet, LogQuery};

pub(super) struct Embedded(ApiServer);

pub(super) async fn start(
    cluster: &str,
    traits: &ClusterTraits,
) -> Result<(Embedded, Endpoint), ClusterError> {
    let options = ApiServerOptions {
        name: cluster.to_owned(),
        groups_disabled: traits.without_versions.clone(),
        ..ApiServerOptions::default()
    };
    let token = options.admin_token.clone();
    let server = ApiServer::start(options)
        .await
        .map_err(|error| ClusterError::Setup { cluster: cluster.to_owned(), problem: error.to_string() })?;
    let endpoint = Endpoint { url: server.url(), token, ca_pem: server.ca_pem().to_owned() };
    Ok((Embedded(server), endpoint))
}

impl Embedded {
    /// Lets the server give the output of the kubelet's pods, run commands in them, and tell of their volumes.
    pub fn serve_pods(&self, kubelet: Arc<Kubelet>) {
        self.0.set_log_provider(Arc::new(Pods(kubelet.clone())));
        self.0.set_exec_provider(Arc::new(Pods(kubelet.clone())));
        self.0.set_summary_provider(Arc::new(Pods(kubelet)));
    }

    /// Puts a definition into the store as it is.
    pub fn store_definition(&self, definition: &serde_json::Value) -> Result<(), String> {
        self.0.store_definition(definition).map_err(|error| error.message().to_owned())
    }

    /// The server's faults on demand.
    pub fn faults(&self) -> Faults {
        self.0.faults()
    }

    pub async fn stop(self) {
        self.0.stop().await;
    }
}

struct Pods(Arc<Kubelet>);

impl ExecProvider for Pods {
    fn handshake(&self, headers: &http::HeaderMap) -> Option<(String, &'static str)> {
        kubelet::handshake(headers)
    }

    fn exec(&self, io: hyper::upgrade::Upgraded, request: ExecRequest) -> BoxFuture<'static, ()> {
        let query = ExecQuery {
            namespace: request.namespace,
            pod: request.pod,
            container: request.container,
            command: request.command,
        };
        self.0.clone().exec(TokioIo::new(io), query).boxed()
    }
}

impl LogProvider for Pods {
    fn logs(&self, request: LogRequest) -> BoxFuture<'_, Result<LogStream, String>> {
        let query = LogQuery {
            pod_uid: request.pod_uid,
            container: request.container,
            follow: request.follow,
            tail_lines: request.tail_lines,
            limit_bytes: request.limit_bytes,
        };
        async move { Ok(self.0.clone().stream_log(&query).boxed()) }.boxed()
    }
}

impl SummaryProvider for Pods {
    fn summary<'a>(&'a self, node: &'a str) -> BoxFuture<'a, serde_json::Value> {
        self.0.summary(node).boxed()
    }
}
