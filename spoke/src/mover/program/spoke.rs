//! The mover's calls to its spoke.

use std::{path::PathBuf, time::Duration};

use isthmus_shared::protocol::{
    ErrorReply, MOVER_PROGRESS_PATH, MOVER_RESULT_PATH, MOVER_SESSION_PATH, MoverGrant, MoverProgress,
    MoverReply, MoverResult, MoverSessionRequest, TaskId,
};
use reqwest::{Certificate, Client, StatusCode};
use serde::{Serialize, de::DeserializeOwned};
use tokio::time::Instant;

use super::Arguments;

/// The time limit of one call.
const CALL_TIMEOUT: Duration = Duration::from_secs(20);
/// For how long the first call is tried: the spoke may be starting, a NetworkPolicy taking effect.
const SESSION_PATIENCE: Duration = Duration::from_mins(2);
/// For how long the result is tried: the spoke may be moving to another node.
const RESULT_PATIENCE: Duration = Duration::from_mins(10);
/// The shortest and longest pause between two attempts.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// The most that is read of an answer.
const MAX_ANSWER: usize = 1024 * 1024;

/// Why a call failed.
#[derive(Debug, thiserror::Error)]
pub enum CallError {
    /// The mover was started with something unusable.
    #[error("{what} cannot be used: {detail}; start the mover as the spoke does")]
    Arguments { what: &'static str, detail: String },
    /// No connection or no answer.
    #[error(
        "cannot reach the spoke at {url}: {detail}; check that movers in this namespace may reach it (network policies, DNS)"
    )]
    Unreachable { url: String, detail: String },
    /// An answer that refuses.
    #[error("the spoke at {url} refuses ({status}): {message}; look at the spoke's log")]
    Refused { url: String, status: u16, message: String },
    /// Nobody wants this task any more.
    #[error("the spoke no longer wants this task: {message}")]
    Unwanted { message: String },
}

/// A client of one spoke.
#[derive(Debug, Clone)]
pub struct SpokeClient {
    http: Client,
    url: String,
    token_file: PathBuf,
}

impl SpokeClient {
    /// Trusts the given CA and nothing else.
    pub fn new(arguments: &Arguments) -> Result<Self, CallError> {
        let unusable = |what, detail: String| CallError::Arguments { what, detail };
        let pem = match (&arguments.spoke_ca, &arguments.spoke_ca_file) {
            (Some(pem), _) => pem.clone().into_bytes(),
            (None, Some(file)) => {
                std::fs::read(file).map_err(|error| unusable("--spoke-ca-file", error.to_string()))?
            }
            (None, None) => {
                return Err(unusable("the spoke's CA", "none was given".to_owned()));
            }
        };
        let certificates = Certificate::from_pem_bundle(&pem)
            .map_err(|error| unusable("the spoke's CA", error.to_string()))?;
        let http = Client::builder()
            .tls_certs_only(certificates)
            .https_only(true)
            .no_proxy()
            .timeout(CALL_TIMEOUT)
            .build()
            .map_err(|error| unusable("the spoke's CA", error.to_string()))?;
        Ok(Self {
            http,
            url: arguments.spoke_url.trim_end_matches('/').to_owned(),
            token_file: arguments.token_file.clone(),
        })
    }

    /// Asks for the grant until the spoke gives or clearly refuses it.
    pub async fn session(&self, task: &TaskId) -> Result<MoverGrant, CallError> {
        let request = MoverSessionRequest { task: task.clone() };
        self.patiently(MOVER_SESSION_PATH, &request, SESSION_PATIENCE).await
    }

    /// Tells how far the mover is, once.
    pub async fn progress(&self, message: &MoverProgress) -> Result<MoverReply, CallError> {
        self.call(MOVER_PROGRESS_PATH, message).await
    }

    /// Reports the result until the spoke has taken it.
    pub async fn result(&self, message: &MoverResult) -> Result<(), CallError> {
        let _: MoverReply = self.patiently(MOVER_RESULT_PATH, message, RESULT_PATIENCE).await?;
        Ok(())
    }

    async fn patiently<Q: Serialize, A: DeserializeOwned>(
        &self,
        path: &str,
        message: &Q,
        patience: Duration,
    ) -> Result<A, CallError> {
        let until = Instant::now() + patience;
        let mut pause = PAUSES.0;
        loop {
            let error = match self.call(path, message).await {
                Ok(answer) => return Ok(answer),
                Err(error @ (CallError::Unwanted { .. } | CallError::Arguments { .. })) => {
                    return Err(error);
                }
                Err(error) => error,
            };
            if Instant::now() + pause > until {
                return Err(error);
            }
            tracing::warn!(%error, "trying again");
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(PAUSES.1);
        }
    }

    async fn call<Q: Serialize, A: DeserializeOwned>(&self, path: &str, message: &Q) -> Result<A, CallError> {
        let url = format!("{}{path}", self.url);
        let unreachable =
            |error: &dyn std::error::Error| CallError::Unreachable { url: url.clone(), detail: chain(error) };
        // The kubelet renews the token while we run.
        let token = tokio::fs::read_to_string(&self.token_file)
            .await
            .map_err(|error| CallError::Arguments { what: "--token-file", detail: error.to_string() })?;
        let mut answer = self
            .http
            .post(&url)
            .bearer_auth(token.trim())
            .json(message)
            .send()
            .await
            .map_err(|error| unreachable(&error))?;
        let status = answer.status();
        let mut body = Vec::new();
        while let Some(chunk) = answer.chunk().await.map_err(|error| unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > MAX_ANSWER {
                return Err(refused(&url, status, "its answer is too long".to_owned()));
            }
        }
        if status == StatusCode::GONE {
            return Err(CallError::Unwanted { message: reply(&body) });
        }
        if !status.is_success() {
            return Err(refused(&url, status, reply(&body)));
        }
        serde_json::from_slice(&body)
            .map_err(|error| refused(&url, status, format!("its answer cannot be read: {error}")))
    }
}

fn refused(url: &str, status: StatusCode, message: String) -> CallError {
    CallError::Refused { url: url.to_owned(), status: status.as_u16(), message }
}

fn reply(body: &[u8]) -> String {
    serde_json::from_slice::<ErrorReply>(body).map_or_else(
        |_| "without a reason".to_owned(),
        |reply| format!("{}: {}", reply.reason, reply.message),
    )
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text.push_str(": ");
        text.push_str(&error.to_string());
        source = error.source();
    }
    text
}
