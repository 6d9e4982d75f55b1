//! Whatever happens in whatever order, the promises hold.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::*;

/// Something that happens.
#[derive(Clone, Debug)]
enum Happening {
    /// Time passes, seconds.
    Pass(i64),
    /// The clock is set back, seconds.
    Back(i64),
    /// The hub looks; it may die after it has made a run and before it has written that down.
    Look { dies: bool },
    /// The run that is under way ends.
    End { succeeds: bool },
    /// A person suspends the schedule, or lets it go on.
    Suspend(bool),
    /// The other side runs, or does not.
    Hold(Option<HoldReason>),
    /// Somebody gives it another timing.
    Retime(&'static str),
    /// Something is in the way of its runs, or is not.
    Obstruct(bool),
}

fn happening() -> impl Strategy<Value = Happening> {
    let hold =
        prop::sample::select(vec![None, Some(HoldReason::FailedOver), Some(HoldReason::DestinationActive)]);
    prop_oneof![
        6 => (0_i64..7200).prop_map(Happening::Pass),
        1 => (86_400_i64..864_000).prop_map(Happening::Pass),
        1 => (1_i64..10_800).prop_map(Happening::Back),
        10 => any::<bool>().prop_map(|dies| Happening::Look { dies }),
        5 => any::<bool>().prop_map(|succeeds| Happening::End { succeeds }),
        1 => any::<bool>().prop_map(Happening::Suspend),
        1 => hold.prop_map(Happening::Hold),
        1 => prop::sample::select(vec!["0 * * * *", "*/10 * * * *", "30 2 * * *"]).prop_map(Happening::Retime),
        1 => any::<bool>().prop_map(Happening::Obstruct),
    ]
}

struct World {
    schedule: MigrationSchedule,
    seen: Seen,
    /// The hub's clock.
    now: Timestamp,
    /// The API server's, which only goes on.
    server: Timestamp,
    /// The name of every run that was ever made.
    made: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let (now, server) = (at("00:00"), at("00:00"));
        Self { schedule: hourly(), seen: Seen::default(), now, server, made: BTreeSet::new() }
    }

    /// What the controller does, in its order.
    fn look(&mut self, dies: bool) {
        let decision = decide(&self.schedule, &self.seen, self.now);
        if let Some(due) = decision.begin {
            self.begins(due);
            if dies {
                return;
            }
            let again = decide(&self.schedule, &self.seen, self.now);
            assert_eq!(again.begin, None, "after any downtime one run catches up at most");
        }
        let decision = decide(&self.schedule, &self.seen, self.now);
        self.schedule.status = Some(decision.status);
        for removal in decision.remove {
            self.removes(&removal);
        }
        assert!(self.seen.runs.iter().filter(|run| run.ended()).count() <= 4 + 1);
    }

    fn begins(&mut self, due: Timestamp) {
        assert!(due <= self.now, "it was not due yet");
        assert!(self.seen.runs.iter().all(Run::ended), "two at a time");
        assert!(!self.schedule.spec.suspend && self.seen.hold.is_none() && self.seen.obstacle.is_none());
        self.server += SignedDuration::from_secs(1);
        let run = Run { created: self.server, ..run(due, MigrationPhase::InProgress) };
        assert!(self.made.insert(run.name.clone()), "two runs for {due}");
        self.seen.runs.push(run);
    }

    fn removes(&mut self, removal: &Removal) {
        let at = self.seen.runs.iter().position(|run| run.uid == removal.uid).unwrap();
        let gone = self.seen.runs.remove(at);
        assert!(gone.ended(), "it was under way");
        let newer = |run: &Run| run.succeeded() && run.created > gone.created;
        assert!(!gone.succeeded() || self.seen.runs.iter().any(newer), "it was the newest that succeeded");
        assert!(self.seen.hold.as_ref().is_none_or(|hold| hold.reason != HoldReason::FailedOver));
    }

    fn takes(&mut self, happening: &Happening) {
        match happening {
            Happening::Pass(seconds) => {
                let passed = SignedDuration::from_secs(*seconds);
                (self.now, self.server) = (self.now + passed, self.server + passed);
            }
            Happening::Back(seconds) => self.now -= SignedDuration::from_secs(*seconds),
            Happening::Look { dies } => self.look(*dies),
            Happening::End { succeeds } => {
                if let Some(run) = self.seen.runs.iter_mut().find(|run| !run.ended()) {
                    run.phase = if *succeeds { MigrationPhase::Succeeded } else { MigrationPhase::Failed };
                }
            }
            Happening::Suspend(suspend) => self.schedule.spec.suspend = *suspend,
            Happening::Hold(reason) => {
                self.seen.hold = reason.map(|reason| Hold { reason, message: "it runs there".into() });
            }
            Happening::Retime(schedule) => (*schedule).clone_into(&mut self.schedule.spec.schedule),
            Happening::Obstruct(is) => {
                let obstacle = || Obstacle { reason: "NoSuchPair".into(), message: "none".into() };
                self.seen.obstacle = is.then(obstacle);
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn one_run_a_due_time_and_one_at_a_time_and_none_while_stopped(
        happenings in prop::collection::vec(happening(), 1..80)
    ) {
        let mut world = World::new();
        for happening in &happenings {
            world.takes(happening);
        }
    }

    #[test]
    fn whatever_was_missed_the_newest_is_caught_up_with_when_nothing_is_in_the_way(
        happenings in prop::collection::vec(happening(), 0..40)
    ) {
        let mut world = World::new();
        for happening in &happenings {
            world.takes(happening);
        }
        // Everything is put right, what runs ends, the clock is right, and a week passes.
        world.takes(&Happening::End { succeeds: true });
        world.takes(&Happening::Suspend(false));
        world.takes(&Happening::Hold(None));
        world.takes(&Happening::Obstruct(false));
        world.look(false);
        world.takes(&Happening::End { succeeds: true });
        world.now = world.now.max(world.server);
        world.takes(&Happening::Pass(604_800));
        let expected = world.schedule.spec.cadence().unwrap().last_between(at("00:00"), world.now).unwrap();
        prop_assert_eq!(decide(&world.schedule, &world.seen, world.now).begin, Some(expected));
    }
}
