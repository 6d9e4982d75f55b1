//! By which options the runs of a schedule go: those of its template, through the plan that it may name.

use std::sync::Arc;

use isthmus_shared::resources::{MigrationPlan, MigrationSchedule, MigrationSpec};
use kube::ResourceExt as _;

use crate::records::Records;

/// The template of a schedule, and its plan as it is now.
pub(super) struct Template<'a> {
    own: &'a MigrationSpec,
    /// The plan that it names.
    pub plan: Option<Arc<MigrationPlan>>,
}

impl<'a> Template<'a> {
    /// Or the name of the plan that is not there.
    pub fn of(records: &Records, schedule: &'a MigrationSchedule) -> Result<Self, String> {
        let own = &schedule.spec.template.spec;
        let Some(name) = &own.plan else { return Ok(Self { own, plan: None }) };
        let plan = records.plans.get(&schedule.namespace().unwrap_or_default(), name);
        Ok(Self { own, plan: Some(plan.ok_or_else(|| name.clone())?) })
    }

    /// The options of its runs.
    pub fn options(&self) -> MigrationSpec {
        match &self.plan {
            Some(plan) => self.own.with_plan(&plan.spec.options),
            None => self.own.clone(),
        }
    }
}
