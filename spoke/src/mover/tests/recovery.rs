//! Going back to a complete pass from staging alone, whatever was made of the volume since.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, PermissionsExt, symlink},
    process::Command,
};

use isthmus_shared::staging::layout;

use super::{
    faults::cut_after,
    trees::{Random, TreeKind, generate},
    *,
};

/// A copy of a tree, to compare with later.
fn copy(from: &Path) -> tempfile::TempDir {
    let copy = tempfile::tempdir().unwrap();
    let to = copy.path().join("tree");
    assert!(Command::new("cp").arg("-a").arg(from).arg(&to).status().unwrap().success());
    copy
}

fn recovery(volume: &Volume, pass: u32) -> ReceiveOptions {
    let mut options = volume.receive_options(pass);
    options.pass.previous = None;
    options
}

async fn go_back(volume: &Volume, pass: u32) -> Result<ReceiveReport, MoverError> {
    recover(recovery(volume, pass), Progress::new(), CancellationToken::new()).await
}

/// A volume with several segments and packs, and many ways to change.
fn fill(volume: &Volume) {
    let root = volume.source.path();
    generate(root, TreeKind::Large, 5, 0.03).unwrap();
    generate(
        &{
            let small = root.join("small");
            fs::create_dir(&small).unwrap();
            small
        },
        TreeKind::Mixed,
        6,
        0.002,
    )
    .unwrap();
    fs::write(root.join("gone-later"), vec![7; 70_000]).unwrap();
    fs::write(root.join("linked-a"), vec![8; 90_000]).unwrap();
    fs::hard_link(root.join("linked-a"), root.join("linked-b")).unwrap();
    fs::write(root.join("same-look"), vec![1; 100_000]).unwrap();
    symlink("gone-later", root.join("link")).unwrap();
}

/// Changes of every sort; one keeps size and time, so that only its content tells.
fn change(root: &Path) {
    let write = |name: &str, at: u64, bytes: &[u8]| {
        File::options().write(true).open(root.join(name)).unwrap().write_all_at(bytes, at).unwrap();
    };
    write("large-1.bin", 1 << 20, b"of the later pass");
    fs::remove_file(root.join("gone-later")).unwrap();
    fs::create_dir(root.join("gone-later")).unwrap();
    fs::write(root.join("gone-later/inside"), b"new").unwrap();
    fs::write(root.join("added"), vec![3; 200_000]).unwrap();
    fs::remove_file(root.join("linked-b")).unwrap();
    fs::write(root.join("linked-b"), b"alone now").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    fs::write(root.join("link"), b"a file").unwrap();
    let time = fs::metadata(root.join("same-look")).unwrap().modified().unwrap();
    write("same-look", 50_000, b"another content");
    File::options().write(true).open(root.join("same-look")).unwrap().set_modified(time).unwrap();
    fs::set_permissions(root.join("large-0.bin"), fs::Permissions::from_mode(0o600)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_later_pass_is_undone_however_much_of_it_was_received() {
    for calls in [6, 9, 14, 25, 1_000_000] {
        let mut volume = Volume::new();
        volume.limits.segment_bytes = 400;
        volume.limits.pack_bytes = 1_100_000;
        fill(&volume);
        volume.run_pass(1).await;
        let kept = copy(volume.source.path());
        change(volume.source.path());
        volume.send(2).await.unwrap();
        let mut receiving = volume.receive_options(2);
        receiving.pass.store = cut_after(volume.store.clone(), calls);
        let half = receive(receiving, Progress::new(), CancellationToken::new()).await;
        assert_eq!(half.is_ok(), calls == 1_000_000, "{calls}");
        let report = go_back(&volume, 1).await.unwrap();
        assert_same(&kept.path().join("tree"), volume.destination.path());
        assert!(report.bytes_compared > 1 << 20, "{report:?}");
        // The pass is as complete as it was, and a later one builds on it.
        assert!(is_received(volume.store.clone(), &volume.key, &pair(), &id(), 1).await.unwrap());
        let mut sending = volume.send_options(3);
        sending.pass.previous = Some(1);
        let mut receiving = volume.receive_options(3);
        receiving.pass.previous = Some(1);
        let (sent, received) = tokio::join!(
            send(sending, Progress::new(), CancellationToken::new()),
            receive(receiving, Progress::new(), CancellationToken::new())
        );
        sent.unwrap();
        received.unwrap();
        volume.assert_equal();
    }
}

fn pair() -> PairUid {
    PairUid::new("pair").unwrap()
}

fn id() -> VolumeUid {
    VolumeUid::new("volume").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_application_made_of_the_volume_is_undone() {
    let volume = Volume::new();
    fill(&volume);
    volume.run_pass(1).await;
    let kept = copy(volume.source.path());
    change(volume.destination.path());
    go_back(&volume, 1).await.unwrap();
    assert_same(&kept.path().join("tree"), volume.destination.path());
    // What looks as it did is believed where that is wanted: nothing is read but what differs.
    let mut options = recovery(&volume, 1);
    options.pass.previous = Some(1);
    let report = recover(options, Progress::new(), CancellationToken::new()).await.unwrap();
    assert_eq!((report.bytes_written, report.bytes_compared), (0, 0), "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_volume_is_filled_from_staging_alone() {
    let mut volume = Volume::new();
    fill(&volume);
    volume.run_pass(1).await;
    volume.destination = tempfile::tempdir().unwrap();
    go_back(&volume, 1).await.unwrap();
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_dies_again_and_again_ends_exactly_and_leaves_its_pass_complete() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 400;
    volume.limits.pack_bytes = 1_100_000;
    fill(&volume);
    volume.run_pass(1).await;
    let kept = copy(volume.source.path());
    change(volume.source.path());
    volume.run_pass(2).await;
    let mut random = Random::new(3);
    let (mut deaths, mut patience) = (0, 4);
    loop {
        let mut options = recovery(&volume, 1);
        options.pass.store = cut_after(volume.store.clone(), random.below(patience) + 1);
        patience += patience / 2;
        match recover(options, Progress::new(), CancellationToken::new()).await {
            Ok(_) => break,
            Err(error) => assert_eq!(error.reason(), "StoreUnavailable", "{error}"),
        }
        deaths += 1;
        assert!(is_received(volume.store.clone(), &volume.key, &pair(), &id(), 1).await.unwrap());
    }
    assert!(deaths > 2, "{deaths}");
    assert_same(&kept.path().join("tree"), volume.destination.path());
}

#[tokio::test(flavor = "multi_thread")]
async fn only_a_pass_that_was_received_whole_is_gone_back_to() {
    let volume = Volume::new();
    fill(&volume);
    let none = go_back(&volume, 1).await.unwrap_err();
    assert_eq!(none.reason(), "PassNotComplete");
    volume.send(1).await.unwrap();
    let sent_only = go_back(&volume, 1).await.unwrap_err();
    assert_eq!(sent_only.reason(), "PassNotComplete");
    assert_eq!(fs::read_dir(volume.destination.path()).unwrap().count(), 0, "nothing was touched");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_part_that_is_gone_from_staging_is_told_at_once() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 400;
    fill(&volume);
    volume.run_pass(1).await;
    volume.store.delete(&[layout::pass_segment(&pair(), &id(), 1, 2)]).await.unwrap();
    let lost = go_back(&volume, 1).await.unwrap_err();
    assert_eq!(lost.reason(), "StagingLost", "{lost}");
    assert!(lost.to_string().contains("segment 2 of pass 1"), "{lost}");
}
