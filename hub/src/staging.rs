//! How the hub reaches the staging of a pair: from the records to `StoreAccess` and `PairKey`.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use isthmus_shared::resources::{Finding, ObjectStore};
use isthmus_shared::staging::s3::{self, RetryPolicy};
use isthmus_shared::staging::{ObjectStore as Store, PairKey, StoreAccess, StoreError, StsAccess};
use k8s_openapi::api::core::v1::Secret;
use kube::ResourceExt as _;

use crate::records::Records;

/// The key of the Secret of a pair that holds its key.
pub(crate) const PAIR_KEY: &str = "key";

/// The name of the Secret that holds a pair's key.
pub(crate) fn pair_secret_name(pair_uid: &str) -> String {
    format!("pair-{pair_uid}-key")
}

/// How an `ObjectStore` is reached, or what a person must put right about it.
pub(crate) fn access(records: &Records, store: &ObjectStore) -> Result<StoreAccess, Finding> {
    let secret_name = &store.spec.credentials_secret_ref.name;
    let refuse = |reason: &str, message: String| {
        Err(Finding {
            object: format!("ObjectStore {}", store.name_any()),
            reason: reason.to_owned(),
            message,
            step: None,
        })
    };
    let Some(secret) = records.secret(secret_name) else {
        let namespace = &records.namespace;
        let message = format!(
            "its credentials Secret {namespace}/{secret_name} is not there: create it with the keys AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        );
        return refuse("CredentialsMissing", message);
    };
    let wrong = |key: &str| {
        format!(
            "its credentials Secret {}/{secret_name} has no readable key {key}: put AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY there",
            records.namespace
        )
    };
    let Some(access_key_id) = text(&secret, "AWS_ACCESS_KEY_ID") else {
        return refuse("CredentialsIncomplete", wrong("AWS_ACCESS_KEY_ID"));
    };
    let Some(secret_access_key) = text(&secret, "AWS_SECRET_ACCESS_KEY") else {
        return refuse("CredentialsIncomplete", wrong("AWS_SECRET_ACCESS_KEY"));
    };
    let spec = &store.spec;
    Ok(StoreAccess {
        endpoint: spec.endpoint.clone(),
        region: spec.region.clone(),
        bucket: spec.bucket.clone(),
        prefix: spec.prefix.clone(),
        path_style: spec.path_style,
        ca_pem: spec.ca_bundle.clone(),
        access_key_id,
        secret_access_key,
        session_token: text(&secret, "AWS_SESSION_TOKEN"),
        sts: spec.sts.as_ref().map(|sts| StsAccess {
            endpoint: sts.endpoint.clone(),
            role_arn: sts.role_arn.clone(),
            duration_seconds: sts.duration_seconds,
        }),
    })
}

/// Changes with anything in `access`, and tells nothing of it.
pub(crate) fn revision(access: &StoreAccess) -> String {
    let json = serde_json::to_vec(access).unwrap_or_default();
    fingerprint(&json)
}

/// A short digest.
pub(crate) fn fingerprint(bytes: &[u8]) -> String {
    hex::encode(&digest(&SHA256, bytes).as_ref()[..16])
}

/// A pair's key, once its Secret is there.
pub(crate) fn pair_key(records: &Records, pair_uid: &str) -> Option<PairKey> {
    let secret = records.secret(&pair_secret_name(pair_uid))?;
    let raw = secret.data.as_ref()?.get(PAIR_KEY)?;
    PairKey::from_base64(&BASE64_STANDARD.encode(&raw.0)).ok()
}

fn text(secret: &Secret, key: &str) -> Option<String> {
    let raw = secret.data.as_ref()?.get(key)?;
    let text = std::str::from_utf8(&raw.0).ok()?.trim();
    (!text.is_empty()).then(|| text.to_owned())
}

/// Clients of stores, one for each way of reaching one: making one reads the system's
/// certificates and opens connections anew.
#[derive(Debug, Default)]
pub(crate) struct Stores {
    open: Mutex<HashMap<String, Arc<dyn Store>>>,
}

/// The most clients that are kept.
const MAX_CLIENTS: usize = 256;

impl Stores {
    /// A client for `access`. It gives up soon: whoever waits here is a person or a probe.
    pub(crate) fn open(&self, access: &StoreAccess) -> Result<Arc<dyn Store>, StoreError> {
        let revision = revision(access);
        let kept = self.open.lock().ok().and_then(|open| open.get(&revision).cloned());
        if let Some(store) = kept {
            return Ok(store);
        }
        let store = s3::open_with(access, RetryPolicy::PROMPT)?;
        if let Ok(mut open) = self.open.lock() {
            if open.len() >= MAX_CLIENTS {
                open.clear();
            }
            open.insert(revision, Arc::clone(&store));
        }
        Ok(store)
    }
}
