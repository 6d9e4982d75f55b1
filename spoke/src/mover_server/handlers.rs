//! What a mover is answered.

use std::sync::Arc;

use axum::extract::{DefaultBodyLimit, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use axum::{Json, Router};
use isthmus_shared::protocol::{
    ErrorReply, MOVER_PROGRESS_PATH, MOVER_RESULT_PATH, MOVER_SESSION_PATH, MoverGrant, MoverProgress,
    MoverReply, MoverResult, MoverSessionRequest, TaskId,
};
use serde_json::json;

use super::caller::{Caller, CallerError, Callers};
use crate::cluster::PatchKind;
use crate::findings::Findings;
use crate::task::Spoke;
use crate::volumes::{RESULT, Standing};

/// The largest message of a mover's, bytes.
const MAX_BODY: usize = 1024 * 1024;

struct Shared {
    spoke: Arc<Spoke>,
    callers: Callers,
}

/// The routes.
pub fn routes(spoke: Arc<Spoke>) -> Router {
    let callers = Callers::new(spoke.cluster.clone());
    Router::new()
        .route(MOVER_SESSION_PATH, post(session))
        .route(MOVER_PROGRESS_PATH, post(progress))
        .route(MOVER_RESULT_PATH, post(result))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(Arc::new(Shared { spoke, callers }))
}

struct Refusal {
    status: StatusCode,
    reason: &'static str,
    message: String,
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let reply = ErrorReply { reason: self.reason.to_owned(), message: self.message };
        let mut response = (self.status, Json(reply)).into_response();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(header::RETRY_AFTER, header::HeaderValue::from_static("2"));
        }
        response
    }
}

impl From<CallerError> for Refusal {
    fn from(error: CallerError) -> Self {
        let (status, reason) = match &error {
            CallerError::BadToken(_) => (StatusCode::UNAUTHORIZED, "BadToken"),
            CallerError::NotAMover(_) => (StatusCode::FORBIDDEN, "NotAMover"),
            CallerError::OtherTask { .. } => (StatusCode::FORBIDDEN, "OtherTask"),
            CallerError::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "CheckUnavailable"),
        };
        Self { status, reason, message: error.to_string() }
    }
}

async fn check(shared: &Shared, headers: &HeaderMap, task: &TaskId) -> Result<Caller, Refusal> {
    let bearer =
        headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
    let result = shared.callers.check(bearer.unwrap_or_default().trim(), task).await;
    if let Err(error) = &result {
        tracing::warn!(%task, %error, "a mover was not let in");
    }
    Ok(result?)
}

async fn session(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(request): Json<MoverSessionRequest>,
) -> Result<Json<MoverGrant>, Refusal> {
    check(&shared, &headers, &request.task).await?;
    match shared.spoke.sessions.standing(&request.task) {
        Standing::Granted(grant) => Ok(Json(*grant)),
        Standing::NotYet => Err(Refusal {
            status: StatusCode::SERVICE_UNAVAILABLE,
            reason: "NotYet",
            message: "the spoke has just started and does not know the task yet: ask again".to_owned(),
        }),
        Standing::Unwanted => Err(Refusal {
            status: StatusCode::GONE,
            reason: "TaskCancelled",
            message: "nobody asks for this task any more: stop".to_owned(),
        }),
    }
}

async fn progress(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(message): Json<MoverProgress>,
) -> Result<Json<MoverReply>, Refusal> {
    check(&shared, &headers, &message.task).await?;
    let wanted = shared.spoke.sessions.progress(&message.task, message.progress);
    Ok(Json(MoverReply { cancel: !wanted }))
}

async fn result(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    Json(message): Json<MoverResult>,
) -> Result<Json<MoverReply>, Refusal> {
    let caller = check(&shared, &headers, &message.task).await?;
    let message = shortened(message);
    let unavailable = |message: String| Refusal {
        status: StatusCode::SERVICE_UNAVAILABLE,
        reason: "NotKept",
        message: format!("the result could not be kept ({message}): send it again"),
    };
    let kept = serde_json::to_string(&message).map_err(|error| unavailable(error.to_string()))?;
    let patch = json!({"metadata": {"annotations": {RESULT: kept}}});
    shared
        .spoke
        .cluster
        .patch(&caller.job, &patch, PatchKind::Merge)
        .await
        .map_err(|error| unavailable(error.to_string()))?;
    tracing::info!(task = %message.task, succeeded = message.succeeded, "a mover has ended");
    Ok(Json(MoverReply { cancel: false }))
}

/// A result as it fits into an annotation.
fn shortened(mut result: MoverResult) -> MoverResult {
    let shorten = |list: Vec<_>| {
        let mut findings = Findings::default();
        for finding in list {
            findings.push(finding);
        }
        findings.list
    };
    result.failures = shorten(result.failures);
    result.warnings = shorten(result.warnings);
    result
}
