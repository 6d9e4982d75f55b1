//! What an S3 server's refusal means: its codes, told apart as a person needs them.

use std::{error::Error, time::Duration};

use aws_sdk_s3::{
    config::http::HttpResponse,
    error::{ProvideErrorMetadata, SdkError},
};
use jiff::Timestamp;

use crate::staging::store::StoreError;

/// One call, as errors name it.
#[derive(Clone, Copy)]
pub(super) struct Call<'a> {
    pub store: &'a str,
    pub operation: &'static str,
    pub key: &'a str,
}

impl Call<'_> {
    /// What a failed request means.
    pub fn error<E>(&self, error: &SdkError<E, HttpResponse>) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(failure) => {
                let coded = self.coded(
                    failure.err().code().unwrap_or_default(),
                    Some(failure.raw().status().as_u16()),
                    failure.err().message().unwrap_or_default(),
                );
                match coded {
                    StoreError::ClockSkew { store, detail } => {
                        let clocks = clocks(failure.raw().headers().get("date"), Timestamp::now());
                        StoreError::ClockSkew { store, detail: format!("{detail}{clocks}") }
                    }
                    other => other,
                }
            }
            SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => self.unreachable(chain(error)),
            // An answer that is not one of S3: a proxy's page, or a cut connection.
            SdkError::ResponseError(failure) => {
                let status = failure.raw().status().as_u16();
                if (300..500).contains(&status) {
                    self.coded("", Some(status), &chain(error))
                } else {
                    self.unavailable(chain(error))
                }
            }
            _ => self.other(chain(error)),
        }
    }

    /// As `error`, where the object may end before the range.
    pub fn range_error<E>(&self, error: &SdkError<E, HttpResponse>, wanted: u64) -> StoreError
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        match error {
            SdkError::ServiceError(failure) if failure.raw().status().as_u16() == 416 => {
                self.truncated(0, wanted)
            }
            _ => self.error(error),
        }
    }

    /// What a server's error code means; `status` is that of HTTP where there is one.
    pub fn coded(&self, code: &str, status: Option<u16>, message: &str) -> StoreError {
        let detail = match (code, message) {
            ("", "") => format!("HTTP status {}", status.unwrap_or_default()),
            (code, "") => code.to_owned(),
            ("", message) => message.to_owned(),
            (code, message) => format!("{code}: {message}"),
        };
        match code {
            "NoSuchKey" | "NotFound" => self.not_found(),
            "NoSuchBucket" => self.no_such_bucket(),
            "ExpiredToken" | "TokenRefreshRequired" => {
                StoreError::SessionExpired { store: self.store.to_owned(), detail }
            }
            "InvalidAccessKeyId"
            | "SignatureDoesNotMatch"
            | "InvalidToken"
            | "AuthorizationHeaderMalformed"
            | "InvalidSecurity" => self.bad_credentials(detail),
            // Garage says AccessDenied for an unknown key and for a wrong signature as well.
            "AccessDenied" if message.contains("No such key") || message.contains("signature") => {
                self.bad_credentials(detail)
            }
            "AccessDenied" | "AllAccessDisabled" | "AccountProblem" => self.access_denied(detail),
            "RequestTimeTooSkewed" => StoreError::ClockSkew { store: self.store.to_owned(), detail },
            // Garage has no code of its own for it.
            "InvalidRequest" if message.contains("Date is too old") => {
                StoreError::ClockSkew { store: self.store.to_owned(), detail }
            }
            "SlowDown"
            | "ServiceUnavailable"
            | "InternalError"
            | "RequestTimeout"
            | "RequestTimeoutException"
            | "Throttling"
            | "ThrottlingException"
            | "TooManyRequests"
            | "OperationAborted"
            | "BadDigest"
            | "IncompleteBody" => self.unavailable(detail),
            "EntityTooLarge" => self.other(detail),
            _ => match status {
                Some(401) => self.bad_credentials(detail),
                Some(403) => self.access_denied(detail),
                Some(404) => self.not_found(),
                Some(408 | 429 | 500..=599) => self.unavailable(detail),
                _ => self.other(detail),
            },
        }
    }

    pub fn broken_body(&self, error: &(dyn Error + 'static)) -> StoreError {
        self.unreachable(format!("the answer broke off: {}", chain(error)))
    }

    pub fn silent(&self, limit: Duration) -> StoreError {
        self.unreachable(format!("it sent nothing for {} s", limit.as_secs_f32()))
    }

    pub fn cut_off(&self, got: u64, expected: u64) -> StoreError {
        self.unreachable(format!("the answer broke off after {got} of {expected} bytes"))
    }

    pub fn timeout(&self, limit: Duration) -> StoreError {
        StoreError::Timeout {
            store: self.store.to_owned(),
            operation: self.operation,
            key: self.key.to_owned(),
            seconds: limit.as_secs(),
        }
    }

    pub fn too_large(&self, bytes: u64, limit: usize) -> StoreError {
        StoreError::TooLarge {
            store: self.store.to_owned(),
            key: self.key.to_owned(),
            bytes,
            limit: limit as u64,
        }
    }

    pub fn truncated(&self, got: u64, expected: u64) -> StoreError {
        StoreError::Truncated { store: self.store.to_owned(), key: self.key.to_owned(), got, expected }
    }

    pub fn other(&self, detail: String) -> StoreError {
        StoreError::Other {
            store: self.store.to_owned(),
            operation: self.operation,
            key: self.key.to_owned(),
            detail,
        }
    }

    fn not_found(&self) -> StoreError {
        StoreError::NotFound { store: self.store.to_owned(), key: self.key.to_owned() }
    }

    fn no_such_bucket(&self) -> StoreError {
        StoreError::NoSuchBucket { store: self.store.to_owned() }
    }

    fn bad_credentials(&self, detail: String) -> StoreError {
        StoreError::BadCredentials { store: self.store.to_owned(), detail }
    }

    fn access_denied(&self, detail: String) -> StoreError {
        StoreError::AccessDenied {
            store: self.store.to_owned(),
            operation: self.operation,
            key: self.key.to_owned(),
            detail,
        }
    }

    fn unreachable(&self, detail: String) -> StoreError {
        StoreError::Unreachable {
            store: self.store.to_owned(),
            operation: self.operation,
            key: self.key.to_owned(),
            detail,
        }
    }

    fn unavailable(&self, detail: String) -> StoreError {
        StoreError::Unavailable {
            store: self.store.to_owned(),
            operation: self.operation,
            key: self.key.to_owned(),
            detail,
        }
    }
}

/// What the two clocks say, for whoever has to find out which of them is wrong.
fn clocks(date: Option<&str>, here: Timestamp) -> String {
    let Some(there) = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok()) else {
        return format!("; this machine's clock says {here:.0}");
    };
    let there = there.timestamp();
    let apart = there.duration_since(here).abs().as_secs();
    format!("; this machine's clock says {here:.0}, the store's {there:.0}, {apart} s apart")
}

/// The whole chain of causes in one line: the SDK's own words stop at "dispatch failure".
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        if parts.last().is_none_or(|last| !last.contains(&text)) {
            parts.push(text);
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn coded(code: &str, status: u16, message: &str) -> StoreError {
        let call = Call { store: "bucket b at http://s3", operation: "read", key: "k" };
        call.coded(code, Some(status), message)
    }

    #[test]
    fn codes_are_told_apart() {
        assert_eq!(coded("NoSuchKey", 404, "").reason(), "ObjectNotFound");
        assert_eq!(coded("NoSuchBucket", 404, "").reason(), "NoSuchBucket");
        assert_eq!(coded("AccessDenied", 403, "").reason(), "AccessDenied");
        assert_eq!(coded("InvalidAccessKeyId", 403, "").reason(), "BadCredentials");
        let garage = "Forbidden: No such key: GK123";
        assert_eq!(coded("AccessDenied", 403, garage).reason(), "BadCredentials");
        assert_eq!(coded("ExpiredToken", 400, "").reason(), "SessionExpired");
        assert_eq!(coded("RequestTimeTooSkewed", 403, "").reason(), "ClockSkew");
        assert_eq!(coded("", 403, "").reason(), "AccessDenied");
    }

    #[test]
    fn clocks_that_differ_are_both_told() {
        let here: Timestamp = "2026-01-01T12:00:00Z".parse().unwrap();
        let text = clocks(Some("Thu, 01 Jan 2026 13:00:00 GMT"), here);
        assert!(text.contains("2026-01-01T12:00:00Z, the store's 2026-01-01T13:00:00Z, 3600 s"), "{text}");
        assert!(clocks(Some("nonsense"), here).contains("2026-01-01T12:00:00Z"));
        let garage = coded("InvalidRequest", 400, "Bad request: Date is too old");
        assert_eq!(garage.reason(), "ClockSkew");
    }

    #[test]
    fn only_what_passes_by_itself_is_tried_again() {
        assert!(coded("SlowDown", 503, "").is_retryable());
        assert!(coded("", 502, "Bad Gateway").is_retryable());
        assert!(!coded("AccessDenied", 403, "").is_retryable());
        assert!(!coded("NoSuchBucket", 404, "").is_retryable());
    }

    #[test]
    fn a_message_names_the_store_the_key_and_what_to_do() {
        let text = coded("AccessDenied", 403, "no").to_string();
        assert!(text.contains("bucket b at http://s3") && text.contains('k'), "{text}");
        assert!(text.contains("grant"), "{text}");
    }
}
