//! The S3 operations over the [`Backend`]. What Isthmus does not use is answered `NotImplemented`.

use std::sync::Arc;
use std::time::SystemTime;

use s3s::dto::{
    AbortMultipartUploadInput, AbortMultipartUploadOutput, Bucket, CommonPrefix,
    CompleteMultipartUploadInput, CompleteMultipartUploadOutput, CopyObjectInput, CopyObjectOutput,
    CopyObjectResult, CopySource, CreateBucketInput, CreateBucketOutput, CreateMultipartUploadInput,
    CreateMultipartUploadOutput, DeleteBucketInput, DeleteBucketOutput, DeleteObjectInput,
    DeleteObjectOutput, DeleteObjectsInput, DeleteObjectsOutput, DeletedObject, ETag, GetBucketLocationInput,
    GetBucketLocationOutput, GetObjectInput, GetObjectOutput, HeadBucketInput, HeadBucketOutput,
    HeadObjectInput, HeadObjectOutput, ListBucketsInput, ListBucketsOutput, ListObjectsV2Input,
    ListObjectsV2Output, PutObjectInput, PutObjectOutput, StreamingBlob, UploadPartInput, UploadPartOutput,
};
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::{Backend, Blob, Object, Upload};

/// S3's own limit, and its default, for the keys in one answer.
const PAGE_KEYS: i32 = 1000;

/// The operations of a server.
pub(in crate::s3) struct Operations(pub Arc<Backend>);

fn internal(error: impl std::fmt::Display) -> S3Error {
    s3_error!(InternalError, "{error}")
}

fn size(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

impl Operations {
    fn object(&self, bucket: &str, key: &str) -> S3Result<Arc<Object>> {
        self.0
            .read(bucket, |bucket| bucket.objects.get(key).cloned())?
            .ok_or_else(|| s3_error!(NoSuchKey, "There is no object {key}"))
    }

    async fn receive(&self, bucket: &str, body: Option<StreamingBlob>) -> S3Result<Arc<Blob>> {
        self.0.read(bucket, |_| ())?;
        let blob = match body {
            Some(body) => Blob::write(&self.0.dir, body).await,
            None => Blob::write(&self.0.dir, futures::stream::empty()).await,
        };
        blob.map(Arc::new).map_err(|error| s3_error!(IncompleteBody, "{error}"))
    }

    fn upload<T>(&self, bucket: &str, id: &str, change: impl FnOnce(&mut Upload) -> T) -> S3Result<T> {
        self.0
            .write(bucket, |bucket| bucket.uploads.get_mut(id).map(change))?
            .ok_or_else(|| s3_error!(NoSuchUpload, "There is no upload {id}"))
    }
}

#[async_trait::async_trait]
impl S3 for Operations {
    async fn create_bucket(
        &self,
        req: S3Request<CreateBucketInput>,
    ) -> S3Result<S3Response<CreateBucketOutput>> {
        if self.0.create_bucket(&req.input.bucket) {
            Ok(S3Response::new(CreateBucketOutput::default()))
        } else {
            Err(s3_error!(BucketAlreadyOwnedByYou))
        }
    }

    async fn delete_bucket(
        &self,
        req: S3Request<DeleteBucketInput>,
    ) -> S3Result<S3Response<DeleteBucketOutput>> {
        let name = &req.input.bucket;
        if !self.0.read(name, |bucket| bucket.objects.is_empty())? {
            return Err(s3_error!(BucketNotEmpty));
        }
        self.0.delete_bucket(name);
        Ok(S3Response::new(DeleteBucketOutput {}))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.read(&req.input.bucket, |_| ())?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn get_bucket_location(
        &self,
        req: S3Request<GetBucketLocationInput>,
    ) -> S3Result<S3Response<GetBucketLocationOutput>> {
        self.0.read(&req.input.bucket, |_| ())?;
        Ok(S3Response::new(GetBucketLocationOutput::default()))
    }

    async fn list_buckets(
        &self,
        _req: S3Request<ListBucketsInput>,
    ) -> S3Result<S3Response<ListBucketsOutput>> {
        let buckets = self.0.buckets.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let buckets = buckets
            .iter()
            .map(|(name, bucket)| Bucket {
                name: Some(name.clone()),
                creation_date: Some(bucket.created.into()),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListBucketsOutput { buckets: Some(buckets), ..Default::default() }))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let input = req.input;
        let blob = self.receive(&input.bucket, input.body).await?;
        if let Some(expected) = input.content_length
            && expected != size(blob.len())
        {
            return Err(s3_error!(IncompleteBody, "Got {} of {expected} bytes", blob.len()));
        }
        let tag = blob.tag();
        let object = Object {
            blob,
            modified: SystemTime::now(),
            content_type: input.content_type,
            metadata: input.metadata,
        };
        self.0.write(&input.bucket, |bucket| bucket.objects.insert(input.key, Arc::new(object)))?;
        Ok(S3Response::new(PutObjectOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let object = self.object(&req.input.bucket, &req.input.key)?;
        let whole = object.blob.len();
        let (range, content_range) = match req.input.range {
            None => (0..whole, None),
            Some(range) => {
                let range = range.check(whole)?;
                let shown = format!("bytes {}-{}/{whole}", range.start, range.end - 1);
                (range, Some(shown))
            }
        };
        let len = range.end - range.start;
        let body = object.blob.clone().read(range.start, len).map_err(internal)?;
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(Box::pin(body))),
            content_length: Some(size(len)),
            content_range,
            content_type: object.content_type.clone(),
            metadata: object.metadata.clone(),
            last_modified: Some(object.modified.into()),
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(object.blob.tag())),
            ..Default::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let object = self.object(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: Some(size(object.blob.len())),
            content_type: object.content_type.clone(),
            metadata: object.metadata.clone(),
            last_modified: Some(object.modified.into()),
            accept_ranges: Some("bytes".to_owned()),
            e_tag: Some(ETag::Strong(object.blob.tag())),
            ..Default::default()
        }))
    }

    async fn copy_object(&self, req: S3Request<CopyObjectInput>) -> S3Result<S3Response<CopyObjectOutput>> {
        let input = req.input;
        let CopySource::Bucket { bucket, key, .. } = &input.copy_source else {
            return Err(s3_error!(NotImplemented));
        };
        let source = self.object(bucket, key)?;
        let copy = Object {
            blob: source.blob.clone(),
            modified: SystemTime::now(),
            content_type: source.content_type.clone(),
            metadata: source.metadata.clone(),
        };
        let result = CopyObjectResult {
            e_tag: Some(ETag::Strong(copy.blob.tag())),
            last_modified: Some(copy.modified.into()),
            ..Default::default()
        };
        self.0.write(&input.bucket, |bucket| bucket.objects.insert(input.key, Arc::new(copy)))?;
        Ok(S3Response::new(CopyObjectOutput { copy_object_result: Some(result), ..Default::default() }))
    }

    async fn delete_object(
        &self,
        req: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        self.0.write(&req.input.bucket, |bucket| bucket.objects.remove(&req.input.key))?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn delete_objects(
        &self,
        req: S3Request<DeleteObjectsInput>,
    ) -> S3Result<S3Response<DeleteObjectsOutput>> {
        let keys: Vec<String> = req.input.delete.objects.into_iter().map(|object| object.key).collect();
        self.0.write(&req.input.bucket, |bucket| {
            for key in &keys {
                bucket.objects.remove(key);
            }
        })?;
        let quiet = req.input.delete.quiet.unwrap_or_default();
        let deleted = keys.into_iter().map(|key| DeletedObject { key: Some(key), ..Default::default() });
        Ok(S3Response::new(DeleteObjectsOutput {
            deleted: (!quiet).then(|| deleted.collect()),
            ..Default::default()
        }))
    }

    async fn list_objects_v2(
        &self,
        req: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = req.input;
        let limit = input.max_keys.unwrap_or(PAGE_KEYS).clamp(0, PAGE_KEYS);
        let resumed = input.continuation_token.as_deref().map(place_of).transpose()?;
        let from = From { resumed: resumed.is_some(), after: resumed.or_else(|| input.start_after.clone()) };
        let prefix = input.prefix.clone().unwrap_or_default();
        let page = self.0.read(&input.bucket, |bucket| {
            Page::of(bucket, &prefix, input.delimiter.as_deref(), &from, limit)
        })?;
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: Some(prefix),
            max_keys: Some(limit),
            key_count: i32::try_from(page.contents.len() + page.common.len()).ok(),
            is_truncated: Some(page.next.is_some()),
            next_continuation_token: page.next.map(hex::encode),
            continuation_token: input.continuation_token,
            start_after: input.start_after,
            delimiter: input.delimiter,
            contents: Some(page.contents),
            common_prefixes: Some(page.common),
            ..Default::default()
        }))
    }

    async fn create_multipart_upload(
        &self,
        req: S3Request<CreateMultipartUploadInput>,
    ) -> S3Result<S3Response<CreateMultipartUploadOutput>> {
        let input = req.input;
        let id = uuid::Uuid::new_v4().simple().to_string();
        let upload = Upload {
            key: input.key.clone(),
            content_type: input.content_type,
            metadata: input.metadata,
            ..Upload::default()
        };
        self.0.write(&input.bucket, |bucket| bucket.uploads.insert(id.clone(), upload))?;
        Ok(S3Response::new(CreateMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            upload_id: Some(id),
            ..Default::default()
        }))
    }

    async fn upload_part(&self, req: S3Request<UploadPartInput>) -> S3Result<S3Response<UploadPartOutput>> {
        let input = req.input;
        self.upload(&input.bucket, &input.upload_id, |_| ())?;
        let blob = self.receive(&input.bucket, input.body).await?;
        let tag = blob.tag();
        self.upload(&input.bucket, &input.upload_id, |upload| upload.parts.insert(input.part_number, blob))?;
        Ok(S3Response::new(UploadPartOutput { e_tag: Some(ETag::Strong(tag)), ..Default::default() }))
    }

    async fn complete_multipart_upload(
        &self,
        req: S3Request<CompleteMultipartUploadInput>,
    ) -> S3Result<S3Response<CompleteMultipartUploadOutput>> {
        let input = req.input;
        let wanted = input.multipart_upload.and_then(|upload| upload.parts).unwrap_or_default();
        let parts = self.upload(&input.bucket, &input.upload_id, |upload| {
            let parts =
                wanted.iter().map(|part| upload.parts.get(&part.part_number.unwrap_or_default()).cloned());
            parts.collect::<Option<Vec<_>>>().filter(|parts| !parts.is_empty())
        })?;
        let parts = parts.ok_or_else(|| s3_error!(InvalidPart))?;
        let blob = Arc::new(Blob::join(&self.0.dir, parts).await.map_err(internal)?);
        let tag = blob.tag();
        self.0
            .write(&input.bucket, |bucket| {
                let upload = bucket.uploads.remove(&input.upload_id)?;
                let (content_type, metadata) = (upload.content_type, upload.metadata);
                let object = Object { blob, modified: SystemTime::now(), content_type, metadata };
                bucket.objects.insert(upload.key, Arc::new(object));
                Some(())
            })?
            .ok_or_else(|| s3_error!(NoSuchUpload))?;
        Ok(S3Response::new(CompleteMultipartUploadOutput {
            bucket: Some(input.bucket),
            key: Some(input.key),
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn abort_multipart_upload(
        &self,
        req: S3Request<AbortMultipartUploadInput>,
    ) -> S3Result<S3Response<AbortMultipartUploadOutput>> {
        self.0.write(&req.input.bucket, |bucket| bucket.uploads.remove(&req.input.upload_id))?;
        Ok(S3Response::new(AbortMultipartUploadOutput::default()))
    }
}

/// The key that a continuation token stands behind.
fn place_of(token: &str) -> S3Result<String> {
    hex::decode(token)
        .ok()
        .and_then(|bytes| String::from_utf8(bytes).ok())
        .ok_or_else(|| s3_error!(InvalidArgument, "The continuation token is not one of this server's"))
}

/// Where a page begins: behind a key, which an earlier page covered if it is a continuation.
struct From {
    after: Option<String>,
    resumed: bool,
}

/// One page of a listing.
#[derive(Default)]
struct Page {
    contents: Vec<s3s::dto::Object>,
    common: Vec<CommonPrefix>,
    /// The last key that this page covers, when there is more.
    next: Option<String>,
}

impl Page {
    fn of(bucket: &super::Bucket, prefix: &str, delimiter: Option<&str>, from: &From, limit: i32) -> Self {
        let mut page = Self::default();
        let limit = usize::try_from(limit).unwrap_or_default();
        let mut folded: Option<String> = None;
        let mut last: Option<String> = None;
        for (key, object) in bucket.after(prefix, from.after.as_deref()) {
            let group = delimiter.filter(|delimiter| !delimiter.is_empty()).and_then(|delimiter| {
                key[prefix.len()..].find(delimiter).map(|at| &key[..prefix.len() + at + delimiter.len()])
            });
            let repeats = group.is_some_and(|group| {
                // An earlier page may have ended inside this group.
                folded.as_deref() == Some(group)
                    || from.resumed && from.after.as_deref().is_some_and(|after| after.starts_with(group))
            });
            if !repeats {
                if page.contents.len() + page.common.len() == limit {
                    page.next = last;
                    return page;
                }
                if let Some(group) = group {
                    folded = Some(group.to_owned());
                    page.common.push(CommonPrefix { prefix: Some(group.to_owned()) });
                } else {
                    page.contents.push(s3s::dto::Object {
                        key: Some(key.clone()),
                        size: Some(size(object.blob.len())),
                        last_modified: Some(object.modified.into()),
                        e_tag: Some(ETag::Strong(object.blob.tag())),
                        ..Default::default()
                    });
                }
            }
            last = Some(key.clone());
        }
        page
    }
}
