//! `pods/exec`: a WebSocket that is handed to whoever runs commands in the pods' containers.
//!
//! As in a real server since 1.35 who asks needs the right to create `pods/exec`, although the request
//! that becomes a WebSocket is a GET.

use std::sync::Arc;

use hyper::upgrade::OnUpgrade;
use hyper::{Method, Response, StatusCode};

use super::auth::{Identity, rbac};
use super::error::{ApiError, ApiResult};
use super::reply::{self, Body};
use super::request::{Query, Target};
use super::{ExecRequest, Server, subresources};

/// Whether a request is for this.
pub fn is_exec(target: &Target) -> bool {
    target.group.is_empty() && target.resource == "pods" && target.subresource == "exec"
}

/// Answers a request, and has the command run on the connection that it came on.
pub fn answer(
    server: &Arc<Server>,
    identity: &Identity,
    target: &Target,
    query: &Query,
    parts: &mut http::request::Parts,
) -> ApiResult<Response<Body>> {
    let attributes = target.attributes(&Method::POST, query, parts.uri.path());
    if rbac::allows(&server.store, identity, &attributes).is_none() {
        return Err(ApiError::new(403, "Forbidden", attributes.refusal(&identity.user)));
    }
    let container = subresources::container_of(server, target, query.get("container"))?;
    let command = query.every("command");
    if command.is_empty() {
        return Err(ApiError::bad_request("you must specify at least 1 command for the container"));
    }
    let provider = server.exec.read().clone();
    let Some(provider) = provider else {
        return Err(ApiError::internal(format!(
            "no kubelet is attached to this server that could run a command in pod {}",
            target.name
        )));
    };
    let upgrade = parts.extensions.remove::<OnUpgrade>();
    let (Some((accept, protocol)), Some(upgrade)) = (provider.handshake(&parts.headers), upgrade) else {
        return Err(ApiError::bad_request(
            "unable to upgrade: expected a WebSocket of v5.channel.k8s.io or v4.channel.k8s.io",
        ));
    };
    let request = ExecRequest {
        namespace: target.namespace.clone(),
        pod: target.name.clone(),
        container,
        command: command.into_iter().map(str::to_owned).collect(),
    };
    let stopping = server.stopping.clone();
    tokio::spawn(async move {
        match upgrade.await {
            Ok(io) => drop(stopping.run_until_cancelled(provider.exec(io, request)).await),
            Err(error) => tracing::debug!(%error, "a session for a command did not come about"),
        }
    });
    let mut response = reply::plain(101, "");
    *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
    for (name, value) in [
        ("connection", "Upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-accept", accept.as_str()),
        ("sec-websocket-protocol", protocol),
    ] {
        let value =
            http::HeaderValue::from_str(value).map_err(|error| ApiError::internal(error.to_string()))?;
        response.headers_mut().insert(name, value);
    }
    Ok(response)
}
