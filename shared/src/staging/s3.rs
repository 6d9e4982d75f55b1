//! The object store over S3, for AWS and for everything that speaks its protocol.
//!
//! - [`attempts`]: how often and for how long a call is tried.
//! - [`classify`]: what a refusal means, in words for a person.
//! - [`read`]: bodies that come.
//! - [`clock`]: what time the store has.
//!
//! Retries are ours, around each whole call (so a body that breaks off half-way is fetched
//! again, which the SDK does not do).
//!
//! What it promises when things go wrong on the way:
//!
//! - a server that asks for fewer requests, fails, or cuts a connection anywhere is asked again,
//!   with growing pauses, until the policy's time is over;
//! - a server that takes a request and then says nothing is given up and asked again;
//! - a put whose answer was lost is put again: the same bytes under the same key;
//! - where the two clocks differ the SDK learns the store's from each answer, and the call that
//!   was refused for it is made again; if that does not help, the error shows both clocks;
//! - a body that is not as long as announced is an error, never a short answer.
//!
//! Checksums of the protocol are used only where it requires them, bodies are not signed, and
//! entity tags are not looked at (with encryption in the bucket they are no digest): staging is
//! sealed, and every byte of it is verified when it is opened.

mod attempts;
mod classify;
mod clock;
mod read;

use std::{fmt, ops::Range, sync::Arc, time::Duration};

use aws_sdk_s3::{
    Client,
    config::{
        BehaviorVersion, Credentials, Region, RequestChecksumCalculation, ResponseChecksumValidation,
        StalledStreamProtectionConfig, retry::RetryConfig, timeout::TimeoutConfig,
    },
    primitives::ByteStream,
    types::{Delete, ObjectIdentifier},
};
use aws_smithy_http_client::tls;
use bytes::Bytes;
use futures::{FutureExt, future::BoxFuture};
use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    access::StoreAccess,
    store::{ListPage, ListedObject, MAX_OBJECT, MAX_PAGE, ObjectStore, StoreError},
};
pub use attempts::RetryPolicy;
use classify::Call;
use clock::StoreClock;

/// The time limit of one connection attempt.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Opens a bucket, with [`RetryPolicy::PROMPT`]. Nothing is sent yet.
pub fn open(access: &StoreAccess) -> Result<Arc<dyn ObjectStore>, StoreError> {
    open_with(access, RetryPolicy::PROMPT)
}

/// Opens a bucket. Nothing is sent yet.
pub fn open_with(access: &StoreAccess, retry: RetryPolicy) -> Result<Arc<dyn ObjectStore>, StoreError> {
    Ok(Arc::new(S3Store::new(access, retry)?))
}

/// A bucket of an S3 server.
struct S3Store {
    client: Client,
    bucket: String,
    prefix: String,
    name: String,
    retry: RetryPolicy,
    clock: StoreClock,
}

impl fmt::Debug for S3Store {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("S3Store").field(&self.name).finish()
    }
}

impl S3Store {
    fn new(access: &StoreAccess, retry: RetryPolicy) -> Result<Self, StoreError> {
        Ok(Self::over(access, retry, Self::config(access)?))
    }

    fn over(access: &StoreAccess, retry: RetryPolicy, config: aws_sdk_s3::config::Builder) -> Self {
        let clock = StoreClock::default();
        Self {
            client: Client::from_conf(config.interceptor(clock.clone()).build()),
            clock,
            bucket: access.bucket.clone(),
            prefix: access.key_prefix(),
            name: access.describe(),
            retry,
        }
    }

    fn config(access: &StoreAccess) -> Result<aws_sdk_s3::config::Builder, StoreError> {
        check(access)?;
        let credentials = Credentials::new(
            &access.access_key_id,
            &access.secret_access_key,
            access.session_token.clone(),
            None,
            "isthmus",
        );
        Ok(aws_sdk_s3::Config::builder()
            .behavior_version(BehaviorVersion::latest())
            .endpoint_url(access.endpoint.trim_end_matches('/'))
            .region(Region::new(access.region.clone()))
            .credentials_provider(credentials)
            .force_path_style(access.path_style)
            .http_client(http_client(access)?)
            .request_checksum_calculation(RequestChecksumCalculation::WhenRequired)
            .response_checksum_validation(ResponseChecksumValidation::WhenRequired)
            .retry_config(RetryConfig::disabled())
            // Our own limits cover whole attempts, bodies included.
            .timeout_config(TimeoutConfig::builder().connect_timeout(CONNECT_TIMEOUT).build())
            .stalled_stream_protection(StalledStreamProtectionConfig::disabled()))
    }

    fn full(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    fn call<'a>(&'a self, operation: &'static str, key: &'a str) -> Call<'a> {
        Call { store: &self.name, operation, key }
    }

    async fn put_object(&self, key: &str, body: &Bytes) -> Result<(), StoreError> {
        let call = self.call("write", key);
        self.attempts(call, Some(body.len() as u64), || async {
            self.client
                .put_object()
                .bucket(&self.bucket)
                .key(self.full(key))
                .body(ByteStream::from(body.clone()))
                .customize()
                .disable_payload_signing()
                .send()
                .await
                .map_err(|error| call.error(&error))?;
            Ok(())
        })
        .await
    }

    async fn list_objects(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> Result<ListPage, StoreError> {
        let call = self.call("listing", prefix);
        let limit = limit.clamp(1, MAX_PAGE);
        let max_keys = i32::try_from(limit).unwrap_or(i32::MAX);
        self.attempts(call, None, || async {
            let output = self
                .client
                .list_objects_v2()
                .bucket(&self.bucket)
                .prefix(self.full(prefix))
                .set_start_after(after.map(|after| self.full(after)))
                .max_keys(max_keys)
                .send()
                .await
                .map_err(|error| call.error(&error))?;
            let more = output.is_truncated.unwrap_or(false);
            let mut objects = Vec::with_capacity(limit);
            for object in output.contents.unwrap_or_default() {
                let Some(key) = object.key.as_deref().and_then(|key| key.strip_prefix(&self.prefix)) else {
                    return Err(call.other("it listed a key outside the prefix".to_owned()));
                };
                objects.push(ListedObject {
                    key: key.to_owned(),
                    size: u64::try_from(object.size.unwrap_or(0)).unwrap_or(0),
                });
            }
            Ok(ListPage { objects, more })
        })
        .await
    }

    async fn delete_page(&self, keys: &[String]) -> Result<(), StoreError> {
        let Some(first) = keys.first() else {
            return Ok(());
        };
        let call = self.call("deletion", first);
        if keys.len() == 1 {
            // Needs no checksum of the request's body, which some servers do not take.
            return self
                .attempts(call, None, || async {
                    let deleted = self
                        .client
                        .delete_object()
                        .bucket(&self.bucket)
                        .key(self.full(first))
                        .send()
                        .await
                        .map_err(|error| call.error(&error));
                    match deleted {
                        Err(error) if error.is_not_found() => Ok(()),
                        other => other.map(|_| ()),
                    }
                })
                .await;
        }
        let mut identifiers = Vec::with_capacity(keys.len());
        for key in keys {
            identifiers.push(
                ObjectIdentifier::builder()
                    .key(self.full(key))
                    .build()
                    .map_err(|error| call.other(error.to_string()))?,
            );
        }
        let delete = Delete::builder()
            .set_objects(Some(identifiers))
            .quiet(true)
            .build()
            .map_err(|error| call.other(error.to_string()))?;
        self.attempts(call, None, || async {
            let output = self
                .client
                .delete_objects()
                .bucket(&self.bucket)
                .delete(delete.clone())
                .send()
                .await
                .map_err(|error| call.error(&error))?;
            for failed in output.errors() {
                let code = failed.code().unwrap_or_default();
                if code != "NoSuchKey" {
                    return Err(call.coded(code, None, failed.message().unwrap_or_default()));
                }
            }
            Ok(())
        })
        .await
    }
}

impl ObjectStore for S3Store {
    fn put(&self, key: &str, body: Bytes) -> BoxFuture<'_, Result<(), StoreError>> {
        let key = key.to_owned();
        async move {
            if body.len() > MAX_OBJECT {
                return Err(self.call("write", &key).too_large(body.len() as u64, MAX_OBJECT));
            }
            self.put_object(&key, &body).await
        }
        .boxed()
    }

    fn get_at_most(&self, key: &str, limit: usize) -> BoxFuture<'_, Result<Bytes, StoreError>> {
        let key = key.to_owned();
        async move { self.get_object(&key, limit.min(MAX_OBJECT)).await }.boxed()
    }

    fn read_range<'a>(
        &'a self,
        key: &str,
        range: Range<u64>,
        into: &'a mut Vec<u8>,
    ) -> BoxFuture<'a, Result<(), StoreError>> {
        let key = key.to_owned();
        async move { self.get_object_range(&key, &range, into).await }.boxed()
    }

    fn list(
        &self,
        prefix: &str,
        after: Option<&str>,
        limit: usize,
    ) -> BoxFuture<'_, Result<ListPage, StoreError>> {
        let prefix = prefix.to_owned();
        let after = after.map(str::to_owned);
        async move { self.list_objects(&prefix, after.as_deref(), limit).await }.boxed()
    }

    fn delete(&self, keys: &[String]) -> BoxFuture<'_, Result<(), StoreError>> {
        let keys = keys.to_vec();
        async move {
            for page in keys.chunks(MAX_PAGE) {
                self.delete_page(page).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn clock_ahead(&self) -> Option<i64> {
        self.clock.ahead()
    }
}

fn check(access: &StoreAccess) -> Result<(), StoreError> {
    let invalid =
        |detail: &str| Err(StoreError::Invalid { store: access.describe(), detail: detail.to_owned() });
    let rest = access.endpoint.strip_prefix("https://").or_else(|| access.endpoint.strip_prefix("http://"));
    if rest.is_none_or(str::is_empty) {
        return invalid("its endpoint must be http:// or https:// and a host");
    }
    if access.bucket.is_empty() || access.bucket.contains('/') {
        return invalid("its bucket must be a name without slashes");
    }
    if access.region.is_empty() {
        return invalid("its region must not be empty (us-east-1 where the server has none)");
    }
    if access.access_key_id.is_empty() || access.secret_access_key.is_empty() {
        return invalid("its access key or secret key is empty");
    }
    Ok(())
}

/// One connection pool for each store, trusting its CA bundle alone where it has one.
fn http_client(access: &StoreAccess) -> Result<aws_sdk_s3::config::SharedHttpClient, StoreError> {
    let invalid = |detail: String| StoreError::Invalid { store: access.describe(), detail };
    let mut context = tls::TlsContext::builder();
    if let Some(pem) = &access.ca_pem {
        // The client takes the bundle on trust; a broken one would fail at each connection.
        let certificates = CertificateDer::pem_slice_iter(pem.as_bytes())
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| invalid(format!("its CA bundle is not PEM: {error}")))?;
        if certificates.is_empty() {
            return Err(invalid("its CA bundle holds no certificate".to_owned()));
        }
        let trust = tls::TrustStore::empty().with_native_roots(false).with_pem_certificate(pem.as_bytes());
        context = context.with_trust_store(trust);
    }
    let context =
        context.build().map_err(|error| invalid(format!("its TLS settings cannot be used: {error}")))?;
    Ok(aws_smithy_http_client::Builder::new()
        .tls_provider(tls::Provider::Rustls(tls::rustls_provider::CryptoMode::AwsLc))
        .tls_context(context)
        .build_https())
}

#[cfg(test)]
mod tests;
