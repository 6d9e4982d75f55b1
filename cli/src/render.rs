//! Records as text for people: values in, text out.
//!
//! What is printed comes from clusters that others write to: control characters are taken out of
//! every cell and every line, so that no message can steer a terminal.

mod cluster;
mod diff;
pub mod figures;
mod lists;
mod migration;
mod objects;
mod pair;
mod plan;
mod schedule;
mod sheet;
mod staging;
mod store;

pub use cluster::describe_cluster;
pub use diff::{DiffView, Prospect, describe_diff};
pub use lists::{clusters, migrations, pairs, stores};
pub use migration::{MigrationView, describe_migration, side_lines, told_at};
pub use pair::{describe_pair, link};
pub use plan::{describe_plan, plans};
pub use schedule::{describe_schedule, first_run, schedules};
use sheet::Sheet;
pub use sheet::{clean, table};
pub use staging::{StagingView, describe_staging};
pub use store::describe_store;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;

/// The condition of a type.
fn condition<'a>(conditions: &'a [Condition], type_: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == type_)
}

/// A unit variant as it is written in records.
pub fn word(variant: impl std::fmt::Debug) -> String {
    format!("{variant:?}")
}

/// The lines that every description begins with.
fn identity_lines(sheet: &mut Sheet, record: &impl ResourceExt) {
    sheet.line("Name", &record.name_any());
    sheet.line("Namespace", &record.namespace().unwrap_or_default());
    sheet.line("Created", &figures::moment(record.creation_timestamp().as_ref()));
    let deleted = figures::moment(record.meta().deletion_timestamp.as_ref());
    if !deleted.is_empty() {
        sheet.line("Deleting", &format!("since {deleted}, until the hub has removed what belongs to it"));
    }
}

/// The lines of conditions: `Ready: False (HeartbeatLost): the spoke …`.
fn condition_lines(sheet: &mut Sheet, conditions: &[Condition]) {
    for condition in conditions {
        let message =
            if condition.message.is_empty() { String::new() } else { format!(": {}", condition.message) };
        sheet.line(&condition.type_, &format!("{} ({}){message}", condition.status, condition.reason));
    }
}

#[cfg(test)]
pub mod fixtures;
#[cfg(test)]
mod snapshots;
