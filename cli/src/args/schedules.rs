//! `schedule`.

use std::time::Duration;

use clap::builder::ArgPredicate;
use clap::{ArgAction, Args, Subcommand, ValueEnum};
use isthmus_shared::resources::{MAX_SCHEDULE_NAME, MigrationAction, MigrationScheduleSpec, MigrationSpec};

use super::{Creation, MigrationOptions, Output, duration};
use crate::error::Error;
use crate::names;

/// `isthmus schedule …`
#[derive(Subcommand)]
pub enum ScheduleCommand {
    /// Begin runs by the clock, one after the other, that bring the destination what has changed
    Create(Box<ScheduleCreate>),
    /// List the schedules
    List(Output),
    /// Show a schedule: the next run, the last runs and what became of them, and why it does not run
    Describe {
        /// The schedule
        #[arg(value_name = "SCHEDULE", value_parser = names::subdomain)]
        name: String,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Begin no more runs; one that is under way goes on
    Suspend {
        /// The schedule
        #[arg(value_name = "SCHEDULE", value_parser = names::subdomain)]
        name: String,
    },
    /// Begin runs again; of those that were missed the newest is made up for
    Resume {
        /// The schedule
        #[arg(value_name = "SCHEDULE", value_parser = names::subdomain)]
        name: String,
    },
    /// Delete a schedule and its runs; one that is under way is cancelled
    Delete {
        /// The schedule
        #[arg(value_name = "SCHEDULE", value_parser = names::subdomain)]
        name: String,
        /// Leave its runs, and what they have in staging
        #[arg(long)]
        keep_runs: bool,
    },
}

/// `isthmus schedule create`
#[derive(Args)]
#[command(
    // A plan names the pair: what stands here then is read by nobody.
    mut_arg("pair", |arg| {
        arg.required(false).required_unless_present("plan").default_value_if("plan", ArgPredicate::IsPresent, "of-the-plan")
    }),
    mut_arg("namespaces", |arg| arg.required_unless_present_any(["namespace_selector", "plan"])),
    after_help = "\
The cron expression has five fields: minute, hour, day of the month, month, day of the week; @hourly, @daily,
@weekly, @monthly and @yearly are taken too. What each run moves is said as to `migrate`, or with --plan by a plan."
)]
pub struct ScheduleCreate {
    /// The schedule, after which its runs are called
    #[arg(value_name = "SCHEDULE", value_parser = schedule_name)]
    pub name: String,
    /// When runs are due: "30 2 * * *", "*/15 * * * *", @hourly
    #[arg(long, value_name = "CRON")]
    pub cron: String,
    /// The time zone on whose clock they are, by its IANA name [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub time_zone: Option<String>,
    /// What each run does
    #[arg(long, value_enum, ignore_case = true, value_name = "ACTION", default_value_t = Repeated::Final)]
    pub action: Repeated,
    /// Take what to move and how from this plan, as it is when a run begins
    #[arg(long, value_name = "PLAN", value_parser = names::subdomain, conflicts_with_all = OF_MIGRATIONS)]
    pub plan: Option<String>,
    /// How late a run may still be begun, e.g. after the hub was down [default: however late]
    #[arg(long, value_name = "TIME", value_parser = deadline)]
    pub starting_deadline: Option<Duration>,
    /// Begin no runs before `isthmus schedule resume`
    #[arg(long)]
    pub suspend: bool,
    /// Begin no runs while the applications are active on the destination
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub auto_suspend: bool,
    /// Keep so many runs that succeeded
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=MOST_KEPT))]
    pub keep_succeeded: u32,
    /// Keep so many runs that failed
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=MOST_KEPT))]
    pub keep_failed: u32,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
    // Last, as its groups have headings that would go on.
    /// What to move and how.
    #[command(flatten)]
    pub options: MigrationOptions,
}

/// What a migration is told, by itself and in groups: a plan tells it instead.
const OF_MIGRATIONS: [&str; 15] = [
    "namespaces",
    "pair",
    "reverse",
    "include_resources",
    "include_volumes",
    "start_applications",
    "step_timeout",
    "Cutover",
    "Hooks",
    "StepLimits",
    "Selection",
    "Rewriting",
    "Meeting",
    "Volumes",
    "Movers",
];
/// The most runs that are kept of each kind.
const MOST_KEPT: i64 = 100;

/// See [`MigrationAction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Repeated {
    /// A pass of the volumes
    Stage,
    /// The volumes and the objects; what a failover can go by
    Final,
}

impl From<Repeated> for MigrationAction {
    fn from(action: Repeated) -> Self {
        match action {
            Repeated::Stage => Self::Stage,
            Repeated::Final => Self::Final,
        }
    }
}

impl ScheduleCreate {
    /// The spec that the options make, as long as the hub would begin runs by it.
    pub fn spec(&self) -> Result<MigrationScheduleSpec, Error> {
        let options = match &self.plan {
            Some(plan) => MigrationSpec { plan: Some(plan.clone()), ..MigrationSpec::through("") },
            None => self.options.spec()?,
        };
        let seconds = |time: Duration| u32::try_from(time.as_secs()).unwrap_or(u32::MAX);
        let spec = MigrationScheduleSpec {
            time_zone: self.time_zone.clone(),
            suspend: self.suspend,
            starting_deadline_seconds: self.starting_deadline.map(seconds),
            successful_history_limit: self.keep_succeeded,
            failed_history_limit: self.keep_failed,
            auto_suspend: self.auto_suspend,
            ..MigrationScheduleSpec::new(&self.cron, MigrationSpec { action: self.action.into(), ..options })
        };
        match spec.problems(&self.name).as_slice() {
            [] => Ok(spec),
            problems => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(Error::Usage(told.join("\n")))
            }
        }
    }
}

fn schedule_name(text: &str) -> Result<String, String> {
    let name = names::subdomain(text).map_err(|error| error.to_string())?;
    if name.len() > MAX_SCHEDULE_NAME {
        return Err(format!(
            "it has {} characters, and a schedule may have {MAX_SCHEDULE_NAME}, as its runs get longer names",
            name.len()
        ));
    }
    Ok(name)
}

fn deadline(text: &str) -> Result<Duration, String> {
    let time = duration(text)?;
    let (least, most) = (Duration::from_secs(10), Duration::from_hours(24 * 365));
    if (least..=most).contains(&time) {
        Ok(time)
    } else {
        Err(format!("{text} is not between 10s and 365 days"))
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use serde_json::json;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        create: ScheduleCreate,
    }

    fn spec(line: &str) -> Result<MigrationScheduleSpec, String> {
        // A cron expression is one word of a shell: here its spaces are written as underscores.
        let words = ["x", "nightly"].into_iter().map(str::to_owned);
        let words = words.chain(line.split_whitespace().map(|word| word.replace('_', " ")));
        let parsed = Line::try_parse_from(words).map_err(|error| error.to_string())?;
        parsed.create.spec().map_err(|error| error.to_string())
    }

    #[test]
    fn options_left_out_are_the_specs_defaults() {
        let options = MigrationSpec { namespaces: vec!["cms".into()], ..MigrationSpec::through("prod") };
        assert_eq!(
            spec("cms --pair prod --cron 30_2_*_*_*").unwrap(),
            MigrationScheduleSpec::new("30 2 * * *", options)
        );
    }

    #[test]
    fn whatever_a_migration_is_told_a_plan_tells_instead() {
        let command = MigrationOptions::augment_args(clap::Command::new("x"));
        let groups: Vec<_> =
            command.get_groups().filter(|g| OF_MIGRATIONS.contains(&g.get_id().as_str())).collect();
        for arg in command.get_arguments().map(clap::Arg::get_id) {
            let told = OF_MIGRATIONS.contains(&arg.as_str())
                || groups.iter().any(|g| g.get_args().any(|id| id == arg));
            assert!(told, "--plan and {arg} would be taken together");
        }
    }

    #[test]
    fn every_option_is_in_the_spec() {
        let line = "--plan shop --cron @hourly --time-zone Europe/Berlin --action stage --starting-deadline 2h \
                    --suspend --auto-suspend=false --keep-succeeded 7 --keep-failed 0";
        assert_eq!(
            {
                let mut written = json!(spec(line).unwrap());
                let options = written["template"]["spec"].take();
                assert_eq!((&options["plan"], &options["action"]), (&json!("shop"), &json!("Stage")));
                written
            },
            json!({"schedule": "@hourly", "timeZone": "Europe/Berlin", "suspend": true, "autoSuspend": false,
                   "startingDeadlineSeconds": 7200, "successfulHistoryLimit": 7, "failedHistoryLimit": 0,
                   "template": {"spec": null}})
        );
    }

    #[test]
    fn what_cannot_be_is_refused_before_anything_is_written() {
        let cron = "--cron 30_2_*_*_*";
        for (line, said) in [
            ("cms --pair prod", "--cron"),
            (cron, "--pair"),
            ("--pair prod --cron @daily", "NAMESPACE"),
            ("--plan shop --cron @daily --pair prod", "cannot be used with"),
            ("--plan shop --cron @daily --quiesce", "cannot be used with"),
            ("--plan shop --cron @daily --exclude-path /x", "cannot be used with"),
            ("--plan shop --cron @daily cms", "cannot be used with"),
            ("--plan shop --cron often", "spec.schedule"),
            ("--plan shop --cron 0_0_30_2_*", "never comes"),
            ("--plan shop --cron @daily --time-zone Mars", "spec.timeZone"),
            ("--plan shop --cron @daily --starting-deadline 5s", "between 10s"),
            ("--plan shop --cron @daily --keep-succeeded 0", "1..=100"),
            ("--plan shop --cron @daily --action rollback", "stage, final"),
            ("cms --pair prod --quiesce --cron @daily", "spec.template.spec.quiesce"),
        ] {
            let told = spec(line).expect_err(line);
            assert!(told.contains(said), "{line}: {told}");
        }
        assert!(spec("--namespace-selector team=a --pair prod --cron @daily").is_ok());
        assert!(schedule_name(&"a".repeat(MAX_SCHEDULE_NAME + 1)).is_err());
    }
}
