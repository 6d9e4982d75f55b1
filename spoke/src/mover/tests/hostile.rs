//! Staging that somebody made up who has the volume's key, and a destination that changes under
//! the receiver's hands: nothing outside the volume is ever touched.

use std::{
    fs,
    os::unix::fs::{PermissionsExt, symlink},
};

use bytes::Bytes;
use isthmus_shared::staging::layout;

use super::{
    damage::{entry, file, inline, receive_made_up, root},
    format::{BlockHash, Chain, Content, FrameRef, Kind, PackId, Piece, PiecePlace, Record},
    meddled::{Call, Meddled},
    sentinel::Sentinel,
    trees::{TreeKind, generate},
    *,
};

fn names() -> (PairUid, VolumeUid) {
    (PairUid::new("pair").unwrap(), VolumeUid::new("volume").unwrap())
}

/// Puts a pack with one frame that holds `plain` as it is, which claims `raw` bytes.
async fn put_pack(volume: &Volume, id: [u8; 16], plain: &[u8], raw: u32) -> FrameRef {
    let (pair, uid) = names();
    let mut sealed = plain.to_vec();
    let key = volume.key.pack_key(&id).unwrap();
    let tag = key.seal_in_place(0, &raw.to_be_bytes(), &mut sealed).unwrap();
    sealed.extend_from_slice(&tag);
    let length = u32::try_from(sealed.len()).unwrap();
    volume.store.put(&layout::volume_pack(&pair, &uid, &id), sealed.into()).await.unwrap();
    FrameRef { pack: PackId(id), number: 0, offset: 0, sealed: length, raw }
}

fn framed(offset: u64, length: u32, frame: FrameRef) -> Piece {
    let hash = BlockHash([1; 32]);
    Piece { offset, length, place: PiecePlace::Frame { frame, inner: 0, hash }, kept: false }
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_that_hold_other_than_they_claim_are_refused() {
    let bomb = zstd::bulk::compress(&vec![0; 64 << 20], 1).unwrap();
    let short = zstd::bulk::compress(&[7; 10], 1).unwrap();
    let noise = trees::Random::new(1).noise(90);
    for (what, plain, raw) in [
        ("a frame that grows to 64 MiB", bomb.as_slice(), 100_000),
        ("a frame that holds too little", short.as_slice(), 1000),
        ("a frame that is no compression", noise.as_slice(), 1000),
        ("a frame with another block", noise.as_slice(), 90),
    ] {
        let mut volume = Volume::new();
        let frame = put_pack(&volume, [3; 16], plain, raw).await;
        let records = [root(), file("a", u64::from(raw), vec![framed(0, raw, frame)])];
        let error = receive_made_up(&mut volume, &records).await.unwrap_err();
        assert_eq!(error.reason(), "StagingDamaged", "{what}: {error}");
        assert!(error.to_string().contains("a block of a in "), "{what}: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn claims_beyond_all_bounds_are_refused_before_anything_is_made() {
    let frame = |sealed, raw| FrameRef { pack: PackId([9; 16]), number: 0, offset: 0, sealed, raw };
    let deep = |depth: usize| -> Vec<Record> {
        let path = |n: usize| "d/".repeat(n) + "d";
        std::iter::once(root()).chain((0..depth).map(|n| entry(&path(n), Kind::Directory))).collect()
    };
    let mut huge_times = entry("a", Kind::Fifo);
    if let Record::Entry(entry) = &mut huge_times {
        entry.metadata.mtime.nanoseconds = 1_000_000_000;
    }
    let sized = |size| entry("a", Kind::File(Content { size, ..Content::default() }));
    let cases: Vec<(&str, Vec<Record>)> = vec![
        ("2^60 bytes", vec![root(), sized(1 << 60)]),
        ("2^64 bytes", vec![root(), sized(u64::MAX)]),
        ("a frame of 2^32 bytes", vec![root(), file("a", 9, vec![framed(0, 9, frame(100, u32::MAX))])]),
        (
            "a frame that is longer sealed than it may",
            vec![root(), file("a", 9, vec![framed(0, 9, frame(u32::MAX, 100))])],
        ),
        (
            "a piece of 2^32 bytes",
            vec![root(), file("a", 1 << 40, vec![framed(0, u32::MAX, frame(116, 100))])],
        ),
        ("overlapping pieces", vec![root(), file("a", 9, vec![inline(0, b"abcde"), inline(3, b"fgh")])]),
        ("pieces in the wrong order", vec![root(), file("a", 9, vec![inline(5, b"abc"), inline(0, b"def")])]),
        ("an empty piece", vec![root(), file("a", 9, vec![inline(0, b"")])]),
        ("a long inline piece", vec![root(), file("a", 900, vec![inline(0, &[7; 800])])]),
        ("a directory without bottom", deep(limits::MAX_DEPTH + 1)),
        ("a name of 256 bytes", vec![root(), file(&"n".repeat(256), 3, vec![inline(0, b"abc")])]),
        ("a zero in a name", vec![root(), file("a\0b", 3, vec![inline(0, b"abc")])]),
        ("a link to nothing", vec![root(), entry("l", Kind::Symlink(Vec::new()))]),
        ("a link with a zero", vec![root(), entry("l", Kind::Symlink(b"a\0b".to_vec()))]),
        ("a link of 5000 bytes", vec![root(), entry("l", Kind::Symlink(vec![b'x'; 5000]))]),
        ("a link to itself", vec![root(), entry("l", Kind::HardLink(b"l".to_vec()))]),
        ("a link to the root", vec![root(), entry("l", Kind::HardLink(Vec::new()))]),
        ("a second of 10^9 nanoseconds", vec![root(), huge_times]),
    ];
    for (what, records) in cases {
        let sentinel = Sentinel::new();
        let mut volume = Volume::new();
        volume.destination = sentinel.volume();
        let Err(error) = receive_made_up(&mut volume, &records).await else {
            panic!("{what} was taken");
        };
        assert_eq!(error.reason(), "ManifestRefused", "{what}: {error}");
        assert_eq!(fs::read_dir(volume.destination.path()).unwrap().count(), 0, "{what}");
        sentinel.assert_untouched(what);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn segments_that_are_too_large_or_nonsense_are_refused() {
    let (pair, uid) = names();
    let mut volume = Volume::new();
    volume.limits.peer_timeout = Duration::from_millis(200);
    let object = layout::pass_segment(&pair, &uid, 1, 0);
    let key = volume.key.manifest_key().unwrap();
    let bomb = zstd::bulk::compress(&vec![0; 256 << 20], 1).unwrap();
    for (what, plain) in [
        ("256 MiB in little", bomb.as_slice()),
        ("no compression", b"nonsense"),
        ("nothing", b""),
        ("zeros", &zstd::bulk::compress(&[0; 100], 1).unwrap()),
    ] {
        let sealed = key.seal(&object, plain).unwrap();
        volume.store.put(&object, sealed.into()).await.unwrap();
        let error = volume.receive(1).await.unwrap_err();
        assert_eq!(error.reason(), "ManifestRefused", "{what}: {error}");
        let error = volume.send(1).await.unwrap_err();
        assert_eq!(error.reason(), "ManifestRefused", "{what}, to a sender that goes on: {error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_larger_than_a_mover_ever_writes_is_refused_unread() {
    let (pair, uid) = names();
    for (what, object, bytes) in [
        ("a segment", layout::pass_segment(&pair, &uid, 1, 0), limits::MAX_SEALED_SEGMENT),
        ("a sign of life", layout::pass_sender(&pair, &uid, 1), limits::MAX_HEARTBEAT_BYTES),
        ("a mark", layout::pass_received(&pair, &uid, 1), limits::MAX_MARK_BYTES),
    ] {
        let volume = Volume::new();
        volume.store.put(&object, vec![7; bytes + 1].into()).await.unwrap();
        let error = volume.receive(1).await.unwrap_err();
        assert_eq!(error.reason(), "ObjectTooLarge", "{what}: {error}");
        assert!(error.to_string().contains("was not written by Isthmus: remove it"), "{error}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_segment_of_an_earlier_sending_in_the_place_of_a_new_one_is_refused() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 2000;
    volume.limits.peer_timeout = Duration::from_millis(300);
    generate(volume.source.path(), TreeKind::Mixed, 4, 0.004).unwrap();
    volume.send(1).await.unwrap();
    let segments = |volume: &Volume| -> Vec<(String, Bytes)> {
        let keys = volume.memory.contents().into_iter().map(|(key, _)| key);
        let segments = keys.filter(|key| key.contains("/segments/"));
        segments.map(|key| (key.clone(), volume.memory.raw(&key).unwrap())).collect()
    };
    let old = segments(&volume);
    assert!(old.len() > 2);
    let but_packs: Vec<String> = volume
        .memory
        .contents()
        .into_iter()
        .map(|(key, _)| key)
        .filter(|key| !key.contains("/packs/"))
        .collect();
    volume.store.delete(&but_packs).await.unwrap();
    fs::write(volume.source.path().join("another"), b"x".repeat(500)).unwrap();
    volume.send(1).await.unwrap();
    let new = segments(&volume);
    for at in 0..old.len().min(new.len()) {
        volume.memory.set_raw(&new[at].0, old[at].1.clone());
        volume.destination = tempfile::tempdir().unwrap();
        let error = volume.receive(1).await.unwrap_err();
        assert_eq!(error.reason(), "ManifestRefused", "segment {at}: {error}");
        assert!(error.to_string().contains("continue"), "{error}");
        volume.memory.set_raw(&new[at].0, new[at].1.clone());
        let (pair, uid) = names();
        volume.store.delete(&[layout::pass_received(&pair, &uid, 1)]).await.unwrap();
    }
    // And one of another pass: its name is sealed with it.
    volume.send(2).await.unwrap();
    let second = segments(&volume).into_iter().find(|(key, _)| !new.iter().any(|(old, _)| old == key));
    volume.memory.set_raw(&second.unwrap().0, new[0].1.clone());
    volume.destination = tempfile::tempdir().unwrap();
    let error = volume.receive(2).await.unwrap_err();
    assert_eq!(error.reason(), "StagingDamaged", "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_made_up_mark_cannot_lead_out_of_the_volume() {
    let sentinel = Sentinel::new();
    let (pair, uid) = names();
    let mut volume = Volume::new();
    volume.destination = sentinel.volume();
    volume.limits.peer_timeout = Duration::from_millis(200);
    let object = layout::pass_received(&pair, &uid, 1);
    let head = serde_json::json!({
        "version": 1, "next": 0, "chain": Chain::default().0, "report": ReceiveReport::default(),
        "complete": false, "last": b"../dir/file", "open_at": 0,
    });
    let head = serde_json::to_vec(&head).unwrap();
    let open =
        [root(), entry("a", Kind::Directory), entry("a/b", Kind::Directory), entry("c", Kind::Directory)];
    let records = format::encode_records(&open);
    let plain = [&u32::try_from(head.len()).unwrap().to_be_bytes()[..], &head, &records].concat();
    let sealed = volume.key.manifest_key().unwrap().seal(&object, &plain).unwrap();
    volume.store.put(&object, sealed.into()).await.unwrap();
    let error = volume.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "ManifestRefused", "{error}");
    sentinel.assert_untouched("a mark that climbs");
}

#[tokio::test(flavor = "multi_thread")]
async fn links_planted_between_planning_and_writing_lead_nowhere() {
    for (what, passes) in [("files that are new", 1), ("files that are there", 2)] {
        let sentinel = Sentinel::new();
        let volume = Volume::new();
        let from = volume.source.path();
        fs::create_dir(from.join("dir")).unwrap();
        fs::set_permissions(from.join("dir"), fs::Permissions::from_mode(0o777)).unwrap();
        for name in ["dir/file", "file", "z"] {
            fs::write(from.join(name), trees::Random::new(1).noise(300_000)).unwrap();
        }
        if passes == 2 {
            volume.run_pass(1).await;
            for name in ["dir/file", "file", "z"] {
                fs::write(from.join(name), trees::Random::new(2).noise(300_000)).unwrap();
            }
        }
        volume.send(passes).await.unwrap();
        let (to, outside) = (volume.destination.path().to_owned(), sentinel.path().to_owned());
        let plant = move || {
            // Each as far as it is there: both the directory and the files are replaced.
            fs::rename(to.join("dir"), to.join("moved")).ok();
            symlink(outside.join("dir"), to.join("dir")).ok();
            fs::remove_file(to.join("file")).ok();
            symlink(outside.join("file"), to.join("file")).ok();
            fs::remove_file(to.join("moved/file")).ok();
            symlink(outside.join("file"), to.join("moved/file")).ok();
        };
        let mut options = ReceiveOptions { verify: VerifyMethod::Full, ..volume.receive_options(passes) };
        // Whenever content is fetched: between the planning of a file and its writing.
        options.pass.store = Meddled::serving(volume.store.clone(), move |call| {
            if matches!(call, Call::ReadRange(_)) {
                plant();
            }
        });
        let received = receive(options, Progress::new(), CancellationToken::new()).await;
        let error = received.unwrap_err();
        // On writing, or where the file was open already on reading back.
        assert!(matches!(error.reason(), "FileRefused" | "VerificationFailed"), "{what}: {error}");
        sentinel.assert_untouched(what);
        // Once nobody meddles any more all of it arrives.
        volume.run_pass(passes + 1).await;
        volume.assert_equal();
        sentinel.assert_untouched(what);
    }
}
