//! Credentials for one volume: a role assumed with a session policy, where the store has STS.
//!
//! ```text
//!   policy    pure: what a mover may do, and nothing else
//!   request   the call, signed with the store's own keys
//!   answer    the XML that comes back
//! ```
//!
//! A session's rights are those that both the role and the policy grant, so the policy can only
//! narrow. The mover gets the session's credentials and nothing from which others can be made.
//!
//! AWS, MinIO and Ceph RGW serve `AssumeRole` alike:
//! <https://docs.aws.amazon.com/STS/latest/APIReference/API_AssumeRole.html>.

mod answer;
mod policy;
mod request;

use std::time::Duration;

use backon::{ExponentialBuilder, Retryable};
use jiff::Timestamp;

use super::{PairUid, StoreAccess, VolumeUid};
pub use policy::{VolumeUse, policy};

/// The time limit of one attempt.
const CALL_TIMEOUT: Duration = Duration::from_secs(15);
/// Attempts at one call.
const MAX_ATTEMPTS: usize = 5;
/// The first pause between two attempts; it doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(200);
/// The longest pause between two attempts.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// The longest name of a session, in bytes (the limit of STS).
const MAX_SESSION_NAME: usize = 64;

/// For the fuzz target: reads what may be an answer, and keeps nothing of it.
pub(crate) fn read_any_answer(body: &[u8]) {
    let (Ok(_) | Err(_)) = answer::parse(body);
}

/// Access to one volume's part of the bucket, for a while.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VolumeSession {
    /// How to reach the store, with the session's credentials.
    pub access: StoreAccess,
    /// When they end.
    pub expires: Timestamp,
}

/// Why there are no credentials for a volume.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum StsError {
    /// The store has no STS.
    #[error("{store} has no STS; set the ObjectStore's `sts` to get credentials for single volumes")]
    NotConfigured {
        /// The bucket and endpoint.
        store: String,
    },
    /// The service says no.
    #[error(
        "assuming role {role} at {endpoint} for {store} was refused ({detail}); check that the ObjectStore's keys may assume this role, that the role allows sessions of this length, and `sts.endpoint`"
    )]
    Refused {
        /// The bucket and endpoint.
        store: String,
        /// The role.
        role: String,
        /// The service.
        endpoint: String,
        /// Its words.
        detail: String,
    },
    /// The service cannot be reached, or cannot serve now.
    #[error(
        "role {role} could not be assumed at {endpoint} for {store}: {detail}; check `sts.endpoint` of the ObjectStore, DNS, network policies, the CA bundle and the service's health"
    )]
    Unavailable {
        /// The bucket and endpoint.
        store: String,
        /// The role.
        role: String,
        /// The service.
        endpoint: String,
        /// What happened.
        detail: String,
    },
    /// What came back are no credentials.
    #[error(
        "the answer of {endpoint} to assuming role {role} for {store} holds no sound credentials: {detail}; check that `sts.endpoint` of the ObjectStore is that of an STS server"
    )]
    Unsound {
        /// The bucket and endpoint.
        store: String,
        /// The role.
        role: String,
        /// The service.
        endpoint: String,
        /// What is wrong.
        detail: String,
    },
    /// The description of the store cannot be used.
    #[error("cannot ask for credentials for {store} at {endpoint}: {detail}; correct the ObjectStore")]
    Invalid {
        /// The bucket and endpoint.
        store: String,
        /// The service.
        endpoint: String,
        /// What is wrong.
        detail: String,
    },
}

impl StsError {
    /// Whether the same call may succeed a little later without anybody doing anything.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. })
    }

    /// A short, stable word for findings.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::NotConfigured { .. } | Self::Invalid { .. } => "InvalidStore",
            Self::Refused { .. } => "RoleRefused",
            Self::Unavailable { .. } => "StsUnavailable",
            Self::Unsound { .. } => "StsAnswerUnsound",
        }
    }
}

/// Assumes the store's role for one use of one volume.
pub async fn assume_role(
    access: &StoreAccess,
    pair: &PairUid,
    volume: &VolumeUid,
    purpose: VolumeUse,
) -> Result<VolumeSession, StsError> {
    let Some(sts) = &access.sts else {
        return Err(StsError::NotConfigured { store: access.describe() });
    };
    let policy = policy(access, &sts.role_arn, pair, volume, purpose).to_string();
    let call = request::Call::new(access, sts, &session_name(volume), &policy)?;
    let attempt = || async {
        tokio::time::timeout(CALL_TIMEOUT, call.send()).await.unwrap_or_else(|_| {
            Err(call.unavailable(format!("there was no answer within {} s", CALL_TIMEOUT.as_secs())))
        })
    };
    let credentials = attempt
        .retry(
            ExponentialBuilder::default()
                .with_min_delay(FIRST_PAUSE)
                .with_max_delay(LONGEST_PAUSE)
                .with_max_times(MAX_ATTEMPTS - 1)
                .with_jitter(),
        )
        .when(StsError::is_retryable)
        .notify(|error, pause| tracing::debug!(%error, ?pause, "trying again"))
        .await?;
    Ok(VolumeSession {
        access: StoreAccess {
            access_key_id: credentials.access_key_id,
            secret_access_key: credentials.secret_access_key,
            session_token: Some(credentials.session_token),
            sts: None,
            ..access.clone()
        },
        expires: credentials.expiration,
    })
}

/// What the store's audit log calls the session.
fn session_name(volume: &VolumeUid) -> String {
    // A volume's uid is ASCII.
    let mut name = format!("isthmus-{volume}");
    name.truncate(MAX_SESSION_NAME);
    name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_session_has_its_volumes_name_as_far_as_sts_allows() {
        assert_eq!(session_name(&VolumeUid::new("v-1").unwrap()), "isthmus-v-1");
        let longest = VolumeUid::new("x".repeat(63)).unwrap();
        assert_eq!(session_name(&longest).len(), MAX_SESSION_NAME);
    }
}
