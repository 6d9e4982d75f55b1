//! One signed request to the hub, and what may come of it.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use isthmus_shared::protocol::ErrorReply;
use isthmus_shared::protocol::identity::{KeyError, SigningKey};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::trust::{Anchor, HubVerifier, TrustError};
use crate::cluster;

/// The time limit of a connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The time limit of a request beyond what the hub is asked to wait.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);
/// The largest reply that is read, bytes: 1,000 tasks of some kilobytes each.
const MAX_REPLY: usize = 16 * 1024 * 1024;
/// A hub that is gone without a word is noticed by an unanswered ping.
const KEEP_ALIVE: Duration = Duration::from_secs(10);

/// Why a request came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// The hub does not take this spoke or its token for what they say.
    #[error("the hub refused this spoke ({reason}): {message}")]
    Unauthorized {
        /// The hub's word for it.
        reason: String,
        /// The hub's text.
        message: String,
    },
    /// The hub does not take the request.
    #[error("the hub refused a request with {code} {reason}: {message}")]
    Refused {
        /// The HTTP status.
        code: u16,
        /// The hub's word for it.
        reason: String,
        /// The hub's text.
        message: String,
    },
    /// The server at the hub's URL is another.
    #[error("the server at {url} is not the hub: {detail}")]
    WrongHub {
        /// The hub's URL.
        url: String,
        /// What is wrong with its certificate, and what to do.
        detail: String,
    },
    /// No answer.
    #[error("the hub at {url} cannot be reached ({detail}); trying again: check that it runs, and --hub")]
    Unreachable {
        /// The hub's URL.
        url: String,
        /// What happened to the connection.
        detail: String,
    },
    /// An answer that is none.
    #[error(
        "the hub at {url} answered with something else than was asked for ({detail}): check that hub and spoke have the same version"
    )]
    Unsound {
        /// The hub's URL.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
    /// The request could not be signed.
    #[error(transparent)]
    Key(#[from] KeyError),
    /// TLS could not be set up.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// The URL cannot be used.
    #[error("--hub {url} cannot be used ({detail}): give the hub's URL, such as https://hub.example:8443")]
    BadUrl {
        /// The hub's URL.
        url: String,
        /// What is wrong with it.
        detail: String,
    },
}

impl LinkError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => *code == 429 || *code >= 500,
            // A clock may be set right while we wait.
            Self::Unauthorized { reason, .. } => reason == "ClockSkew",
            _ => false,
        }
    }
}

/// A connection to the hub.
#[derive(Clone)]
pub struct Channel {
    url: String,
    client: reqwest::Client,
    verifier: HubVerifier,
}

impl Channel {
    /// A connection to the hub at `url`, known by `anchor`. Nothing is sent yet.
    pub fn new(url: &str, anchor: &Anchor) -> Result<Self, LinkError> {
        let url = url.trim_end_matches('/').to_owned();
        let parsed = reqwest::Url::parse(&url)
            .map_err(|e| LinkError::BadUrl { url: url.clone(), detail: e.to_string() })?;
        if parsed.scheme() != "https" {
            return Err(LinkError::BadUrl { url, detail: "its scheme is not https".to_owned() });
        }
        let verifier = HubVerifier::new(anchor)?;
        let client = reqwest::Client::builder()
            .tls_backend_preconfigured(verifier.client_config()?)
            .connect_timeout(CONNECT_TIMEOUT)
            .http2_keep_alive_interval(KEEP_ALIVE)
            .http2_keep_alive_timeout(KEEP_ALIVE)
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|e| LinkError::BadUrl { url: url.clone(), detail: cluster::chain(&e) })?;
        Ok(Self { url, client, verifier })
    }

    /// What the hub's certificate is checked with.
    pub fn verifier(&self) -> &HubVerifier {
        &self.verifier
    }

    /// Posts a message and reads the answer; `wait` is how long the hub was asked to hold it.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        bearer: &str,
        message: &Q,
        wait: Duration,
    ) -> Result<A, LinkError> {
        let request = self
            .client
            .post(format!("{}{path}", self.url))
            .timeout(REQUEST_TIMEOUT + wait)
            .bearer_auth(bearer)
            .json(message);
        let mut response = request.send().await.map_err(|e| self.lost(&e))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| self.lost(&e))? {
            if body.len() + chunk.len() > MAX_REPLY {
                return Err(self.unsound(format!("more than {MAX_REPLY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|e| self.unsound(e.to_string()));
        }
        let reply = serde_json::from_slice(&body).unwrap_or_else(|_| ErrorReply {
            reason: status.canonical_reason().unwrap_or("Refused").replace(' ', ""),
            message: String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned(),
        });
        let ErrorReply { reason, message } = reply;
        Err(match status.as_u16() {
            401 | 403 => LinkError::Unauthorized { reason, message },
            code => LinkError::Refused { code, reason, message },
        })
    }

    fn lost(&self, error: &reqwest::Error) -> LinkError {
        let url = self.url.clone();
        match self.verifier.take_refusal() {
            Some(detail) if error.is_connect() => LinkError::WrongHub { url, detail },
            _ => LinkError::Unreachable { url, detail: cluster::chain(error) },
        }
    }

    fn unsound(&self, detail: String) -> LinkError {
        LinkError::Unsound { url: self.url.clone(), detail }
    }
}

/// A channel on which an enrolled spoke signs each request.
#[derive(Clone)]
pub struct SignedChannel {
    channel: Channel,
    key: Arc<SigningKey>,
    cluster: String,
}

impl SignedChannel {
    /// Signs as this cluster's spoke.
    pub fn new(channel: Channel, key: Arc<SigningKey>, cluster: String) -> Self {
        Self { channel, key, cluster }
    }

    /// Posts a message with a token of its own.
    pub async fn post<Q: Serialize + Sync, A: DeserializeOwned>(
        &self,
        path: &str,
        message: &Q,
        wait: Duration,
    ) -> Result<A, LinkError> {
        let token = self.key.spoke_token(&self.cluster, unix_now())?;
        self.channel.post(path, &token, message, wait).await
    }
}

/// Unix seconds.
pub fn unix_now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs())
}
