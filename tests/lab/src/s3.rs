//! An S3 server in this process, on a free loopback port, for tests and the demo.
//!
//! - [`backend`]: buckets as an index in memory over one file an object; bodies go straight to and
//!   from those files, so that the server adds little CPU to what is measured through it.
//! - [`keys`]: key pairs that can be made, narrowed and revoked while the server runs.
//! - [`sessions`]: session keys by AssumeRole on the same endpoint, narrowed by a session policy.
//! - [`faults`]: what a test can make go wrong.
//! - [`proxy`]: the same faults before any other server.
//! - [`garage`]: such a server, where it is installed.
//! - [`server`]: the listener, with TLS from a private CA if asked.
//!
//! It promises what Isthmus uses of S3: signatures are checked, a put is seen whole or not at all,
//! gets take ranges, listings are in key order and paged, multipart uploads work. An entity tag is
//! unique to a put but is no MD5. Nothing outlives the server: it is started empty.

mod backend;
mod faults;
mod garage;
mod keys;
mod proxy;
mod server;
mod sessions;

use std::path::PathBuf;
use std::sync::Arc;

use backend::Backend;
pub use faults::{Calls, Fault, Faults};
pub use garage::Garage;
pub use keys::{KeyAccess, KeyPair, Keys};
pub use proxy::FaultProxy;
pub use sessions::Assumed;

/// The region that the lab's S3 says it is in.
pub const REGION: &str = "lab-1";

/// How to start an [`S3`] server.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// Where objects' bytes are kept. Created if missing.
    pub dir: PathBuf,
    /// Serve https with a certificate from a private CA, see [`S3::ca_pem`].
    pub tls: bool,
}

/// Why the S3 server could not start, or an object not be found.
#[derive(Debug, thiserror::Error)]
pub enum S3Error {
    /// The folder for the objects could not be made.
    #[error("making the S3 server's folder {dir}: {source}; choose one that can be written")]
    Dir {
        /// The folder.
        dir: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// No listener.
    #[error("listening on 127.0.0.1 for S3: {0}; check that loopback is up")]
    Listen(std::io::Error),
    /// No certificate.
    #[error("making the S3 server's certificate: {0}")]
    Certificate(#[from] crate::cluster::certs::CertError),
    /// There is no such object.
    #[error("there is no object {key} in bucket {bucket}; list the bucket to see what there is")]
    NoObject {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
    },
}

/// A running server; dropping it ends it.
#[derive(Debug)]
pub struct S3 {
    endpoint: String,
    ca_pem: Option<String>,
    backend: Arc<Backend>,
    keys: Keys,
    faults: Faults,
    _server: tokio_util::task::AbortOnDropHandle<()>,
}

impl S3 {
    /// Starts a server with no bucket and no keys. It runs on the current runtime.
    pub async fn start(options: S3Options) -> Result<Self, S3Error> {
        std::fs::create_dir_all(&options.dir)
            .map_err(|source| S3Error::Dir { dir: options.dir.clone(), source })?;
        let backend = Arc::new(Backend::new(options.dir));
        let keys = Keys::default();
        let faults = Faults::default();
        let listening = server::listen(options.tls, &backend, &keys, &faults).await?;
        Ok(Self {
            endpoint: listening.endpoint,
            ca_pem: listening.ca_pem,
            backend,
            keys,
            faults,
            _server: listening.task,
        })
    }

    /// The server's URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The CA to trust, when it serves https.
    pub fn ca_pem(&self) -> Option<&str> {
        self.ca_pem.as_deref()
    }

    /// The key pairs.
    pub fn keys(&self) -> &Keys {
        &self.keys
    }

    /// What goes wrong on purpose.
    pub fn faults(&self) -> &Faults {
        &self.faults
    }

    /// Makes a bucket; one that exists stays as it is.
    pub fn create_bucket(&self, name: &str) {
        self.backend.create_bucket(name);
    }

    /// Removes a bucket with all that is in it; says whether there was one.
    pub fn delete_bucket(&self, name: &str) -> bool {
        self.backend.delete_bucket(name)
    }

    /// Puts many objects of one byte without requests: `count` keys that begin with `prefix`.
    /// They share one file, so a million of them cost memory only.
    pub fn fill(&self, bucket: &str, prefix: &str, count: u64) -> Result<(), S3Error> {
        self.backend
            .fill(bucket, prefix, count)
            .map_err(|source| S3Error::Dir { dir: self.backend.dir().to_owned(), source })
    }

    /// The keys in a bucket that begin with `prefix`, in order.
    pub fn list(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.backend.keys(bucket, prefix)
    }

    /// The file that holds an object's bytes, for tests that read or damage them.
    pub fn object_file(&self, bucket: &str, key: &str) -> Result<PathBuf, S3Error> {
        self.backend
            .object(bucket, key)
            .map(|object| object.path().to_owned())
            .ok_or_else(|| S3Error::NoObject { bucket: bucket.into(), key: key.into() })
    }
}
