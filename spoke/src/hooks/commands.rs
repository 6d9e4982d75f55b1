//! A command in Pods, waited for.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::StreamExt as _;
use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{ExecHook, Hook};
use tokio::time::Instant;

use super::TELL_EVERY;
use super::failure::Failure;
use super::output::Output;
use super::pods::{self, Target};
use super::record::Record;
use crate::cluster::{Ended, Stream};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// Pods in which a hook's command runs at a time.
const AT_A_TIME: usize = 10;

/// Runs a command in all its Pods in which it has not returned 0 yet.
pub async fn carry_out(
    context: &TaskContext,
    run: &Run,
    hook: &Hook,
    exec: &ExecHook,
    record: &mut Record,
) -> Result<(), Failure> {
    let targets = pods::find(context, run, hook, exec).await?;
    if targets.is_empty() {
        return without_pods(context, hook, exec);
    }
    let started = Instant::now();
    let limit = Duration::from_secs(u64::from(hook.timeout_seconds));
    let left: Vec<Target> =
        targets.into_iter().filter(|target| !record.has_returned(&hook.name, target)).collect();
    let count = left.len();
    let one = |target: Target| async move {
        let result = in_pod(context, hook, &target, &exec.command, started + limit).await;
        (target, result)
    };
    let mut results = futures::stream::iter(left.into_iter().map(one)).buffer_unordered(AT_A_TIME);
    let mut first = None;
    loop {
        let next = tokio::select! {
            next = results.next() => next,
            () = tokio::time::sleep(TELL_EVERY) => {
                let seconds = started.elapsed().as_secs();
                context.doing(format!("hook {}: its command runs in {count} Pods, for {seconds} s", hook.name));
                continue;
            }
        };
        match next {
            None => break,
            Some((target, Ok(()))) => record.returned(&hook.name, &target).await.map_err(unwritten)?,
            Some((_, Err(failure))) => {
                // What counts is told before what may pass by itself.
                if matches!(first, None | Some(Failure::Waits(_))) {
                    first = Some(failure);
                }
            }
        }
    }
    first.map_or(Ok(()), Err)
}

/// What it comes to that no Pod runs for which a command is.
pub fn without_pods(context: &TaskContext, hook: &Hook, exec: &ExecHook) -> Result<(), Failure> {
    let why = "no Pod with these labels runs".to_owned();
    if !exec.allow_no_pods {
        return Err(Failure::Failed(format!("{why}: correct its podSelector, or set allowNoPods")));
    }
    let message = format!("{why}, so it was carried out nowhere");
    context.warn(finding(super::object(hook), "NoPods", message));
    Ok(())
}

/// What it comes to that the record could not be written.
pub fn unwritten(error: TaskError) -> Failure {
    match error {
        TaskError::Transient(finding) => Failure::Waits(finding),
        TaskError::Failed(findings) => {
            let messages: Vec<String> = findings.list.into_iter().map(|finding| finding.message).collect();
            Failure::Failed(messages.join("; "))
        }
    }
}

/// Runs the command in one Pod.
async fn in_pod(
    context: &TaskContext,
    hook: &Hook,
    target: &Target,
    command: &[String],
    deadline: Instant,
) -> Result<(), Failure> {
    let output = Mutex::new(Output::default());
    let log = |lines: Vec<String>| {
        for line in lines {
            context.log(format!("hook {}: {}/{}: {line}", hook.name, target.namespace, target.pod));
        }
    };
    let take = |stream: Stream, bytes: &[u8]| {
        let lines = output.lock().unwrap_or_else(PoisonError::into_inner).take(stream, bytes);
        log(lines);
    };
    let place = target.place();
    let running = context.cluster().exec(&place, command, &take);
    let ended = tokio::time::timeout_at(deadline, running).await;
    let mut output = output.into_inner().unwrap_or_else(PoisonError::into_inner);
    log(output.finish());
    let what = format!("in {} the command", target.name());
    let told = match ended {
        Ok(Ok(Ended::Code(0))) => {
            context.log(format!("hook {}: {}/{}: returned 0", hook.name, target.namespace, target.pod));
            return Ok(());
        }
        Ok(Ok(Ended::Code(code))) => format!("{what} returned {code}"),
        Ok(Ok(Ended::NotRun(why))) => format!("{what} could not be run: {why}"),
        Ok(Ok(Ended::Lost(why))) => {
            format!("{what} was lost sight of ({why}): it may have ended in any way, and may go on")
        }
        Ok(Err(error)) => {
            return Err(Failure::exec(&format!("running the command in {}", target.name()), &error));
        }
        Err(_) => format!("{what} did not end within {} s; it may go on there", hook.timeout_seconds),
    };
    Err(Failure::Failed(format!("{told}; {}", output.last_words())))
}
