//! Hooks: commands in Pods and Jobs, carried out at certain points of a run.
//!
//! ```text
//!   run_hooks   the hooks of a phase, one behind the other: attempts, failures, what they come to
//!    ├─ commands    a command in Pods, waited for
//!    ├─ background  a command in Pods that goes on until the run lets it go
//!    │   ├─ script     pure: what is done in the container, and what is read of it
//!    │   └─ renewal    says at intervals that it is still wanted
//!    └─ jobs        a Job from an image
//!        └─ manifest   pure: what the Job looks like
//!   pods        which Pods a command is for
//!   output      pure: what of an output is kept
//!   record      what has been done, in a ConfigMap beside the spoke
//!   end         lets go and removes what is left
//! ```
//!
//! Promises:
//!
//! - What the record says to be done is not done again, whatever becomes of the spoke: a hook, of a hook
//!   of commands each Pod by itself. What was under way when a spoke died is done again, as nobody knows
//!   how far it came: a command is carried out **at least once**. A Job is found again by its name and
//!   waited for, and a command in the background is not begun a second time in the same container.
//! - A command in the background outlives its spoke for [`script::LEASE`] without one, so that a spoke
//!   may be updated in between; then it ends by itself, and the run is told that it was not held.
//! - Everything is bounded: an attempt by the hook's own timeout, its output in the log by
//!   [`output::MAX_LOGGED`], the Pods of a hook by [`pods::MAX_PODS`].

mod background;
mod commands;
mod end;
mod failure;
mod jobs;
mod manifest;
mod output;
mod pods;
mod record;
mod renewal;
mod script;

use std::time::Duration;

use isthmus_shared::protocol::{Outcome, Run};
use isthmus_shared::resources::{Finding, Hook, HookPhase, OnError, Side};

use crate::findings::finding;
use crate::task::{TaskContext, TaskError};
pub use end::end;
use failure::Failure;
use record::Record;
pub use renewal::{Renewals, resume};

/// The pause between two attempts, as in Kubemotion.
const RETRY_PAUSE: Duration = Duration::from_secs(5);
/// How often it is said how long a hook has been at work. It is well below the time after which the hub
/// takes silence for an end.
const TELL_EVERY: Duration = Duration::from_secs(15);

/// Carries out the hooks of a phase that are for this side.
pub async fn run_hooks(
    context: &TaskContext,
    run: &Run,
    phase: HookPhase,
    side: Side,
) -> Result<Outcome, TaskError> {
    let mut record = Record::open(&context.spoke, &run.migration).await?;
    if phase == HookPhase::BeforeApply {
        background::volumes_moved(context, run, side, &mut record).await?;
    }
    for hook in run.spec.hooks_of(phase, side) {
        if record.is_finished(&hook.name) {
            context.log(format!("hook {}: it was carried out before", hook.name));
            // What an earlier attempt at this task told is told again.
            if let Some(warning) = record.warning(&hook.name) {
                context.warn(finding(object(hook), "HookFailed", warning));
            }
            continue;
        }
        let failed = carry_out(context, run, hook, &mut record).await?;
        settle(context, hook, failed, &mut record).await?;
    }
    Ok(Outcome::Done)
}

/// What names a hook in findings.
fn object(hook: &Hook) -> String {
    format!("Hook {}", hook.name)
}

/// Attempts a hook as often as it may be; gives back why the last attempt failed, if it did.
async fn carry_out(
    context: &TaskContext,
    run: &Run,
    hook: &Hook,
    record: &mut Record,
) -> Result<Option<String>, TaskError> {
    let most = hook.retries.saturating_add(1);
    loop {
        let (before, last) = record.failed(&hook.name);
        if before >= most {
            // A spoke that died before it could say so had found out.
            return Ok(Some(last));
        }
        let attempt = before + 1;
        context.log(format!("hook {}: attempt {attempt} of {most}", hook.name));
        context.doing(format!("hook {}: attempt {attempt} of {most}", hook.name));
        let result = match (&hook.exec, &hook.job) {
            // Preflight has told so, unless the spoke was started otherwise since.
            (Some(_), _) if !context.spoke.hook_commands => {
                Err(Failure::Failed(commands_off(&context.spoke.name)))
            }
            (Some(exec), _) if exec.background => background::begin(context, run, hook, exec, record).await,
            (Some(exec), _) => commands::carry_out(context, run, hook, exec, record).await,
            (None, Some(job)) => jobs::carry_out(context, run, hook, job, attempt).await,
            (None, None) => Err(Failure::Failed("it does nothing: give it exec or job".to_owned())),
        };
        let why = match result {
            Ok(()) => return Ok(None),
            Err(Failure::Waits(finding)) => return Err(TaskError::Transient(finding)),
            Err(Failure::Failed(why)) => why,
        };
        let told = if most > 1 { format!("attempt {attempt} of {most}: {why}") } else { why };
        record.fail(&hook.name, &told).await?;
        if attempt >= most {
            return Ok(Some(told));
        }
        context.log(format!("hook {}: {told}; trying again in {} s", hook.name, RETRY_PAUSE.as_secs()));
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Why a command in Pods is not carried out in a cluster, and what to do.
pub fn commands_off(cluster: &str) -> String {
    format!(
        "cluster {cluster} carries out no commands in Pods, as its spoke was started with --hook-commands=false: set hooks.commands to true in its chart, make a Job of the hook, or leave it out"
    )
}

/// What a hook comes to.
async fn settle(
    context: &TaskContext,
    hook: &Hook,
    failed: Option<String>,
    record: &mut Record,
) -> Result<(), TaskError> {
    let Some(why) = failed else {
        record.finish(&hook.name, None).await?;
        context.log(format!("hook {}: done", hook.name));
        return Ok(());
    };
    match hook.on_error {
        OnError::Fail => Err(TaskError::Failed(failure_of(hook, &why).into())),
        OnError::Continue => {
            let warning = format!("{why}; the run went on without it, as its onError says");
            record.finish(&hook.name, Some(&warning)).await?;
            context.warn(finding(object(hook), "HookFailed", warning));
            Ok(())
        }
    }
}

/// What a failure of a hook tells a person.
fn failure_of(hook: &Hook, why: &str) -> Finding {
    let message = format!("{why}. Put that right, or set its onError to Continue, then run again");
    finding(object(hook), "HookFailed", message)
}
