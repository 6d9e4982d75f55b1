//! Any tree arrives equal, whatever it is, whatever changes, and whoever dies.
//!
//! A suite tries few trees; `PROPTEST_CASES=2000 cargo test -p isthmus-spoke any_tree` tries more.

mod actions;

use proptest::prelude::*;

pub use self::actions::{act, change, creation};
use super::{
    faults::{cut_after, run_dying_pass, run_dying_pass_while},
    trees::Random,
    *,
};

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(8), max_shrink_iters: 200, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_arrives_equal_over_passes_with_both_sides_dying(
        made in proptest::collection::vec(creation(), 0..40),
        before in proptest::collection::vec(creation(), 0..12),
        changed in proptest::collection::vec(change(), 0..20),
        meanwhile in proptest::collection::vec(change(), 0..12),
        segment_bytes in proptest::sample::select(vec![1_usize, 300, 5000]),
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mut volume = Volume::new();
        volume.limits.segment_bytes = segment_bytes;
        volume.limits.pack_bytes = 1_100_000;
        let mut random = Random::new(seed);
        for action in &made {
            act(volume.source.path(), action);
        }
        // The destination holds something else at first.
        for action in &before {
            act(volume.destination.path(), action);
        }
        runtime.block_on(async {
            run_dying_pass(&volume, 1, &mut random).await;
            volume.assert_equal();
            for action in &changed {
                act(volume.source.path(), action);
            }
            run_dying_pass(&volume, 2, &mut random).await;
            volume.assert_equal();
            // The source changes while its sender is away: that pass is of no one moment.
            let mut actions = meanwhile.iter();
            let source = volume.source.path();
            run_dying_pass_while(&volume, 3, &mut random, || {
                for action in actions.by_ref().take(3) {
                    act(source, action);
                }
            })
            .await;
            // The next one makes it right, and each file is read back.
            volume.send(4).await.unwrap();
            let options = ReceiveOptions { verify: VerifyMethod::Full, ..volume.receive_options(4) };
            receive(options, Progress::new(), CancellationToken::new()).await.unwrap();
            volume.assert_equal();
            // And once more, as a whole, into a folder that never saw the others.
            let (_, report) = volume.run_pass(5).await;
            assert_eq!(report.deleted, 0);
            volume.assert_equal();
            volume.destination = tempfile::tempdir().unwrap();
            let mut options = volume.receive_options(5);
            options.pass.previous = None;
            options.verify = VerifyMethod::Full;
            let pair = PairUid::new("pair").unwrap();
            let id = VolumeUid::new("volume").unwrap();
            let mark = isthmus_shared::staging::layout::pass_received(&pair, &id, 5);
            volume.store.delete(&[mark]).await.unwrap();
            receive(options, Progress::new(), CancellationToken::new()).await.unwrap();
            volume.assert_equal();
        });
    }

    #[test]
    fn any_tree_is_brought_back_to_a_complete_pass_whatever_was_made_of_it(
        made in proptest::collection::vec(creation(), 0..40),
        changed in proptest::collection::vec(change(), 0..20),
        by_applications in proptest::collection::vec(change(), 0..12),
        calls in 1_u64..40,
        seed in any::<u64>(),
    ) {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let mut volume = Volume::new();
        volume.limits.segment_bytes = 300;
        volume.limits.pack_bytes = 1_100_000;
        let mut random = Random::new(seed);
        for action in &made {
            act(volume.source.path(), action);
        }
        runtime.block_on(async {
            volume.run_pass(1).await;
            for action in &changed {
                act(volume.source.path(), action);
            }
            volume.send(2).await.unwrap();
            let mut half = volume.receive_options(2);
            half.pass.store = cut_after(volume.store.clone(), calls);
            let _half = receive(half, Progress::new(), CancellationToken::new()).await;
            for action in &by_applications {
                act(volume.destination.path(), action);
            }
            let mut options = volume.receive_options(1);
            options.pass.previous = None;
            // It dies once on the way, perhaps.
            let mut dying = options.clone();
            dying.pass.store = cut_after(volume.store.clone(), random.below(40) + 1);
            let _died = recover(dying, Progress::new(), CancellationToken::new()).await;
            recover(options.clone(), Progress::new(), CancellationToken::new()).await.unwrap();
            // The same pass in a folder that never saw another.
            let fresh = tempfile::tempdir().unwrap();
            options.pass.root = fresh.path().to_owned();
            recover(options, Progress::new(), CancellationToken::new()).await.unwrap();
            assert_same(fresh.path(), volume.destination.path());
        });
    }
}
