//! Key pairs, and what each may do. They change at run time, as an operator's would.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use s3s::access::{S3Access, S3AccessContext};
use s3s::auth::{S3Auth, SecretKey};
use s3s::{S3Result, s3_error};

use super::Faults;

/// What a key pair may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyAccess {
    /// Everything.
    ReadWrite,
    /// Gets, heads and listings only.
    ReadOnly,
}

/// An access key and its secret.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// `AWS_ACCESS_KEY_ID`.
    pub access_key: String,
    /// `AWS_SECRET_ACCESS_KEY`.
    pub secret_key: String,
}

/// The key pairs of a server; clones are the same set.
#[derive(Debug, Clone, Default)]
pub struct Keys(Arc<RwLock<HashMap<String, (String, KeyAccess)>>>);

impl Keys {
    /// Makes a new pair.
    pub fn add(&self, access: KeyAccess) -> KeyPair {
        let pair = KeyPair {
            access_key: format!("LAB{}", &uuid::Uuid::new_v4().simple().to_string().to_uppercase()[..17]),
            secret_key: format!("{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
        };
        self.restore(&pair, access);
        pair
    }

    /// Takes a pair away; requests with it are refused from now on.
    pub fn revoke(&self, pair: &KeyPair) {
        self.write().remove(&pair.access_key);
    }

    /// Puts a revoked pair back, or changes what one may do.
    pub fn restore(&self, pair: &KeyPair, access: KeyAccess) {
        self.write().insert(pair.access_key.clone(), (pair.secret_key.clone(), access));
    }

    fn write(&self) -> std::sync::RwLockWriteGuard<'_, HashMap<String, (String, KeyAccess)>> {
        self.0.write().unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn get(&self, access_key: &str) -> Option<(String, KeyAccess)> {
        self.0.read().unwrap_or_else(std::sync::PoisonError::into_inner).get(access_key).cloned()
    }
}

#[async_trait::async_trait]
impl S3Auth for Keys {
    async fn get_secret_key(&self, access_key: &str) -> S3Result<SecretKey> {
        match self.get(access_key) {
            Some((secret, _)) => Ok(SecretKey::from(secret)),
            None => Err(s3_error!(InvalidAccessKeyId, "The access key does not exist or was revoked")),
        }
    }
}

/// Lets a request through by its key's rights and the faults that are set.
pub(super) struct Rights {
    pub keys: Keys,
    pub faults: Faults,
}

#[async_trait::async_trait]
impl S3Access for Rights {
    async fn check(&self, cx: &mut S3AccessContext<'_>) -> S3Result<()> {
        let Some(access_key) = cx.credentials().map(|credentials| credentials.access_key.clone()) else {
            return Err(s3_error!(AccessDenied, "Signature is required"));
        };
        let writes = !matches!(*cx.method(), http::Method::GET | http::Method::HEAD);
        if writes && self.faults.writes_denied() {
            return Err(s3_error!(AccessDenied, "Writes are denied by the lab"));
        }
        match self.keys.get(&access_key) {
            Some((_, KeyAccess::ReadWrite)) => Ok(()),
            Some((_, KeyAccess::ReadOnly)) if !writes => Ok(()),
            Some((_, KeyAccess::ReadOnly)) => Err(s3_error!(AccessDenied, "This key may only read")),
            None => Err(s3_error!(InvalidAccessKeyId, "The access key was revoked")),
        }
    }
}
