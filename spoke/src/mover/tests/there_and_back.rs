//! Passes over one volume that go now one way and now the other between two claims: nothing that
//! staging holds is sent again, and nothing is relied on that the other side may have changed.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    time::SystemTime,
};

use proptest::prelude::*;

use super::{
    faults::run_dying_pass,
    generated::{act, change, creation},
    trees::{Random, TreeKind, generate},
    *,
};

/// A volume whose name is the source's claim, as in staging.
fn between_claims() -> Volume {
    let mut volume = Volume::new();
    volume.claims = Some(["volume".to_owned(), "there".to_owned()]);
    volume
}

impl Volume {
    /// From now on passes go the other way.
    fn turn(&mut self) {
        std::mem::swap(&mut self.source, &mut self.destination);
        if let Some(claims) = &mut self.claims {
            claims.swap(0, 1);
        }
    }
}

/// Writes into a file in place and gives it back the time that it had.
fn write_unseen(path: &Path, bytes: &[u8], at: u64) {
    let file = File::options().write(true).open(path).unwrap();
    let modified: SystemTime = file.metadata().unwrap().modified().unwrap();
    file.write_all_at(bytes, at).unwrap();
    file.set_modified(modified).unwrap();
}

/// Until then the times of files that were just made are not relied on.
async fn be_old_enough() {
    tokio::time::sleep(limits::RACY_AGE + Duration::from_secs(1)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_way_back_uploads_and_writes_what_changed_and_no_more() {
    let mut volume = between_claims();
    generate(volume.source.path(), TreeKind::Mixed, 3, 0.01).unwrap();
    generate(volume.source.path(), TreeKind::Large, 3, 0.02).unwrap();
    let (first, _) = volume.run_pass(1).await;
    assert!(first.bytes_uploaded > 10 << 20, "{first:?}");

    volume.turn();
    let large = volume.source.path().join("large-1.bin");
    File::options().write(true).open(&large).unwrap().write_all_at(b"changed there", 5 << 20).unwrap();
    fs::write(volume.source.path().join("new"), Random::new(1).noise(100_000)).unwrap();
    fs::remove_file(volume.source.path().join("large-2.bin")).unwrap();
    let (sent, received) = volume.run_pass(2).await;
    volume.assert_equal();
    // One block of the large file, and the new one.
    assert!(sent.bytes_uploaded < 1_500_000, "{sent:?}");
    // Beside these, files with several names, into which nothing is written in place.
    assert!(received.bytes_written < 4_000_000 && received.deleted == 1, "{received:?}");

    // And the first way again, with nothing changed: nothing is sent, and from then on inodes are
    // known again.
    volume.turn();
    be_old_enough().await;
    let (sent, received) = volume.run_pass(3).await;
    assert_eq!(sent.bytes_uploaded, 0, "{sent:?} {received:?}");
    assert!(received.bytes_written < 4_000_000, "{received:?}");
    assert!(sent.bytes_read > 10 << 20, "{sent:?}");
    volume.assert_equal();
    let (sent, received) = volume.run_pass(4).await;
    assert_eq!((sent.bytes_uploaded, received.bytes_compared), (0, 0), "{sent:?} {received:?}");
    assert!(sent.totals.unchanged_files > 0, "{sent:?}");
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_old_side_wrote_after_it_was_read_is_found_on_the_way_back() {
    let mut volume = between_claims();
    fs::write(volume.source.path().join("records"), vec![7; 400_000]).unwrap();
    volume.run_pass(1).await;
    // It was cut off, and went on for a while: the same size, the same time, other bytes.
    write_unseen(&volume.source.path().join("records"), b"written too late", 1000);
    volume.turn();
    volume.run_pass(2).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_other_side_wrote_while_it_was_the_active_one_is_found_on_the_next_way_there() {
    let mut volume = between_claims();
    fs::write(volume.source.path().join("records"), vec![7; 400_000]).unwrap();
    volume.run_pass(1).await;
    volume.turn();
    volume.run_pass(2).await;
    volume.turn();
    // The pass that this one builds on is one that the receiver has sent, not received.
    write_unseen(&volume.destination.path().join("records"), b"written there", 1000);
    volume.run_pass(3).await;
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn staging_of_before_claims_were_noted_is_gone_on_with_either_way() {
    let mut volume = between_claims();
    generate(volume.source.path(), TreeKind::Mixed, 3, 0.01).unwrap();
    let claims = volume.claims.take();
    be_old_enough().await;
    volume.run_pass(1).await;
    volume.claims = claims;
    let (sent, received) = volume.run_pass(2).await;
    assert!(sent.totals.unchanged_files > 0 && received.bytes_compared == 0, "{sent:?} {received:?}");
    // Nor does a mover of before mind what was noted.
    let claims = volume.claims.take();
    volume.run_pass(3).await;
    volume.assert_equal();
    volume.claims = claims;
    volume.turn();
    let (sent, _) = volume.run_pass(4).await;
    assert_eq!(sent.bytes_uploaded, 0, "{sent:?}");
    volume.assert_equal();
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_blocks_go_back_by_what_changed_as_well() {
    let mut volume = between_claims();
    let device = |folder: &tempfile::TempDir| folder.path().join("device");
    fs::write(device(&volume.source), Random::new(9).noise(12 << 20)).unwrap();
    File::create(device(&volume.destination)).unwrap().set_len(12 << 20).unwrap();
    for (pass, least, most) in [(1, 8_u64 << 20, u64::MAX), (2, 1, 3 << 20)] {
        let mut sending = volume.send_options(pass);
        let mut receiving = volume.receive_options(pass);
        sending.pass.root = device(&volume.source);
        receiving.pass.root = device(&volume.destination);
        let cancel = CancellationToken::new;
        let (sent, received) = tokio::join!(
            send_device(sending, Progress::new(), cancel()),
            receive_device(receiving, Progress::new(), cancel()),
        );
        let (sent, _) = (sent.unwrap(), received.unwrap());
        assert!((least..most).contains(&sent.bytes_uploaded), "{sent:?}");
        assert!(fs::read(device(&volume.source)).unwrap() == fs::read(device(&volume.destination)).unwrap());
        volume.turn();
        let file = File::options().write(true).open(device(&volume.source)).unwrap();
        file.write_all_at(b"changed there", 7 << 20).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(6), max_shrink_iters: 100, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_arrives_equal_there_and_back_again_with_both_sides_dying(
        made in proptest::collection::vec(creation(), 0..30),
        legs in proptest::collection::vec(
            (any::<bool>(), proptest::collection::vec(change(), 0..10), proptest::collection::vec(change(), 0..4)),
            1..5,
        ),
        segment_bytes in proptest::sample::select(vec![300_usize, 5000]),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mut volume = between_claims();
        volume.limits.segment_bytes = segment_bytes;
        volume.limits.pack_bytes = 1_100_000;
        let mut random = Random::new(seed);
        for action in &made {
            act(volume.source.path(), action);
        }
        runtime.block_on(async {
            run_dying_pass(&volume, 1, &mut random).await;
            volume.assert_equal();
            for (pass, (turns, changed, too_late)) in (2..).zip(&legs) {
                if *turns {
                    volume.turn();
                    // The side that was handed over did not stand still at once.
                    for action in too_late {
                        act(volume.destination.path(), action);
                    }
                }
                for action in changed {
                    act(volume.source.path(), action);
                }
                run_dying_pass(&volume, pass, &mut random).await;
                volume.assert_equal();
            }
        });
    }
}
