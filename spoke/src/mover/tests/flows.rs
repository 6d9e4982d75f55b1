//! What passes do, seen from outside.

use std::{
    fs::{self, File},
    io::{Seek, SeekFrom, Write},
    os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink},
};

use super::{
    trees::{CmsVolume, TreeKind, cms, generate},
    *,
};

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_volume_arrives() {
    let volume = Volume::new();
    let (sent, received) = volume.run_pass(1).await;
    assert_eq!(sent.totals.directories, 1);
    assert_eq!(received.totals, sent.totals);
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_volume_arrives_exactly() {
    let volume = Volume::new();
    cms(volume.source.path(), CmsVolume::Web, 7).unwrap();
    fs::write(volume.destination.path().join("left over"), b"x").unwrap();
    let (sent, received) = volume.run_pass(1).await;
    volume.assert_equal();
    assert!(sent.totals.hole_bytes > 40 << 20, "{sent:?}");
    assert_eq!(received.deleted, 1);
    assert!(received.blocks_verified > 1000);
    let sparse = fs::metadata(volume.destination.path().join("sparse.img")).unwrap();
    assert!(sparse.blocks() * 512 < 8 << 20, "holes stay holes");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tree_with_odd_metadata_arrives_exactly() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Mixed, 3, 0.03).unwrap();
    volume.run_pass(1).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn large_files_arrive_over_several_segments() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Large, 5, 0.045).unwrap();
    let (sent, _) = volume.run_pass(1).await;
    volume.assert_equal();
    assert!(sent.bytes_uploaded < sent.totals.bytes * 3 / 4, "{sent:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pass_uploads_and_writes_only_what_changed() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Large, 5, 0.045).unwrap();
    generate(volume.source.path(), TreeKind::Small, 6, 0.005).unwrap();
    volume.run_pass(1).await;
    let changed = volume.source.path().join("large-1.bin");
    let file = File::options().write(true).open(changed).unwrap();
    file.write_all_at(b"changed", 18 << 20).unwrap();
    fs::write(volume.source.path().join("000/file-000007"), b"new content of it").unwrap();
    fs::remove_file(volume.source.path().join("000/file-000008")).unwrap();
    let (sent, received) = volume.run_pass(2).await;
    volume.assert_equal();
    assert!(sent.bytes_uploaded < 3 << 20, "{sent:?}");
    assert!(received.bytes_written < 2 << 20, "{received:?}");
    assert!(received.bytes_compared < 2 << 20, "what was kept is not read again: {received:?}");
    assert_eq!(received.deleted, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_changed_on_both_sides_becomes_the_sources() {
    let volume = Volume::new();
    let bytes: Vec<u8> =
        (0..20_u32 << 20).map(|at| (at >> 12).to_le_bytes()[0] ^ at.to_le_bytes()[0]).collect();
    for name in ["large", "small"] {
        let length = if name == "large" { bytes.len() } else { 3 << 20 };
        fs::write(volume.source.path().join(name), &bytes[..length]).unwrap();
    }
    volume.run_pass(1).await;
    for name in ["large", "small"] {
        let open = |root: &Path| File::options().write(true).open(root.join(name)).unwrap();
        open(volume.source.path()).write_all_at(b"the source's", 1 << 20).unwrap();
        open(volume.destination.path()).write_all_at(b"the destination's", 2 << 20).unwrap();
    }
    let (_, received) = volume.run_pass(2).await;
    volume.assert_equal();
    assert!(received.bytes_compared >= 23 << 20, "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pass_over_an_unchanged_volume_reads_no_file_once_its_stamps_can_be_trusted() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Small, 6, 0.002).unwrap();
    volume.run_pass(1).await;
    tokio::time::sleep(limits::RACY_AGE + Duration::from_secs(1)).await;
    volume.run_pass(2).await;
    let (sent, received) = volume.run_pass(3).await;
    assert_eq!(sent.bytes_read, 0, "{sent:?}");
    assert_eq!(sent.totals.unchanged_files, 200);
    assert_eq!(received.unchanged_files, 200, "{received:?}");
    assert_eq!(received.bytes_written, 0);
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn types_links_holes_and_lengths_that_change_between_passes_arrive() {
    let volume = Volume::new();
    let root = volume.source.path();
    fs::create_dir_all(root.join("was-dir/inner")).unwrap();
    fs::write(root.join("was-dir/inner/file"), b"x").unwrap();
    fs::write(root.join("was-file"), b"content").unwrap();
    fs::write(root.join("linked-a"), b"shared content that is longer than inline takes".repeat(4)).unwrap();
    fs::hard_link(root.join("linked-a"), root.join("linked-b")).unwrap();
    symlink("one", root.join("link")).unwrap();
    fs::write(root.join("punched"), vec![7; 3 << 20]).unwrap();
    fs::write(root.join("longer"), vec![1; 2 << 20]).unwrap();
    fs::write(root.join("shorter"), vec![2; 2 << 20]).unwrap();
    volume.run_pass(1).await;
    volume.assert_equal();

    fs::remove_dir_all(root.join("was-dir")).unwrap();
    fs::write(root.join("was-dir"), b"now a file").unwrap();
    fs::remove_file(root.join("was-file")).unwrap();
    fs::create_dir(root.join("was-file")).unwrap();
    fs::write(root.join("was-file/inside"), b"x").unwrap();
    // The two names become two files, and only one of them changes.
    fs::remove_file(root.join("linked-b")).unwrap();
    fs::write(root.join("linked-b"), b"no longer the same").unwrap();
    fs::remove_file(root.join("link")).unwrap();
    symlink("two", root.join("link")).unwrap();
    let punched = File::options().write(true).open(root.join("punched")).unwrap();
    rustix::fs::fallocate(
        &punched,
        rustix::fs::FallocateFlags::PUNCH_HOLE | rustix::fs::FallocateFlags::KEEP_SIZE,
        1 << 20,
        1 << 20,
    )
    .unwrap();
    let mut longer = File::options().append(true).open(root.join("longer")).unwrap();
    longer.write_all(&[3; 100]).unwrap();
    File::options().write(true).open(root.join("shorter")).unwrap().set_len(100).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
    let blocks = fs::metadata(volume.destination.path().join("punched")).unwrap().blocks();
    assert!(blocks * 512 <= (2 << 20) + 4096, "{blocks} blocks");

    // And back to links.
    fs::remove_file(root.join("linked-b")).unwrap();
    fs::hard_link(root.join("linked-a"), root.join("linked-b")).unwrap();
    fs::set_permissions(root.join("longer"), fs::Permissions::from_mode(0o400)).unwrap();
    volume.run_pass(3).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_finished_pass_ends_at_once_with_the_same_report() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Small, 6, 0.001).unwrap();
    let (sent, received) = volume.run_pass(1).await;
    let objects = volume.memory.contents();
    let (sent_again, received_again) = volume.run_pass(1).await;
    assert_eq!(sent_again, sent);
    assert_eq!(received_again, received);
    assert_eq!(volume.memory.contents(), objects);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sparse_file_of_a_tebibyte_costs_what_it_holds() {
    let volume = Volume::new();
    let mut file = File::create(volume.source.path().join("huge")).unwrap();
    file.seek(SeekFrom::Start(1 << 39)).unwrap();
    file.write_all(b"in the middle").unwrap();
    file.set_len(1 << 40).unwrap();
    let (sent, _) = volume.run_pass(1).await;
    assert!(sent.bytes_read < 1 << 20, "{sent:?}");
    let arrived = fs::metadata(volume.destination.path().join("huge")).unwrap();
    assert_eq!(arrived.len(), 1 << 40);
    assert!(arrived.blocks() < 1000);
    let mut middle = [0; 13];
    let file = File::open(volume.destination.path().join("huge")).unwrap();
    file.read_exact_at(&mut middle, 1 << 39).unwrap();
    assert_eq!(&middle, b"in the middle");
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_and_found_at_the_root_is_neither_sent_nor_removed() {
    let volume = Volume::new();
    for root in [volume.source.path(), volume.destination.path()] {
        fs::create_dir_all(root.join("lost+found")).unwrap();
    }
    fs::write(volume.source.path().join("lost+found/theirs"), b"x").unwrap();
    fs::write(volume.destination.path().join("lost+found/ours"), b"x").unwrap();
    fs::create_dir_all(volume.source.path().join("deep/lost+found")).unwrap();
    volume.run_pass(1).await;
    assert!(volume.destination.path().join("lost+found/ours").exists());
    assert!(!volume.destination.path().join("lost+found/theirs").exists());
    assert!(volume.destination.path().join("deep/lost+found").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_is_left_out_and_named() {
    let volume = Volume::new();
    let _listener = std::os::unix::net::UnixListener::bind(volume.source.path().join("mysql.sock")).unwrap();
    let (sent, _) = volume.run_pass(1).await;
    assert_eq!(sent.skipped_sockets.total, 1);
    assert_eq!(sent.skipped_sockets.listed[0].path, "mysql.sock");
    assert!(!volume.destination.path().join("mysql.sock").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_without_a_sender_gives_up_in_time_and_names_it() {
    let mut volume = Volume::new();
    volume.limits.peer_timeout = Duration::from_millis(300);
    let error = volume.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "SenderSilent");
    assert!(error.to_string().contains("never showed up"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_pass_says_so() {
    let volume = Volume::new();
    let cancel = CancellationToken::new();
    cancel.cancel();
    let sent = send(volume.send_options(1), Progress::new(), cancel.clone()).await;
    assert!(matches!(sent, Err(MoverError::Cancelled)), "{sent:?}");
    let received = receive(volume.receive_options(1), Progress::new(), cancel).await;
    assert!(matches!(received, Err(MoverError::Cancelled)), "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_ends_at_everything() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Mixed, 3, 0.005).unwrap();
    let (sending, receiving) = (Progress::new(), Progress::new());
    let cancel = CancellationToken::new();
    let (sent, received) = tokio::join!(
        send(volume.send_options(1), sending.clone(), cancel.clone()),
        receive(volume.receive_options(1), receiving.clone(), cancel.clone()),
    );
    let totals = sent.unwrap().totals;
    received.unwrap();
    for progress in [sending, receiving] {
        let figures = progress.figures();
        assert_eq!(figures.bytes_done, totals.bytes);
        assert_eq!(figures.files_done, totals.files);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn paths_longer_than_the_system_takes_at_once_arrive() {
    let volume = Volume::new();
    let mut fd = rustix::fs::open(
        volume.source.path(),
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let name = "n".repeat(255);
    for _ in 0..30 {
        rustix::fs::mkdirat(&fd, &name, rustix::fs::Mode::RWXU).unwrap();
        let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::DIRECTORY;
        fd = rustix::fs::openat(&fd, &name, flags, rustix::fs::Mode::empty()).unwrap();
    }
    let flags = rustix::fs::OFlags::CREATE | rustix::fs::OFlags::WRONLY;
    let file = rustix::fs::openat(&fd, "deep", flags, rustix::fs::Mode::RUSR).unwrap();
    rustix::io::write(&file, b"content").unwrap();
    drop(file);
    volume.run_pass(1).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_never_stops_changing_is_read_again_and_sent() {
    const SIZE: u64 = 20 << 20;
    let volume = Volume::new();
    let path = volume.source.path().join("busy");
    fs::write(&path, vec![1; 20 << 20]).unwrap();
    let idle = CancellationToken::new();
    let writer = std::thread::spawn({
        let idle = idle.clone();
        move || {
            let file = File::options().write(true).open(path).unwrap();
            let mut round = 0_u64;
            while !idle.is_cancelled() {
                round += 1;
                file.write_all_at(&round.to_be_bytes(), (round << 20) % SIZE).unwrap();
            }
        }
    });
    // That it changed is seen at its end, when the walk is over and the workers have ended.
    let read_again = async {
        for pass in 1.. {
            let sent = volume.send(pass).await.unwrap();
            if sent.bytes_read > SIZE {
                return pass;
            }
        }
        0
    };
    let pass = tokio::time::timeout(Duration::from_mins(1), read_again).await;
    idle.cancel();
    writer.join().unwrap();
    let pass = pass.expect("the sender hangs, or never saw a change");
    volume.receive(pass).await.unwrap();
    // Once nobody writes any more a further pass makes it whole.
    volume.run_pass(pass + 1).await;
    volume.assert_equal();
}
