//! What can go wrong with one call to the API server.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::Value;

/// The longest text of the API server's that a message repeats, in bytes.
const MAX_DETAIL: usize = 1024;

/// Why a call failed.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ClusterError {
    /// The API server answered with a refusal.
    #[error("{operation} was refused with {code} {reason}: {message}")]
    Refused {
        /// Method and path.
        operation: String,
        /// The HTTP status.
        code: u16,
        /// The server's word for it, e.g. `Conflict`.
        reason: String,
        /// The server's text.
        message: String,
        /// The reasons of the single causes, e.g. `FieldManagerConflict`.
        causes: Vec<String>,
        /// How long the server wants to be left alone.
        retry_after: Option<Duration>,
    },
    /// No answer.
    #[error(
        "{operation} got no answer from the API server ({detail}); check that it runs and can be reached"
    )]
    Unreachable {
        /// Method and path.
        operation: String,
        /// What happened to the connection.
        detail: String,
    },
    /// An answer that is none.
    #[error(
        "{operation} got an answer that is not sound ({detail}); look at the API server's log for this request"
    )]
    Unsound {
        /// Method and path.
        operation: String,
        /// What is wrong with it.
        detail: String,
    },
    /// A client could not be made at all.
    #[error(
        "the cluster's access configuration cannot be used: {0}; check --kubeconfig, or the pod's service account"
    )]
    Configuration(String),
}

impl ClusterError {
    /// Reads a refusal out of the server's reply, which mostly is a `Status`.
    pub fn refused(operation: String, code: u16, retry_after: Option<Duration>, body: &[u8]) -> Self {
        let status: Value = serde_json::from_slice(body).unwrap_or(Value::Null);
        let text =
            |pointer: &str| status.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        let causes = status.pointer("/details/causes").and_then(Value::as_array).into_iter().flatten();
        let message = match text("/message") {
            message if message.is_empty() => String::from_utf8_lossy(body).into_owned(),
            message => message,
        };
        let from_body =
            status.pointer("/details/retryAfterSeconds").and_then(Value::as_u64).map(Duration::from_secs);
        Self::Refused {
            operation,
            code,
            reason: text("/reason"),
            message: cut(&message).into_owned(),
            causes: causes
                .filter_map(|c| c.get("reason").and_then(Value::as_str))
                .map(str::to_owned)
                .collect(),
            retry_after: retry_after.or(from_body),
        }
    }

    /// The HTTP status, if there was a reply.
    pub fn code(&self) -> Option<u16> {
        match self {
            Self::Refused { code, .. } => Some(*code),
            _ => None,
        }
    }

    /// The server's word for the refusal, or ours.
    pub fn reason(&self) -> &str {
        match self {
            Self::Refused { reason, .. } if !reason.is_empty() => reason,
            Self::Refused { .. } => "Refused",
            Self::Unreachable { .. } => "ApiServerUnreachable",
            Self::Unsound { .. } => "UnsoundReply",
            Self::Configuration(_) => "BadConfiguration",
        }
    }

    /// The server's text, or ours.
    pub fn message(&self) -> String {
        match self {
            Self::Refused { message, .. } => message.clone(),
            other => other.to_string(),
        }
    }

    /// There is no such object, or no such kind.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// There is an object of that name already.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::Refused { code: 409, reason, .. } if reason == "AlreadyExists")
    }

    /// The object changed since it was read. Another field manager's claim is not that.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Refused { code: 409, reason, .. } if reason != "AlreadyExists")
            && !self.is_owned_by_another()
    }

    /// Another field manager holds the fields.
    pub fn is_owned_by_another(&self) -> bool {
        matches!(self, Self::Refused { causes, .. } if causes.iter().any(|c| c == "FieldManagerConflict"))
    }

    /// Whether nobody answered, or only that it cannot: then the next call is not answered either.
    pub fn is_unanswered(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => matches!(code, 500 | 502 | 503 | 504),
            _ => false,
        }
    }

    /// Whether the same call may succeed a little later without anybody doing anything.
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => matches!(code, 429 | 500 | 502 | 503 | 504) || self.is_conflict(),
            _ => false,
        }
    }

    /// How long the server wants to be left alone.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Refused { retry_after, .. } => *retry_after,
            _ => None,
        }
    }
}

/// The start and the end of a text: between them stands mostly the refused value, and the end says
/// why.
fn cut(text: &str) -> Cow<'_, str> {
    if text.len() <= MAX_DETAIL {
        return Cow::Borrowed(text);
    }
    let start = text.floor_char_boundary(MAX_DETAIL / 2);
    let end = text.ceil_char_boundary(text.len() - MAX_DETAIL / 2);
    Cow::Owned(format!("{} ... {}", &text[..start], &text[end..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_managers_conflict_is_told_from_a_change_in_between() {
        let status = |reason: &str, causes: Value| {
            let body = serde_json::json!({"reason": reason, "message": "m", "details": {"causes": causes}});
            ClusterError::refused("PATCH /x".to_owned(), 409, None, body.to_string().as_bytes())
        };
        let owned = status("Conflict", serde_json::json!([{"reason": "FieldManagerConflict"}]));
        assert!(owned.is_owned_by_another() && !owned.is_conflict() && !owned.is_transient());
        assert!(status("Conflict", Value::Null).is_conflict());
        assert!(status("AlreadyExists", Value::Null).is_already_exists());
    }

    #[test]
    fn a_reply_that_is_no_status_still_gives_its_text() {
        let error = ClusterError::refused("GET /x".to_owned(), 502, None, b"bad gateway");
        assert!(error.to_string().contains("bad gateway") && error.is_transient());
    }

    #[test]
    fn of_a_long_text_the_start_and_the_end_are_kept() {
        let message = format!("Job x is invalid: {}: field is immutable", "é".repeat(5_000));
        let error = ClusterError::refused("PATCH /x".to_owned(), 422, None, message.as_bytes());
        assert!(error.message().starts_with("Job x is invalid"));
        assert!(error.message().ends_with("field is immutable") && error.message().len() < MAX_DETAIL + 16);
    }

    #[test]
    fn the_wait_that_the_server_asks_for_is_taken_from_header_or_body() {
        let body = br#"{"details": {"retryAfterSeconds": 7}}"#;
        let error = ClusterError::refused("GET /x".to_owned(), 429, None, body);
        assert_eq!(error.retry_after(), Some(Duration::from_secs(7)));
    }
}
