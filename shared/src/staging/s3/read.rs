//! Bodies that come: whole objects and ranges of them.
//!
//! Here a server that goes silent is noticed at any point, as each part of an answer has its own
//! time limit.

use std::ops::Range;

use aws_sdk_s3::primitives::ByteStream;
use bytes::Bytes;

use super::{S3Store, classify::Call};
use crate::staging::store::{MAX_OBJECT, StoreError};

impl S3Store {
    /// `limit` is at most [`MAX_OBJECT`].
    pub(super) async fn get_object(&self, key: &str, limit: usize) -> Result<Bytes, StoreError> {
        let call = self.call("read", key);
        // Time for the largest: several may share a slow line, and silence is noticed by itself.
        self.attempts(call, Some(MAX_OBJECT as u64), || async {
            let asked = self.client.get_object().bucket(&self.bucket).key(self.full(key)).send();
            let mut output = self.unless_silent(call, asked).await?.map_err(|error| call.error(&error))?;
            let expected = u64::try_from(output.content_length.unwrap_or(0)).unwrap_or(0);
            if expected > limit as u64 {
                return Err(call.too_large(expected, limit));
            }
            let mut buffer = Vec::with_capacity(usize::try_from(expected).unwrap_or(0));
            while let Some(chunk) = self.next_part(call, &mut output.body).await? {
                if buffer.len() + chunk.len() > limit {
                    return Err(call.too_large((buffer.len() + chunk.len()) as u64, limit));
                }
                buffer.extend_from_slice(&chunk);
            }
            if output.content_length.is_some() && (buffer.len() as u64) < expected {
                return Err(call.truncated(buffer.len() as u64, expected));
            }
            Ok(Bytes::from(buffer))
        })
        .await
    }

    pub(super) async fn get_object_range(
        &self,
        key: &str,
        range: &Range<u64>,
        into: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let call = self.call("read", key);
        let wanted = range.end.saturating_sub(range.start);
        if wanted == 0 {
            return Ok(());
        }
        if wanted > MAX_OBJECT as u64 {
            return Err(call.too_large(wanted, MAX_OBJECT));
        }
        let start = into.len();
        // The attempts of one call come one after the other: each has the buffer to itself.
        let buffer = tokio::sync::Mutex::new(into);
        self.attempts(call, Some(wanted), || async {
            let mut buffer = buffer.lock().await;
            buffer.truncate(start);
            let fetched = self.fetch_range(call, key, range, wanted, start, &mut buffer).await;
            if fetched.is_err() {
                buffer.truncate(start);
            }
            fetched
        })
        .await
    }

    async fn fetch_range(
        &self,
        call: Call<'_>,
        key: &str,
        range: &Range<u64>,
        wanted: u64,
        start: usize,
        buffer: &mut Vec<u8>,
    ) -> Result<(), StoreError> {
        let bytes = format!("bytes={}-{}", range.start, range.end - 1);
        let asked = self.client.get_object().bucket(&self.bucket).key(self.full(key)).range(bytes).send();
        let mut output =
            self.unless_silent(call, asked).await?.map_err(|error| call.range_error(&error, wanted))?;
        while let Some(chunk) = self.next_part(call, &mut output.body).await? {
            let got = (buffer.len() - start + chunk.len()) as u64;
            if got > wanted {
                // A server that ignores ranges would otherwise send the whole object.
                return Err(call.other(format!("it sent more than the {wanted} bytes asked for")));
            }
            buffer.extend_from_slice(&chunk);
        }
        let got = (buffer.len() - start) as u64;
        match output.content_length {
            _ if got == wanted => Ok(()),
            // An answer that did not announce its length may have been cut off by a proxy.
            None => Err(call.cut_off(got, wanted)),
            Some(_) => Err(call.truncated(got, wanted)),
        }
    }

    async fn next_part(&self, call: Call<'_>, body: &mut ByteStream) -> Result<Option<Bytes>, StoreError> {
        let part = self.unless_silent(call, body.next()).await?;
        part.transpose().map_err(|error| call.broken_body(&error))
    }
}
