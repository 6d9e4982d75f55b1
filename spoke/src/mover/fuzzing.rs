//! The bodies of the fuzz targets for what a mover reads from the bucket. See
//! [`isthmus_shared::fuzzing`] for what a body promises and who runs it.

use std::{
    path::Path,
    sync::{Arc, OnceLock},
    time::Duration,
};

use isthmus_shared::{
    fuzzing::Target,
    resources::{Exclusions, MetadataPolicy, VerifyMethod},
    staging::{MemoryStore, ObjectStore, PairKey, PairUid, VolumeKey, VolumeUid, layout},
};
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use super::{
    Limits, Pass, Progress, ReceiveOptions, SendReport,
    format::{
        BlockHash, Chain, Content, Device, End, Entry, FrameRef, Kind, Metadata, PackId, PathOrder, Piece,
        PiecePlace, Record, Segment, SegmentBuilder, Stamp, Time, Xattr, check_path, decode_records,
        encode_records, split_path,
    },
    read_any_mark, receive,
    send::Heartbeat,
};

/// The targets of this crate.
pub const TARGETS: &[Target] = &[
    Target { name: "segment", body: segment, seeds: segments },
    Target { name: "records", body: records, seeds: record_lists },
    Target { name: "received_mark", body: received_mark, seeds: marks },
    Target { name: "sender_heartbeat", body: sender_heartbeat, seeds: heartbeats },
    Target { name: "frame", body: frame, seeds: frames },
    Target { name: "receiver", body: receiver, seeds: segments },
];

/// The same key in each run, so that an input means the same again.
const KEY: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

/// A segment's body, as it is behind compression and before it.
pub fn segment(data: &[u8]) {
    let compressed = zstd::bulk::compress(data, 1).ok();
    for body in [Some(data), compressed.as_deref()].into_iter().flatten() {
        let Ok(segment) = Segment::decode(body, Chain::default()) else { continue };
        let mut order = PathOrder::default();
        for record in &segment.records {
            check(record);
            // The order is the receiver's to refuse, not to trip over.
            let taken = match record {
                Record::Entry(entry) => {
                    order.entry(&entry.path, matches!(&entry.kind, Kind::File(content) if content.open))
                }
                Record::Data(_) => order.data(),
                Record::End(_) => order.end(),
            };
            if taken.is_err() {
                break;
            }
        }
    }
}

/// What every record that was decoded keeps to.
fn check(record: &Record) {
    if let Record::Entry(entry) = record {
        assert!(check_path(&entry.path).is_ok());
        let climbs = |name: &[u8]| name == b"." || name == b".." || name.is_empty() || name.contains(&0);
        assert!(!split_path(&entry.path).any(climbs) && !entry.path.starts_with(b"/"));
        assert!(entry.metadata.mode <= 0o7777 && entry.metadata.mtime.nanoseconds < 1_000_000_000);
    }
    let mut end = 0;
    for piece in record.pieces() {
        assert!(piece.length > 0 && piece.offset >= end);
        end = piece.offset + u64::from(piece.length);
        if let PiecePlace::Frame { frame, inner, .. } = &piece.place {
            assert!(u64::from(*inner) + u64::from(piece.length) <= u64::from(frame.raw));
        }
    }
}

/// A list of records by itself.
pub fn records(data: &[u8]) {
    let Ok(records) = decode_records(data) else { return };
    records.iter().for_each(check);
    // What was decoded can be written and read again.
    if records.iter().all(|record| record.pieces().is_empty()) {
        let again = decode_records(&encode_records(&records));
        assert!(again.is_ok_and(|again| again == records));
    }
}

/// How far a receiver says it is.
pub fn received_mark(data: &[u8]) {
    read_any_mark(data);
}

/// What a sender shows of itself.
pub fn sender_heartbeat(data: &[u8]) {
    let Ok(heartbeat) = serde_json::from_slice::<Heartbeat>(data) else { return };
    let again = serde_json::to_vec(&heartbeat).ok();
    let back = again.and_then(|json| serde_json::from_slice::<Heartbeat>(&json).ok());
    assert!(back.is_some_and(|back| back == heartbeat));
}

/// The plain content of a frame, behind how long it says it is.
pub fn frame(data: &[u8]) {
    let Some((raw, plain)) = data.split_first_chunk::<2>() else { return };
    let raw = u32::from(u16::from_be_bytes(*raw));
    received_frame(raw, plain);
}

fn received_frame(raw: u32, plain: &[u8]) -> Option<()> {
    let store = MemoryStore::new();
    let (key, pair, volume) = names()?;
    let id = [3; 16];
    let mut sealed = plain.to_vec();
    let tag = key.pack_key(&id).ok()?.seal_in_place(0, &raw.to_be_bytes(), &mut sealed).ok()?;
    sealed.extend_from_slice(&tag);
    let frame =
        FrameRef { pack: PackId(id), number: 0, offset: 0, sealed: u32::try_from(sealed.len()).ok()?, raw };
    runtime()?.block_on(store.put(&layout::volume_pack(&pair, &volume, &id), sealed.into())).ok()?;
    let hash = BlockHash([1; 32]);
    let piece =
        Piece { offset: 0, length: raw, place: PiecePlace::Frame { frame, inner: 0, hash }, kept: false };
    let content = Content { size: u64::from(raw), pieces: vec![piece], ..Content::default() };
    let body = body(&[directory(""), entry("file", Kind::File(content))])?;
    receive_body(store, &body)
}

/// A whole receiver, for a segment's body: whatever it says, nothing beside the volume changes.
pub fn receiver(data: &[u8]) {
    receive_body(MemoryStore::new(), data);
}

fn receive_body(store: MemoryStore, body: &[u8]) -> Option<()> {
    let folder = tempfile::tempdir().ok()?;
    let (root, beside) = (folder.path().join("volume"), folder.path().join("beside"));
    std::fs::create_dir(&root).ok()?;
    std::fs::write(&beside, b"kept").ok()?;
    let (key, pair, volume) = names()?;
    let object = layout::pass_segment(&pair, &volume, 1, 0);
    let sealed = key.manifest_key().ok()?.seal(&object, body).ok()?;
    let runtime = runtime()?;
    runtime.block_on(store.put(&object, sealed.into())).ok()?;
    let limits = Limits {
        workers: 1,
        // Without a last segment it waits for the next one.
        peer_timeout: Duration::from_millis(1),
        durable: false,
        ..Limits::default()
    };
    let pass = Pass {
        root: root.clone(),
        store: Arc::new(store),
        key,
        volume,
        pair,
        number: 1,
        previous: None,
        claim: None,
        exclude: Exclusions::default(),
        limits,
    };
    let (metadata_policy, verify) = (MetadataPolicy::BestEffort, VerifyMethod::Full);
    let options = ReceiveOptions { pass, metadata_policy, verify };
    let received = runtime.block_on(receive(options, Progress::new(), CancellationToken::new()));
    assert!(std::fs::read(&beside).is_ok_and(|content| content == b"kept"));
    assert_eq!(names_in(folder.path()), 2);
    // Only a volume that is as it was sent is received.
    let report = received.ok()?;
    assert_eq!(report.blocks_verified, 0, "no block has the name that it claims");
    Some(())
}

fn names_in(folder: &Path) -> usize {
    std::fs::read_dir(folder).map_or(0, Iterator::count)
}

fn runtime() -> Option<&'static Runtime> {
    static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();
    let make = || tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().ok();
    RUNTIME.get_or_init(make).as_ref()
}

fn names() -> Option<(VolumeKey, PairUid, VolumeUid)> {
    let volume = VolumeUid::new("volume").ok()?;
    let key = PairKey::from_base64(KEY).ok()?.volume_key(&volume).ok()?;
    Some((key, PairUid::new("pair").ok()?, volume))
}

fn entry(path: &str, kind: Kind) -> Record {
    Record::Entry(Entry {
        path: path.as_bytes().to_vec(),
        metadata: Metadata {
            mode: 0o755,
            mtime: Time { seconds: -5, nanoseconds: 7 },
            xattrs: vec![Xattr { name: b"user.a".to_vec(), value: b"b".to_vec() }],
            ..Metadata::default()
        },
        stamp: Stamp { inode: 9, links: 2, ..Stamp::default() },
        changed_in: 1,
        kind,
    })
}

fn directory(path: &str) -> Record {
    entry(path, Kind::Directory)
}

/// One record of each kind.
fn every_record() -> Vec<Record> {
    let inline = Piece { offset: 2, length: 4, place: PiecePlace::Inline(b"text".to_vec()), kept: false };
    let content = Content { size: 9, pieces: vec![inline.clone()], ..Content::default() };
    let open = Content { size: 40 << 20, open: true, ..Content::default() };
    let device = Device { major: 1, minor: 7 };
    vec![
        directory(""),
        directory("a"),
        entry("a/file", Kind::File(content)),
        entry("a/link", Kind::Symlink(b"../../beside".to_vec())),
        entry("b", Kind::HardLink(b"a/file".to_vec())),
        entry("c", Kind::Fifo),
        entry("d", Kind::CharDevice(device)),
        entry("e", Kind::BlockDevice(device)),
        entry("large", Kind::File(open)),
        Record::Data(vec![inline]),
        Record::End(End { inconsistent: true }),
    ]
}

/// A segment's body before it is sealed, from the one place that writes it.
fn body(records: &[Record]) -> Option<Vec<u8>> {
    let key = names()?.0.manifest_key().ok()?;
    let mut builder = SegmentBuilder::default();
    for record in records {
        builder.push(record);
    }
    let (sealed, _) = builder.seal(&key, "seed", Chain::default(), &SendReport::default(), true).ok()?;
    key.open("seed", &sealed).ok()
}

fn segments() -> Vec<Vec<u8>> {
    let all = every_record();
    let bodies = [body(&all), body(&all[..1]), body(&all[..5]), body(&[])];
    let plain = bodies.iter().flatten().filter_map(|body| zstd::bulk::decompress(body, 1 << 20).ok());
    let plain: Vec<Vec<u8>> = plain.collect();
    bodies.into_iter().flatten().chain(plain).collect()
}

fn record_lists() -> Vec<Vec<u8>> {
    let all = every_record();
    let one_by_one = all.iter().map(|record| encode_records(std::slice::from_ref(record)));
    one_by_one.chain([encode_records(&all), encode_records(&[])]).collect()
}

fn marks() -> Vec<Vec<u8>> {
    let head = r#"{"version":1,"next":3,"chain":[0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0],"report":{},"complete":false,"last":[97,47,98],"open_at":5}"#;
    let records = encode_records(&[directory(""), directory("a")]);
    let length = u32::try_from(head.len()).unwrap_or_default().to_be_bytes();
    vec![[&length[..], head.as_bytes(), &records].concat(), vec![0; 4]]
}

fn heartbeats() -> Vec<Vec<u8>> {
    vec![br#"{"sender":"pod-1","beat":7,"filesTotal":3,"bytesTotal":900}"#.to_vec(), b"{}".to_vec()]
}

fn frames() -> Vec<Vec<u8>> {
    let with_length = |raw: u16, plain: &[u8]| [&raw.to_be_bytes()[..], plain].concat();
    let compressed = |length: usize| zstd::bulk::compress(&vec![7; length], 1).unwrap_or_default();
    vec![
        with_length(5, b"plain"),
        with_length(1000, &compressed(1000)),
        with_length(1000, &compressed(999)),
        with_length(1000, &compressed(8 << 20)),
    ]
}

#[cfg(test)]
mod tests {
    use isthmus_shared::fuzzing::drive;

    use super::*;

    /// Mutations of what is only decoded; the fuzzer makes millions.
    const MUTATIONS: usize = 3000;
    /// Of what starts a receiver each time.
    const RECEIVED: usize = 150;

    #[test]
    fn no_input_breaks_what_a_mover_reads_from_the_bucket() {
        let regressions = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/regressions");
        for target in TARGETS {
            let receives = matches!(target.name, "frame" | "receiver");
            drive(target, &regressions, if receives { RECEIVED } else { MUTATIONS }).unwrap();
        }
    }

    #[test]
    fn sound_seeds_are_read_to_their_end() {
        assert!(receive_body(MemoryStore::new(), &body(&every_record()[..5]).unwrap()).is_some());
        assert_eq!(decode_records(&record_lists()[11]).unwrap(), every_record());
        assert!(serde_json::from_slice::<Heartbeat>(&heartbeats()[0]).is_ok());
    }
}
