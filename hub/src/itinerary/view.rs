//! What a run needs to know of its surroundings, as values.

use std::sync::Arc;

use isthmus_shared::protocol::HeldPass;
use isthmus_shared::resources::{
    Finding, Migration, MigrationAction, MigrationSpec, NamespaceMove, OptionProblem, Rule, Side, TargetState,
};
use jiff::Timestamp;

use super::claims::Claim;

/// By which options a run goes.
#[derive(Clone, Debug, Default)]
pub enum Origin {
    /// Its own.
    #[default]
    Own,
    /// Those of the plan that it names; none if there is no such plan.
    Plan(Option<Box<MigrationSpec>>),
    /// Those of the run that it undoes.
    Undoes(Undone),
    /// Those of the schedule that it is of.
    Schedule(Box<Scheduled>),
}

/// The schedule that a failover or a failback is of.
#[derive(Clone, Debug, Default)]
pub struct Scheduled {
    /// The options of its runs; none if there is no such schedule.
    pub template: Option<Box<MigrationSpec>>,
    /// The plan that these are to be taken from, if there is no such plan.
    pub missing_plan: Option<String>,
    /// Its last complete run that a failover can go by: one that began after the applications were
    /// last handed over or back.
    pub last: Option<Box<Migration>>,
    /// The failover that has handed its applications over, if they have not been handed back since.
    pub failed_over: Option<String>,
    /// What the namespaces came to in that failover, or else in its last complete run.
    pub moved: Vec<NamespaceMove>,
    /// Its runs that are under way.
    pub under_way: Vec<String>,
}

/// The run that another is to undo.
#[derive(Clone, Debug, Default)]
pub struct Undone {
    /// The run; none if there is no such.
    pub migration: Option<Box<Migration>>,
    /// A later run that has moved one of its namespaces since.
    pub superseded_by: Option<String>,
}

impl Origin {
    /// The options; none if what they are taken from is not there.
    pub fn options(&self, own: &MigrationSpec) -> Option<MigrationSpec> {
        match self {
            Self::Own => Some(own.clone()),
            Self::Plan(plan) => Some(own.with_plan(plan.as_deref()?)),
            Self::Undoes(undone) => Some(own.undoing(undone.migration.as_deref()?.options())),
            Self::Schedule(scheduled) => {
                let options = own.of_schedule(scheduled.template.as_deref()?);
                Some(match own.action {
                    MigrationAction::Failback => options.turned_round(&scheduled.moved).options,
                    _ => options,
                })
            }
        }
    }

    /// What of these options cannot be turned round for the way back.
    pub fn left_out(&self, own: &MigrationSpec) -> Vec<OptionProblem> {
        match self {
            Self::Schedule(scheduled) if own.action == MigrationAction::Failback => {
                let template = scheduled.template.as_deref();
                template.map_or_else(Vec::new, |options| options.turned_round(&scheduled.moved).left_out)
            }
            _ => Vec::new(),
        }
    }
}

/// The rules that a run names, of its own namespace; none where there is no such.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// `preExecRule`.
    pub before: Option<Arc<Rule>>,
    /// `postExecRule`.
    pub after: Option<Arc<Rule>>,
}

/// The pair of a migration and the two clusters, as they are now.
#[derive(Clone, Debug)]
pub struct PairView {
    /// Where its options come from.
    pub origin: Origin,
    /// The rules that these name.
    pub rules: Rules,
    /// When this hub began to look: nobody is blamed for silence from before.
    pub since: Timestamp,
    /// How long the source of a failover that is under way may not be heard before the failover goes on
    /// without it, seconds.
    pub patience: i64,
    /// The pair, if there is one of that name in the migration's namespace.
    pub pair: Option<Pair>,
    /// The cluster that the applications leave, in the direction of this run.
    pub source: Site,
    /// The cluster that they go to.
    pub destination: Site,
    /// The other migrations that are under way from or to these clusters.
    pub busy: Vec<Busy>,
    /// Why its schedule lets no run begin; only a run of a schedule has one.
    pub held: Option<String>,
    /// What has no room for one more migration that has not begun, in words.
    pub full: Option<String>,
    /// What the source has been told since that a failover goes by without.
    pub told: Told,
    /// Passes that failovers would go by: no collection takes them. Only told at the clean-up.
    pub kept: Vec<HeldPass>,
}

/// What the source of a failover that was not heard has been told, in its record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What its applications are to be, once all of its namespaces are told so.
    pub state: Option<TargetState>,
    /// Whether it has done so.
    pub done: bool,
    /// Why it has not and will not.
    pub refused: Option<String>,
}

/// A `ClusterPair`, as far as a run cares: each of these is a fact of its own.
#[allow(clippy::struct_excessive_bools)]
#[derive(Clone, Debug)]
pub struct Pair {
    /// Its uid.
    pub uid: String,
    /// Its own namespace.
    pub namespace: String,
    /// Whether that is the hub's: then it may move other namespaces too.
    pub in_hub_namespace: bool,
    /// Whether it is being deleted.
    pub deleting: bool,
    /// Whether it may be used in reverse.
    pub bidirectional: bool,
    /// Globs of the namespaces that it may move; all, if unset.
    pub allowed_namespaces: Option<Vec<String>>,
    /// `spec.source`.
    pub source: String,
    /// `spec.destination`.
    pub destination: String,
    /// What only a person can put right, e.g. a record that it names and that is not there.
    pub defect: Option<Finding>,
    /// Whether it can be used now.
    pub ready: bool,
    /// Why its destination alone cannot use it, if it cannot.
    pub out_of_reach: Option<String>,
    /// Whether what it has staged of volumes is being collected.
    pub pruning: bool,
    /// Why it cannot be used.
    pub message: String,
}

/// One cluster of a run.
#[derive(Clone, Debug, Default)]
pub struct Site {
    /// Whether there is a record of it.
    pub exists: bool,
    /// When its spoke was last heard.
    pub heard_at: Option<Timestamp>,
    /// Since when it has been heard without a gap that would have made it count as not heard.
    pub steady_since: Option<Timestamp>,
}

/// Another migration that is under way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Busy {
    /// Which, `<namespace>/<name>`.
    pub migration: String,
    /// Whether it changes nothing.
    pub dry_run: bool,
    /// What it touches or may touch.
    pub claims: Vec<Claim>,
}

impl PairView {
    /// The cluster of a side.
    pub fn site(&self, side: Side) -> &Site {
        match side {
            Side::Source => &self.source,
            Side::Destination => &self.destination,
        }
    }

    /// The pair that a run was begun with; not another that has taken its name since.
    pub fn pair_of(&self, uid: Option<&str>) -> Option<&Pair> {
        self.pair.as_ref().filter(|pair| Some(pair.uid.as_str()) == uid)
    }
}
