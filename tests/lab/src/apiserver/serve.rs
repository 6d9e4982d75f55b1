//! Connections and the way of a request: identify, authorize, dispatch.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use hyper::{Method, Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;

use super::Server;
use super::auth::{Attributes, Identity, rbac, reviews};
use super::builtins::Sub;
use super::discovery;
use super::error::{ApiError, ApiResult};
use super::exec;
use super::openapi;
use super::read;
use super::registry::Resource;
use super::reply::{self, Body};
use super::request::{Call, Query, Target, body};
use super::subresources;
use super::write::Writing;

/// The largest body that is read.
const MAX_BODY: usize = 3 * 1024 * 1024;
/// What is read of a body that is too large, before its connection is given up.
const MAX_DISCARDED: usize = 16 * 1024 * 1024;
/// Connections that may be open at once.
const MAX_CONNECTIONS: usize = 4096;
/// How long a client may take over its TLS handshake.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a body may take to arrive.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);

/// What priority and fairness says of the answer to a request: its flow schema and priority level.
const FLOW_SCHEMA: (&str, &str) = ("x-kubernetes-pf-flowschema-uid", "a5f0b1c2-0000-4000-8000-000000000001");
const PRIORITY_LEVEL: (&str, &str) =
    ("x-kubernetes-pf-prioritylevel-uid", "a5f0b1c2-0000-4000-8000-000000000002");

/// Accepts connections until the server stops.
pub async fn run(server: Arc<Server>, listener: TcpListener, tls: Arc<rustls::ServerConfig>) {
    let acceptor = TlsAcceptor::from(tls);
    let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        let accepted = tokio::select! {
            () = server.stopping.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                // Out of file descriptors, most likely: others must end before the next can begin.
                tracing::warn!(%error, "cannot accept a connection");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
            tracing::warn!(%peer, "refusing a connection: {MAX_CONNECTIONS} are open");
            continue;
        };
        let acceptor = acceptor.clone();
        let server = Arc::clone(&server);
        server.connections.clone().spawn(async move {
            let _place = place;
            if let Err(error) = connection(&server, acceptor, stream, peer).await {
                tracing::debug!(%peer, %error, "a connection ended");
            }
        });
    }
}

async fn connection(
    server: &Arc<Server>,
    acceptor: TlsAcceptor,
    stream: tokio::net::TcpStream,
    peer: SocketAddr,
) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    stream.set_nodelay(true)?;
    let stream = tokio::time::timeout(HANDSHAKE, acceptor.accept(stream)).await??;
    tracing::trace!(%peer, "accepted");
    let service_server = Arc::clone(server);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let server = Arc::clone(&service_server);
        async move { Ok::<_, std::convert::Infallible>(handle(server, request).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let connection = builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
    tokio::pin!(connection);
    tokio::select! {
        ended = connection.as_mut() => ended,
        () = server.stopping.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    }
}

/// Answers one request.
async fn handle(server: Arc<Server>, request: Request<Incoming>) -> Response<Body> {
    server.faults.answers().await;
    let target = Target::parse(request.uri().path()).filter(|target| !target.resource.is_empty());
    let refused = server.faults.refuses(request.method().as_str(), target.as_ref());
    let mut response = match refused {
        Some(seconds) => reply::refusal(&ApiError::overloaded(seconds)),
        None => respond(&server, request).await.unwrap_or_else(|error| reply::refusal(&error)),
    };
    // Whoever asks belongs to one flow here; the headers are for clients that look at them.
    for (name, uid) in [FLOW_SCHEMA, PRIORITY_LEVEL] {
        response.headers_mut().insert(name, http::HeaderValue::from_static(uid));
    }
    response
}

async fn respond(server: &Arc<Server>, request: Request<Incoming>) -> ApiResult<Response<Body>> {
    let (mut parts, incoming) = request.into_parts();
    let header = |name: &str| parts.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("").to_owned();
    let path = parts.uri.path().to_owned();
    let query = Query::parse(parts.uri.query().unwrap_or(""));
    let mut identity = identify(server, &header("authorization"))?;
    let groups: Vec<String> = parts
        .headers
        .get_all("impersonate-group")
        .iter()
        .filter_map(|v| v.to_str().ok())
        .map(str::to_owned)
        .collect();
    let user = header("impersonate-user");
    if !user.is_empty() || !groups.is_empty() {
        identity = impersonate(server, &identity, user, groups)?;
    }
    let target = Target::parse(&path).filter(|t| !t.resource.is_empty());
    let attributes = match &target {
        Some(target) => target.attributes(&parts.method, &query, &path),
        None => Attributes {
            verb: parts.method.as_str().to_lowercase(),
            path: path.clone(),
            ..Attributes::default()
        },
    };
    if rbac::allows(&server.store, &identity, &attributes).is_none() {
        return Err(ApiError::new(403, "Forbidden", attributes.refusal(&identity.user)));
    }
    if let Some(target) = target.as_ref().filter(|target| exec::is_exec(target)) {
        return exec::answer(server, &identity, target, &query, &mut parts);
    }
    let body = tokio::time::timeout(BODY_TIMEOUT, read_body(incoming))
        .await
        .map_err(|_| ApiError::bad_request("the request's body did not arrive in time: send it again"))??;
    let content_type = header("content-type").split(';').next().unwrap_or("").trim().to_owned();
    let call = Call {
        method: parts.method.clone(),
        path,
        query,
        accept: header("accept"),
        content_type,
        user_agent: header("user-agent"),
        identity,
        body,
    };
    match target {
        Some(target) => dispatch(server, &call, &target).await,
        None => plain_path(server, &call),
    }
}

/// Reads a body. One that is too large is read on for a while, so that its sender comes to hear of it.
async fn read_body(mut incoming: Incoming) -> ApiResult<Bytes> {
    let mut body = BytesMut::new();
    let mut length = 0;
    while let Some(frame) = incoming.frame().await {
        let frame =
            frame.map_err(|error| ApiError::bad_request(format!("reading the request's body: {error}")))?;
        let Ok(data) = frame.into_data() else { continue };
        length += data.len();
        if length <= MAX_BODY {
            body.extend_from_slice(&data);
        } else if length > MAX_DISCARDED {
            break;
        }
    }
    if length > MAX_BODY { Err(ApiError::too_large(MAX_BODY)) } else { Ok(body.freeze()) }
}

fn identify(server: &Server, authorization: &str) -> ApiResult<Identity> {
    if authorization.is_empty() {
        return Ok(Identity::anonymous());
    }
    let token = authorization.strip_prefix("Bearer ").or_else(|| authorization.strip_prefix("bearer "));
    let token = token.ok_or_else(ApiError::unauthorized)?.trim();
    server
        .tokens
        .identify(token, &[], &server.store)
        .map(|(identity, _)| identity)
        .ok_or_else(ApiError::unauthorized)
}

/// Makes another user of this one, who must be allowed to.
fn impersonate(
    server: &Server,
    identity: &Identity,
    user: String,
    mut groups: Vec<String>,
) -> ApiResult<Identity> {
    let mut wanted = vec![("users", user.clone())];
    if let Some((namespace, name)) =
        user.strip_prefix("system:serviceaccount:").and_then(|u| u.split_once(':'))
    {
        groups.push("system:serviceaccounts".to_owned());
        groups.push(format!("system:serviceaccounts:{namespace}"));
        wanted = vec![("serviceaccounts", name.to_owned())];
    } else {
        wanted.extend(groups.iter().map(|group| ("groups", group.clone())));
    }
    for (resource, name) in wanted {
        let asked = Attributes {
            verb: "impersonate".to_owned(),
            resource: resource.to_owned(),
            name,
            ..Attributes::default()
        };
        if rbac::allows(&server.store, identity, &asked).is_none() {
            return Err(ApiError::new(403, "Forbidden", asked.refusal(&identity.user)));
        }
    }
    if user != "system:anonymous" {
        groups.push(super::auth::AUTHENTICATED.to_owned());
    }
    Ok(Identity { user, groups, ..Identity::default() })
}

/// Paths that are no resources.
fn plain_path(server: &Server, call: &Call) -> ApiResult<Response<Body>> {
    if !matches!(call.method, Method::GET | Method::HEAD) {
        return Err(ApiError::method_not_allowed());
    }
    let registry = server.registry();
    let parts: Vec<&str> = call.path.split('/').filter(|p| !p.is_empty()).collect();
    let aggregated = discovery::wants_aggregated(&call.accept);
    let found = match parts.as_slice() {
        ["healthz" | "livez" | "readyz", ..] => return Ok(reply::plain(200, "ok")),
        ["metrics"] => return Ok(reply::plain(200, server.requests.text())),
        ["version"] => Some(discovery::version(&server.version)),
        ["api"] if aggregated => {
            return Ok(reply::json_as(200, discovery::AGGREGATED, &discovery::aggregated(&registry, true)));
        }
        ["apis"] if aggregated => {
            return Ok(reply::json_as(200, discovery::AGGREGATED, &discovery::aggregated(&registry, false)));
        }
        ["api"] => Some(discovery::core_versions(&server.address)),
        ["apis"] => Some(discovery::groups(&registry)),
        ["apis", group] => discovery::one_group(&registry, group),
        ["api", version] => discovery::resources(&registry, "", version),
        ["apis", group, version] => discovery::resources(&registry, group, version),
        ["openapi", "v3"] => Some(openapi::index(&registry)),
        ["openapi", "v3", "api", version] => openapi::document(&registry, &server.store, "", version),
        ["openapi", "v3", "apis", group, version] => {
            openapi::document(&registry, &server.store, group, version)
        }
        ["openapi", "v2"] => {
            if call.accept.contains(openapi::PROTOBUF) && !call.accept.contains("application/json") {
                return Ok(reply::bytes(openapi::PROTOBUF_ANSWER, openapi::version_two_binary()));
            }
            Some(openapi::version_two())
        }
        [] => Some(
            serde_json::json!({"paths": ["/api", "/apis", "/healthz", "/livez", "/openapi/v3", "/readyz", "/version"]}),
        ),
        _ => None,
    };
    found.map(|value| reply::json(200, &value)).ok_or_else(|| match parts.as_slice() {
        ["apis", group, version] => nobody_serves(server, group, version),
        _ => ApiError::no_such_resource(),
    })
}

/// Why a group and version are not served: nobody has registered them, or who has cannot be reached.
fn nobody_serves(server: &Server, group: &str, version: &str) -> ApiError {
    let key = (String::new(), format!("{version}.{group}"));
    match server.store.get("apiregistration.k8s.io/apiservices", &key) {
        Some(service) if service["spec"]["service"].is_object() => ApiError::unavailable_page(),
        _ => ApiError::no_such_page(),
    }
}

async fn dispatch(server: &Arc<Server>, call: &Call, target: &Target) -> ApiResult<Response<Body>> {
    let registry = server.registry();
    let resource = registry.find(&target.group, &target.version, &target.resource).ok_or_else(|| {
        if registry.serves(&target.group, &target.version) {
            ApiError::no_such_resource()
        } else {
            nobody_serves(server, &target.group, &target.version)
        }
    })?;
    let watching = target.watch || call.query.get("watch").is_some() && call.query.flag("watch");
    let answer = dispatch_to(server, call, target, resource, watching).await;
    let code = answer.as_ref().map_or_else(ApiError::code, |response| response.status().as_u16());
    server.requests.count(call, target, watching, code);
    let mut response = answer?;
    if let Some(warning) = resource.custom.as_ref().and_then(|c| c.deprecation.clone()) {
        reply::warn(&mut response, &[warning]);
    }
    Ok(response)
}

async fn dispatch_to(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
    watching: bool,
) -> ApiResult<Response<Body>> {
    let namespaced_create = call.method == Method::POST && resource.namespaced && target.namespace.is_empty();
    if namespaced_create && target.subresource.is_empty() {
        return Err(ApiError::method_not_allowed());
    }
    if !resource.namespaced && !target.namespace.is_empty() && !resource.is("", "Namespace") {
        return Err(ApiError::no_such_resource());
    }
    if !resource.stored {
        return unstored(server, call, target, resource).await;
    }
    if !target.subresource.is_empty() {
        let sub = resource
            .subs
            .iter()
            .copied()
            .find(|sub| sub.name() == target.subresource)
            .ok_or_else(ApiError::no_such_resource)?;
        return subresources::answer(server, call, target, resource, sub).await;
    }
    let writing = || Writing::new(server, call, target, resource, None);
    match (call.method.as_str(), target.name.is_empty()) {
        ("GET" | "HEAD", _) if watching => read::watch(server, call, target, resource),
        ("GET" | "HEAD", true) => read::list_objects(server, call, target, resource),
        ("GET" | "HEAD", false) => read::get(server, call, target, resource),
        ("POST", true) => {
            writing().check_escalation()?;
            writing().create()
        }
        ("PUT", false) => {
            writing().check_escalation()?;
            writing().replace()
        }
        ("PATCH", false) => {
            writing().check_escalation()?;
            writing().patch()
        }
        ("DELETE", false) => writing().delete(),
        ("DELETE", true) if resource.is("", "Namespace") => Err(ApiError::method_not_allowed()),
        ("DELETE", true) => writing().delete_collection(),
        _ => Err(ApiError::method_not_allowed()),
    }
}

/// Reviews and bindings: answered or acted upon, never stored.
async fn unstored(
    server: &Arc<Server>,
    call: &Call,
    target: &Target,
    resource: &Arc<Resource>,
) -> ApiResult<Response<Body>> {
    if call.method != Method::POST {
        return Err(ApiError::method_not_allowed());
    }
    let mut request = body(&call.content_type, &call.body)?;
    if resource.is("", "Binding") {
        let pods =
            server.registry().find("", "v1", "pods").cloned().ok_or_else(ApiError::no_such_resource)?;
        let pod = Target { name: super::json::name(&request).to_owned(), ..target.clone() };
        return subresources::answer(server, call, &pod, &pods, Sub::Binding).await;
    }
    super::json::set(&mut request, &["apiVersion"], resource.api_version());
    super::json::set(&mut request, &["kind"], resource.kind.clone());
    super::json::default(&mut request, &["metadata"], serde_json::json!({}));
    let answer = reviews::answer(
        &resource.kind,
        request,
        &call.identity,
        &target.namespace,
        &server.tokens,
        &server.store,
    )?;
    Ok(reply::json(201, &answer))
}
