//! By which options a run goes: its own, those of a plan, of a schedule, or of the run that it undoes.

use super::{Migration, MigrationAction, MigrationSpec};

impl Migration {
    /// The options that the run goes by: those that it was begun with, if they are not its own.
    pub fn options(&self) -> &MigrationSpec {
        let begun_with = self.status.as_ref().and_then(|status| status.options.as_deref());
        begun_with.unwrap_or(&self.spec)
    }
}

impl MigrationSpec {
    /// Whether the applications are started on the destination: a cutover leaves nobody without
    /// one that runs.
    pub fn starts(&self) -> bool {
        self.start_applications || self.quiesce
    }

    /// A plan's options with what this run says beside the plan.
    #[must_use]
    pub fn with_plan(&self, plan: &Self) -> Self {
        Self {
            action: self.action,
            plan: self.plan.clone(),
            quiesce: self.quiesce || plan.quiesce,
            start_applications: self.start_applications || plan.start_applications,
            dry_run: self.dry_run,
            ..plan.clone()
        }
    }

    /// What this run, which names a plan, says beside it and may not: the first such option. The pair
    /// may be named again.
    pub fn beside_plan(&self) -> Option<String> {
        let allowed = Self {
            cluster_pair: self.cluster_pair.clone(),
            plan: self.plan.clone(),
            action: self.action,
            quiesce: self.quiesce,
            start_applications: self.start_applications,
            dry_run: self.dry_run,
            ..Self::through("")
        };
        self.first_difference(&allowed)
    }

    /// The options of a run that undoes one with these.
    #[must_use]
    pub fn undoing(&self, undone: &Self) -> Self {
        Self {
            action: MigrationAction::Rollback,
            rollback_of: self.rollback_of.clone(),
            reclaim: self.reclaim,
            plan: undone.plan.clone(),
            schedule: None,
            ..undone.clone()
        }
    }

    /// What this run, which undoes another, says beside it and may not: the first such option.
    pub fn beside_rollback(&self) -> Option<String> {
        let allowed = Self {
            cluster_pair: self.cluster_pair.clone(),
            action: self.action,
            rollback_of: self.rollback_of.clone(),
            reclaim: self.reclaim,
            ..Self::through("")
        };
        self.first_difference(&allowed)
    }

    /// The options of a failover or a failback of a schedule whose runs have these: a cutover.
    #[must_use]
    pub fn of_schedule(&self, template: &Self) -> Self {
        Self {
            action: self.action,
            schedule: self.schedule.clone(),
            quiesce: true,
            start_applications: true,
            dry_run: false,
            rollback_of: None,
            ..template.clone()
        }
    }

    /// What this run, which is of a schedule, says beside it and may not: the first such option. The
    /// pair may be named again.
    pub fn beside_schedule(&self) -> Option<String> {
        let allowed = Self {
            cluster_pair: self.cluster_pair.clone(),
            action: self.action,
            schedule: self.schedule.clone(),
            ..Self::through("")
        };
        self.first_difference(&allowed)
    }

    fn first_difference(&self, other: &Self) -> Option<String> {
        let maps = [self, other].map(|spec| serde_json::to_value(spec).unwrap_or_default());
        let [Some(ours), Some(theirs)] = [maps[0].as_object(), maps[1].as_object()] else { return None };
        let mut keys = ours.keys().chain(theirs.keys());
        keys.find(|key| ours.get(*key) != theirs.get(*key)).cloned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resources::VolumeReclaim;

    fn plan() -> MigrationSpec {
        MigrationSpec {
            namespaces: vec!["cms".into()],
            quiesce: true,
            parallel_volumes: 7,
            ..MigrationSpec::through("prod")
        }
    }

    #[test]
    fn a_run_of_a_plan_goes_by_the_plans_options_and_its_own_action() {
        let run = MigrationSpec {
            plan: Some("shop".into()),
            action: MigrationAction::Stage,
            ..MigrationSpec::through("")
        };
        let both = run.with_plan(&plan());
        assert_eq!((both.action, both.parallel_volumes, both.quiesce), (MigrationAction::Stage, 7, true));
        assert_eq!(both.plan.as_deref(), Some("shop"));
        assert_eq!(run.beside_plan(), None);
        let more = MigrationSpec { parallel_volumes: 3, ..run };
        assert_eq!(more.beside_plan().as_deref(), Some("parallelVolumes"));
    }

    #[test]
    fn a_rollback_goes_by_the_options_of_what_it_undoes_and_its_own_reclaim() {
        let run = MigrationSpec {
            action: MigrationAction::Rollback,
            rollback_of: Some("m".into()),
            reclaim: VolumeReclaim::Delete,
            ..MigrationSpec::through("")
        };
        let both = run.undoing(&plan());
        assert_eq!((both.action, both.reclaim), (MigrationAction::Rollback, VolumeReclaim::Delete));
        assert_eq!(both.namespaces, plan().namespaces);
        assert_eq!(run.beside_rollback(), None);
        let over = MigrationSpec { schedule: Some("nightly".into()), ..plan() };
        assert_eq!(run.undoing(&over).problems(), [], "a failover is undone like any cutover");
        let more = MigrationSpec { quiesce: true, ..run };
        assert_eq!(more.beside_rollback().as_deref(), Some("quiesce"));
    }

    #[test]
    fn a_failover_is_a_cutover_by_the_options_of_its_schedule() {
        let run = MigrationSpec {
            action: MigrationAction::Failover,
            schedule: Some("nightly".into()),
            ..MigrationSpec::through("")
        };
        let template = MigrationSpec { action: MigrationAction::Stage, quiesce: false, ..plan() };
        let both = run.of_schedule(&template);
        assert_eq!((both.action, both.schedule.as_deref()), (MigrationAction::Failover, Some("nightly")));
        assert!(both.quiesce && both.starts());
        assert_eq!((both.parallel_volumes, both.cluster_pair.as_str()), (7, "prod"));
        assert_eq!(run.beside_schedule(), None);
        let more = MigrationSpec { quiesce: true, ..run };
        assert_eq!(more.beside_schedule().as_deref(), Some("quiesce"));
    }
}
