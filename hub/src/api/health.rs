//! Whether the hub lives, whether it leads, and its metrics.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::{Front, Problem};

/// `GET /livez`: the process serves.
pub(super) async fn livez() -> &'static str {
    "ok"
}

/// `GET /readyz`: it leads, so requests belong here.
pub(super) async fn readyz(State(front): State<Arc<Front>>) -> Result<&'static str, Problem> {
    if front.stop.is_cancelled() {
        return Err(Problem::not_leading());
    }
    front.leading().map(|_| "ok")
}

/// `GET /metrics`
pub(super) async fn metrics(State(front): State<Arc<Front>>) -> Response {
    match front.metrics.text(&front.records) {
        Ok(text) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            let message = format!("writing the metrics failed: {error}");
            Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "Internal", message).into_response()
        }
    }
}
