//! A store that dies, and what is left to the next process.

use std::sync::atomic::{AtomicI64, Ordering};

use isthmus_shared::staging::StoreError;

use super::{
    meddled::{Call, Fate, Meddled},
    trees::{Random, TreeKind, generate},
    *,
};

/// How a mover ends at its last call.
#[derive(Debug, Clone)]
enum Death {
    /// The call is not made.
    Before,
    /// The call is made, and its answer lost.
    LostAnswer,
    /// The call is made and answered, and right then the process is told to stop.
    After(CancellationToken),
}

/// A store that serves a number of calls, then none any more: to the store, that is what a killed
/// mover looks like.
pub fn cut_after(inner: Arc<dyn ObjectStore>, calls: u64) -> Arc<dyn ObjectStore> {
    dying(inner, calls, Death::Before)
}

fn dying(inner: Arc<dyn ObjectStore>, calls: u64, death: Death) -> Arc<dyn ObjectStore> {
    let left = AtomicI64::new(i64::try_from(calls).unwrap());
    Meddled::with(inner, move |call| {
        let (Call::Put(key) | Call::Get(key) | Call::ReadRange(key)) = call else { return Fate::Served };
        let killed = || StoreError::Unavailable {
            store: "the test's store".to_owned(),
            operation: "call",
            key: key.to_owned(),
            detail: "killed".to_owned(),
        };
        let left = left.fetch_sub(1, Ordering::SeqCst);
        match &death {
            _ if left > 1 => Fate::Served,
            Death::LostAnswer if left == 1 => Fate::Lost(killed()),
            Death::After(cancel) if left == 1 => Fate::Last(cancel.clone()),
            Death::Before if left == 1 => Fate::Served,
            _ => Fate::Refused(killed()),
        }
    })
}

/// Runs a pass with both sides dying again and again at random calls, until both are through.
pub async fn run_dying_pass(volume: &Volume, pass: u32, random: &mut Random) -> u32 {
    run_dying_pass_while(volume, pass, random, || ()).await
}

/// As [`run_dying_pass`], with `meanwhile` done between any two lives.
pub async fn run_dying_pass_while(
    volume: &Volume,
    pass: u32,
    random: &mut Random,
    mut meanwhile: impl FnMut(),
) -> u32 {
    let mut deaths = 0;
    let (mut sent, mut received) = (false, false);
    let mut patience = 8;
    while !(sent && received) {
        let cancels = [CancellationToken::new(), CancellationToken::new()];
        let mut dying = |cancel: &CancellationToken| {
            let death = match random.below(3) {
                0 => Death::Before,
                1 => Death::LostAnswer,
                _ => Death::After(cancel.clone()),
            };
            dying(volume.store.clone(), random.below(patience), death)
        };
        let mut sending = volume.send_options(pass);
        sending.pass.store = dying(&cancels[0]);
        let mut receiving = volume.receive_options(pass);
        receiving.pass.limits.peer_timeout = Duration::from_millis(if sent { 10_000 } else { 100 });
        receiving.pass.store = dying(&cancels[1]);
        let (sender, receiver) = tokio::join!(
            send(sending, Progress::new(), cancels[0].clone()),
            receive(receiving, Progress::new(), cancels[1].clone()),
        );
        for error in [sender.as_ref().err(), receiver.as_ref().err()].into_iter().flatten() {
            let expected = matches!(error.reason(), "StoreUnavailable" | "SenderSilent" | "Cancelled");
            assert!(expected, "{error}");
            deaths += 1;
        }
        sent |= sender.is_ok();
        received |= receiver.is_ok();
        patience += patience / 2;
        if !sent {
            meanwhile();
        }
    }
    deaths
}

#[tokio::test(flavor = "multi_thread")]
async fn both_sides_may_die_at_any_call_and_the_pass_still_ends_exactly() {
    for seed in 0..2 {
        let mut volume = Volume::new();
        volume.limits.segment_bytes = 400;
        volume.limits.pack_bytes = 1_100_000;
        let mut random = Random::new(seed);
        generate(volume.source.path(), TreeKind::Mixed, seed, 0.002).unwrap();
        generate(volume.source.path(), TreeKind::Large, seed, 0.04).unwrap();
        let deaths = run_dying_pass(&volume, 1, &mut random).await;
        assert!(deaths > 2, "{deaths} deaths");
        volume.assert_equal();
        let more = volume.source.path().join("d00/more");
        std::fs::create_dir(&more).unwrap();
        generate(&more, TreeKind::Mixed, seed + 1, 0.001).unwrap();
        std::fs::remove_file(volume.source.path().join("large-2.bin")).unwrap();
        run_dying_pass(&volume, 2, &mut random).await;
        volume.assert_equal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_sender_does_not_upload_again_what_segments_name() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 400;
    volume.limits.pack_bytes = 1_100_000;
    generate(volume.source.path(), TreeKind::Mixed, 1, 0.01).unwrap();
    let whole = {
        let other = Volume::new();
        generate(other.source.path(), TreeKind::Mixed, 1, 0.01).unwrap();
        other.send(1).await.unwrap().bytes_uploaded
    };
    let mut sending = volume.send_options(1);
    sending.pass.store = cut_after(volume.store.clone(), 14);
    let cancel = CancellationToken::new();
    send(sending, Progress::new(), cancel).await.unwrap_err();
    let left = volume.memory.contents().len();
    assert!(left > 6, "{left} objects");
    volume.send(1).await.unwrap();
    let staged: usize = volume
        .memory
        .contents()
        .iter()
        .filter(|(key, _)| key.contains("/packs/"))
        .map(|(_, size)| size)
        .sum();
    assert!((staged as u64) < whole + 8 * 1_100_000, "{staged} of {whole}");
    volume.receive(1).await.unwrap();
    volume.assert_equal();
}

/// Sends until it dies in the midst of the large file `d/large`, which has a second name.
async fn die_within_a_large_file(volume: &mut Volume) {
    volume.limits.segment_bytes = 1;
    volume.limits.pack_bytes = 1_100_000;
    let folder = volume.source.path().join("d");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("large"), Random::new(1).noise(30 << 20)).unwrap();
    std::fs::write(volume.source.path().join("z"), b"last").unwrap();
    std::fs::hard_link(folder.join("large"), volume.source.path().join("other")).unwrap();
    tokio::time::sleep(limits::RACY_AGE + Duration::from_secs(1)).await;
    let mut sending = volume.send_options(1);
    sending.pass.store = cut_after(volume.store.clone(), 24);
    send(sending, Progress::new(), CancellationToken::new()).await.unwrap_err();
    let found = send::opened(&volume.pass(volume.source.path(), 1)).await.unwrap();
    assert_eq!(found.as_deref(), Some(&b"d/large"[..]), "it died elsewhere");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_large_file_that_is_gone_or_something_else_when_its_sender_comes_back_ends_there() {
    type Change = fn(&Path);
    let changes: [(&str, Change, u64); 5] = [
        ("removed", |root| std::fs::remove_file(root.join("d/large")).unwrap(), 1),
        ("renamed", |root| std::fs::rename(root.join("d"), root.join("e")).unwrap(), 1),
        (
            "a socket",
            |root| {
                std::fs::remove_file(root.join("d/large")).unwrap();
                std::os::unix::net::UnixListener::bind(root.join("d/large")).unwrap();
            },
            1,
        ),
        (
            "a directory",
            |root| {
                std::fs::remove_file(root.join("d/large")).unwrap();
                std::fs::create_dir(root.join("d/large")).unwrap();
            },
            0,
        ),
        ("small", |root| std::fs::write(root.join("d/large"), b"small").unwrap(), 0),
    ];
    for (what, change, inconsistent) in changes {
        let mut volume = Volume::new();
        die_within_a_large_file(&mut volume).await;
        change(volume.source.path());
        let (sent, _) = volume.run_pass(1).await;
        assert_eq!(sent.inconsistent.total, inconsistent, "{what}: {sent:?}");
        volume.run_pass(2).await;
        volume.assert_equal();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_read_in_part_is_not_taken_for_the_file_that_comes_back_unchanged() {
    let mut volume = Volume::new();
    die_within_a_large_file(&mut volume).await;
    let root = volume.source.path().to_owned();
    // What is in a directory that is renamed does not change by that.
    std::fs::rename(root.join("d"), root.join("e")).unwrap();
    volume.run_pass(1).await;
    std::fs::rename(root.join("e"), root.join("d")).unwrap();
    volume.run_pass(2).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receiver_that_starts_again_does_not_fetch_finished_segments_again() {
    let mut volume = Volume::new();
    volume.limits.segment_bytes = 2000;
    generate(volume.source.path(), TreeKind::Mixed, 2, 0.02).unwrap();
    volume.send(1).await.unwrap();
    let mut receiving = volume.receive_options(1);
    receiving.pass.store = cut_after(volume.store.clone(), 60);
    receive(receiving, Progress::new(), CancellationToken::new()).await.unwrap_err();
    let report = volume.receive(1).await.unwrap();
    volume.assert_equal();
    assert!(report.bytes_fetched < report.totals.bytes * 2, "{report:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_sender_is_named_by_its_receiver() {
    let mut volume = Volume::new();
    generate(volume.source.path(), TreeKind::Mixed, 2, 0.01).unwrap();
    volume.limits.peer_timeout = Duration::from_millis(400);
    let mut sending = volume.send_options(1);
    sending.pass.store = cut_after(volume.store.clone(), 3);
    send(sending, Progress::new(), CancellationToken::new()).await.unwrap_err();
    let error = volume.receive(1).await.unwrap_err();
    assert_eq!(error.reason(), "SenderSilent");
    assert!(error.to_string().contains("sender-pod"), "{error}");
}
