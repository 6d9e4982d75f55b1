//! `verify: Full`: what was written is read back and compared with what was sent.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    sync::{
        Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use isthmus_shared::staging::layout;

use super::{
    damage::{file, inline, own, receive_made_up, root},
    format::{Entry, Metadata, Record, Xattr},
    meddled::{Call, Meddled},
    privileges::{as_ordinary_user, left_out},
    trees::{CmsVolume, TreeKind, cms, generate},
    *,
};

fn full(volume: &Volume, pass: u32) -> ReceiveOptions {
    ReceiveOptions { verify: VerifyMethod::Full, ..volume.receive_options(pass) }
}

async fn receive_full(volume: &Volume, pass: u32) -> Result<ReceiveReport, MoverError> {
    receive(full(volume, pass), Progress::new(), CancellationToken::new()).await
}

/// The volume's store, with `then` done to the destination at the moment when all is written: with the
/// second reading of the first segment reading back begins.
fn meddle(volume: &Volume, then: impl FnOnce() + Send + 'static) -> Arc<dyn ObjectStore> {
    let first =
        layout::pass_segment(&PairUid::new("pair").unwrap(), &VolumeUid::new("volume").unwrap(), 1, 0);
    let (seen, then) = (AtomicU32::new(0), Mutex::new(Some(then)));
    Meddled::serving(volume.store.clone(), move |call| {
        if call == Call::Get(&first)
            && seen.fetch_add(1, Ordering::SeqCst) == 1
            && let Some(then) = then.lock().unwrap().take()
        {
            then();
        }
    })
}

/// Receives a pass that was sent, with `then` done to the destination before it is read back.
async fn receive_meddled(
    volume: &Volume,
    then: impl FnOnce() + Send + 'static,
) -> Result<ReceiveReport, MoverError> {
    let mut options = full(volume, 1);
    options.pass.store = meddle(volume, then);
    receive(options, Progress::new(), CancellationToken::new()).await
}

/// The findings, as `path: message`.
fn findings(result: Result<ReceiveReport, MoverError>) -> Vec<String> {
    let error = result.unwrap_err();
    assert_eq!(error.reason(), "VerificationFailed", "{error}");
    let MoverError::Differs { notes } = error else { unreachable!() };
    assert_eq!(notes.total, notes.listed.len() as u64);
    notes.listed.iter().map(|note| format!("{}: {}", note.path, note.message)).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_that_is_right_is_read_back_whole_and_counted() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 4000;
    volume.exclude = Exclusions::new(&["theirs/**/keep"]).unwrap();
    cms(volume.source.path(), CmsVolume::Web, 7).unwrap();
    generate(volume.source.path(), TreeKind::Mixed, 3, 0.005).unwrap();
    fs::write(volume.source.path().join("streamed"), trees::Random::new(4).noise(17 << 20)).unwrap();
    File::create(volume.source.path().join("hole")).unwrap().set_len(40 << 20).unwrap();
    fs::create_dir_all(volume.destination.path().join("theirs/a/keep")).unwrap();
    fs::write(volume.destination.path().join("theirs/a/other"), b"goes").unwrap();
    volume.send(1).await.unwrap();
    let report = receive_full(&volume, 1).await.unwrap();
    assert_eq!(report.files_read_back, Some(report.totals.files));
    assert_eq!(report.bytes_read_back, Some(report.totals.bytes));
    assert!(volume.destination.path().join("theirs/a/keep").exists());
    // Also of a pass that had little to write, after an end that came before.
    volume.send(2).await.unwrap();
    let again = receive_full(&volume, 2).await.unwrap();
    assert_eq!(again.files_read_back, Some(again.totals.files));
    assert_eq!(receive_full(&volume, 2).await.unwrap(), again);
}

#[tokio::test(flavor = "multi_thread")]
async fn each_kind_of_difference_is_found_and_named() {
    let volume = Volume::new();
    let root = volume.source.path();
    fs::create_dir_all(root.join("gone-dir/below")).unwrap();
    for name in ["content", "size", "mode", "time", "attribute", "gone", "linked", "apart", "now-dir"] {
        fs::write(root.join(name), name.repeat(100)).unwrap();
    }
    fs::write(root.join("large"), trees::Random::new(4).noise(17 << 20)).unwrap();
    File::create(root.join("hole")).unwrap().set_len(4 << 20).unwrap();
    fs::hard_link(root.join("apart"), root.join("apart-too")).unwrap();
    symlink("there", root.join("link")).unwrap();
    let with_xattrs = xattr::set(root.join("attribute"), "user.kept", b"value").is_ok();
    volume.send(1).await.unwrap();

    let to = volume.destination.path().to_owned();
    let meddling = move || {
        let unseen = |path: &str, change: &dyn Fn(&File)| {
            let file = File::options().write(true).open(to.join(path)).unwrap();
            let before = file.metadata().unwrap().modified().unwrap();
            change(&file);
            file.set_modified(before).unwrap();
        };
        unseen("content", &|file| file.write_all_at(b"X", 50).unwrap());
        unseen("size", &|file| file.set_len(5).unwrap());
        unseen("large", &|file| file.write_all_at(b"X", (16 << 20) + 9).unwrap());
        unseen("hole", &|file| file.write_all_at(b"X", 3 << 20).unwrap());
        fs::set_permissions(to.join("mode"), fs::Permissions::from_mode(0o4711)).unwrap();
        File::open(to.join("time")).unwrap().set_modified(std::time::UNIX_EPOCH).unwrap();
        if with_xattrs {
            xattr::set(to.join("attribute"), "user.kept", b"other").unwrap();
            xattr::set(to.join("attribute"), "user.new", b"x").unwrap();
        }
        fs::remove_file(to.join("gone")).unwrap();
        fs::remove_dir_all(to.join("gone-dir")).unwrap();
        fs::remove_file(to.join("link")).unwrap();
        symlink("elsewhere", to.join("link")).unwrap();
        fs::remove_file(to.join("linked")).unwrap();
        fs::hard_link(to.join("content"), to.join("linked")).unwrap();
        let text = fs::read(to.join("apart-too")).unwrap();
        fs::remove_file(to.join("apart-too")).unwrap();
        fs::write(to.join("apart-too"), text).unwrap();
        fs::remove_file(to.join("now-dir")).unwrap();
        fs::create_dir(to.join("now-dir")).unwrap();
        fs::create_dir(to.join("surplus")).unwrap();
        fs::write(to.join("surplus/file"), b"x").unwrap();
    };
    let found = findings(receive_meddled(&volume, meddling).await);
    let expected = [
        ("apart-too: ", "not the same file as apart"),
        ("content: ", "content differs in the bytes 0 to 700"),
        ("gone: ", "missing"),
        ("gone-dir: ", "missing"),
        ("gone-dir/below: ", "missing"),
        ("hole: ", "content differs"),
        ("large: ", "content differs in the bytes 16777216 to 17825792"),
        ("link: ", "leads to elsewhere, not to there"),
        ("linked: ", "same file as content, not one of its own"),
        ("mode: ", "4711"),
        ("now-dir: ", "a directory, not a regular file"),
        ("size: ", "it has 5 bytes, not 400"),
        ("surplus: ", "was not sent (2 names)"),
        ("time: ", "modification time"),
        ("the volume's root: ", "modification time"),
    ];
    for (path, part) in expected {
        let hit = found.iter().any(|it| it.starts_with(path) && it.contains(part));
        assert!(hit, "{path}{part} in {found:#?}");
    }
    if with_xattrs {
        let hit =
            |it: &String| it.contains("user.kept has another value") && it.contains("user.new too many");
        assert!(found.iter().any(hit), "{found:#?}");
    }
    assert_eq!(found.len(), expected.len() + usize::from(with_xattrs), "{found:#?}");
    // The pass was not received, and the next one makes all of it right.
    let pair = PairUid::new("pair").unwrap();
    let id = VolumeUid::new("volume").unwrap();
    assert!(!is_received(volume.store.clone(), &volume.key, &pair, &id, 1).await.unwrap());
    receive_full(&volume, 1).await.unwrap();
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_pass_would_have_trusted_is_written_anew_after_it_was_found_to_differ() {
    let volume = Volume::new();
    let path = volume.source.path().join("file");
    fs::write(&path, b"x".repeat(5000)).unwrap();
    let file = File::open(&path).unwrap();
    file.set_modified(std::time::UNIX_EPOCH + Duration::from_secs(1_000_000)).unwrap();
    volume.run_pass(1).await;
    // Storage that lost a bit: neither size nor time tell.
    let arrived = File::options().write(true).open(volume.destination.path().join("file")).unwrap();
    let before = arrived.metadata().unwrap().modified().unwrap();
    arrived.write_all_at(b"y", 2500).unwrap();
    arrived.set_modified(before).unwrap();
    volume.send(2).await.unwrap();
    let found = match receive_full(&volume, 2).await {
        // Its stamp could not be trusted yet, so that it was compared anyway.
        Ok(_) => Vec::new(),
        result => findings(result),
    };
    assert!(found.is_empty() || found[0].starts_with("file: its content differs"), "{found:?}");
    receive_full(&volume, 2).await.unwrap();
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_the_first_differences_are_listed_and_all_are_counted() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Small, 6, 0.001).unwrap();
    volume.send(1).await.unwrap();
    let to = volume.destination.path().join("000");
    let error = receive_meddled(&volume, move || fs::remove_dir_all(to).unwrap()).await.unwrap_err();
    let MoverError::Differs { notes } = error else { panic!("{error}") };
    assert!(notes.total > 90, "{}", notes.total);
    assert_eq!(notes.listed.len(), limits::MAX_LISTED);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_back_can_be_cancelled() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Small, 6, 0.002).unwrap();
    volume.send(1).await.unwrap();
    let cancel = CancellationToken::new();
    let cancelled = cancel.clone();
    let mut options = full(&volume, 1);
    options.pass.store = meddle(&volume, move || cancelled.cancel());
    let result = receive(options, Progress::new(), cancel).await;
    assert!(matches!(result, Err(MoverError::Cancelled)), "{result:?}");
    receive_full(&volume, 1).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_forgave_does_not_fail_the_comparison_but_what_else_differs_does() {
    // A setting that every destination refuses.
    let xattrs = vec![Xattr { name: b"nobody.knows".to_vec(), value: b"x".to_vec() }];
    let metadata = Metadata { mode: 0o644, xattrs, ..own() };
    let Record::Entry(plain) = file("file", 4, vec![inline(0, b"text")]) else { unreachable!() };
    let records = [root(), Record::Entry(Entry { metadata, ..plain })];
    let mut volume = Volume::new();
    let refused = receive_made_up(&mut volume, &records).await.unwrap_err();
    assert_eq!(refused.reason(), "MetadataRefused");
    let forgiving = ReceiveOptions { metadata_policy: MetadataPolicy::BestEffort, ..full(&volume, 1) };
    let path = volume.destination.path().join("file");
    let mut meddled = forgiving.clone();
    meddled.pass.store = meddle(&volume, move || fs::write(path, b"tExt").unwrap());
    let found = findings(receive(meddled, Progress::new(), CancellationToken::new()).await);
    assert_eq!(found, ["file: its content differs in the bytes 0 to 4"]);
    let report = receive(forgiving, Progress::new(), CancellationToken::new()).await.unwrap();
    assert_eq!(report.refused_metadata.total, 1);
    assert_eq!(report.forgiven_metadata.total, 1);
    assert_eq!(report.files_read_back, Some(1));
}

#[test]
fn an_ordinary_user_reads_back_what_modes_keep_it_from() {
    if !is_root() {
        return left_out("reading a file that its owner may not read needs root");
    }
    let volume = Volume::new();
    let from = volume.source.path();
    fs::create_dir(from.join("closed")).unwrap();
    fs::write(from.join("closed/file"), b"x".repeat(100)).unwrap();
    fs::write(from.join("write-only"), b"x".repeat(100)).unwrap();
    for path in ["", "closed", "closed/file", "write-only"] {
        std::os::unix::fs::chown(from.join(path), Some(12345), Some(12345)).unwrap();
    }
    fs::set_permissions(from.join("closed"), fs::Permissions::from_mode(0o000)).unwrap();
    fs::set_permissions(from.join("write-only"), fs::Permissions::from_mode(0o200)).unwrap();
    std::os::unix::fs::chown(volume.destination.path(), Some(12345), Some(12345)).unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(volume.send(1)).unwrap();
    let volume = as_ordinary_user(move |runtime| {
        let report = runtime.block_on(receive_full(&volume, 1)).unwrap();
        assert_eq!(report.files_read_back, Some(2));
        volume
    });
    volume.unwrap().assert_equal();
}
