//! What does not fit into a record and is asked of the hub itself: every object's result, the log.
//!
//! Where the hub is, and which CA its certificate must come from, says ConfigMap `isthmus-hub` in
//! the hub's namespace. Only that namespace is asked: whoever can write ConfigMaps elsewhere must
//! not be able to draw other people's tokens to a server of their own.

use std::time::Duration;

use futures::StreamExt;
use isthmus_shared::protocol::{ErrorReply, ObjectPage, ObjectResult, logs_path, objects_path};
use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::core::v1::{ConfigMap, ServiceAccount};
use kube::Api;
use kube::api::PostParams;
use reqwest::{Certificate, Client, Response, Url};

use crate::connect::{ConnectError, Session, full};

/// The ConfigMap that says where the hub is.
const HUB_CONFIG_MAP: &str = "isthmus-hub";
/// The ServiceAccount whose token is used where the kubeconfig's user has none.
const CLI_ACCOUNT: &str = "isthmus-cli";
/// How long such a token is valid, seconds; the API server gives none for less.
const TOKEN_SECONDS: i64 = 600;
/// How long the hub may take to be connected.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long an answer may take in all. One that follows a log may take for ever, and is known to
/// be alive by HTTP/2 pings.
const ANSWER_TIMEOUT: Duration = Duration::from_mins(1);
/// How often a connection is pinged.
const PING_INTERVAL: Duration = Duration::from_secs(20);
/// How long the answer to a ping may take.
const PING_TIMEOUT: Duration = Duration::from_secs(20);
/// Objects a page; the most that the hub gives.
const PAGE: u64 = 1_000;
/// The most objects that are read for one description.
const MAX_OBJECTS: usize = 100_000;
/// The most of an error's text that is read, bytes.
const MAX_ERROR_BYTES: usize = 64 * 1024;

/// The hub did not answer as it should.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// Nothing says where it is.
    #[error(
        "reading ConfigMap {namespace}/{HUB_CONFIG_MAP}, which says where the hub is, failed: {detail}: is the hub running? If its namespace is another, name it with --hub-namespace"
    )]
    Address {
        /// The hub's namespace.
        namespace: String,
        /// Why.
        detail: String,
    },
    /// What says where it is makes no sense.
    #[error(
        "ConfigMap {namespace}/{HUB_CONFIG_MAP} has no usable {key}: {detail}: restart the hub, which writes it anew"
    )]
    BadAddress {
        /// The hub's namespace.
        namespace: String,
        /// Which of its keys.
        key: &'static str,
        /// Why.
        detail: String,
    },
    /// The kubeconfig's way to a token does not work.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// No token to show.
    #[error(
        "the hub asks for a bearer token; the kubeconfig's user has none, and asking for one of ServiceAccount {namespace}/{CLI_ACCOUNT} failed: {detail}: use a kubeconfig with a token, or ask for the right to create serviceaccounts/token there"
    )]
    NoToken {
        /// The hub's namespace.
        namespace: String,
        /// Why.
        detail: String,
    },
    /// No answer.
    #[error(
        "no answer from the hub at {url}: {detail}: check that this address can be reached from here; it is the hub's --advertise-url"
    )]
    Unreachable {
        /// The hub.
        url: String,
        /// Why.
        detail: String,
    },
    /// The hub says no.
    #[error("the hub at {url} refused (HTTP {code}): {message}")]
    Refused {
        /// The hub.
        url: String,
        /// The code.
        code: u16,
        /// What it said.
        message: String,
    },
    /// The hub's answer makes no sense.
    #[error(
        "the answer of the hub at {url} is not understood: {detail}: use the version of this program that belongs to the hub"
    )]
    Nonsense {
        /// The hub.
        url: String,
        /// Why.
        detail: String,
    },
    /// There are too many objects.
    #[error("the migration has more than {MAX_OBJECTS} objects; they are not shown")]
    TooMany,
}

/// The hub's API for people.
pub struct HubApi {
    url: Url,
    client: Client,
    token: String,
}

impl HubApi {
    /// Finds the hub and a token for it; nothing is sent to the hub yet.
    pub async fn find(session: &Session) -> Result<Self, HubError> {
        let namespace = &session.hub_namespace;
        let maps: Api<ConfigMap> = Api::namespaced(session.client.clone(), namespace);
        let map = maps
            .get(HUB_CONFIG_MAP)
            .await
            .map_err(|error| HubError::Address { namespace: namespace.clone(), detail: plain(&error) })?;
        let bad = |key, detail: String| HubError::BadAddress { namespace: namespace.clone(), key, detail };
        let data = map.data.unwrap_or_default();
        let value = |key| data.get(key).ok_or_else(|| bad(key, "it is missing".to_owned()));
        let url: Url = value("url")?.parse().map_err(|_| bad("url", "it is not a URL".to_owned()))?;
        if url.scheme() != "https" {
            return Err(bad("url", format!("{url} is not https")));
        }
        let roots = Certificate::from_pem_bundle(value("ca.crt")?.as_bytes())
            .map_err(|error| bad("ca.crt", full(&error)))?;
        if roots.is_empty() {
            return Err(bad("ca.crt", "it holds no certificate".to_owned()));
        }
        // A hub never redirects; a token must not follow where something else does.
        let client = Client::builder()
            .tls_certs_only(roots)
            .redirect(reqwest::redirect::Policy::none())
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(PING_INTERVAL)
            .http2_keep_alive_timeout(PING_TIMEOUT)
            .tcp_keepalive(PING_INTERVAL)
            .build()
            .map_err(|error| bad("ca.crt", full(&error)))?;
        let token = match session.bearer_token().await? {
            Some(token) => token,
            None => account_token(session).await?,
        };
        Ok(Self { url, client, token })
    }

    /// The result of every object of a migration.
    pub async fn objects(&self, namespace: &str, name: &str) -> Result<Vec<ObjectResult>, HubError> {
        let mut items = Vec::new();
        let mut offset = 0;
        loop {
            let query = [("offset", offset.to_string()), ("limit", PAGE.to_string())];
            let reply = self.get(&objects_path(namespace, name), &query, Some(ANSWER_TIMEOUT)).await?;
            let page: ObjectPage = reply.json().await.map_err(|error| self.nonsense(full(&error)))?;
            items.extend(page.items);
            match page.next {
                None => return Ok(items),
                Some(_) if items.len() > MAX_OBJECTS => return Err(HubError::TooMany),
                Some(next) if next > offset => offset = next,
                Some(next) => return Err(self.nonsense(format!("page {next} follows page {offset}"))),
            }
        }
    }

    /// The log of a migration, piece by piece as it comes.
    pub async fn logs<E: From<HubError>>(
        &self,
        namespace: &str,
        name: &str,
        follow: bool,
        mut each: impl FnMut(&[u8]) -> Result<(), E>,
    ) -> Result<(), E> {
        let query = if follow { vec![("follow", "true".to_owned())] } else { Vec::new() };
        let limit = if follow { None } else { Some(ANSWER_TIMEOUT) };
        let mut pieces = self.get(&logs_path(namespace, name), &query, limit).await?.bytes_stream();
        while let Some(piece) = pieces.next().await {
            each(&piece.map_err(|error| self.unreachable(&error))?)?;
        }
        Ok(())
    }

    async fn get(
        &self,
        path: &str,
        query: &[(&str, String)],
        limit: Option<Duration>,
    ) -> Result<Response, HubError> {
        let mut url = self.url.clone();
        url.set_path(path);
        url.query_pairs_mut().extend_pairs(query);
        if query.is_empty() {
            url.set_query(None);
        }
        let mut request = self.client.get(url).bearer_auth(&self.token);
        if let Some(limit) = limit {
            request = request.timeout(limit);
        }
        let reply = request.send().await.map_err(|error| self.unreachable(&error))?;
        if reply.status().is_success() { Ok(reply) } else { Err(self.refused(reply).await) }
    }

    async fn refused(&self, reply: Response) -> HubError {
        let code = reply.status().as_u16();
        let mut body = Vec::new();
        let mut pieces = reply.bytes_stream();
        while let Some(Ok(piece)) = pieces.next().await {
            body.extend_from_slice(&piece);
            if body.len() > MAX_ERROR_BYTES {
                break;
            }
        }
        let message = match serde_json::from_slice::<ErrorReply>(&body) {
            Ok(error) => error.message,
            Err(_) => "it gave no reason: look at its log".to_owned(),
        };
        HubError::Refused { url: self.url.to_string(), code, message }
    }

    fn unreachable(&self, error: &reqwest::Error) -> HubError {
        HubError::Unreachable { url: self.url.to_string(), detail: full(error) }
    }

    fn nonsense(&self, detail: String) -> HubError {
        HubError::Nonsense { url: self.url.to_string(), detail }
    }
}

async fn account_token(session: &Session) -> Result<String, HubError> {
    let namespace = &session.hub_namespace;
    let accounts: Api<ServiceAccount> = Api::namespaced(session.client.clone(), namespace);
    let spec = TokenRequestSpec { expiration_seconds: Some(TOKEN_SECONDS), ..TokenRequestSpec::default() };
    let request = TokenRequest { spec, ..TokenRequest::default() };
    let no_token = |detail: String| HubError::NoToken { namespace: namespace.clone(), detail };
    let answer = accounts
        .create_token_request(CLI_ACCOUNT, &PostParams::default(), &request)
        .await
        .map_err(|error| no_token(plain(&error)))?;
    answer.status.map(|status| status.token).ok_or_else(|| no_token("the API server gave none".to_owned()))
}

/// What the API server said, or why it could not be asked.
fn plain(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => full(other),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;
    use std::sync::{Arc, Mutex};

    use axum::extract::Query;
    use axum::http::{HeaderMap, StatusCode};
    use axum::routing::get;
    use axum::{Json, Router};
    use isthmus_shared::protocol::ObjectAction;

    use super::*;

    /// A hub with one path, over plain HTTP: how TLS is set up is not what is tested here.
    async fn hub_with(path: &str, method: axum::routing::MethodRouter) -> HubApi {
        crate::install_crypto();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let router = Router::new().route(path, method);
        tokio::spawn(async move { axum::serve(listener, router).await });
        let client = Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
        HubApi { url, client, token: "secret".to_owned() }
    }

    fn result(number: u64) -> ObjectResult {
        ObjectResult {
            api_version: "v1".to_owned(),
            kind: "Service".to_owned(),
            namespace: Some("cms".to_owned()),
            name: number.to_string(),
            action: ObjectAction::Created,
            reason: None,
            message: None,
            diff: None,
            rewritten: None,
        }
    }

    async fn two_pages(headers: HeaderMap, Query(query): Query<HashMap<String, u64>>) -> Json<ObjectPage> {
        assert_eq!(headers["authorization"], "Bearer secret");
        let next = if query["offset"] == 0 { Some(2) } else { None };
        Json(ObjectPage { items: vec![result(query["offset"]), result(query["offset"] + 1)], next })
    }

    #[tokio::test]
    async fn all_pages_of_objects_are_read() {
        let hub = hub_with("/v1/namespaces/isthmus/migrations/monday/objects", get(two_pages)).await;
        let names: Vec<_> =
            hub.objects("isthmus", "monday").await.unwrap().into_iter().map(|object| object.name).collect();
        assert_eq!(names, ["0", "1", "2", "3"]);
    }

    #[tokio::test]
    async fn pages_that_lead_in_a_circle_end() {
        let page = || async { Json(ObjectPage { items: vec![result(0)], next: Some(0) }) };
        let hub = hub_with("/v1/namespaces/isthmus/migrations/monday/objects", get(page)).await;
        let error = hub.objects("isthmus", "monday").await.unwrap_err();
        assert!(matches!(error, HubError::Nonsense { .. }), "{error}");
    }

    #[tokio::test]
    async fn what_the_hub_says_against_it_is_passed_on() {
        let reply = ErrorReply { reason: "Forbidden".to_owned(), message: "ask for isthmus-user".to_owned() };
        let refuse = move || async { (StatusCode::FORBIDDEN, Json(reply)) };
        let hub = hub_with("/v1/namespaces/isthmus/migrations/monday/objects", get(refuse)).await;
        let error = hub.objects("isthmus", "monday").await.unwrap_err().to_string();
        assert!(error.contains("HTTP 403") && error.contains("ask for isthmus-user"), "{error}");
    }

    #[tokio::test]
    async fn a_token_does_not_follow_a_redirect() {
        let elsewhere = || async { (StatusCode::FOUND, [("location", "http://127.0.0.1:1/")]) };
        let hub = hub_with("/v1/namespaces/isthmus/migrations/monday/objects", get(elsewhere)).await;
        let error = hub.objects("isthmus", "monday").await.unwrap_err();
        assert!(matches!(error, HubError::Refused { code: 302, .. }), "{error}");
    }

    #[tokio::test]
    async fn a_log_comes_piece_by_piece() {
        let asked = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&asked);
        let log = move |Query(query): Query<HashMap<String, String>>| async move {
            *seen.lock().unwrap() = query.get("follow").cloned();
            let pieces = ["one\n", "two\n"].map(Ok::<_, std::io::Error>);
            axum::body::Body::from_stream(futures::stream::iter(pieces))
        };
        let hub = hub_with("/v1/namespaces/isthmus/migrations/monday/logs", get(log)).await;
        let mut text = Vec::new();
        let read = hub.logs("isthmus", "monday", true, |piece| -> Result<(), HubError> {
            text.extend_from_slice(piece);
            Ok(())
        });
        read.await.unwrap();
        assert_eq!(text, b"one\ntwo\n");
        assert_eq!(asked.lock().unwrap().as_deref(), Some("true"));
    }
}
