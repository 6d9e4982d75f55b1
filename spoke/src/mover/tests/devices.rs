//! Block-mode volumes: on regular files, and on loop devices where there are any.

use std::{
    fs::{self, File},
    os::unix::fs::{FileExt, MetadataExt},
    path::PathBuf,
    process::Command,
    sync::atomic::{AtomicU32, Ordering},
};

use super::{
    faults::cut_after,
    meddled::{Call, Meddled},
    trees::{Random, TreeKind, generate},
    *,
};

const MIB: u64 = 1 << 20;

/// Two devices with staging between them.
struct Pair {
    volume: Volume,
    source: PathBuf,
    destination: PathBuf,
}

impl Pair {
    /// Files that stand for devices, as long as a device is: all holes.
    fn of_files(size: u64) -> Self {
        let volume = Volume::new();
        let source = volume.source.path().join("device");
        let destination = volume.destination.path().join("device");
        for path in [&source, &destination] {
            File::create(path).unwrap().set_len(size).unwrap();
        }
        Self { volume, source, destination }
    }

    fn write(&self, offset: u64, bytes: &[u8]) {
        let file = File::options().write(true).open(&self.source).unwrap();
        file.write_all_at(bytes, offset).unwrap();
        // A loop device's own cache, not the file below it, is what a mover sees.
        file.sync_all().unwrap();
    }

    fn send_options(&self, pass: u32) -> SendOptions {
        let mut options = self.volume.send_options(pass);
        options.pass.root.clone_from(&self.source);
        options
    }

    fn receive_options(&self, pass: u32) -> ReceiveOptions {
        let mut options = self.volume.receive_options(pass);
        options.pass.root.clone_from(&self.destination);
        options
    }

    async fn send(&self, pass: u32) -> Result<SendReport, MoverError> {
        send_device(self.send_options(pass), Progress::new(), CancellationToken::new()).await
    }

    async fn receive(&self, pass: u32) -> Result<ReceiveReport, MoverError> {
        receive_device(self.receive_options(pass), Progress::new(), CancellationToken::new()).await
    }

    async fn run_pass(&self, pass: u32) -> (SendReport, ReceiveReport) {
        let (sent, received) = tokio::join!(self.send(pass), self.receive(pass));
        (sent.unwrap(), received.unwrap())
    }

    #[track_caller]
    fn assert_equal(&self) {
        let size = size_of_device(&self.source);
        let (source, destination) =
            (File::open(&self.source).unwrap(), File::open(&self.destination).unwrap());
        let (mut a, mut b) = (vec![0; 1 << 20], vec![0; 1 << 20]);
        let mut at = 0;
        while at < size {
            let length = usize::try_from((size - at).min(MIB)).unwrap();
            source.read_exact_at(&mut a[..length], at).unwrap();
            destination.read_exact_at(&mut b[..length], at).unwrap();
            assert!(a[..length] == b[..length], "a difference in the block at {at}");
            at += length as u64;
        }
    }
}

fn size_of_device(path: &Path) -> u64 {
    use std::io::{Seek, SeekFrom};
    File::open(path).unwrap().seek(SeekFrom::End(0)).unwrap()
}

/// Bytes that do not compress, the same for the same seed.
fn noise(seed: u64, bytes: u64) -> Vec<u8> {
    let mut random = Random::new(seed);
    (0..bytes / 8).flat_map(|_| random.below(u64::MAX).to_le_bytes()).collect()
}

fn allocated(path: &Path) -> u64 {
    fs::metadata(path).unwrap().blocks() * 512
}

#[tokio::test(flavor = "multi_thread")]
async fn only_what_a_device_holds_is_read_sent_and_written() {
    let pair = Pair::of_files(200 * MIB);
    pair.write(0, &noise(1, 3 * MIB));
    pair.write(100 * MIB + 4096, &noise(2, 20 * MIB));
    // Allocated, but nothing.
    pair.write(150 * MIB, &vec![0; 10 << 20]);
    let (sent, received) = pair.run_pass(1).await;
    pair.assert_equal();
    assert_eq!((sent.totals.files, sent.totals.directories), (1, 0));
    assert_eq!(sent.totals.bytes, 200 * MIB);
    assert_eq!(sent.bytes_read, 33 * MIB, "{sent:?}");
    assert!(sent.bytes_uploaded < 24 * MIB, "{sent:?}");
    assert_eq!(received.bytes_written, 23 * MIB, "{received:?}");
    assert_eq!(received.totals, sent.totals);
    assert!(allocated(&pair.destination) < 24 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_pass_uploads_and_writes_the_blocks_that_changed() {
    let pair = Pair::of_files(64 * MIB);
    pair.write(0, &noise(1, 40 * MIB));
    pair.run_pass(1).await;
    pair.write(17 * MIB + 5, b"changed");
    pair.write(30 * MIB, &vec![0; 2 << 20]);
    let (sent, received) = pair.run_pass(2).await;
    pair.assert_equal();
    assert_eq!(sent.bytes_read, 40 * MIB, "a device is always read");
    assert!(sent.bytes_uploaded < 2 * MIB, "{sent:?}");
    assert_eq!(received.bytes_written, MIB, "{received:?}");
    assert!(allocated(&pair.destination) <= 38 * MIB + 65536, "zeros are a hole again");
    let (sent, received) = pair.run_pass(3).await;
    assert_eq!((sent.bytes_uploaded, received.bytes_written), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_on_the_destination_before_is_gone_or_reused() {
    let pair = Pair::of_files(40 * MIB);
    let content = noise(1, 20 * MIB);
    pair.write(10 * MIB, &content);
    let before = File::options().write(true).open(&pair.destination).unwrap();
    before.write_all_at(&noise(9, 40 * MIB), 0).unwrap();
    before.write_all_at(&content[..5 << 20], 10 * MIB).unwrap();
    let (_, received) = pair.run_pass(1).await;
    pair.assert_equal();
    assert_eq!(received.bytes_written, 15 * MIB, "{received:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_too_small_is_refused_before_anything_is_written() {
    let pair = Pair::of_files(8 * MIB);
    pair.write(0, &noise(1, 8 * MIB));
    File::options().write(true).open(&pair.destination).unwrap().set_len(8 * MIB - 4096).unwrap();
    pair.send(1).await.unwrap();
    let error = pair.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "DeviceTooSmall");
    let text = error.to_string();
    assert!(text.contains("8384512") && text.contains("8388608") && text.contains("enlarge"), "{text}");
    assert_eq!(allocated(&pair.destination), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_larger_device_keeps_what_lies_beyond() {
    let pair = Pair::of_files(4 * MIB);
    pair.write(0, &noise(1, 4 * MIB));
    let file = File::options().write(true).open(&pair.destination).unwrap();
    file.write_all_at(b"beyond", 4 * MIB).unwrap();
    pair.run_pass(1).await;
    pair.assert_equal();
    assert_eq!(fs::read(&pair.destination).unwrap()[4 << 20..], *b"beyond");
}

#[tokio::test(flavor = "multi_thread")]
async fn files_and_raw_blocks_do_not_mix() {
    let pair = Pair::of_files(MIB);
    pair.send(1).await.unwrap();
    let error = pair.volume.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "VolumeModeDiffers", "{error}");
    let other = Pair::of_files(MIB);
    other.volume.send(1).await.unwrap();
    let error = other.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "VolumeModeDiffers", "{error}");
    assert!(error.to_string().contains("volumeMode"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_root_that_is_no_device_is_named() {
    let volume = Volume::new();
    let cancel = CancellationToken::new();
    let error = send_device(volume.send_options(1), Progress::new(), cancel.clone()).await.unwrap_err();
    assert_eq!(error.reason(), "VolumeNotMounted");
    let mut options = volume.receive_options(1);
    options.pass.root.push("missing");
    let error = receive_device(options, Progress::new(), cancel).await.unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_device_arrives() {
    let pair = Pair::of_files(0);
    let (sent, _) = pair.run_pass(1).await;
    assert_eq!((sent.totals.files, sent.totals.bytes), (1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_die_at_any_call_and_the_device_still_arrives() {
    for seed in 0..3 {
        let mut pair = Pair::of_files(60 * MIB);
        pair.volume.limits.segment_bytes = 400;
        pair.volume.limits.pack_bytes = 1_100_000;
        pair.write(MIB, &noise(seed, 15 * MIB));
        pair.write(33 * MIB, &noise(seed + 10, 20 * MIB));
        for pass in 1..=2 {
            run_dying_pass(&pair, pass, &mut Random::new(seed)).await;
            pair.assert_equal();
            pair.write(20 * MIB, &noise(seed + 20, 3 * MIB));
            pair.write(5 * MIB, &vec![0; 4 << 20]);
        }
    }
}

/// As that of files: each side dies at random calls, until both are through.
async fn run_dying_pass(pair: &Pair, pass: u32, random: &mut Random) {
    let (mut sent, mut received) = (false, false);
    let mut patience = 8;
    while !(sent && received) {
        let mut sending = pair.send_options(pass);
        sending.pass.store = cut_after(pair.volume.store.clone(), random.below(patience));
        let mut receiving = pair.receive_options(pass);
        receiving.pass.limits.peer_timeout = Duration::from_millis(if sent { 10_000 } else { 100 });
        receiving.pass.store = cut_after(pair.volume.store.clone(), random.below(patience));
        let cancel = CancellationToken::new();
        let (sender, receiver) = tokio::join!(
            send_device(sending, Progress::new(), cancel.clone()),
            receive_device(receiving, Progress::new(), cancel.clone()),
        );
        for error in [sender.as_ref().err(), receiver.as_ref().err()].into_iter().flatten() {
            assert!(matches!(error.reason(), "StoreUnavailable" | "SenderSilent"), "{error}");
        }
        sent |= sender.is_ok();
        received |= receiver.is_ok();
        patience += patience / 2;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sender_that_starts_again_reads_only_the_rest() {
    let mut pair = Pair::of_files(64 * MIB);
    pair.volume.limits.segment_bytes = 100;
    pair.volume.limits.pack_bytes = 1_100_000;
    pair.write(0, &noise(1, 64 * MIB));
    let mut sending = pair.send_options(1);
    sending.pass.store = cut_after(pair.volume.store.clone(), 60);
    send_device(sending, Progress::new(), CancellationToken::new()).await.unwrap_err();
    let sent = pair.send(1).await.unwrap();
    let packs: usize = pair
        .volume
        .memory
        .contents()
        .iter()
        .filter(|(key, _)| key.contains("/packs/"))
        .map(|(_, size)| *size)
        .sum();
    assert!((packs as u64) < 90 * MIB, "{packs} bytes of packs");
    assert_eq!(sent.totals.bytes, 64 * MIB);
    pair.receive(1).await.unwrap();
    pair.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn progress_of_a_device_ends_at_its_size() {
    let pair = Pair::of_files(30 * MIB);
    pair.write(9 * MIB, &noise(1, 2 * MIB));
    let (sending, receiving) = (Progress::new(), Progress::new());
    let cancel = CancellationToken::new();
    let (sent, received) = tokio::join!(
        send_device(pair.send_options(1), sending.clone(), cancel.clone()),
        receive_device(pair.receive_options(1), receiving.clone(), cancel),
    );
    sent.unwrap();
    received.unwrap();
    for progress in [sending, receiving] {
        let figures = progress.figures();
        assert_eq!((figures.bytes_done, figures.files_done), (30 * MIB, 1));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_read_back_where_that_is_asked_for() {
    let pair = Pair::of_files(20 * MIB);
    pair.write(3 * MIB, &noise(1, 5 * MIB));
    let mut options = pair.receive_options(1);
    options.verify = VerifyMethod::Full;
    let progress = Progress::new();
    let (sent, received) =
        tokio::join!(pair.send(1), receive_device(options, progress.clone(), CancellationToken::new()),);
    sent.unwrap();
    let received = received.unwrap();
    assert_eq!((received.files_read_back, received.bytes_read_back), (Some(1), Some(20 * MIB)));
    assert_eq!(progress.figures().bytes_read_back, 20 * MIB);
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_back_finds_what_somebody_else_wrote_meanwhile() {
    for (offset, how) in [(4 * MIB + 77, "not those that were sent"), (15 * MIB, "zeros in the source")] {
        let pair = Pair::of_files(20 * MIB);
        pair.write(3 * MIB, &noise(1, 5 * MIB));
        pair.send(1).await.unwrap();
        let mut options = pair.receive_options(1);
        options.verify = VerifyMethod::Full;
        // When its manifest is read for the second time.
        let (device, segments) = (pair.destination.clone(), AtomicU32::new(0));
        options.pass.store = Meddled::serving(pair.volume.store.clone(), move |call| {
            let first = matches!(call, Call::Get(key) if key.ends_with("segments/0000000000"));
            if first && segments.fetch_add(1, Ordering::SeqCst) == 1 {
                let file = File::options().write(true).open(&device).unwrap();
                file.write_all_at(b"intruder", offset).unwrap();
            }
        });
        let received = receive_device(options, Progress::new(), CancellationToken::new()).await;
        let error = received.unwrap_err();
        assert_eq!(error.reason(), "VerificationFailed", "{error}");
        let MoverError::Differs { notes } = error else { panic!("{error}") };
        assert!(notes.listed[0].message.contains(how), "{notes:?}");
    }
}

/// A loop device over a file; detached when dropped.
struct Loop(PathBuf);

impl Loop {
    /// `None` where there are none, or we may not make one.
    fn over(file: &Path) -> Option<Self> {
        let output = Command::new("losetup").args(["--find", "--show"]).arg(file).output().ok()?;
        let name = String::from_utf8(output.stdout).ok()?;
        output.status.success().then(|| Self(PathBuf::from(name.trim())))
    }
}

impl Drop for Loop {
    fn drop(&mut self) {
        Command::new("losetup").arg("--detach").arg(&self.0).status().ok();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn real_block_devices_arrive_pass_after_pass() {
    let mut pair = Pair::of_files(48 * MIB);
    let loops = (Loop::over(&pair.source), Loop::over(&pair.destination));
    let (Some(source), Some(destination)) = &loops else {
        eprintln!("not tested: no loop devices here, or no right to them");
        return;
    };
    pair.source.clone_from(&source.0);
    pair.destination.clone_from(&destination.0);
    pair.write(2 * MIB, &noise(1, 30 * MIB));
    let (sent, received) = pair.run_pass(1).await;
    pair.assert_equal();
    assert_eq!(sent.bytes_read, 48 * MIB, "a device shows no holes");
    assert_eq!(received.bytes_written, 30 * MIB);
    pair.write(12 * MIB + 512, b"changed");
    pair.write(20 * MIB, &vec![0; 3 << 20]);
    let (sent, received) = pair.run_pass(2).await;
    pair.assert_equal();
    assert!(sent.bytes_uploaded < 2 * MIB, "{sent:?}");
    assert_eq!(received.bytes_written, MIB, "{received:?}");
    // One that somebody else has is not written to.
    let held = rustix::fs::open(
        &pair.destination,
        rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::EXCL,
        rustix::fs::Mode::empty(),
    )
    .unwrap();
    let error = pair.receive(3).await.unwrap_err();
    assert_eq!(error.reason(), "VolumeNotMounted", "{error}");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_directory_of_large_files_still_arrives_beside_devices() {
    let volume = Volume::new();
    generate(volume.source.path(), TreeKind::Large, 5, 0.02).unwrap();
    volume.run_pass(1).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_is_brought_back_to_an_earlier_pass() {
    let pair = Pair::of_files(64 * MIB);
    pair.write(0, &noise(1, 3 * MIB));
    pair.write(40 * MIB, &noise(2, 2 * MIB));
    pair.run_pass(1).await;
    let kept = fs::read(&pair.source).unwrap();
    pair.write(MIB, &noise(3, MIB));
    pair.write(20 * MIB, &noise(4, MIB));
    pair.run_pass(2).await;
    let mut options = pair.receive_options(1);
    options.pass.previous = None;
    recover_device(options, Progress::new(), CancellationToken::new()).await.unwrap();
    assert!(fs::read(&pair.destination).unwrap() == kept);
}
