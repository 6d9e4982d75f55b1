//! One call to the API server at a time, bounded in time and attempts.
//!
//! What may be repeated is repeated here, with backoff and as the server asks in Retry-After:
//! reads, deletions and server-side apply, whose second time is their first. A creation or
//! another patch is repeated only after 429, which says that nothing was done.
//!
//! How many calls are under way at a time is the [`Limiter`]'s to say, over all tasks.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use bytes::Bytes;
use http::{Method, Request, header};
use http_body_util::{BodyExt, Limited};
use isthmus_shared::resources::FIELD_MANAGER;
use kube::config::{KubeConfigOptions, Kubeconfig};
use serde_json::Value;

use super::ClusterError;
use super::limiter::{Limiter, MAX_RETRY_AFTER, Sign, sign_of};

/// The time limit of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_mins(1);
/// For how long the server may be silent within an attempt.
const READ_TIMEOUT: Duration = Duration::from_secs(30);
/// The time limit of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The attempts at a call that may be repeated.
const MAX_ATTEMPTS: usize = 6;
/// The largest reply that is read, bytes: a page of 500 objects of the largest size that etcd
/// holds by default is far below, on average.
const MAX_REPLY: usize = 256 * 1024 * 1024;
/// Objects to a page of a listing.
const PAGE: usize = 500;

/// The API server of the spoke's own cluster. Clones share one connection pool.
#[derive(Clone)]
pub struct Cluster {
    client: kube::Client,
    /// The same without limits of time: a command in a container may be silent for long.
    long_lived: kube::Client,
    limiter: Arc<Limiter>,
}

/// An answer that holds the object's metadata alone: for writes whose result is known.
const METADATA_ONLY: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json";

/// A page of a listing.
#[derive(Debug)]
pub struct Page {
    /// The objects, each with `apiVersion` and `kind`.
    pub items: Vec<Value>,
    /// What to ask the next page with.
    pub next: Option<String>,
    /// How long the reply was, bytes.
    pub bytes: usize,
}

/// How a patch's body is to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PatchKind {
    /// RFC 7386.
    Merge,
    /// Server-side apply as [`FIELD_MANAGER`].
    Apply {
        /// Take over fields that another manager holds.
        force: bool,
        /// Say what would be, and change nothing.
        dry_run: bool,
    },
    /// Server-side apply as [`FIELD_MANAGER`], taking over what others hold, that changes nothing
    /// and refuses fields that the server's schema lacks.
    Try,
}

/// How to delete.
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Only the object of this uid.
    pub uid: Option<String>,
    /// Wait in the API for what it owns.
    pub foreground: bool,
}

struct Call<'a> {
    method: Method,
    path: &'a str,
    accept: &'static str,
    content_type: &'static str,
    body: Option<Bytes>,
    /// Whether doing it twice is doing it once.
    repeatable: bool,
}

impl Cluster {
    /// Connects as a kubeconfig says, or as the pod's service account.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self, ClusterError> {
        let wrong = |error: &dyn std::fmt::Display| ClusterError::Configuration(error.to_string());
        let mut config = match kubeconfig {
            Some(path) => {
                let file = Kubeconfig::read_from(path).map_err(|e| wrong(&e))?;
                let options =
                    KubeConfigOptions { context: context.map(str::to_owned), ..KubeConfigOptions::default() };
                kube::Config::from_custom_kubeconfig(file, &options).await.map_err(|e| wrong(&e))?
            }
            None => kube::Config::incluster().map_err(|e| wrong(&e))?,
        };
        config.default_retry = false;
        config.connect_timeout = Some(CONNECT_TIMEOUT);
        config.read_timeout = Some(READ_TIMEOUT);
        config.write_timeout = Some(READ_TIMEOUT);
        config.reset_reader_on_write = true;
        let mut unlimited = config.clone();
        unlimited.read_timeout = None;
        unlimited.write_timeout = None;
        let long_lived = kube::Client::try_from(unlimited).map_err(|e| wrong(&e))?;
        Ok(Self { long_lived, ..Self::new(kube::Client::try_from(config).map_err(|e| wrong(&e))?) })
    }

    /// Uses a client that does not retry by itself.
    pub fn new(client: kube::Client) -> Self {
        Self { long_lived: client.clone(), client, limiter: Arc::default() }
    }

    /// The client for connections that live as long as what they are for.
    pub(super) fn long_lived(&self) -> kube::Client {
        self.long_lived.clone()
    }

    /// How many calls are worth having under way at a time, now.
    pub fn width(&self) -> usize {
        self.limiter.width()
    }

    /// Reads whatever is at a path.
    pub async fn get(&self, path: &str) -> Result<Value, ClusterError> {
        self.get_as(path, "application/json").await
    }

    /// Reads in another form than plain JSON.
    pub async fn get_as(&self, path: &str, accept: &'static str) -> Result<Value, ClusterError> {
        self.json(Call { method: Method::GET, path, accept, content_type: "", body: None, repeatable: true })
            .await
    }

    /// Reads a text, e.g. a container's log.
    pub async fn get_text(&self, path: &str) -> Result<String, ClusterError> {
        let call =
            Call { method: Method::GET, path, accept: "*/*", content_type: "", body: None, repeatable: true };
        Ok(String::from_utf8_lossy(&self.call(&call).await?).into_owned())
    }

    /// Reads what may not be there.
    pub async fn find(&self, path: &str) -> Result<Option<Value>, ClusterError> {
        match self.get(path).await {
            Ok(object) => Ok(Some(object)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Reads a page of a collection; `query` is what stands behind the `?`, without paging.
    pub async fn page(&self, path: &str, query: &str, next: Option<&str>) -> Result<Page, ClusterError> {
        self.page_of(PAGE, path, query, next).await
    }

    /// Reads a page of at most `limit` objects.
    pub async fn page_of(
        &self,
        limit: usize,
        path: &str,
        query: &str,
        next: Option<&str>,
    ) -> Result<Page, ClusterError> {
        let mut url = format!("{path}?limit={limit}");
        if !query.is_empty() {
            url = format!("{url}&{query}");
        }
        if let Some(token) = next {
            url = format!("{url}&continue={}", escape(token));
        }
        let accept = "application/json";
        let call =
            Call { method: Method::GET, path: &url, accept, content_type: "", body: None, repeatable: true };
        let body = self.call(&call).await?;
        let bytes = body.len();
        let mut list: Value = serde_json::from_slice(&body).map_err(|error| ClusterError::Unsound {
            operation: call.operation(),
            detail: error.to_string(),
        })?;
        drop(body);
        let next = super::text(&list, "/metadata/continue").to_owned();
        let api_version = super::api_version(&list).to_owned();
        let kind = super::kind(&list).trim_end_matches("List").to_owned();
        let mut items = match list.get_mut("items").map(Value::take) {
            Some(Value::Array(items)) => items,
            Some(Value::Null) | None => Vec::new(),
            Some(_) => {
                return Err(ClusterError::Unsound {
                    operation: format!("GET {url}"),
                    detail: "its items are no list".to_owned(),
                });
            }
        };
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            // The items of a typed list leave out what the list says.
            item.entry("apiVersion").or_insert_with(|| Value::from(api_version.as_str()));
            item.entry("kind").or_insert_with(|| Value::from(kind.as_str()));
        }
        Ok(Page { items, next: Some(next).filter(|n| !n.is_empty()), bytes })
    }

    /// Reads a whole collection of at most `limit` objects; what is beyond is cut off.
    pub async fn list(&self, path: &str, query: &str, limit: usize) -> Result<Vec<Value>, ClusterError> {
        let mut all = Vec::new();
        let mut next = None;
        loop {
            let page = self.page(path, query, next.as_deref()).await?;
            all.extend(page.items);
            next = page.next;
            if next.is_none() || all.len() >= limit {
                all.truncate(limit);
                return Ok(all);
            }
        }
    }

    /// Creates an object.
    pub async fn create(&self, path: &str, object: &Value) -> Result<Value, ClusterError> {
        let body = Some(encode(path, object)?);
        let content_type = "application/json";
        self.json(Call {
            method: Method::POST,
            path,
            accept: content_type,
            content_type,
            body,
            repeatable: false,
        })
        .await
    }

    /// Creates an object as [`FIELD_MANAGER`], and answers with the metadata alone. Fields that the
    /// server's schema lacks are refused: nothing is to be dropped in silence.
    pub async fn make(&self, collection: &str, object: &Value) -> Result<Value, ClusterError> {
        let path = format!("{collection}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict");
        let body = Some(encode(&path, object)?);
        self.json(Call {
            method: Method::POST,
            path: &path,
            accept: METADATA_ONLY,
            content_type: "application/json",
            body,
            repeatable: false,
        })
        .await
    }

    /// Replaces an object as [`FIELD_MANAGER`]; it carries the resource version that it was made
    /// for. Not repeated: a second time would be a conflict with the first.
    pub async fn replace(&self, path: &str, object: &Value, dry_run: bool) -> Result<Value, ClusterError> {
        let dry = if dry_run { "&dryRun=All" } else { "" };
        let path = format!("{path}?fieldManager={FIELD_MANAGER}{dry}");
        let body = Some(encode(&path, object)?);
        let content_type = "application/json";
        self.json(Call {
            method: Method::PUT,
            path: &path,
            accept: content_type,
            content_type,
            body,
            repeatable: dry_run,
        })
        .await
    }

    /// Asks the server a question that is put as a creation and stored nowhere, e.g. a
    /// `TokenReview` or a creation with `dryRun=All`.
    pub async fn ask(&self, path: &str, question: &Value) -> Result<Value, ClusterError> {
        let body = Some(encode(path, question)?);
        let content_type = "application/json";
        self.json(Call {
            method: Method::POST,
            path,
            accept: content_type,
            content_type,
            body,
            repeatable: true,
        })
        .await
    }

    /// Patches an object. A merge patch should carry the resource version that it was made for.
    pub async fn patch(&self, path: &str, patch: &Value, kind: PatchKind) -> Result<Value, ClusterError> {
        let (query, content_type) = match kind {
            PatchKind::Merge => (String::new(), "application/merge-patch+json"),
            PatchKind::Apply { force, dry_run } => {
                let dry = if dry_run { "&dryRun=All" } else { "" };
                // JSON is YAML, and every API server reads this one type.
                (format!("&force={force}{dry}"), "application/apply-patch+yaml")
            }
            PatchKind::Try => {
                let query = "&force=true&dryRun=All&fieldValidation=Strict".to_owned();
                (query, "application/apply-patch+yaml")
            }
        };
        let path = format!("{path}?fieldManager={FIELD_MANAGER}{query}");
        let body = encode(&path, patch)?;
        let body = Some(if kind == PatchKind::Merge { body } else { yaml_proof(body) });
        // A trial may be refused with 500 for what no repetition changes: whoever tries decides.
        let repeatable = matches!(kind, PatchKind::Apply { .. });
        let accept = "application/json";
        self.json(Call { method: Method::PATCH, path: &path, accept, content_type, body, repeatable }).await
    }

    /// Deletes an object; that it is not there is fine.
    pub async fn delete(&self, path: &str, options: &DeleteOptions) -> Result<(), ClusterError> {
        let policy = if options.foreground { "Foreground" } else { "Background" };
        let mut body =
            serde_json::json!({"apiVersion": "v1", "kind": "DeleteOptions", "propagationPolicy": policy});
        if let Some(uid) = &options.uid {
            body["preconditions"] = serde_json::json!({"uid": uid});
        }
        let body = Some(encode(path, &body)?);
        let content_type = "application/json";
        let call =
            Call { method: Method::DELETE, path, accept: content_type, content_type, body, repeatable: true };
        match self.call(&call).await {
            Ok(_) => Ok(()),
            Err(error) if error.is_not_found() => Ok(()),
            Err(error) => Err(error),
        }
    }

    async fn json(&self, call: Call<'_>) -> Result<Value, ClusterError> {
        let body = self.call(&call).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ClusterError::Unsound { operation: call.operation(), detail: error.to_string() })
    }

    async fn call(&self, call: &Call<'_>) -> Result<Bytes, ClusterError> {
        let mut pauses = ExponentialBuilder::default()
            .with_jitter()
            .with_min_delay(Duration::from_millis(200))
            .with_max_delay(Duration::from_secs(10))
            .with_max_times(MAX_ATTEMPTS - 1)
            .build();
        loop {
            let error = match self.attempt(call).await {
                Ok(body) => return Ok(body),
                Err(error) => error,
            };
            let may_repeat = error.code() == Some(429)
                || (call.repeatable && error.is_transient() && error.code() != Some(409));
            let pause = pauses.next().filter(|_| may_repeat);
            let Some(pause) = pause else { return Err(error) };
            let pause = error.retry_after().map_or(pause, |asked| asked.min(MAX_RETRY_AFTER).max(pause));
            tracing::debug!(%error, ?pause, "calling the API server again");
            tokio::time::sleep(pause).await;
        }
    }

    async fn attempt(&self, call: &Call<'_>) -> Result<Bytes, ClusterError> {
        let unreachable = |detail: String| ClusterError::Unreachable { operation: call.operation(), detail };
        let permit = self.limiter.enter().await;
        let (sign, result) =
            tokio::time::timeout(ATTEMPT_TIMEOUT, self.exchange(call)).await.unwrap_or_else(|_| {
                let detail = format!("no answer within {} s", ATTEMPT_TIMEOUT.as_secs());
                (Sign::Overload(None), Err(unreachable(detail)))
            });
        permit.learn(sign);
        result
    }

    /// One exchange, and what it tells of the server's load.
    async fn exchange(&self, call: &Call<'_>) -> (Sign, Result<Bytes, ClusterError>) {
        let request = match call.request() {
            Ok(request) => request,
            Err(error) => return (Sign::Nothing, Err(error)),
        };
        // A server that cannot be reached has no load that calling less would relieve, but one
        // that breaks off may.
        let lost = |detail: String| {
            (Sign::Overload(None), Err(ClusterError::Unreachable { operation: call.operation(), detail }))
        };
        let response = match self.client.send(request).await {
            Ok(response) => response,
            Err(error) => return lost(chain(&error)),
        };
        let status = response.status();
        let headers = response.headers();
        let retry_after = headers
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .map(Duration::from_secs);
        let sign = sign_of(status.as_u16(), headers, retry_after);
        let body = match Limited::new(response.into_body(), MAX_REPLY).collect().await {
            Ok(body) => body.to_bytes(),
            Err(error) => return lost(error.to_string()),
        };
        if status.is_success() {
            return (sign, Ok(body));
        }
        (sign, Err(ClusterError::refused(call.operation(), status.as_u16(), retry_after, &body)))
    }
}

impl Call<'_> {
    fn request(&self) -> Result<Request<kube::client::Body>, ClusterError> {
        let mut request =
            Request::builder().method(self.method.clone()).uri(self.path).header(header::ACCEPT, self.accept);
        if !self.content_type.is_empty() {
            request = request.header(header::CONTENT_TYPE, self.content_type);
        }
        let body = self.body.clone().map_or_else(kube::client::Body::empty, kube::client::Body::from);
        request
            .body(body)
            .map_err(|e| ClusterError::Unsound { operation: self.operation(), detail: e.to_string() })
    }

    fn operation(&self) -> String {
        let path = self.path.split('?').next().unwrap_or_default();
        format!("{} {path}", self.method)
    }
}

fn encode(path: &str, object: &Value) -> Result<Bytes, ClusterError> {
    serde_json::to_vec(object)
        .map(Bytes::from)
        .map_err(|e| ClusterError::Unsound { operation: path.to_owned(), detail: e.to_string() })
}

/// JSON that a YAML parser reads as JSON. What YAML calls a line break or not printable stands raw
/// in JSON, and would be folded to a space or refused: it is written as an escape.
fn yaml_proof(json: Bytes) -> Bytes {
    let special = |c: char| {
        matches!(c, '\u{7f}'..='\u{9f}' | '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}')
    };
    match std::str::from_utf8(&json) {
        Ok(text) if text.contains(special) => {
            use std::fmt::Write as _;
            let mut out = String::with_capacity(text.len() + 64);
            for c in text.chars() {
                if special(c) {
                    // Writing to a String cannot fail.
                    let _ = write!(out, "\\u{:04x}", u32::from(c));
                } else {
                    out.push(c);
                }
            }
            Bytes::from(out)
        }
        _ => json,
    }
}

/// An error with what caused it: the outermost text alone is mostly "client error (Connect)".
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// Percent-encodes what may not stand in a query's value.
pub(crate) fn escape(value: &str) -> String {
    use std::fmt::Write as _;
    value.bytes().fold(String::with_capacity(value.len()), |mut out, byte| {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            _ => {
                // Writing to a String cannot fail.
                let _ = write!(out, "%{byte:02X}");
            }
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_yaml_would_fold_or_refuse_is_escaped_and_means_the_same() {
        let object = json!({"a": "x\u{2028}y\u{85}z\u{7f}", "b": "Größe \u{1f600}\n"});
        let proof = yaml_proof(encode("/x", &object).unwrap());
        let text = std::str::from_utf8(&proof).unwrap();
        assert!(text.contains("\\u2028") && text.contains("\\u0085") && text.contains("Größe"));
        assert_eq!(serde_json::from_str::<Value>(text).unwrap(), object);
    }
}
