//! Buckets: an ordered index in memory, and one file for each object's bytes.
//!
//! An object is put under a file name of its own and enters the index when it is whole, so readers
//! see the old or the new one, never a mixture. A file goes when its last reader has let go of it.

mod blob;
mod operations;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::SystemTime;

pub(super) use blob::Blob;
use s3s::{S3Result, s3_error};

/// An object as the index knows it.
#[derive(Debug)]
pub(super) struct Object {
    blob: Arc<Blob>,
    modified: SystemTime,
    content_type: Option<String>,
    metadata: Option<HashMap<String, String>>,
}

impl Object {
    pub fn path(&self) -> &std::path::Path {
        self.blob.path()
    }
}

/// A multipart upload under way.
#[derive(Debug, Default)]
struct Upload {
    key: String,
    content_type: Option<String>,
    metadata: Option<HashMap<String, String>>,
    parts: BTreeMap<i32, Arc<Blob>>,
}

#[derive(Debug)]
struct Bucket {
    created: SystemTime,
    objects: BTreeMap<String, Arc<Object>>,
    uploads: HashMap<String, Upload>,
}

/// All buckets of a server.
#[derive(Debug)]
pub(super) struct Backend {
    dir: PathBuf,
    buckets: RwLock<BTreeMap<String, Bucket>>,
}

impl Backend {
    pub fn new(dir: PathBuf) -> Self {
        Self { dir, buckets: RwLock::default() }
    }

    /// The implementation of the protocol's operations.
    pub fn service(self: &Arc<Self>) -> operations::Operations {
        operations::Operations(self.clone())
    }

    /// Says whether the bucket is new.
    pub fn create_bucket(&self, name: &str) -> bool {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        if buckets.contains_key(name) {
            return false;
        }
        let bucket = Bucket { created: SystemTime::now(), objects: BTreeMap::new(), uploads: HashMap::new() };
        buckets.insert(name.to_owned(), bucket);
        true
    }

    /// Removes the bucket with its objects; says whether there was one.
    pub fn delete_bucket(&self, name: &str) -> bool {
        self.buckets.write().unwrap_or_else(PoisonError::into_inner).remove(name).is_some()
    }

    pub fn dir(&self) -> &std::path::Path {
        &self.dir
    }

    /// Puts `count` objects that share one body into a bucket that exists.
    pub fn fill(&self, bucket: &str, prefix: &str, count: u64) -> std::io::Result<()> {
        let blob = Arc::new(Blob::of(&self.dir, b"x")?);
        let modified = SystemTime::now();
        let object = Arc::new(Object { blob, modified, content_type: None, metadata: None });
        let keys = (0..count).map(|number| (format!("{prefix}{number:010}"), object.clone()));
        self.write(bucket, |bucket| bucket.objects.extend(keys)).map_err(std::io::Error::other)
    }

    pub fn keys(&self, bucket: &str, prefix: &str) -> Vec<String> {
        self.read(bucket, |bucket| bucket.after(prefix, None).map(|(key, _)| key.clone()).collect())
            .unwrap_or_default()
    }

    pub fn object(&self, bucket: &str, key: &str) -> Option<Arc<Object>> {
        self.read(bucket, |bucket| bucket.objects.get(key).cloned()).ok().flatten()
    }

    fn read<T>(&self, name: &str, look: impl FnOnce(&Bucket) -> T) -> S3Result<T> {
        let buckets = self.buckets.read().unwrap_or_else(PoisonError::into_inner);
        buckets.get(name).map(look).ok_or_else(|| no_bucket(name))
    }

    fn write<T>(&self, name: &str, change: impl FnOnce(&mut Bucket) -> T) -> S3Result<T> {
        let mut buckets = self.buckets.write().unwrap_or_else(PoisonError::into_inner);
        buckets.get_mut(name).map(change).ok_or_else(|| no_bucket(name))
    }
}

impl Bucket {
    /// The objects that begin with `prefix` and come after the key `after`, in order.
    fn after<'a>(
        &'a self,
        prefix: &'a str,
        after: Option<&str>,
    ) -> impl Iterator<Item = (&'a String, &'a Arc<Object>)> {
        use std::ops::Bound::{Excluded, Included, Unbounded};
        let from = match after {
            Some(after) if after >= prefix => Excluded(after.to_owned()),
            _ => Included(prefix.to_owned()),
        };
        self.objects.range((from, Unbounded)).take_while(move |(key, _)| key.starts_with(prefix))
    }
}

fn no_bucket(name: &str) -> s3s::S3Error {
    s3_error!(NoSuchBucket, "There is no bucket {name}")
}
