//! The key that join tokens are signed with, kept in a Secret.

use isthmus_shared::protocol::identity::{KeyError, SigningKey};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;

use super::shared_secret::{Data, SecretError, get_or_create};

/// The Secret.
const SECRET: &str = "isthmus-hub-signing";
/// Its key: an Ed25519 key as PKCS#8 (DER).
const KEY: &str = "key";

/// There is no signing key.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SigningError {
    #[error(transparent)]
    Secret(#[from] SecretError),
    #[error("Secret {SECRET}: {0}")]
    Key(#[from] KeyError),
}

/// The hub's signing key; a new one if there is none.
pub(crate) async fn load(api: &Api<Secret>) -> Result<SigningKey, SigningError> {
    let fresh = SigningKey::generate()?;
    let data = Data::from([(KEY.to_owned(), ByteString(fresh.to_pkcs8().to_vec()))]);
    let secret = get_or_create(api, SECRET, &data).await?;
    let der = secret.data.as_ref().and_then(|data| data.get(KEY)).ok_or(KeyError::Parse)?;
    Ok(SigningKey::from_pkcs8(&der.0)?)
}
