//! Answers: JSON bodies, `Status` objects and streams.

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::Frame;
use hyper::{Response, StatusCode};
use serde_json::Value;

use super::error::ApiError;

/// The body of an answer.
pub type Body = UnsyncBoxBody<Bytes, std::convert::Infallible>;

/// A body of known content.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed_unsync()
}

fn built(status: u16, content_type: &str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = content_type.parse() {
        response.headers_mut().insert("content-type", value);
    }
    response.headers_mut().insert("cache-control", http::HeaderValue::from_static("no-cache, private"));
    response
}

/// A JSON answer.
pub fn json(status: u16, value: &Value) -> Response<Body> {
    json_as(status, "application/json", value)
}

/// A JSON answer under another media type.
pub fn json_as(status: u16, content_type: &str, value: &Value) -> Response<Body> {
    built(status, content_type, full(value.to_string()))
}

/// An answer of bytes under a media type.
pub fn bytes(content_type: &str, content: Vec<u8>) -> Response<Body> {
    built(200, content_type, full(content))
}

/// A plain text answer.
pub fn plain(status: u16, text: impl Into<Bytes>) -> Response<Body> {
    built(status, "text/plain; charset=utf-8", full(text))
}

/// A refusal.
pub fn refusal(error: &ApiError) -> Response<Body> {
    let mut response = match error.plain() {
        Some(text) => plain(error.code(), text),
        None => json(error.code(), &error.status()),
    };
    if let Some(seconds) = error.retry_after() {
        response.headers_mut().insert("retry-after", http::HeaderValue::from(seconds));
    }
    response
}

/// A stream of chunks.
pub fn stream(
    content_type: &str,
    chunks: impl futures::Stream<Item = Bytes> + Send + 'static,
) -> Response<Body> {
    use futures::StreamExt;
    let frames = chunks.map(|chunk| Ok::<_, std::convert::Infallible>(Frame::data(chunk)));
    built(200, content_type, StreamBody::new(frames).boxed_unsync())
}

/// Adds `Warning` headers, which kubectl shows.
pub fn warn(response: &mut Response<Body>, warnings: &[String]) {
    for warning in warnings {
        let escaped: String =
            warning.replace('\\', "\\\\").replace('"', "\\\"").chars().filter(|c| !c.is_control()).collect();
        if let Ok(value) = format!("299 - \"{escaped}\"").parse() {
            response.headers_mut().append("warning", value);
        }
    }
}
