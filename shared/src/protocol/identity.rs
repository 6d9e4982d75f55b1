//! Who is who between hub and spoke: join tokens and the tokens that spokes sign.
//!
//! A *join token* is signed by the hub, good for one cluster, one use and one hour, and carries
//! the hash of the hub's CA, so that a spoke knows the hub before it trusts anything else. A
//! *spoke token* is signed by the spoke's own Ed25519 key for a single request and lives a
//! minute. The hub holds public keys only: its store lets nobody act as a spoke.
//!
//! Everything here is pure: keys, texts and the time in, claims or a [`Refusal`] out.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine as _;
use base64::prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD};
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// How long a join token is valid, seconds.
pub const JOIN_TOKEN_SECONDS: u64 = 3600;
/// How long a spoke token is valid, seconds.
pub const SPOKE_TOKEN_SECONDS: u64 = 60;
/// How far clocks may differ, seconds.
pub const CLOCK_SKEW_SECONDS: u64 = 30;

const HUB_ISSUER: &str = "isthmus-hub";
const SPOKE_ISSUER: &str = "isthmus-spoke";
const JOIN_AUDIENCE: &str = "isthmus-join";
const HUB_AUDIENCE: &str = "isthmus-hub";

/// What a join token says.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct JoinClaims {
    /// Always `isthmus-hub`.
    pub iss: String,
    /// Always `isthmus-join`.
    pub aud: String,
    /// The `Cluster` that a spoke becomes with it.
    pub sub: String,
    /// Names the token; it is good once.
    pub jti: String,
    /// When it was made, Unix seconds.
    pub iat: u64,
    /// When it ceases to be valid, Unix seconds.
    pub exp: u64,
    /// Lower-case hex of the SHA-256 of the hub's CA certificate (DER).
    pub ca: String,
}

/// What a spoke token says.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub struct SpokeClaims {
    /// Always `isthmus-spoke`.
    pub iss: String,
    /// Always `isthmus-hub`.
    pub aud: String,
    /// The `Cluster` that speaks.
    pub sub: String,
    /// Names the token; it is good once.
    pub jti: String,
    /// When it was made, Unix seconds.
    pub iat: u64,
    /// When it ceases to be valid, Unix seconds.
    pub exp: u64,
}

/// Why a token was refused. `reason` is what goes over the wire, the text is for a person.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Not a token at all, or not of this kind.
    #[error(
        "the token is not a valid {kind} ({detail}): check that the whole token was copied, or issue a new one with `isthmus cluster token`"
    )]
    Malformed {
        /// `join token` or `spoke token`.
        kind: &'static str,
        /// What was wrong with it.
        detail: String,
    },
    /// Signed by another key.
    #[error(
        "the {kind} of cluster {cluster} was not signed by the key that belongs to it: it is of another hub or spoke; join the cluster again with a new token from `isthmus cluster token {cluster}`"
    )]
    BadSignature {
        /// `join token` or `spoke token`.
        kind: &'static str,
        /// The cluster that it names.
        cluster: String,
    },
    /// Too old.
    #[error("the {kind} of cluster {cluster} has expired: {advice}")]
    Expired {
        /// `join token` or `spoke token`.
        kind: &'static str,
        /// The cluster that it names.
        cluster: String,
        /// What to do.
        advice: String,
    },
    /// Made in the future: clocks differ by more than [`CLOCK_SKEW_SECONDS`].
    #[error(
        "the {kind} of cluster {cluster} comes from {ahead} s in the future: set the clocks of hub and spoke right (up to 30 s of difference are tolerated)"
    )]
    FromTheFuture {
        /// `join token` or `spoke token`.
        kind: &'static str,
        /// The cluster that it names.
        cluster: String,
        /// By how much, seconds.
        ahead: u64,
    },
    /// A join token that was used already.
    #[error(
        "the join token of cluster {cluster} was used already: issue a new one with `isthmus cluster token {cluster}`"
    )]
    Used {
        /// The cluster that it names.
        cluster: String,
    },
    /// A join token that is not the newest of its cluster.
    #[error(
        "the join token of cluster {cluster} was replaced by a newer one: use that, or issue another with `isthmus cluster token {cluster}`"
    )]
    Superseded {
        /// The cluster that it names.
        cluster: String,
    },
    /// A cluster that the hub has no record of.
    #[error("the hub has no cluster {cluster}: add it with `isthmus cluster add {cluster}`")]
    UnknownCluster {
        /// The cluster that was named.
        cluster: String,
    },
    /// A cluster whose spoke has not enrolled, or that enrolled with another key since.
    #[error(
        "the hub has no key for cluster {cluster}: join it with a token from `isthmus cluster token {cluster}`"
    )]
    UnknownKey {
        /// The cluster that was named.
        cluster: String,
    },
    /// A spoke token that was seen before.
    #[error(
        "a request of cluster {cluster} was sent a second time and is refused as a replay; if a proxy between spoke and hub repeats requests, switch that off"
    )]
    Replayed {
        /// The cluster that was named.
        cluster: String,
    },
}

impl Refusal {
    /// One word in CamelCase, for programs.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Malformed { .. } => "TokenMalformed",
            Self::BadSignature { .. } => "BadSignature",
            Self::Expired { .. } => "TokenExpired",
            Self::FromTheFuture { .. } => "ClockSkew",
            Self::Used { .. } => "TokenUsed",
            Self::Superseded { .. } => "TokenSuperseded",
            Self::UnknownCluster { .. } => "UnknownCluster",
            Self::UnknownKey { .. } => "UnknownKey",
            Self::Replayed { .. } => "Replayed",
        }
    }
}

/// An Ed25519 key pair that signs tokens: the hub's for joins, or a spoke's own.
pub struct SigningKey {
    pkcs8: Vec<u8>,
    public: [u8; 32],
    encoding: EncodingKey,
}

impl std::fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SigningKey").field("public", &self.public_base64()).finish_non_exhaustive()
    }
}

/// A key that could not be made, read or used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The system gave no randomness.
    #[error("making an Ed25519 key failed: the system's random source gave nothing")]
    Generate,
    /// Not a PKCS#8 Ed25519 key.
    #[error(
        "the stored signing key is not a PKCS#8 Ed25519 private key: restore the Secret from a backup, or delete it to have a new key made and join again"
    )]
    Parse,
    /// The token could not be signed.
    #[error("signing a token failed: {0}")]
    Sign(#[source] jsonwebtoken::errors::Error),
}

impl SigningKey {
    /// A new random key.
    pub fn generate() -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::generate().map_err(|_| KeyError::Generate)?;
        let document = pair.to_pkcs8v1().map_err(|_| KeyError::Generate)?;
        Self::from_pkcs8(document.as_ref())
    }

    /// The key of a PKCS#8 document (DER).
    pub fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let pair = Ed25519KeyPair::from_pkcs8_maybe_unchecked(der).map_err(|_| KeyError::Parse)?;
        let public = pair.public_key().as_ref().try_into().map_err(|_| KeyError::Parse)?;
        Ok(Self { pkcs8: der.to_vec(), public, encoding: EncodingKey::from_ed_der(der) })
    }

    /// The key as a PKCS#8 document (DER), to be kept in a Secret.
    pub fn to_pkcs8(&self) -> &[u8] {
        &self.pkcs8
    }

    /// The public half, base64 of its 32 bytes.
    pub fn public_base64(&self) -> String {
        BASE64_STANDARD.encode(self.public)
    }

    /// Signs a join token for a cluster.
    pub fn join_token(&self, cluster: &str, id: &str, ca_hash: &str, now: u64) -> Result<String, KeyError> {
        self.sign(&JoinClaims {
            iss: HUB_ISSUER.to_owned(),
            aud: JOIN_AUDIENCE.to_owned(),
            sub: cluster.to_owned(),
            jti: id.to_owned(),
            iat: now,
            exp: now + JOIN_TOKEN_SECONDS,
            ca: ca_hash.to_owned(),
        })
    }

    /// Signs a token for one request of a spoke.
    pub fn spoke_token(&self, cluster: &str, now: u64) -> Result<String, KeyError> {
        self.sign(&SpokeClaims {
            iss: SPOKE_ISSUER.to_owned(),
            aud: HUB_AUDIENCE.to_owned(),
            sub: cluster.to_owned(),
            jti: uuid::Uuid::new_v4().to_string(),
            iat: now,
            exp: now + SPOKE_TOKEN_SECONDS,
        })
    }

    fn sign<T: Serialize>(&self, claims: &T) -> Result<String, KeyError> {
        jsonwebtoken::encode(&Header::new(Algorithm::EdDSA), claims, &self.encoding).map_err(KeyError::Sign)
    }
}

/// The hex SHA-256 of a certificate (DER), as a join token carries it.
pub fn ca_hash(der: &[u8]) -> String {
    hex::encode(Sha256::digest(der))
}

/// Reads a join token without checking it, as the spoke does that cannot know the hub's key:
/// what protects it is that the hub refuses a token which it did not sign.
pub fn read_join_token(token: &str) -> Result<JoinClaims, Refusal> {
    unverified("join token", token)
}

/// Reads which cluster a spoke token claims to be of, to look up the key that checks it.
pub fn read_spoke_token(token: &str) -> Result<SpokeClaims, Refusal> {
    unverified("spoke token", token)
}

/// Checks a join token's signature and times. Whether it was used is for the record to say.
pub fn check_join_token(token: &str, hub_public_key: &str, now: u64) -> Result<JoinClaims, Refusal> {
    let kind = "join token";
    let claims: JoinClaims = unverified(kind, token)?;
    let claims: JoinClaims = verified(kind, &claims.sub, token, hub_public_key)?;
    if claims.iss != HUB_ISSUER || claims.aud != JOIN_AUDIENCE {
        return Err(Refusal::Malformed { kind, detail: "it was made for another purpose".to_owned() });
    }
    let advice = format!("issue a new one with `isthmus cluster token {}`", claims.sub);
    check_times(kind, &claims.sub, claims.iat, claims.exp, now, advice)?;
    Ok(claims)
}

/// Checks a spoke token's signature and times. Whether it is a replay is for its caller to say.
pub fn check_spoke_token(token: &str, spoke_public_key: &str, now: u64) -> Result<SpokeClaims, Refusal> {
    let kind = "spoke token";
    let claims: SpokeClaims = unverified(kind, token)?;
    let claims: SpokeClaims = verified(kind, &claims.sub, token, spoke_public_key)?;
    if claims.iss != SPOKE_ISSUER || claims.aud != HUB_AUDIENCE {
        return Err(Refusal::Malformed { kind, detail: "it was made for another purpose".to_owned() });
    }
    if claims.exp.saturating_sub(claims.iat) > SPOKE_TOKEN_SECONDS {
        return Err(Refusal::Malformed { kind, detail: "it is valid for longer than a minute".to_owned() });
    }
    let advice = "set the clocks of hub and spoke right (up to 30 s of difference are tolerated)".to_owned();
    check_times(kind, &claims.sub, claims.iat, claims.exp, now, advice)?;
    Ok(claims)
}

fn unverified<T: DeserializeOwned>(kind: &'static str, token: &str) -> Result<T, Refusal> {
    jsonwebtoken::dangerous::insecure_decode_claims(token.trim())
        .map_err(|error| Refusal::Malformed { kind, detail: error.to_string() })
}

fn verified<T: DeserializeOwned>(
    kind: &'static str,
    cluster: &str,
    token: &str,
    public: &str,
) -> Result<T, Refusal> {
    let bad_signature = || Refusal::BadSignature { kind, cluster: cluster.to_owned() };
    let raw = BASE64_STANDARD.decode(public).map_err(|_| bad_signature())?;
    let key =
        DecodingKey::from_ed_components(&BASE64_URL_SAFE_NO_PAD.encode(raw)).map_err(|_| bad_signature())?;
    // Times and audience are checked by us: the skew is symmetric, and each gets its own refusal.
    let mut validation = Validation::new(Algorithm::EdDSA);
    validation.validate_exp = false;
    validation.validate_aud = false;
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<T>(token.trim(), &key, &validation).map(|data| data.claims).map_err(|error| {
        match error.kind() {
            ErrorKind::InvalidSignature => bad_signature(),
            _ => Refusal::Malformed { kind, detail: error.to_string() },
        }
    })
}

fn check_times(
    kind: &'static str,
    cluster: &str,
    issued: u64,
    expires: u64,
    now: u64,
    advice: String,
) -> Result<(), Refusal> {
    if now >= expires.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(Refusal::Expired { kind, cluster: cluster.to_owned(), advice });
    }
    if issued > now.saturating_add(CLOCK_SKEW_SECONDS) {
        return Err(Refusal::FromTheFuture { kind, cluster: cluster.to_owned(), ahead: issued - now });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_800_000_000;

    #[test]
    fn a_join_token_is_read_and_checked_by_the_hub_that_signed_it() {
        let hub = SigningKey::generate().unwrap();
        let token = hub.join_token("east", "id-1", "abcd", NOW).unwrap();
        assert_eq!(read_join_token(&token).unwrap().ca, "abcd");
        let claims = check_join_token(&token, &hub.public_base64(), NOW + 10).unwrap();
        assert_eq!((claims.sub.as_str(), claims.jti.as_str()), ("east", "id-1"));
    }

    #[test]
    fn a_join_token_of_another_hub_is_refused_as_badly_signed() {
        let (hub, other) = (SigningKey::generate().unwrap(), SigningKey::generate().unwrap());
        let token = other.join_token("east", "id-1", "abcd", NOW).unwrap();
        assert_eq!(check_join_token(&token, &hub.public_base64(), NOW).unwrap_err().reason(), "BadSignature");
    }

    #[test]
    fn a_join_token_expires_after_an_hour_and_the_skew() {
        let hub = SigningKey::generate().unwrap();
        let token = hub.join_token("east", "id-1", "abcd", NOW).unwrap();
        let check = |now| check_join_token(&token, &hub.public_base64(), now);
        assert!(check(NOW + JOIN_TOKEN_SECONDS + CLOCK_SKEW_SECONDS - 1).is_ok());
        assert_eq!(
            check(NOW + JOIN_TOKEN_SECONDS + CLOCK_SKEW_SECONDS).unwrap_err().reason(),
            "TokenExpired"
        );
    }

    #[test]
    fn a_text_that_is_no_token_is_refused_as_malformed() {
        assert_eq!(read_join_token("hello").unwrap_err().reason(), "TokenMalformed");
        assert_eq!(read_spoke_token("a.b.c").unwrap_err().reason(), "TokenMalformed");
    }

    #[test]
    fn a_spoke_may_be_thirty_seconds_early_or_late_and_no_more() {
        let spoke = SigningKey::generate().unwrap();
        let token = spoke.spoke_token("east", NOW).unwrap();
        let check = |now| check_spoke_token(&token, &spoke.public_base64(), now).map_err(|r| r.reason());
        assert!(check(NOW - 30).is_ok());
        assert_eq!(check(NOW - 31).unwrap_err(), "ClockSkew");
        assert!(check(NOW + 89).is_ok());
        assert_eq!(check(NOW + 90).unwrap_err(), "TokenExpired");
    }

    #[test]
    fn a_join_token_does_not_pass_as_a_spoke_token() {
        let key = SigningKey::generate().unwrap();
        let token = key.join_token("east", "id-1", "abcd", NOW).unwrap();
        assert!(check_spoke_token(&token, &key.public_base64(), NOW).is_err());
    }

    #[test]
    fn a_key_survives_its_secret() {
        let key = SigningKey::generate().unwrap();
        let again = SigningKey::from_pkcs8(key.to_pkcs8()).unwrap();
        assert_eq!(key.public_base64(), again.public_base64());
    }
}
