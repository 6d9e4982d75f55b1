//! Every path: each kind of run is taken to each of its tasks, something happens there, and the run is
//! watched to its end.

use isthmus_shared::protocol::TaskId;
use isthmus_shared::resources::{
    MigrationAction, MigrationPhase, MigrationSpec, NamespaceMove, OnFailure, Step, StepState,
};

use super::cutover::{cutover, until};
use super::failback::failback;
use super::hooks::at_each_phase;
use super::sides::{Deed, Happening, Model, Side};
use super::world::world;
use crate::itinerary::{Origin, UNDO_PATIENCE_SECONDS, Undone};

/// What happens at a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Failure,
    /// Its spoke is heard, but says nothing of it.
    Timeout,
    Cancel,
    Delete,
    HubRestart,
    /// In the midst of it: it is begun again.
    SpokeRestart,
    LostReport,
    DuplicateReport,
    /// The report comes once more when the next task has ended.
    LateReport,
}

const HARMLESS: [Event; 5] =
    [Event::HubRestart, Event::SpokeRestart, Event::LostReport, Event::DuplicateReport, Event::LateReport];
const HARMFUL: [Event; 4] = [Event::Failure, Event::Timeout, Event::Cancel, Event::Delete];

/// A kind of run, and one of it at its beginning.
type Kind = (&'static str, fn() -> Model);

/// Each kind of run.
const RUNS: [Kind; 8] = [
    ("promotion", || Model::new(|spec| spec.start_applications = true)),
    ("stage", || Model::new(|spec| spec.action = MigrationAction::Stage)),
    ("dry run", || Model::new(|spec| spec.dry_run = true)),
    ("cutover", || Model::new(|spec| spec.quiesce = true)),
    ("cutover with hooks", || {
        Model::new(|spec| {
            spec.quiesce = true;
            spec.hooks = at_each_phase();
        })
    }),
    ("cutover that is to be held", || {
        Model::new(|spec| {
            spec.quiesce = true;
            spec.on_failure = OnFailure::Hold;
        })
    }),
    ("rollback", rollback),
    ("failback", || {
        Model::of(failback(|scheduled| {
            let template = scheduled.template.as_mut().expect("the schedule has one");
            template.namespaces = vec!["cms".into()];
            scheduled.moved = vec![NamespaceMove::same("cms")];
        }))
    }),
];

/// A rollback of a cutover that went well.
fn rollback() -> Model {
    let mut done = cutover(|_| {});
    until(&mut done, Step::Cleanup);
    done.clean_up();
    let mut run = world(|spec| {
        *spec = MigrationSpec {
            action: MigrationAction::Rollback,
            rollback_of: Some("m".into()),
            ..MigrationSpec::through("")
        };
    });
    let mut undone = done.migration;
    undone.metadata.uid = Some("undone".into());
    run.view.origin = Origin::Undoes(Undone { migration: Some(Box::new(undone)), superseded_by: None });
    Model { source: Side::Still, destination: Side::Runs, ..Model::of(run) }
}

/// Has the first open task end well.
fn go_on(model: &mut Model) {
    model.happen(Happening::Task { which: 0, deed: Deed::Done });
    model.check();
}

fn first_task(model: &Model) -> Option<TaskId> {
    model.run.tasks().first().map(|task| task.id.clone())
}

/// The step whose task is done next.
fn step_of(model: &Model) -> Step {
    model.run.current().expect("a run with tasks is at a step")
}

fn happen(model: &mut Model, event: Event) {
    let task = first_task(model).expect("there is a task");
    let deed = |deed| Happening::Task { which: 0, deed };
    match event {
        Event::Failure => model.happen(deed(Deed::Failed)),
        Event::Timeout => {
            for _ in 0..3 {
                if first_task(model).as_ref() != Some(&task) {
                    break;
                }
                // What goes back is waited for longest.
                model.happen(Happening::Time(UNDO_PATIENCE_SECONDS + 1));
            }
            assert_ne!(first_task(model), Some(task), "a silent task is waited for without end");
        }
        Event::Cancel => model.happen(Happening::Cancel),
        Event::Delete => model.happen(Happening::Delete),
        Event::HubRestart => {
            let docket = model.run.docket();
            model.happen(Happening::Restart);
            assert_eq!(model.run.docket(), docket, "a hub that starts anew asks for the same");
        }
        Event::SpokeRestart | Event::LostReport => {
            model.happen(deed(if event == Event::LostReport { Deed::Unheard } else { Deed::Died }));
            assert_eq!(first_task(model), Some(task), "what was not heard of is still to be done");
        }
        Event::DuplicateReport => {
            go_on(model);
            model.happen(Happening::Again(model.sent.len() - 1));
        }
        Event::LateReport => {
            go_on(model);
            let report = model.sent.len() - 1;
            go_on(model);
            model.happen(Happening::Again(report));
        }
    }
    model.check();
}

/// What is told of a run that has ended: its phase, and how each step ended.
fn ending(model: &Model) -> (MigrationPhase, Vec<(Step, StepState)>) {
    let status = model.run.status();
    (status.status, status.pipeline.iter().map(|step| (step.step, step.state)).collect())
}

fn went_well(phase: MigrationPhase) -> bool {
    matches!(phase, MigrationPhase::Succeeded | MigrationPhase::SucceededWithWarnings)
}

/// Takes each kind of run to each of its tasks, in turn, and gives the run at each to a test.
fn at_each_task(mut test: impl FnMut(&str, &mut dyn FnMut() -> Model)) {
    for (name, begin) in RUNS {
        let mut whole = begin();
        let mut tasks = 0;
        while first_task(&whole).is_some() {
            let mut again = || {
                let mut model = begin();
                (0..tasks).for_each(|_| go_on(&mut model));
                model
            };
            let place = format!("{name}, {}", first_task(&whole).expect("it has a task"));
            test(&place, &mut again);
            go_on(&mut whole);
            tasks += 1;
        }
        assert!(went_well(whole.run.phase()), "{name} ends well when all goes well");
        assert!(tasks > 2, "{name} has tasks");
    }
}

#[test]
fn what_is_lost_repeated_late_or_begun_again_changes_nothing_wherever_it_happens() {
    at_each_task(|place, at| {
        let mut undisturbed = at();
        undisturbed.finish();
        for event in HARMLESS {
            let mut model = at();
            happen(&mut model, event);
            model.finish();
            assert_eq!(ending(&model), ending(&undisturbed), "{event:?} at {place}");
            assert_eq!(model.run.status().failures, [], "{event:?} at {place}");
            assert_eq!(
                (model.source, model.destination),
                (undisturbed.source, undisturbed.destination),
                "{event:?} at {place}"
            );
        }
    });
}

#[test]
fn what_fails_is_silent_or_is_called_off_ends_the_run_with_one_side_running_wherever_it_happens() {
    at_each_task(|place, at| {
        for event in HARMFUL {
            let mut model = at();
            let before = (model.source, model.destination);
            let step = step_of(&model);
            happen(&mut model, event);
            model.finish();
            let (phase, steps) = ending(&model);
            let status = model.run.status();
            let context = format!("{event:?} at {place}: {phase:?} {steps:?} {:?}", status.message);
            if model.run.migration.options().quiesce || status.undoes.is_some() {
                model.one_runs_at_the_end();
            } else {
                assert_eq!(model.source, Side::Runs, "{context}");
            }
            if step == Step::Cleanup {
                // What the run was for is done, and stays.
                assert_eq!((model.source, model.destination), before, "{context}");
                continue;
            }
            match event {
                Event::Failure | Event::Timeout => {
                    assert!(!went_well(phase), "{context}");
                    assert!(steps.contains(&(step, StepState::Failed)), "{context}");
                    assert_eq!(status.failures.first().and_then(|first| first.step), Some(step), "{context}");
                }
                // A rollback cannot be called off: it goes on to where one side runs.
                _ => assert_eq!(went_well(phase), status.undoes.is_some(), "{context}"),
            }
            assert!(status.message.is_some_and(|message| !message.is_empty()), "{event:?} at {place}");
        }
    });
}
