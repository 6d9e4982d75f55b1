//! Segments: the manifest in sealed, numbered objects, chained by digests.

use isthmus_shared::staging::SealKey;

use super::{
    codec::{Decoder, Encoder, FormatError},
    record::{self, Context, PackId, Record},
};
use crate::mover::{
    error::MoverError,
    limits::{MAX_SEGMENT_BYTES, MAX_SEGMENT_MEMORY, MAX_SEGMENT_PIECES},
    report::SendReport,
};

const VERSION: u64 = 1;
/// Segments are small beside their packs; this level halves them at little cost.
const ZSTD_LEVEL: i32 = 1;
/// The report in the segment's head, as JSON: counts and a few notes.
const MAX_REPORT_BYTES: usize = 256 * 1024;

/// The digest of all segments up to one of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Chain(pub [u8; 32]);

impl Chain {
    fn next(self, body: &[u8]) -> Self {
        let mut hasher = blake3::Hasher::new();
        hasher.update(&self.0);
        hasher.update(body);
        Self(*hasher.finalize().as_bytes())
    }
}

/// A segment as it was read.
#[derive(Debug, Clone)]
pub struct Segment {
    /// Its records.
    pub records: Vec<Record>,
    /// What the pass came to, up to and including this segment.
    pub report: SendReport,
    /// Whether the pass is complete with it.
    pub last: bool,
    /// The digest up to and including this segment.
    pub chain: Chain,
}

/// Gathers the records of one segment.
#[derive(Debug, Default)]
pub struct SegmentBuilder {
    records: Encoder,
    context: Context,
}

impl SegmentBuilder {
    /// Adds a record.
    pub fn push(&mut self, record: &Record) {
        record::encode(record, &mut self.records, &mut self.context);
    }

    /// Bytes of records so far.
    pub fn len(&self) -> usize {
        self.records.bytes.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.records.bytes.is_empty()
    }

    /// Seals the segment under its object key, and gives the digest that the next one carries.
    pub fn seal(
        self,
        key: &SealKey,
        object: &str,
        before: Chain,
        report: &SendReport,
        last: bool,
    ) -> Result<(Vec<u8>, Chain), MoverError> {
        let refused = |source| MoverError::Manifest { object: object.to_owned(), source };
        let report = serde_json::to_vec(report)
            .map_err(|error| refused(FormatError::Compression(error.to_string())))?;
        let mut body = Encoder::default();
        body.number(VERSION);
        body.raw(&before.0);
        body.byte(u8::from(last));
        body.string(&report);
        body.number(self.context.packs.len() as u64);
        for pack in &self.context.packs {
            body.raw(&pack.0);
        }
        body.raw(&self.records.bytes);
        if body.bytes.len() > MAX_SEGMENT_BYTES {
            return Err(refused(FormatError::TooLarge {
                what: "segment size",
                value: body.bytes.len() as u64,
                limit: MAX_SEGMENT_BYTES as u64,
            }));
        }
        let compressed = zstd::bulk::compress(&body.bytes, ZSTD_LEVEL)
            .map_err(|error| refused(FormatError::Compression(error.to_string())))?;
        let sealed = key.seal(object, &compressed)?;
        Ok((sealed, before.next(&body.bytes)))
    }
}

impl Segment {
    /// Opens what `SegmentBuilder::seal` made under the same object key.
    pub fn open(key: &SealKey, object: &str, sealed: &[u8], before: Chain) -> Result<Self, MoverError> {
        let compressed = key.open(object, sealed)?;
        Self::decode(&compressed, before)
            .map_err(|source| MoverError::Manifest { object: object.to_owned(), source })
    }

    /// Decodes an opened segment; any bytes are safe to pass.
    pub fn decode(compressed: &[u8], before: Chain) -> Result<Self, FormatError> {
        let body = decompress(compressed)?;
        let mut from = Decoder::new(&body);
        let version = from.number("version")?;
        if version != VERSION {
            return Err(FormatError::Version(version));
        }
        if from.array::<32>("digest")? != before.0 {
            return Err(FormatError::Chain);
        }
        let last = from.byte("last mark")? == 1;
        let report = from.string("report", MAX_REPORT_BYTES)?;
        let report =
            serde_json::from_slice(report).map_err(|_| FormatError::Unknown { what: "report", value: 0 })?;
        let count = from.bounded("number of packs", MAX_SEGMENT_PIECES as u64)?;
        let mut packs = Vec::new();
        for _ in 0..count {
            packs.push(PackId(from.array("pack id")?));
        }
        let mut context = Context::with_packs(packs);
        let (mut records, mut memory) = (Vec::new(), 0);
        while !from.is_empty() {
            let record = record::decode(&mut from, &mut context)?;
            memory += record.weight();
            if memory > MAX_SEGMENT_MEMORY {
                let (value, limit) = (memory as u64, MAX_SEGMENT_MEMORY as u64);
                return Err(FormatError::TooLarge { what: "segment in memory", value, limit });
            }
            records.push(record);
        }
        Ok(Self { records, report, last, chain: before.next(&body) })
    }
}

fn decompress(compressed: &[u8]) -> Result<Vec<u8>, FormatError> {
    let bound = zstd::bulk::Decompressor::upper_bound(compressed)
        .ok_or_else(|| FormatError::Compression("its size is unknown".to_owned()))?;
    if bound > MAX_SEGMENT_BYTES {
        return Err(FormatError::TooLarge {
            what: "segment size",
            value: bound as u64,
            limit: MAX_SEGMENT_BYTES as u64,
        });
    }
    zstd::bulk::decompress(compressed, bound).map_err(|error| FormatError::Compression(error.to_string()))
}

/// A list of records on its own, without packs: for marks.
pub fn encode_records(records: &[Record]) -> Vec<u8> {
    let mut to = Encoder::default();
    let mut context = Context::default();
    to.number(records.len() as u64);
    for record in records {
        record::encode(record, &mut to, &mut context);
    }
    to.bytes
}

/// The inverse of [`encode_records`].
pub fn decode_records(bytes: &[u8]) -> Result<Vec<Record>, FormatError> {
    let mut from = Decoder::new(bytes);
    let mut context = Context::default();
    let count = from.bounded("number of records", MAX_SEGMENT_PIECES as u64)?;
    let mut records = Vec::new();
    for _ in 0..count {
        records.push(record::decode(&mut from, &mut context)?);
    }
    from.finish()?;
    Ok(records)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mover::{
        format::{Entry, Kind, Metadata, Stamp, Xattr},
        limits::{MAX_SEALED_SEGMENT, MAX_XATTRS},
    };

    fn entry(metadata: Metadata) -> Record {
        let (path, kind) = (b"a".to_vec(), Kind::Fifo);
        Record::Entry(Entry { path, metadata, stamp: Stamp::default(), changed_in: 0, kind })
    }

    fn decoded(records: impl IntoIterator<Item = Record>) -> Result<Segment, FormatError> {
        let mut body = Encoder::default();
        body.number(VERSION);
        body.raw(&Chain::default().0);
        body.byte(1);
        body.string(b"{}");
        body.number(0);
        for record in records {
            record::encode(&record, &mut body, &mut Context::default());
        }
        Segment::decode(&zstd::bulk::compress(&body.bytes, ZSTD_LEVEL).unwrap(), Chain::default())
    }

    #[test]
    fn records_that_take_much_more_memory_than_bytes_are_refused() {
        let many = |count| std::iter::repeat_n(entry(Metadata::default()), count);
        // What a sender cuts a segment at, in the smallest entries that there are.
        let mut smallest = Encoder::default();
        record::encode(&entry(Metadata::default()), &mut smallest, &mut Context::default());
        let filled = crate::mover::limits::SEGMENT_BYTES / smallest.bytes.len();
        assert!(decoded(many(filled)).is_ok());
        let error = decoded(many(MAX_SEGMENT_BYTES / smallest.bytes.len() - 10)).unwrap_err();
        assert!(matches!(error, FormatError::TooLarge { what: "segment in memory", .. }), "{error}");
        let xattrs = |count| {
            let xattr = || Xattr { name: b"x".to_vec(), value: Vec::new() };
            entry(Metadata {
                xattrs: std::iter::repeat_with(xattr).take(count).collect(),
                ..Metadata::default()
            })
        };
        assert!(decoded([xattrs(MAX_XATTRS)]).is_ok());
        assert!(matches!(decoded([xattrs(MAX_XATTRS + 1)]), Err(FormatError::TooLarge { .. })));
    }

    #[test]
    fn no_segment_is_larger_sealed_than_a_reader_takes() {
        let compressed = zstd::zstd_safe::compress_bound(MAX_SEGMENT_BYTES);
        assert!(compressed + isthmus_shared::staging::seal::OVERHEAD <= MAX_SEALED_SEGMENT, "{compressed}");
    }
}
