//! A plan, what surrounds it, a clock, and spokes that find what they are told to.

use isthmus_shared::protocol::{Outcome, Progress, TaskState};
use isthmus_shared::resources::{MigrationPlanSpec, NamespaceMove, Step};

use super::*;
use crate::itinerary::{Assignment, Origin, Pair, Rules, Site, Told, tasks};

struct World {
    plan: MigrationPlan,
    around: Around,
    now: Timestamp,
    sequence: u64,
}

fn world() -> World {
    let options: MigrationPlanSpec = serde_json::from_value(
        serde_json::json!({"clusterPair": "prod", "namespaces": ["cms"], "quiesce": true}),
    )
    .unwrap();
    let mut plan = MigrationPlan::new("shop", options);
    plan.metadata.namespace = Some("isthmus".to_owned());
    plan.metadata.uid = Some("plan-1".to_owned());
    plan.metadata.generation = Some(1);
    let now = Timestamp::from_second(1_800_000_000).unwrap();
    let site = Site { exists: true, heard_at: Some(now), steady_since: Some(now) };
    let pair = Pair {
        uid: "pair-1".into(),
        namespace: "isthmus".into(),
        in_hub_namespace: true,
        deleting: false,
        bidirectional: false,
        allowed_namespaces: None,
        source: "east".into(),
        destination: "west".into(),
        defect: None,
        ready: true,
        out_of_reach: None,
        pruning: false,
        message: "storage is Degraded".into(),
    };
    let view = PairView {
        origin: Origin::Own,
        rules: Rules::default(),
        since: now,
        patience: 120,
        pair: Some(pair),
        source: site.clone(),
        destination: site,
        busy: Vec::new(),
        held: None,
        full: None,
        told: Told::default(),
        kept: Vec::new(),
    };
    let around = Around { view, in_the_way: None, quiet: true, room: true };
    World { plan, around, now, sequence: 0 }
}

fn found(reason: &str) -> Finding {
    Finding { object: "Namespace cms".into(), reason: reason.into(), message: "make it".into(), step: None }
}

impl World {
    fn status(&self) -> MigrationPlanStatus {
        self.plan.status.clone().unwrap_or_default()
    }

    fn step(&mut self) -> &mut Self {
        self.plan.status = Some(step(&self.plan, &self.around, &[], self.now));
        self
    }

    fn later(&mut self, seconds: i64) -> &mut Self {
        self.now += seconds.seconds();
        self.step()
    }

    fn tasks(&self) -> Vec<Assignment> {
        as_migration(&self.plan).map(|check| tasks(&check, &self.around.view)).unwrap_or_default()
    }

    /// One report of each task that is under way.
    fn report(&mut self, failures: &[Finding], warnings: &[Finding]) -> &mut Self {
        for task in self.tasks() {
            self.sequence += 1;
            let inspects = task.id.item.as_deref() == Some("source");
            let report = TaskReport {
                task: task.id,
                sequence: self.sequence,
                state: if failures.is_empty() { TaskState::Succeeded } else { TaskState::Failed },
                progress: Progress::default(),
                outcome: inspects.then(|| Outcome::SourceInspected {
                    volumes: Vec::new(),
                    objects: 3,
                    namespaces: vec![NamespaceMove::same("cms")],
                }),
                failures: failures.to_vec(),
                warnings: warnings.to_vec(),
                failures_total: failures.len() as u64,
                warnings_total: warnings.len() as u64,
            };
            self.plan.status = Some(step(&self.plan, &self.around, &[report], self.now));
        }
        self
    }

    /// Has the check end, with what the first of its tasks finds.
    fn end(&mut self, failures: &[Finding], warnings: &[Finding]) -> &mut Self {
        self.report(failures, warnings);
        for _ in 0..6 {
            self.report(&[], &[]);
        }
        assert!(has_ended(&self.plan), "{:#?}", self.status());
        self.conclude()
    }

    fn conclude(&mut self) -> &mut Self {
        self.plan.status = Some(conclude(&self.plan, Vec::new(), self.now));
        self
    }
}

#[test]
fn a_new_plan_is_checked_by_a_dry_run_and_ready_when_nothing_is_found() {
    let mut world = world();
    world.step();
    let check = as_migration(&world.plan).unwrap();
    assert_eq!(check.metadata.uid.as_deref(), Some("plan-1-check-1"));
    assert!(check.options().dry_run && check.options().quiesce);
    assert_eq!(world.status().phase, PlanPhase::Checking);
    assert_eq!(world.tasks()[0].id.record, "plan-1-check-1");
    let steps: Vec<_> = check.status.unwrap().pipeline.iter().map(|step| step.step).collect();
    assert_eq!(steps, [Step::Preflight, Step::Cleanup]);
    world.end(&[], &[]);
    let status = world.status();
    assert_eq!((status.phase, status.critical, status.observed_generation), (PlanPhase::Ready, 0, Some(1)));
    assert!(status.check.is_none() && status.checked_at.is_some());
    assert_eq!(status.conditions[0].status, "True");
}

#[test]
fn failures_are_critical_and_warnings_tell() {
    let mut world = world();
    world.step().end(&[found("NoSuchNamespace")], &[found("Live")]);
    let status = world.status();
    assert_eq!((status.phase, status.critical, status.warnings), (PlanPhase::NotReady, 1, 1));
    let severities: Vec<_> = status.problems.iter().map(|problem| problem.severity).collect();
    assert_eq!(severities, [ProblemSeverity::Critical, ProblemSeverity::Warn]);
    assert_eq!(status.conditions[0].reason, "Critical");
    assert!(status.conditions[0].message.contains("Namespace cms: make it"));
}

#[test]
fn a_plan_is_checked_again_when_it_changes_when_asked_and_now_and_then() {
    let mut world = world();
    world.step().end(&[], &[]);
    assert!(world.step().status().check.is_none(), "nothing is new");
    world.plan.metadata.generation = Some(2);
    world.step().end(&[], &[]);
    assert_eq!((world.status().checks, world.status().observed_generation), (2, Some(2)));
    world.plan.annotations_mut().insert(CHECK.to_owned(), "now".to_owned());
    world.step().end(&[], &[]);
    assert_eq!((world.status().checks, world.status().answered.as_deref()), (3, Some("now")));
    world.around.quiet = false;
    assert!(world.later(RECHECK_SECONDS).status().check.is_none(), "something runs through the pair");
    world.around.quiet = true;
    assert_eq!(world.step().status().checks, 4);
    assert_eq!(world.status().phase, PlanPhase::Ready, "what was found last counts meanwhile");
}

#[test]
fn a_plan_that_changes_while_it_is_checked_is_checked_anew() {
    let mut world = world();
    world.step();
    world.plan.metadata.generation = Some(2);
    world.plan.spec.options.parallel_volumes = 7;
    world.step();
    assert!(world.tasks().iter().all(|task| task.id.step == "Cleanup"), "{:?}", world.tasks());
    world.report(&[], &[]);
    assert!(has_ended(&world.plan));
    world.conclude();
    assert!(world.status().checked_at.is_none(), "what it found is of no use");
    world.step();
    let check = as_migration(&world.plan).unwrap();
    assert_eq!((world.status().checks, check.options().parallel_volumes), (2, 7));
}

#[test]
fn a_run_does_not_wait_for_a_check_but_ends_it() {
    let mut world = world();
    world.step();
    world.around.in_the_way = Some("isthmus/run".to_owned());
    world.step().report(&[], &[]);
    assert!(has_ended(&world.plan));
    world.conclude().step();
    assert_eq!(world.status().message.as_deref(), Some("waits for migration isthmus/run to end"));
    assert!(world.status().check.is_none());
    world.around.in_the_way = None;
    assert_eq!(world.step().status().checks, 2);
    assert_eq!(world.status().message, None);
}

#[test]
fn a_pair_that_is_not_ready_is_a_problem_and_looked_at_again_soon() {
    let mut world = world();
    world.around.view.pair.as_mut().unwrap().ready = false;
    world.step();
    assert!(world.status().message.unwrap().contains("prod to become Ready"));
    world.later(PAIR_PATIENCE_SECONDS);
    assert!(has_ended(&world.plan));
    world.conclude();
    let status = world.status();
    assert_eq!((status.phase, status.problems[0].reason.as_str()), (PlanPhase::NotReady, "PairNotReady"));
    assert!(world.later(RETRY_SECONDS - 1).status().check.is_none());
    world.around.view.pair.as_mut().unwrap().ready = true;
    world.later(1).end(&[], &[]);
    assert_eq!(world.status().phase, PlanPhase::Ready);
}

#[test]
fn options_that_cannot_be_are_problems_with_their_field() {
    let mut world = world();
    world.plan.spec.options.include_resources = false;
    world.step().later(itinerary::SETTLE_SECONDS + 1);
    assert!(has_ended(&world.plan), "{:#?}", world.status());
    world.conclude();
    assert_eq!(world.status().problems[0].object, "spec.includeResources");
}

#[test]
fn there_are_only_so_many_checks_at_a_time() {
    let mut world = world();
    world.around.room = false;
    world.step();
    assert!(world.status().check.is_none());
    assert!(world.status().message.unwrap().contains("other plans"));
}

#[test]
fn a_deleted_plan_is_checked_no_more() {
    let mut world = world();
    world.step();
    world.plan.metadata.deletion_timestamp = Some(Time(world.now));
    world.step().report(&[], &[]);
    assert!(has_ended(&world.plan));
    assert!(world.conclude().step().status().check.is_none());
}

#[test]
fn a_late_word_about_one_check_is_not_taken_for_the_next() {
    let mut world = world();
    world.step();
    let first = world.tasks().remove(0);
    world.end(&[], &[]);
    world.plan.metadata.generation = Some(2);
    world.step();
    let late = TaskReport {
        task: first.id,
        sequence: 99,
        state: TaskState::Succeeded,
        progress: Progress::default(),
        outcome: None,
        failures: Vec::new(),
        warnings: Vec::new(),
        failures_total: 0,
        warnings_total: 0,
    };
    let before = world.status();
    assert_eq!(step(&world.plan, &world.around, &[late], world.now), before);
    assert_eq!(plan_uid("plan-1-check-2"), Some("plan-1"));
}
