//! One migration, its surroundings, a clock, and spokes that report what they are told to.

use isthmus_shared::protocol::{Outcome, Progress, TaskId, TaskReport, TaskState, VolumeFacts};
use isthmus_shared::resources::{
    Finding, Migration, MigrationPhase, MigrationSpec, MigrationStatus, NamespaceMove, ResourceCounts, Step,
    StepState, StepStatus, Verified,
};
use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use proptest::prelude::ProptestConfig;

use crate::itinerary::{
    Assignment, Origin, Pair, PairView, Rules, Site, TURN_AFTER_SECONDS, Told, Verdict, advance, record,
    tasks,
};

pub(super) const UID: &str = "run-1";

/// So many cases of a property, unless `PROPTEST_CASES` asks for others.
pub(super) fn cases(usual: u32) -> ProptestConfig {
    let asked = std::env::var("PROPTEST_CASES").is_ok();
    if asked { ProptestConfig::default() } else { ProptestConfig::with_cases(usual) }
}

pub(super) struct World {
    pub migration: Migration,
    pub view: PairView,
    pub now: Timestamp,
    sequence: u64,
}

/// A migration of the namespace `cms` through a pair that is Ready.
pub(super) fn world(change: impl FnOnce(&mut MigrationSpec)) -> World {
    let mut spec: MigrationSpec =
        serde_json::from_value(serde_json::json!({"clusterPair": "prod", "namespaces": ["cms"]})).unwrap();
    change(&mut spec);
    let mut migration = Migration::new("m", spec);
    migration.metadata.namespace = Some("isthmus".into());
    migration.metadata.uid = Some(UID.into());
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
        message: String::new(),
    };
    let view = PairView {
        origin: Origin::Own,
        rules: Rules::default(),
        since: now,
        patience: TURN_AFTER_SECONDS,
        pair: Some(pair),
        source: site.clone(),
        destination: site,
        busy: Vec::new(),
        held: None,
        full: None,
        told: Told::default(),
        kept: Vec::new(),
    };
    World { migration, view, now, sequence: 0 }
}

/// A world whose run has come to the volumes.
pub(super) fn at_volumes(count: usize) -> World {
    let mut world = world(|_| {});
    world.advance();
    world.inspect(count);
    world.succeed("destination", Outcome::Done);
    world.succeed("destination", Outcome::Done);
    world.succeed("source", exported());
    assert_eq!(world.current(), Some(Step::FinalVolumes));
    world
}

impl World {
    pub(super) fn status(&self) -> MigrationStatus {
        self.migration.status.clone().unwrap_or_default()
    }

    pub(super) fn phase(&self) -> MigrationPhase {
        self.status().status
    }

    pub(super) fn advance(&mut self) {
        self.migration.status = Some(advance(&self.migration, &self.view, self.now));
    }

    /// Lets time pass while both spokes are heard.
    pub(super) fn pass(&mut self, seconds: i64) {
        self.now += seconds.seconds();
        self.view.source.heard_at = Some(self.now);
        self.view.destination.heard_at = Some(self.now);
        self.advance();
    }

    pub(super) fn tasks(&self) -> Vec<Assignment> {
        tasks(&self.migration, &self.view)
    }

    /// What is to be done, as `<cluster> <step>/<item>`.
    pub(super) fn docket(&self) -> Vec<String> {
        self.tasks()
            .iter()
            .map(|task| {
                format!("{} {}/{}", task.cluster, task.id.step, task.id.item.as_deref().unwrap_or(""))
            })
            .collect()
    }

    pub(super) fn step(&self, step: Step) -> StepStatus {
        self.status().pipeline.into_iter().find(|status| status.step == step).unwrap()
    }

    pub(super) fn current(&self) -> Option<Step> {
        self.status().pipeline.iter().find(|s| s.state == StepState::InProgress).map(|s| s.step)
    }

    /// The task of the step that is under way with that item.
    pub(super) fn task(&self, item: &str) -> TaskId {
        let found = self.tasks().into_iter().find(|task| task.id.item.as_deref() == Some(item));
        found.unwrap_or_else(|| panic!("no task {item} in {:?}", self.docket())).id
    }

    pub(super) fn running(&mut self, item: &str, progress: Progress) -> TaskReport {
        self.report(self.task(item), TaskState::Running, progress, None)
    }

    pub(super) fn report(
        &mut self,
        task: TaskId,
        state: TaskState,
        progress: Progress,
        outcome: Option<Outcome>,
    ) -> TaskReport {
        self.sequence += 1;
        TaskReport {
            task,
            sequence: self.sequence,
            state,
            progress,
            outcome,
            failures: Vec::new(),
            failures_total: 0,
            warnings: Vec::new(),
            warnings_total: 0,
        }
    }

    /// Records a report and moves the run on, as the hub does.
    pub(super) fn take(&mut self, report: &TaskReport) -> Verdict {
        let (status, verdict) = record(&self.migration, &self.view, report, self.now);
        self.migration.status = Some(status);
        self.advance();
        verdict
    }

    pub(super) fn succeed(&mut self, item: &str, outcome: Outcome) -> TaskReport {
        let report = self.report(self.task(item), TaskState::Succeeded, Progress::default(), Some(outcome));
        assert_eq!(self.take(&report), Verdict::Ended);
        report
    }

    pub(super) fn fail(&mut self, item: &str, object: &str) -> TaskReport {
        let mut report = self.report(self.task(item), TaskState::Failed, Progress::default(), None);
        report.failures = vec![finding(object)];
        report.failures_total = 1;
        assert_eq!(self.take(&report), Verdict::Ended);
        report
    }

    /// The destination says what it serves.
    pub(super) fn survey(&mut self) {
        self.succeed("survey", Outcome::Done);
    }

    pub(super) fn inspect(&mut self, volumes: usize) {
        if self.docket().iter().any(|task| task.ends_with("/survey")) {
            self.survey();
        }
        let volumes = (0..volumes).map(|n| facts(n, 0, None)).collect();
        self.succeed("source", inspected(volumes));
    }

    /// Both spokes clean up.
    pub(super) fn clean_up(&mut self) {
        self.succeed("source", Outcome::Done);
        self.succeed("destination", Outcome::Done);
    }

    pub(super) fn move_volume(&mut self, n: usize) {
        self.succeed(&format!("send.v{n}"), moved());
        self.succeed(&format!("receive.v{n}"), moved());
    }

    pub(super) fn delete(&mut self) {
        self.migration.metadata.deletion_timestamp = Some(Time(self.now));
    }
}

pub(super) fn facts(n: usize, last_pass: u32, last_complete_pass: Option<u32>) -> VolumeFacts {
    VolumeFacts {
        only_at_rest: false,
        namespace: "cms".into(),
        claim: format!("claim-{n}"),
        uid: format!("v{n}"),
        capacity_bytes: 1 << 30,
        last_pass,
        last_complete_pass,
    }
}

pub(super) fn finding(object: &str) -> Finding {
    Finding {
        object: object.into(),
        reason: "Broken".into(),
        message: "it is broken: mend it".into(),
        step: None,
    }
}

/// What the source found: the namespace `cms` with these volumes.
pub(super) fn inspected(volumes: Vec<VolumeFacts>) -> Outcome {
    Outcome::SourceInspected { volumes, objects: 14, namespaces: vec![NamespaceMove::same("cms")] }
}

pub(super) fn moved() -> Outcome {
    Outcome::VolumeMoved {
        bytes: 100,
        bytes_uploaded: 40,
        files: 7,
        verified: Verified { blocks: 3, ..Verified::default() },
        method: Some("Live".into()),
    }
}

pub(super) fn exported() -> Outcome {
    Outcome::Exported { counts: ResourceCounts { total: 14, left_behind: 3, ..ResourceCounts::default() } }
}

pub(super) fn applied() -> Outcome {
    let counts = ResourceCounts { total: 14, done: 14, created: 12, updated: 2, ..ResourceCounts::default() };
    Outcome::Applied { counts }
}
