//! What can happen to one request, and how it does.

use std::future::Future;

use bytes::Bytes;
use futures::{Stream, StreamExt, stream};
use http::header::{CONTENT_LENGTH, CONTENT_TYPE, ETAG};
use http::{HeaderValue, Request, Response, StatusCode};
use http_body_util::StreamBody;
use hyper::body::Frame;
use s3s::Body;

type StdError = Box<dyn std::error::Error + Send + Sync>;

/// What happens to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused with 503 `SlowDown`.
    SlowDown,
    /// It is refused with 500 `InternalError`.
    InternalError,
    /// It is refused with 400 `BadDigest`: its body arrived damaged.
    BadDigest,
    /// It is refused with 400 `ExpiredToken`.
    ExpiredToken,
    /// It is refused with 403 `RequestTimeTooSkewed`.
    WrongTime,
    /// Its connection is cut after so many bytes of its body; nothing is done.
    CutRequest(u64),
    /// Its connection is cut after so many bytes of the answer's body.
    CutAnswer(u64),
    /// It is done, and its connection cut in place of an answer.
    LoseAnswer,
    /// It is taken and never answered; nothing is done.
    Stall,
    /// The answer stops after so many bytes of its body, on a connection that stays open.
    StallAnswer(u64),
    /// The first byte of the answer's body is another.
    DamageAnswer,
    /// The answer has the entity tag of another body.
    WrongTag,
}

/// A connection that is cut on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the connection is cut: a fault that was set")]
pub(in crate::s3) struct Cut;

/// Serves a request by `serve`, as far as the fault lets it.
pub(in crate::s3) async fn happen<F>(
    fault: Option<Fault>,
    request: Request<Body>,
    serve: impl FnOnce(Request<Body>) -> F,
) -> Result<Response<Body>, Cut>
where
    F: Future<Output = Response<Body>>,
{
    let Some(fault) = fault else {
        return Ok(serve(request).await);
    };
    match fault {
        Fault::SlowDown => Ok(refusal(503, "SlowDown", "Please reduce your request rate.")),
        Fault::InternalError => Ok(refusal(500, "InternalError", "We encountered an internal error.")),
        Fault::BadDigest => Ok(refusal(400, "BadDigest", "The checksum does not match what was received.")),
        Fault::ExpiredToken => Ok(refusal(400, "ExpiredToken", "The provided token has expired.")),
        Fault::WrongTime => Ok(refusal(
            403,
            "RequestTimeTooSkewed",
            "The difference between the request time and the current time is too large.",
        )),
        Fault::CutRequest(after) => {
            read_some(request.into_body(), after).await;
            Err(Cut)
        }
        Fault::LoseAnswer => {
            drop(serve(request).await);
            Err(Cut)
        }
        Fault::Stall => std::future::pending().await,
        Fault::CutAnswer(after) => Ok(serve(request).await.map(|body| {
            let cut = stream::once(async { Err(StdError::from(Cut)) });
            body_of(first(body, after).chain(cut))
        })),
        Fault::StallAnswer(after) => {
            Ok(serve(request).await.map(|body| body_of(first(body, after).chain(stream::pending()))))
        }
        Fault::DamageAnswer => Ok(serve(request).await.map(|body| body_of(damaged(body)))),
        Fault::WrongTag => {
            let mut response = serve(request).await;
            response.headers_mut().insert(ETAG, HeaderValue::from_static("\"0123456789abcdef\""));
            Ok(response)
        }
    }
}

fn refusal(status: u16, code: &str, message: &str) -> Response<Body> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code><Message>{message}</Message></Error>"
    );
    let mut response = Response::new(Body::from(xml));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/xml"));
    response
}

async fn read_some(mut body: Body, bytes: u64) {
    let mut got = 0;
    while got < bytes {
        match body.next().await {
            Some(Ok(part)) => got += part.len() as u64,
            _ => return,
        }
    }
}

/// The first bytes of a body.
fn first(body: Body, bytes: u64) -> impl Stream<Item = Result<Bytes, StdError>> + Send {
    let mut left = bytes;
    body.map(move |part| {
        let mut part = part?;
        let take = usize::try_from(left).unwrap_or(usize::MAX).min(part.len());
        left -= take as u64;
        Ok(part.split_to(take))
    })
    .take_while(|part| std::future::ready(part.as_ref().is_ok_and(|part| !part.is_empty())))
}

fn damaged(body: Body) -> impl Stream<Item = Result<Bytes, StdError>> + Send {
    let mut sound = true;
    body.map(move |part| {
        let part = part?;
        if !std::mem::take(&mut sound) || part.is_empty() {
            return Ok(part);
        }
        let mut bytes = part.to_vec();
        bytes[0] ^= 1;
        Ok(Bytes::from(bytes))
    })
}

/// A body whose length only the answer's own headers tell, as before.
fn body_of(parts: impl Stream<Item = Result<Bytes, StdError>> + Send + 'static) -> Body {
    Body::http_body_unsync(StreamBody::new(parts.map(|part| part.map(Frame::data))))
}

/// Announces the length of a body that is passed on as a stream.
pub(in crate::s3) fn announce_length(response: &mut Response<Body>) {
    if !response.headers().contains_key(CONTENT_LENGTH)
        && let Some(length) = hyper::body::Body::size_hint(response.body()).exact()
    {
        response.headers_mut().insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
}
