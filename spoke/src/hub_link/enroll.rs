//! Joining: once, with a join token; afterwards the kept identity is enough.
//!
//! The key is kept before it is sent, so a spoke that dies between the hub's answer and its own
//! note of it comes again with the same token and key, which the hub takes for the same
//! enrolment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use backon::{BackoffBuilder, ExponentialBuilder};
use isthmus_shared::protocol::identity::{JoinClaims, Refusal, read_join_token};
use isthmus_shared::protocol::{ENROLL_PATH, EnrollReply, EnrollRequest};
use rustls_pki_types::CertificateDer;

use super::identity::{Identity, IdentityError, IdentityStore, Membership};
use super::trust::Anchor;
use super::{Channel, LinkError, SignedChannel};
use crate::cluster::{Cluster, ClusterError, uid};

/// Why this spoke cannot join.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// There is no token, and none was used before.
    #[error(
        "this spoke has not joined a hub yet, and the join token could not be read from {path} ({detail}): write the token of `isthmus cluster token NAME` there and give it with --join-token-file"
    )]
    NoToken {
        /// The file.
        path: String,
        /// What is wrong with it.
        detail: String,
    },
    /// What is in the file is no join token.
    #[error("{path}: {source}")]
    BadToken {
        /// The file.
        path: String,
        /// Why.
        source: Refusal,
    },
    /// The hub, or the way to it.
    #[error("joining the hub failed: {0}")]
    Link(#[from] LinkError),
    /// The identity could not be kept.
    #[error(transparent)]
    Identity(Box<IdentityError>),
    /// The cluster could not be asked who it is.
    #[error(
        "the uid of namespace kube-system, which names this cluster, could not be read: {0}; let the spoke's service account get namespaces"
    )]
    ClusterUid(#[source] Box<ClusterError>),
}

impl From<IdentityError> for EnrollError {
    fn from(error: IdentityError) -> Self {
        Self::Identity(Box::new(error))
    }
}

impl EnrollError {
    fn is_transient(&self) -> bool {
        match self {
            Self::Link(error) => error.is_transient(),
            Self::Identity(error) => error.is_transient(),
            Self::ClusterUid(error) => error.is_transient() || error.is_not_found(),
            Self::NoToken { .. } | Self::BadToken { .. } => false,
        }
    }
}

/// A spoke that has joined.
pub struct Joined {
    /// The identity.
    pub identity: Identity,
    /// The name of its `Cluster`.
    pub cluster: String,
    /// The way to the hub.
    pub hub: SignedChannel,
}

/// Joins, or goes on as what it joined as; waits for a hub or API server that is away.
pub async fn join(
    cluster: &Cluster,
    store: &IdentityStore,
    hub: &str,
    token_file: Option<&Path>,
) -> Result<Joined, EnrollError> {
    let mut pauses = ExponentialBuilder::default()
        .with_jitter()
        .with_min_delay(Duration::from_millis(500))
        .with_max_delay(Duration::from_secs(15))
        .without_max_times()
        .build();
    loop {
        match attempt(cluster, store, hub, token_file).await {
            Err(error) if error.is_transient() => {
                tracing::warn!(%error, "not joined yet; trying again");
                tokio::time::sleep(pauses.next().unwrap_or(Duration::from_secs(15))).await;
            }
            other => return other,
        }
    }
}

async fn attempt(
    cluster: &Cluster,
    store: &IdentityStore,
    hub: &str,
    token_file: Option<&Path>,
) -> Result<Joined, EnrollError> {
    let mut identity = store.load().await?;
    let token = token_file.map(read_token).transpose();
    let membership = match (&identity.membership, token) {
        // The token is the one that was used, or there is none any more: nothing to do.
        (Some(known), Ok(Some((_, claims)))) if claims.jti == known.token_id => known.clone(),
        (Some(known), Ok(None) | Err(_)) => known.clone(),
        (_, Ok(Some((token, claims)))) => match enroll(cluster, &identity, hub, &token, &claims).await {
            Ok(membership) => {
                store.keep_membership(&membership).await?;
                tracing::info!(cluster = membership.cluster, "joined the hub");
                membership
            }
            // An old token lies beside an identity that another token made.
            Err(EnrollError::Link(error @ LinkError::Unauthorized { .. }))
                if identity.membership.is_some() =>
            {
                tracing::warn!(%error, "the join token is no use; going on as the cluster that was joined before");
                identity.membership.clone().ok_or(EnrollError::Link(error))?
            }
            Err(error) => return Err(error),
        },
        (None, Err(error)) => return Err(error),
        (None, Ok(None)) => {
            return Err(EnrollError::NoToken {
                path: "--join-token-file".to_owned(),
                detail: "the option is not given".to_owned(),
            });
        }
    };
    let channel = Channel::new(hub, &Anchor::Certificate(membership.hub_ca.clone()))?;
    let signed = SignedChannel::new(channel, identity.key.clone(), membership.cluster.clone());
    identity.membership = Some(membership.clone());
    Ok(Joined { identity, cluster: membership.cluster, hub: signed })
}

fn read_token(path: &Path) -> Result<(String, JoinClaims), EnrollError> {
    let shown = || PathBuf::from(path).display().to_string();
    let token = std::fs::read_to_string(path)
        .map_err(|e| EnrollError::NoToken { path: shown(), detail: e.to_string() })?
        .trim()
        .to_owned();
    let claims = read_join_token(&token).map_err(|source| EnrollError::BadToken { path: shown(), source })?;
    Ok((token, claims))
}

async fn enroll(
    cluster: &Cluster,
    identity: &Identity,
    hub: &str,
    token: &str,
    claims: &JoinClaims,
) -> Result<Membership, EnrollError> {
    let system = cluster
        .get("/api/v1/namespaces/kube-system")
        .await
        .map_err(|e| EnrollError::ClusterUid(Box::new(e)))?;
    let channel = Channel::new(hub, &Anchor::Hash(claims.ca.clone()))?;
    let request = EnrollRequest {
        public_key: identity.key.public_base64(),
        cluster_uid: uid(&system).to_owned(),
        spoke_version: env!("CARGO_PKG_VERSION").to_owned(),
    };
    let reply: EnrollReply = channel.post(ENROLL_PATH, token, &request, Duration::ZERO).await?;
    let ca = channel.verifier().found_ca().ok_or_else(|| LinkError::WrongHub {
        url: hub.to_owned(),
        detail: "its CA was not seen: join again".to_owned(),
    })?;
    Ok(Membership { cluster: reply.cluster, hub_ca: pem(&ca), token_id: claims.jti.clone() })
}

/// A certificate as PEM, 64 characters a line.
fn pem(certificate: &CertificateDer<'_>) -> String {
    use base64::Engine as _;
    let body = base64::prelude::BASE64_STANDARD.encode(certificate);
    let mut text = "-----BEGIN CERTIFICATE-----\n".to_owned();
    for line in body.as_bytes().chunks(64) {
        text.push_str(&String::from_utf8_lossy(line));
        text.push('\n');
    }
    text.push_str("-----END CERTIFICATE-----\n");
    text
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::pem::PemObject;

    use super::*;

    #[test]
    fn a_certificate_survives_its_text_form() {
        let certificate = CertificateDer::from((0..=255).cycle().take(1000).collect::<Vec<u8>>());
        assert_eq!(CertificateDer::from_pem_slice(pem(&certificate).as_bytes()).unwrap(), certificate);
    }

    #[test]
    fn a_file_that_holds_no_token_says_so_with_its_path() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "not a token").unwrap();
        let error = read_token(file.path()).unwrap_err();
        assert!(error.to_string().contains(&file.path().display().to_string()), "{error}");
        assert!(!error.is_transient());
    }
}
