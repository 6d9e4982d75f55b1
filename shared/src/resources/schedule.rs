//! `MigrationSchedule`: runs begun by the clock, one after the other, for as long as the source is
//! the side that runs.
//!
//! [`Cadence`] says when runs are due; [`MigrationScheduleSpec::problems`] what a spec says that
//! cannot be. Whether a run is begun the hub decides.

mod cadence;

pub use cadence::{BadCadence, Cadence};

use jiff::Timestamp;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::{CustomResource, CustomResourceExt};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{MigrationSpec, definitions};

/// The longest name of a schedule, as of a CronJob: its runs get a longer one, and carry it as a label.
pub const MAX_SCHEDULE_NAME: usize = 52;
/// The most runs that a status names as under way.
pub const MAX_ACTIVE_RUNS: usize = 10;
/// What the options of scheduled runs do not say: a schedule repeats what leaves the source as it is.
const NOT_REPEATED: [&str; 3] = ["dryRun", "rollbackOf", "schedule"];
/// The actions that are repeated.
const REPEATED_ACTIONS: [&str; 2] = ["Stage", "Final"];

/// When runs are begun, and what runs.
#[derive(CustomResource, JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "MigrationSchedule",
    plural = "migrationschedules",
    namespaced,
    status = "MigrationScheduleStatus",
    schema = "disabled",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(name = "Schedule", type_ = "string", json_path = ".spec.schedule"),
    printcolumn(name = "Time-Zone", type_ = "string", json_path = ".spec.timeZone"),
    printcolumn(name = "Suspend", type_ = "boolean", json_path = ".spec.suspend"),
    printcolumn(
        name = "State",
        type_ = "string",
        json_path = ".status.conditions[?(@.type=='Ready')].reason"
    ),
    printcolumn(name = "Last-Success", type_ = "date", json_path = ".status.lastSucceeded.finishedAt"),
    printcolumn(name = "Next", type_ = "string", json_path = ".status.nextAt"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct MigrationScheduleSpec {
    /// When runs are due: a cron expression of five fields (minute, hour, day of the month, month, day
    /// of the week), or `@hourly`, `@daily`, `@weekly`, `@monthly`, `@yearly`.
    #[schemars(length(min = 1, max = 256))]
    pub schedule: String,
    /// The time zone of the schedule by its IANA name, e.g. `Europe/Berlin`. Unset: UTC.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 64))]
    pub time_zone: Option<String>,
    /// Begins no runs. One that is under way goes on.
    #[serde(default)]
    pub suspend: bool,
    /// How late a run may still be begun, seconds. Unset: however late. Of all that were missed one
    /// is begun, the newest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 10, max = 31_536_000))]
    pub starting_deadline_seconds: Option<u32>,
    /// What runs.
    pub template: ScheduleTemplate,
    /// How many runs that succeeded are kept; the newest always is.
    #[serde(default = "kept_successful")]
    #[schemars(range(min = 1, max = 100))]
    pub successful_history_limit: u32,
    /// How many runs that failed are kept.
    #[serde(default = "kept_failed")]
    #[schemars(range(max = 100))]
    pub failed_history_limit: u32,
    /// Begins no runs while the applications are active on the destination, or are being started there.
    #[serde(default = "yes")]
    pub auto_suspend: bool,
}

/// What runs.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleTemplate {
    /// The options of each run: those of a Migration, or the plan that they are taken from when the
    /// run begins.
    #[serde(serialize_with = "as_options")]
    #[schemars(schema_with = "super::as_it_is")]
    pub spec: MigrationSpec,
}

/// Without what the definition does not know: strict API servers refuse it.
fn as_options<S: serde::Serializer>(options: &MigrationSpec, serializer: S) -> Result<S::Ok, S::Error> {
    let mut value = serde_json::to_value(options).map_err(serde::ser::Error::custom)?;
    if let Some(fields) = value.as_object_mut() {
        fields.retain(|name, _| !NOT_REPEATED.contains(&name.as_str()));
    }
    value.serialize(serializer)
}

impl MigrationScheduleSpec {
    /// A spec that begins runs of these options by a cron expression in UTC.
    pub fn new(schedule: &str, options: MigrationSpec) -> Self {
        Self {
            schedule: schedule.to_owned(),
            time_zone: None,
            suspend: false,
            starting_deadline_seconds: None,
            template: ScheduleTemplate { spec: options },
            successful_history_limit: kept_successful(),
            failed_history_limit: kept_failed(),
            auto_suspend: true,
        }
    }

    /// When runs are due.
    pub fn cadence(&self) -> Result<Cadence, BadCadence> {
        Cadence::parse(&self.schedule, self.time_zone.as_deref())
    }
}

/// How a schedule stands.
#[derive(JsonSchema, Clone, Debug, Default, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase", default)]
pub struct MigrationScheduleStatus {
    /// When the newest run that was begun was due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_scheduled_at: Option<Time>,
    /// When the next run is due; unset while none will be begun.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_at: Option<Time>,
    /// The newest run that succeeded, as long as there is a record of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_succeeded: Option<RunOfSchedule>,
    /// The runs that have not ended, at most [`MAX_ACTIVE_RUNS`]; it begins one at a time.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub active: Vec<String>,
    /// Why no run is begun although it is not suspended; told anew each time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held: Option<ScheduleHeld>,
    /// The timing that counts, and since when.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timing: Option<ScheduleTiming>,
    /// What it is at, or waits for, or why it does not run and what to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The generation of the spec that this is told of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub observed_generation: Option<i64>,
    /// `Ready`: runs are begun when they are due.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
}

/// A run of a schedule that has succeeded.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct RunOfSchedule {
    /// The Migration.
    pub name: String,
    /// Its uid.
    pub uid: String,
    /// When it began: what it brought is as old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// When it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub finished_at: Option<Time>,
}

/// Why a schedule begins no runs by itself.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleHeld {
    /// The reason.
    pub reason: HoldReason,
    /// Since when the hub has seen it.
    pub since: Time,
    /// What holds it and how it goes on.
    pub message: String,
}

/// What holds a schedule.
#[derive(JsonSchema, Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
pub enum HoldReason {
    /// It was failed over and not failed back: the other side is the one that runs.
    FailedOver,
    /// The applications are active on the destination: a run would overwrite what they write.
    DestinationActive,
}

/// A timing, and since when it counts: what would have been due before is nobody's.
#[derive(JsonSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[serde(rename_all = "camelCase")]
pub struct ScheduleTiming {
    /// The cron expression.
    pub schedule: String,
    /// The time zone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// Since when: the schedule's creation, or when the hub saw that it was changed.
    pub since: Time,
}

/// The name of the run that was due at a time: the same however often it is begun.
pub fn run_name(schedule: &str, due: Timestamp) -> String {
    format!("{schedule}-{}", due.as_second().div_euclid(60))
}

/// When a run of a schedule was due, by its name; none of one that a person has named.
pub fn due_time_of(schedule: &str, run: &str) -> Option<Timestamp> {
    let minutes = run.strip_prefix(schedule)?.strip_prefix('-')?;
    if minutes.is_empty() || minutes.starts_with('0') || !minutes.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    Timestamp::from_second(minutes.parse::<i64>().ok()?.checked_mul(60)?).ok()
}

fn kept_successful() -> u32 {
    3
}

fn kept_failed() -> u32 {
    1
}

fn yes() -> bool {
    true
}

/// The definition: the schema of the options is that of a Migration, which may change.
pub(super) fn definition() -> CustomResourceDefinition {
    let mut options = definitions::options(
        "The options of each run: those of a Migration, or the plan that they are taken from when the run begins",
        &NOT_REPEATED,
    );
    if let Some(action) = options.properties.as_mut().and_then(|properties| properties.get_mut("action")) {
        action.enum_.iter_mut().for_each(|values| {
            values.retain(|value| value.0.as_str().is_none_or(|action| REPEATED_ACTIONS.contains(&action)));
        });
    }
    let mut spec = definitions::of::<MigrationScheduleSpec>();
    let template = spec.properties.as_mut().and_then(|properties| properties.get_mut("template"));
    if let Some(properties) = template.and_then(|template| template.properties.as_mut()) {
        properties.insert("spec".to_owned(), options);
    }
    let mut schema = definitions::migration();
    schema.description = Some("Runs begun by the clock, one after the other".to_owned());
    let properties = schema.properties.get_or_insert_default();
    properties.insert("spec".to_owned(), spec);
    properties.insert("status".to_owned(), definitions::of::<MigrationScheduleStatus>());
    let mut crd = MigrationSchedule::crd();
    for version in &mut crd.spec.versions {
        version.schema.get_or_insert_default().open_api_v3_schema = Some(schema.clone());
    }
    crd
}

#[cfg(test)]
mod tests;
