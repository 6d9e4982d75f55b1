//! Failing a schedule back: by its options turned round, and only what was failed over.

use isthmus_shared::resources::{
    MigrationAction, MigrationPhase, MigrationSpec, NamespaceMove, Step, Transform,
};

use super::world::{World, world};
use crate::itinerary::{Origin, SETTLE_SECONDS, Scheduled};

/// A failback of a schedule that a failover has handed over.
pub(super) fn failback(change: impl FnOnce(&mut Scheduled)) -> World {
    let mut run = world(|spec| {
        *spec = MigrationSpec {
            action: MigrationAction::Failback,
            schedule: Some("nightly".into()),
            ..MigrationSpec::through("")
        };
    });
    let template = MigrationSpec {
        namespaces: vec!["shop:shop-green".into(), "team-*".into()],
        storage_class_mapping: [("gold".to_owned(), "fast".to_owned())].into(),
        ..MigrationSpec::through("prod")
    };
    let moved = |from: &str, to: &str| NamespaceMove { from: from.into(), to: to.into() };
    let mut scheduled = Scheduled {
        template: Some(Box::new(template)),
        failed_over: Some("failover-1".into()),
        moved: vec![moved("shop", "shop-green"), moved("team-a", "team-a")],
        ..Scheduled::default()
    };
    change(&mut scheduled);
    run.view.origin = Origin::Schedule(Box::new(scheduled));
    run.view.pair.as_mut().unwrap().bidirectional = true;
    run
}

fn refusal(mut run: World) -> String {
    run.advance();
    run.pass(SETTLE_SECONDS);
    assert_eq!(run.phase(), MigrationPhase::Failed, "{:?}", run.status());
    run.status().failures[0].reason.clone()
}

#[test]
fn a_failback_is_a_cutover_the_other_way_of_what_was_failed_over() {
    let mut run = failback(|_| {});
    run.advance();
    let status = run.status();
    assert_eq!((status.source.as_deref(), status.destination.as_deref()), (Some("west"), Some("east")));
    let steps: Vec<Step> = status.pipeline.iter().map(|step| step.step).collect();
    assert!(steps.contains(&Step::Quiesce) && steps.contains(&Step::StartApplications), "{steps:?}");
    let options = run.migration.options();
    let names: Vec<String> = options.namespaces.iter().map(ToString::to_string).collect();
    assert_eq!(names, ["shop-green:shop", "team-a"]);
    assert_eq!(options.storage_class_mapping.get("fast").map(String::as_str), Some("gold"));
    assert!(options.reverse && options.quiesce && options.starts());
    assert!(status.warnings.is_empty());
}

#[test]
fn what_cannot_be_turned_round_is_told_as_it_begins() {
    let mut run = failback(|scheduled| {
        scheduled.template.as_mut().unwrap().transforms = vec![Transform::default()];
    });
    run.advance();
    let warning = &run.status().warnings[0];
    assert_eq!((warning.object.as_str(), warning.reason.as_str()), ("spec.transforms", "NotTurnedRound"));
    assert!(run.migration.options().transforms.is_empty());
}

#[test]
fn only_what_was_failed_over_and_not_handed_back_is_failed_back() {
    assert_eq!(refusal(failback(|scheduled| scheduled.failed_over = None)), "NotFailedOver");
    assert_eq!(refusal(failback(|scheduled| scheduled.template = None)), "NoSuchSchedule");
    let mut one_way = failback(|_| {});
    one_way.view.pair.as_mut().unwrap().bidirectional = false;
    assert_eq!(refusal(one_way), "NotBidirectional");
}
