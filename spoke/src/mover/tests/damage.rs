//! Staging that somebody changed, or made up with the volume's own key.

use std::fs;

use bytes::Bytes;
use isthmus_shared::staging::layout;

use super::{
    format::{
        BlockHash, Chain, Content, End, Entry, FrameRef, Kind, Metadata, PackId, Piece, PiecePlace, Record,
        SegmentBuilder, Stamp,
    },
    sentinel::Sentinel,
    trees::{TreeKind, generate},
    *,
};

async fn staged() -> Volume {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Small, 4, 0.0003).unwrap();
    fs::write(volume.source.path().join("tiny"), b"inline").unwrap();
    fs::write(volume.source.path().join("larger"), vec![7; 400_000]).unwrap();
    volume.send(1).await.unwrap();
    volume
}

/// Into a new folder, around which nothing may change.
async fn receive_into_fresh(volume: &mut Volume) -> Result<ReceiveReport, MoverError> {
    let sentinel = Sentinel::new();
    volume.destination = sentinel.volume();
    volume.limits.peer_timeout = Duration::from_millis(200);
    let report = volume.receive(1).await;
    // The next attempt starts from nothing.
    let pair = PairUid::new("pair").unwrap();
    let id = VolumeUid::new("volume").unwrap();
    volume.store.delete(&[layout::pass_received(&pair, &id, 1)]).await.unwrap();
    sentinel.assert_untouched("around the volume");
    report
}

/// A refusal says which object is damaged, and what to do.
#[track_caller]
fn assert_clear(result: Result<ReceiveReport, MoverError>, what: &str) {
    let Err(error) = result else { panic!("{what} was taken") };
    let reasons = ["StagingDamaged", "ManifestRefused", "ObjectTruncated"];
    assert!(reasons.contains(&error.reason()), "{what}: {error}");
    let text = error.to_string();
    let (_, advice) = text.rsplit_once("; ").unwrap_or_default();
    assert!(text.contains("volume/") || text.contains("volumes/"), "{what}: {text}");
    // A byte that is changed may be that of the format's version.
    let fix = (advice.contains("remove") && advice.contains("run")) || advice.contains("the same version");
    assert!(fix, "{what}: {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flipped_byte_anywhere_in_staging_is_an_error() {
    let mut volume = staged().await;
    receive_into_fresh(&mut volume).await.unwrap();
    for (key, size) in volume.memory.contents() {
        let sound = volume.memory.raw(&key).unwrap();
        let positions = (0..size.min(24)).chain((0..8).map(|n| size / 8 * n)).chain([size - 1]);
        for at in positions {
            let mut changed = sound.to_vec();
            changed[at] ^= 1;
            volume.memory.set_raw(&key, Bytes::from(changed));
            let result = receive_into_fresh(&mut volume).await;
            assert_clear(result, &format!("{key}, byte {at} of {size}"));
        }
        for length in [0, 1, size / 2, size - 1] {
            volume.memory.set_raw(&key, sound.slice(..length));
            let result = receive_into_fresh(&mut volume).await;
            assert_clear(result, &format!("{key} cut to {length} of {size}"));
        }
        volume.memory.set_raw(&key, sound);
    }
    receive_into_fresh(&mut volume).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn packs_or_segments_in_each_others_place_are_an_error() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 500;
    volume.limits.pack_bytes = 1_100_000;
    generate(volume.source.path(), TreeKind::Mixed, 4, 0.002).unwrap();
    volume.send(1).await.unwrap();
    for part in ["/packs/", "/segments/"] {
        let keys: Vec<String> = volume
            .memory
            .contents()
            .into_iter()
            .map(|(key, _)| key)
            .filter(|key| key.contains(part))
            .collect();
        assert!(keys.len() > 1, "{part}");
        let (a, b) = (volume.memory.raw(&keys[0]).unwrap(), volume.memory.raw(&keys[1]).unwrap());
        volume.memory.set_raw(&keys[0], b.clone());
        volume.memory.set_raw(&keys[1], a.clone());
        let result = receive_into_fresh(&mut volume).await;
        assert_clear(result, &format!("two of {part} in each other's place"));
        volume.memory.set_raw(&keys[0], a);
        volume.memory.set_raw(&keys[1], b);
    }
}

pub fn entry(path: &str, kind: Kind) -> Record {
    Record::Entry(Entry {
        path: path.as_bytes().to_vec(),
        metadata: Metadata { mode: 0o755, ..own() },
        stamp: Stamp::default(),
        changed_in: 1,
        kind,
    })
}

pub fn own() -> Metadata {
    Metadata {
        uid: rustix::process::geteuid().as_raw(),
        gid: rustix::process::getegid().as_raw(),
        ..Metadata::default()
    }
}

pub fn root() -> Record {
    entry("", Kind::Directory)
}

pub fn inline(offset: u64, bytes: &[u8]) -> Piece {
    Piece {
        offset,
        length: u32::try_from(bytes.len()).unwrap(),
        place: PiecePlace::Inline(bytes.to_vec()),
        kept: false,
    }
}

pub fn file(path: &str, size: u64, pieces: Vec<Piece>) -> Record {
    entry(path, Kind::File(Content { size, pieces, ..Content::default() }))
}

/// Receives a manifest that was made up by somebody who has the volume's key.
pub async fn receive_made_up(volume: &mut Volume, records: &[Record]) -> Result<ReceiveReport, MoverError> {
    let pair = PairUid::new("pair").unwrap();
    let id = VolumeUid::new("volume").unwrap();
    let object = layout::pass_segment(&pair, &id, 1, 0);
    let key = volume.key.manifest_key().unwrap();
    let mut builder = SegmentBuilder::default();
    for record in records {
        builder.push(record);
    }
    let report = SendReport::default();
    let (sealed, _) = builder.seal(&key, &object, Chain::default(), &report, true).unwrap();
    volume.store.put(&object, sealed.into()).await.unwrap();
    volume.limits.peer_timeout = Duration::from_millis(200);
    volume.receive(1).await
}

#[tokio::test(flavor = "multi_thread")]
async fn made_up_manifests_are_refused_and_nothing_is_written_outside() {
    let sentinel = Sentinel::new();
    let planted = || entry("link", Kind::Symlink(sentinel.path().to_str().unwrap().into()));
    let content = || vec![inline(0, b"evil")];
    let huge = Kind::File(Content { size: 1 << 60, ..Content::default() });
    let open = Kind::File(Content { size: 10, open: true, ..Content::default() });
    let frame = FrameRef { pack: PackId([9; 16]), number: 0, offset: 0, sealed: 116, raw: 100 };
    let nowhere = Piece {
        offset: 0,
        length: 100,
        place: PiecePlace::Frame { frame, inner: 0, hash: BlockHash([1; 32]) },
        kept: false,
    };
    let beyond = Piece {
        offset: 0,
        length: 100,
        place: PiecePlace::Frame { frame, inner: 50, hash: BlockHash([1; 32]) },
        kept: false,
    };
    let cases: Vec<(&str, Vec<Record>)> = vec![
        ("nothing at all", vec![]),
        ("no root", vec![file("a", 4, content())]),
        ("a path that climbs", vec![root(), file("../evil", 4, content())]),
        ("a path that climbs to a file", vec![root(), file("../dir/file", 4, content())]),
        ("a directory that climbs", vec![root(), entry("../dir", Kind::Directory)]),
        ("a path that climbs within", vec![root(), file("a/../../evil", 4, content())]),
        ("an absolute path", vec![root(), file("/evil", 4, content())]),
        ("an empty name", vec![root(), file("a//evil", 4, content())]),
        ("a file below a symlink", vec![root(), planted(), file("link/evil", 4, content())]),
        ("a directory over a symlink's place", vec![root(), planted(), entry("link/dir", Kind::Directory)]),
        ("a file without its directory", vec![root(), file("dir/evil", 4, content())]),
        ("a root that is a link", vec![entry("", Kind::Symlink(b"/".to_vec()))]),
        ("a huge file", vec![root(), entry("huge", huge)]),
        ("names out of order", vec![root(), file("b", 4, content()), file("a", 4, content())]),
        ("a name twice", vec![root(), file("a", 4, content()), file("a", 4, content())]),
        ("a link to what is not there", vec![root(), entry("b", Kind::HardLink(b"a".to_vec()))]),
        ("a link to a later name", vec![root(), entry("a", Kind::HardLink(b"b".to_vec()))]),
        ("a link out of the volume", vec![root(), entry("b", Kind::HardLink(b"../a".to_vec()))]),
        (
            "a link through a symlink",
            vec![root(), planted(), entry("m", Kind::HardLink(b"link/file".to_vec()))],
        ),
        ("content without a file", vec![root(), Record::Data(content())]),
        ("an end without a file", vec![root(), Record::End(End::default())]),
        ("a file that never ends", vec![root(), entry("a", open)]),
        ("content beyond the end", vec![root(), file("a", 2, content())]),
        ("a pack that is not there", vec![root(), file("a", 100, vec![nowhere])]),
        ("a piece beyond its frame", vec![root(), file("a", 100, vec![beyond])]),
    ];
    for (what, records) in cases {
        let mut volume = Volume::new();
        volume.destination = sentinel.volume();
        let Err(error) = receive_made_up(&mut volume, &records).await else {
            panic!("{what} was taken");
        };
        assert!(!matches!(error, MoverError::Worker { .. }), "{what}: {error}");
        sentinel.assert_untouched(what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn links_planted_at_the_destination_are_replaced_and_not_followed() {
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("file"), b"kept").unwrap();
    let mut volume = Volume::new();
    let destination = volume.destination.path().to_owned();
    std::os::unix::fs::symlink(outside.path(), destination.join("dir")).unwrap();
    std::os::unix::fs::symlink(outside.path().join("file"), destination.join("file")).unwrap();
    let records = [
        root(),
        entry("dir", Kind::Directory),
        file("dir/file", 4, vec![inline(0, b"evil")]),
        file("file", 4, vec![inline(0, b"evil")]),
    ];
    receive_made_up(&mut volume, &records).await.unwrap();
    assert_eq!(fs::read(outside.path().join("file")).unwrap(), b"kept");
    assert_eq!(fs::read(destination.join("dir/file")).unwrap(), b"evil");
    assert!(fs::symlink_metadata(destination.join("file")).unwrap().is_file());
}

proptest::proptest! {
    #[test]
    fn any_bytes_are_safe_to_decode(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..600)) {
        // As a segment's compressed body, and as records.
        let _ = format::Segment::decode(&bytes, Chain::default());
        let compressed = zstd::bulk::compress(&bytes, 1).unwrap();
        let _ = format::Segment::decode(&compressed, Chain::default());
        let _ = format::decode_records(&bytes);
    }
}
