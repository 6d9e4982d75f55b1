//! Who this spoke is: its key, the hub's CA, the name that it joined under, kept in a Secret.

use std::sync::Arc;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use isthmus_shared::protocol::identity::{KeyError, SigningKey};
use serde_json::{Map, Value, json};

use crate::cluster::{Cluster, ClusterError, PatchKind};

/// The Secret.
pub const SECRET: &str = "isthmus-spoke-identity";

/// What is kept.
#[derive(Clone)]
pub struct Identity {
    /// The spoke's key.
    pub key: Arc<SigningKey>,
    /// What enrolment gave, once it has.
    pub membership: Option<Membership>,
    /// The CA of the endpoint for movers: certificate and key, PEM.
    pub mover_ca: Option<(String, String)>,
}

/// What enrolment gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Membership {
    /// The name of the `Cluster`.
    pub cluster: String,
    /// The hub's CA certificate, PEM.
    pub hub_ca: String,
    /// The `jti` of the join token that was used.
    pub token_id: String,
}

/// Why the identity could not be read or kept.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The API server did not do it.
    #[error(
        "Secret {namespace}/{SECRET}, where this spoke keeps its key, could not be {doing}: {source}; let the spoke's service account get, create and patch it"
    )]
    Cluster {
        /// Where.
        namespace: String,
        /// `read` or `written`.
        doing: &'static str,
        /// Why.
        source: ClusterError,
    },
    /// The key is none.
    #[error("Secret {namespace}/{SECRET}: {source}")]
    Key {
        /// Where.
        namespace: String,
        /// Why.
        source: KeyError,
    },
}

/// Where the identity is kept.
#[derive(Clone)]
pub struct IdentityStore {
    cluster: Cluster,
    namespace: String,
}

impl IdentityStore {
    /// In this namespace.
    pub fn new(cluster: &Cluster, namespace: &str) -> Self {
        Self { cluster: cluster.clone(), namespace: namespace.to_owned() }
    }

    /// The identity that is kept; a new key, kept before it is used, if there is none.
    pub async fn load(&self) -> Result<Identity, IdentityError> {
        let secret = self.cluster.find(&self.path()).await.map_err(|e| self.failed("read", e))?;
        let data = |key: &str| -> Option<Vec<u8>> {
            let text = secret.as_ref()?.get("data")?.get(key)?.as_str()?;
            BASE64_STANDARD.decode(text).ok()
        };
        let text = |key: &str| data(key).and_then(|bytes| String::from_utf8(bytes).ok());
        let key = if let Some(der) = data("key") {
            SigningKey::from_pkcs8(&der).map_err(|e| self.bad_key(e))?
        } else {
            let key = SigningKey::generate().map_err(|e| self.bad_key(e))?;
            self.put(&[("key", key.to_pkcs8())]).await?;
            key
        };
        let membership = match (text("cluster"), text("hub-ca.crt"), text("token-id")) {
            (Some(cluster), Some(hub_ca), Some(token_id)) => Some(Membership { cluster, hub_ca, token_id }),
            _ => None,
        };
        let mover_ca = text("mover-ca.crt").zip(text("mover-ca.key"));
        Ok(Identity { key: Arc::new(key), membership, mover_ca })
    }

    /// Keeps what enrolment gave.
    pub async fn keep_membership(&self, membership: &Membership) -> Result<(), IdentityError> {
        self.put(&[
            ("cluster", membership.cluster.as_bytes()),
            ("hub-ca.crt", membership.hub_ca.as_bytes()),
            ("token-id", membership.token_id.as_bytes()),
        ])
        .await
    }

    /// Keeps the CA of the endpoint for movers.
    pub async fn keep_mover_ca(&self, certificate: &str, key: &str) -> Result<(), IdentityError> {
        self.put(&[("mover-ca.crt", certificate.as_bytes()), ("mover-ca.key", key.as_bytes())]).await
    }

    async fn put(&self, entries: &[(&str, &[u8])]) -> Result<(), IdentityError> {
        let data: Map<String, Value> = entries
            .iter()
            .map(|(key, value)| ((*key).to_owned(), BASE64_STANDARD.encode(value).into()))
            .collect();
        let patch = json!({"data": data});
        match self.cluster.patch(&self.path(), &patch, PatchKind::Merge).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.failed("written", error)),
        }
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret", "type": "Opaque",
            "metadata": {"name": SECRET, "namespace": self.namespace},
            "data": data
        });
        let collection = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        match self.cluster.create(&collection, &secret).await {
            Ok(_) => return Ok(()),
            Err(error) if error.is_not_found() => {}
            Err(error) => return Err(self.failed("written", error)),
        }
        // A spoke outside the cluster may be the first that needs its namespace.
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": self.namespace}});
        match self.cluster.create("/api/v1/namespaces", &namespace).await {
            Ok(_) => {}
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(self.failed("written", error)),
        }
        self.cluster.create(&collection, &secret).await.map_err(|e| self.failed("written", e))?;
        Ok(())
    }

    fn path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets/{SECRET}", self.namespace)
    }

    fn failed(&self, doing: &'static str, source: ClusterError) -> IdentityError {
        IdentityError::Cluster { namespace: self.namespace.clone(), doing, source }
    }

    fn bad_key(&self, source: KeyError) -> IdentityError {
        IdentityError::Key { namespace: self.namespace.clone(), source }
    }
}

impl IdentityError {
    /// Whether waiting may help.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Cluster { source, .. } if source.is_transient())
    }
}
