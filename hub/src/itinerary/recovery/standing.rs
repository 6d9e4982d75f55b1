//! Which side runs after a failover that went without its source, and what is told of it.

use isthmus_shared::resources::{Active, MAX_FINDINGS, MigrationStatus, Side, Step, StepState, TargetState};
use jiff::Timestamp;

use super::turn::had_stopped;
use super::{Hearing, hearing};
use crate::itinerary::findings::{MAX_MESSAGE, Severity, add, cut, finding};
use crate::itinerary::steps::cluster_of;
use crate::itinerary::summary::elapsed;
use crate::itinerary::undo;
use crate::itinerary::view::{PairView, Told};

/// The reason of the warning that the source is heard again.
const HEARD_AGAIN: &str = "SourceHeardAgain";

/// Tells, once, that the source is heard again while there is still time to lose nothing.
pub(in crate::itinerary) fn warn_of_source(status: &mut MigrationStatus, view: &PairView, now: Timestamp) {
    let begun = status.started_at.as_ref().map(|at| at.0);
    let early = undo::state(status, Step::StartApplications) == Some(StepState::Pending);
    let known = status.warnings.iter().any(|warning| warning.reason == HEARD_AGAIN);
    let again = view.source.heard_at > begun && hearing(view, Side::Source, now) == Hearing::Heard;
    if status.recovers.is_none() || !early || !again || known || status.warnings.len() >= MAX_FINDINGS {
        return;
    }
    let source = cluster_of(status, Side::Source).to_owned();
    let message = "its spoke is heard again, and its applications may run: they are stopped before those of the destination start. To lose nothing of what was written there, cancel this run now and fail over again";
    add(status, Severity::Warning, None, finding(format!("Cluster {source}"), HEARD_AGAIN, message));
}

/// Which side is the active one.
pub(in crate::itinerary) fn active(status: &MigrationStatus, told: &Told) -> Active {
    let obeys = |state| told.state == Some(state) && told.done;
    let is = |step, state| undo::state(status, step) == Some(state);
    if undo::state(status, Step::StopDestination).is_some() {
        let back = is(Step::StopDestination, StepState::Succeeded) && obeys(TargetState::Active);
        return if back { Active::Source } else { Active::Unknown };
    }
    let over = is(Step::StartApplications, StepState::Succeeded) && obeys(TargetState::Inactive);
    if over { Active::Destination } else { Active::Unknown }
}

/// Whether it is not known yet what has become of the source of a failover that has ended well.
pub fn is_unsettled(status: &MigrationStatus) -> bool {
    status.status.is_success() && status.recovers.is_some() && status.active == Some(Active::Unknown)
}

/// Puts in that the source has been heard since and stands still.
pub(in crate::itinerary) fn settle(status: &mut MigrationStatus, view: &PairView) {
    if is_unsettled(status) && active(status, &view.told) == Active::Destination {
        let before = standing(status);
        status.active = Some(Active::Destination);
        let (message, now) = (status.message.take().unwrap_or_default(), standing(status));
        status.message = Some(match before {
            Some(before) => cut(&message.replace(&before, &now.unwrap_or_default()), MAX_MESSAGE),
            None => message,
        });
    }
}

/// Which side runs, by which data, and what to do where that is not known.
pub(in crate::itinerary) fn standing(status: &MigrationStatus) -> Option<String> {
    let recovered = status.recovers.as_ref()?;
    let (source, destination) = (cluster_of(status, Side::Source), cluster_of(status, Side::Destination));
    if undo::state(status, Step::StartApplications) == Some(StepState::Succeeded)
        && undo::state(status, Step::StopDestination).is_none()
    {
        let (begun, ended) = (recovered.started_at.0, recovered.finished_at.0);
        let age = status.started_at.as_ref().map_or(0, |at| at.0.as_second() - begun.as_second());
        let of_source = if status.active == Some(Active::Destination) {
            format!("{source} has been heard since, and stands still")
        } else if undo::state(status, Step::Quiesce) == Some(StepState::Succeeded) {
            format!(
                "{source} had stopped its applications before it fell silent, and is told to leave it at that as soon as it is heard"
            )
        } else {
            format!("the source may still run if it was only cut off: {source} stops as soon as it is heard")
        };
        return Some(format!(
            "The applications run on {destination} by run {}: what was written on {source} before {begun:.0}, which is {} before the failover, is there, and nothing from after {ended:.0}; {of_source}",
            recovered.run,
            elapsed(age)
        ));
    }
    let here = if undo::left_nothing_running(status) {
        format!("Nothing of the run runs on {destination}")
    } else {
        format!(
            "It is not known whether the applications run on {destination}: look there, and stop them with `isthmus deactivate NAMESPACE --cluster {destination}`"
        )
    };
    // Of a run that is held nothing is started again.
    let held = undo::state(status, Step::StopDestination).is_none() && !had_stopped(status).is_empty();
    Some(match status.active {
        Some(Active::Source) => format!("{here}, and the applications run on {source}"),
        _ if held => format!(
            "{here}; {source} had begun to stop them before it fell silent, so that they may run on neither side: fail over again, or start them with `isthmus activate NAMESPACE --cluster {source} --force` once it is heard"
        ),
        _ => format!(
            "{here}; whether they run on {source} is not known, as it was not heard: fail over again, or look there"
        ),
    })
}
