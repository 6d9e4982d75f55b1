//! What holds of cutovers whatever happens: spokes that do their work wholly or partly, and whose
//! reports are lost, doubled or late; hubs that start anew; steps that time out; cancellation.

use isthmus_shared::resources::OnFailure;
use proptest::prelude::*;

use super::hooks::at_each_phase;
use super::sides::{Deed, Happening, Model, Side};
use super::world::cases;
use crate::itinerary::UNDO_PATIENCE_SECONDS;

fn happening() -> impl Strategy<Value = Happening> {
    let deed = prop_oneof![
        10 => Just(Deed::Done),
        2 => Just(Deed::Unheard),
        1 => Just(Deed::Failed),
        1 => Just(Deed::Died)
    ];
    prop_oneof![
        30 => (0usize..6, deed).prop_map(|(which, deed)| Happening::Task { which, deed }),
        4 => (0usize..60).prop_map(Happening::Again),
        2 => (0i64..4000).prop_map(Happening::Time),
        2 => Just(Happening::Restart),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::Delete),
    ]
}

proptest! {
    #![proptest_config(cases(2000))]
    #[test]
    fn whatever_happens_one_side_runs_at_the_most_and_one_at_the_end(
        hold in prop::bool::weighted(0.2), retries in prop::option::of(1u32..4),
        hooked in prop::bool::ANY,
        story in prop::collection::vec(happening(), 0..120)
    ) {
        let mut model = Model::new(|spec| {
            spec.quiesce = true;
            for (_, of_step) in spec.retries.entries() {
                *of_step = retries;
            }
            spec.on_failure = if hold { OnFailure::Hold } else { OnFailure::Rollback };
            spec.hooks = if hooked { at_each_phase() } else { Vec::new() };
        });
        for happening in story {
            model.happen(happening);
            model.check();
        }
        model.finish();
        model.one_runs_at_the_end();
    }

    #[test]
    fn a_spoke_that_is_gone_for_good_does_not_keep_a_run_from_ending(
        story in prop::collection::vec(happening(), 0..60)
    ) {
        let mut model = Model::new(|spec| spec.quiesce = true);
        for happening in story {
            model.happen(happening);
        }
        for _ in 0..8 {
            model.run.now += jiff::ToSpan::seconds(UNDO_PATIENCE_SECONDS + 1);
            model.run.advance();
        }
        prop_assert!(model.run.phase().is_terminal());
    }

    #[test]
    fn a_promotion_never_touches_the_source(story in prop::collection::vec(happening(), 0..80)) {
        let mut model = Model::new(|spec| spec.start_applications = true);
        for happening in story {
            model.happen(happening);
            prop_assert_eq!((model.source, model.run.status().active), (Side::Runs, None));
        }
    }
}
