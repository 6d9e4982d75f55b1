//! Replies that say what was the matter: always an `ErrorReply`, with a fitting status.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{FromRequest, Request};
use axum::http::{HeaderMap, StatusCode, Uri, header};
use axum::response::{IntoResponse, Response};
use isthmus_shared::protocol::ErrorReply;
use isthmus_shared::protocol::identity::Refusal;
use serde::de::DeserializeOwned;

use crate::auth::join::EnrollError;
use crate::auth::people::Stranger;
use crate::auth::spoke::Denied;
use crate::records::WriteError;

/// A request that was not served.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    reply: ErrorReply,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reply: ErrorReply { reason: reason.to_owned(), message: message.into() } }
    }

    pub(crate) fn not_leading() -> Self {
        let message = "this hub does not lead now: send requests to the Service of the hubs, which knows the one that does, and try again";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "NotLeading", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "Unavailable", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Self::new(StatusCode::NOT_FOUND, "NotFound", message)
    }

    pub(crate) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "BadRequest", message)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        (self.status, Json(self.reply)).into_response()
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        // 401: with another token this would go. 403: it would not, as long as the record is so.
        let status = match refusal {
            Refusal::Used { .. }
            | Refusal::Superseded { .. }
            | Refusal::UnknownCluster { .. }
            | Refusal::UnknownKey { .. } => StatusCode::FORBIDDEN,
            Refusal::Malformed { .. }
            | Refusal::BadSignature { .. }
            | Refusal::Expired { .. }
            | Refusal::FromTheFuture { .. }
            | Refusal::Replayed { .. } => StatusCode::UNAUTHORIZED,
        };
        Self::new(status, refusal.reason(), refusal.to_string())
    }
}

impl From<EnrollError> for Problem {
    fn from(error: EnrollError) -> Self {
        match error {
            EnrollError::Token(refusal) => refusal.into(),
            EnrollError::Request(_) => Self::bad_request(error.to_string()),
            EnrollError::JoinedAs { .. } => {
                Self::new(StatusCode::FORBIDDEN, "AlreadyJoined", error.to_string())
            }
        }
    }
}

impl From<Denied> for Problem {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Token(refusal) => refusal.into(),
            Denied::TooMany { .. } => {
                Self::new(StatusCode::TOO_MANY_REQUESTS, "TooManyRequests", denied.to_string())
            }
        }
    }
}

impl From<Stranger> for Problem {
    fn from(stranger: Stranger) -> Self {
        match stranger {
            Stranger::Unknown(_) => Self::new(StatusCode::UNAUTHORIZED, "Unauthorized", stranger.to_string()),
            Stranger::Forbidden { .. } => Self::new(StatusCode::FORBIDDEN, "Forbidden", stranger.to_string()),
            Stranger::Unanswered(_) => Self::unavailable(stranger.to_string()),
        }
    }
}

impl From<WriteError> for Problem {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::LeaseLost(_) => Self::not_leading(),
            WriteError::Api { .. } | WriteError::Contended { .. } => Self::unavailable(error.to_string()),
        }
    }
}

/// The bearer token of a request.
pub(super) fn bearer(headers: &HeaderMap) -> Result<&str, Problem> {
    let value = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") && !token.trim().is_empty() => {
            Ok(token.trim())
        }
        _ => {
            let message = "the request carries no token: send it as `Authorization: Bearer <token>`";
            Err(Problem::new(StatusCode::UNAUTHORIZED, "TokenMissing", message))
        }
    }
}

/// A JSON body; what is not one gets an `ErrorReply` like everything else.
pub(super) struct Body<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let bytes = Bytes::from_request(request, state).await.map_err(|rejection| {
            let reason = match rejection.status() {
                StatusCode::PAYLOAD_TOO_LARGE => "TooLarge",
                _ => "BadRequest",
            };
            let message = format!(
                "the body could not be read ({}); at most {} bytes are taken",
                rejection.body_text(),
                super::MAX_BODY
            );
            Problem::new(rejection.status(), reason, message)
        })?;
        serde_json::from_slice(&bytes).map(Self).map_err(|error| {
            Problem::bad_request(format!(
                "the body is not what this path takes ({error}); update the spoke to the hub's version"
            ))
        })
    }
}

pub(super) async fn no_such_path(uri: Uri) -> Problem {
    Problem::not_found(format!(
        "the hub has no {}; check the path and the versions of hub, spoke and command",
        uri.path()
    ))
}

pub(super) async fn wrong_method(uri: Uri) -> Problem {
    let message =
        format!("{} takes another method; check the versions of hub, spoke and command", uri.path());
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", message)
}
