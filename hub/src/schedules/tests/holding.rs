//! What holds a schedule, and what lets it go on.

use isthmus_shared::resources::{ActivationPhase, Active, TargetState};

use super::*;

fn crossing(way: Way, hour: &str, outcome: Outcome) -> Crossing {
    Crossing { name: format!("{way:?}-{hour}").to_lowercase(), created: at(hour), way, outcome }
}

fn is_held(crossings: &[Crossing]) -> bool {
    failed_over("hourly", crossings).is_some()
}

#[test]
fn a_failover_holds_from_its_beginning_until_a_later_failback_has_succeeded() {
    let over = |outcome| crossing(Way::Over, "01:00", outcome);
    let back = |hour, outcome| crossing(Way::Back, hour, outcome);
    assert!(!is_held(&[]));
    for outcome in [Outcome::UnderWay, Outcome::Succeeded] {
        assert!(is_held(&[over(outcome)]));
        assert!(is_held(&[over(outcome), back("00:30", Outcome::Succeeded)]), "it was of another failover");
        for early in [Outcome::UnderWay, Outcome::Failed(Some(Active::Destination))] {
            assert!(is_held(&[over(outcome), back("02:00", early)]));
        }
    }
    assert!(!is_held(&[back("02:00", Outcome::Succeeded), over(Outcome::Succeeded)]));
    assert!(!is_held(&[over(Outcome::Succeeded), back("01:00", Outcome::Succeeded)]), "within a second");
    let again = crossing(Way::Over, "03:00", Outcome::UnderWay);
    assert!(is_held(&[over(Outcome::Succeeded), back("02:00", Outcome::Succeeded), again]));
}

#[test]
fn a_failover_that_failed_holds_only_where_the_destination_may_run() {
    for (active, held) in [
        (None, false),
        (Some(Active::Source), false),
        (Some(Active::Neither), false),
        (Some(Active::Destination), true),
        (Some(Active::Unknown), true),
    ] {
        assert_eq!(is_held(&[crossing(Way::Over, "01:00", Outcome::Failed(active))]), held, "{active:?}");
    }
}

#[test]
fn a_hold_names_the_migration_and_how_it_goes_on() {
    let told = |outcome| failed_over("hourly", &[crossing(Way::Over, "01:00", outcome)]).unwrap().message;
    for outcome in [Outcome::UnderWay, Outcome::Succeeded, Outcome::Failed(Some(Active::Unknown))] {
        let message = told(outcome);
        assert!(
            message.contains("Migration over-01:00") && message.contains("isthmus failback hourly"),
            "{message}"
        );
    }
}

fn is_active(marked_active: Option<bool>, asked: Option<(TargetState, ActivationPhase)>) -> bool {
    let place = Place { cluster: "west".into(), namespace: "cms".into(), marked_active, asked };
    destination_active("hourly", &[place]).is_some()
}

#[test]
fn applications_that_run_or_are_being_started_on_the_destination_hold() {
    use ActivationPhase::{Failed, InProgress, Succeeded};
    use TargetState::{Active, Inactive};
    assert!(!is_active(None, None));
    assert!(is_active(Some(true), None) && !is_active(Some(false), None));
    for phase in [InProgress, Succeeded, Failed] {
        assert!(is_active(None, Some((Active, phase))), "{phase:?}: some of them may run");
    }
    assert!(is_active(Some(false), Some((Active, InProgress))), "they are being started");
    assert!(!is_active(Some(false), Some((Active, Succeeded))), "a failback has stopped them since");
    assert!(is_active(Some(true), Some((Inactive, Succeeded))), "a failover has started them since");
    assert!(
        is_active(Some(true), Some((Inactive, InProgress))) && is_active(None, Some((Inactive, InProgress)))
    );
    assert!(
        !is_active(None, Some((Inactive, Succeeded)))
            && !is_active(Some(false), Some((Inactive, InProgress)))
    );
}

#[test]
fn an_active_destination_is_named_with_what_to_do() {
    let place = |namespace: &str, marked| Place {
        cluster: "west".into(),
        namespace: namespace.into(),
        marked_active: marked,
        asked: None,
    };
    let places = [place("cms", Some(false)), place("shop", Some(true)), place("web", Some(true))];
    let message = destination_active("hourly", &places).unwrap().message;
    assert!(message.contains("namespace shop (and 1 more)"), "{message}");
    assert!(message.contains("isthmus deactivate shop --cluster west"), "{message}");
}

#[test]
fn a_held_schedule_begins_nothing_and_goes_on_by_itself() {
    let mut schedule = hourly();
    let hold = Hold { reason: HoldReason::FailedOver, message: "failed over".into() };
    let seen = Seen { hold: Some(hold), ..Seen::default() };
    for hour in ["01:00", "02:00"] {
        let decision = decide(&schedule, &seen, at(hour));
        assert_eq!(
            (decision.begin, reason(&decision), &decision.status.next_at),
            (None, "FailedOver", &None)
        );
        schedule.status = Some(decision.status);
    }
    let held = schedule.status.as_ref().unwrap().held.clone().unwrap();
    assert_eq!((held.since, held.message.as_str()), (Time(at("01:00")), "failed over"));
    let released = decide(&schedule, &Seen::default(), at("02:30"));
    assert_eq!((released.begin, released.status.held), (Some(at("02:00")), None));
}
