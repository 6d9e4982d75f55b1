//! A command in Pods that goes on until the run lets it go.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use futures::{StreamExt as _, TryStreamExt as _};
use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{ExecHook, Hook, OnError, Side};
use tokio::time::Instant;

use super::commands::{unwritten, without_pods};
use super::failure::Failure;
use super::output::Output;
use super::pods::{self, Target};
use super::record::{Held, Record};
use super::script::{self, State, Was};
use super::{TELL_EVERY, object};
use crate::cluster::{Cluster, ClusterError, Ended, Stream};
use crate::findings::finding;
use crate::task::{TaskContext, TaskError};

/// How often it is looked whether a command has come to where it waits.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long one look, or letting go, may take.
const CALL_TIMEOUT: Duration = Duration::from_mins(1);
/// Containers in which commands are let go at a time.
const AT_A_TIME: usize = 20;
/// What is kept of what a script prints, bytes.
const MAX_SAID: usize = 1024;

/// What a script of ours in a container said: what it printed, and the command's own output.
struct Said {
    code: i32,
    text: String,
    output: Output,
    lines: Vec<String>,
}

/// Runs a script of ours in a container.
async fn ask(
    cluster: &Cluster,
    target: &Target,
    script: &[String],
) -> Result<Result<Said, String>, ClusterError> {
    let heard = Mutex::new((Vec::new(), Output::default(), Vec::new()));
    let take = |stream: Stream, bytes: &[u8]| {
        let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
        let (text, output, lines) = &mut *heard;
        if stream == Stream::Out {
            let room = MAX_SAID.saturating_sub(text.len()).min(bytes.len());
            text.extend_from_slice(&bytes[..room]);
        } else {
            lines.extend(output.take(stream, bytes));
        }
    };
    let place = target.place();
    let ended = tokio::time::timeout(CALL_TIMEOUT, cluster.exec(&place, script, &take)).await;
    let (text, mut output, mut lines) = heard.into_inner().unwrap_or_else(PoisonError::into_inner);
    lines.extend(output.finish());
    let text = String::from_utf8_lossy(&text).into_owned();
    Ok(match ended {
        Ok(Ok(Ended::Code(code))) => Ok(Said { code, text, output, lines }),
        Ok(Ok(Ended::NotRun(why) | Ended::Lost(why))) => Err(why),
        Ok(Err(error)) => return Err(error),
        Err(_) => Err(format!("no answer within {} s", CALL_TIMEOUT.as_secs())),
    })
}

/// Says that a command is still wanted, and how it stands; none if that cannot be known now.
pub async fn renew(cluster: &Cluster, migration: &str, hook: &str, target: &Target) -> Option<State> {
    let look = script::look(&script::folder(migration, hook));
    let said = ask(cluster, target, &look).await.ok()?.ok()?;
    script::state(&said.text)
}

/// Begins a command in all its Pods, and waits until it has come to where it waits.
pub async fn begin(
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
    // Written before anything is begun: whatever becomes of this spoke, it is let go.
    record.hold(&hook.name, &targets).await.map_err(unwritten)?;
    super::renewal::keep(&context.spoke, &run.migration);
    let result = begin_all(context, run, hook, exec, &targets).await;
    if matches!(result, Err(Failure::Failed(_))) {
        let held = Held { hook: hook.name.clone(), targets, since: None };
        let_go(context, &run.migration, &held, record).await.map_err(unwritten)?;
    }
    result
}

async fn begin_all(
    context: &TaskContext,
    run: &Run,
    hook: &Hook,
    exec: &ExecHook,
    targets: &[Target],
) -> Result<(), Failure> {
    let folder = script::folder(&run.migration, &hook.name);
    let begin = script::begin(&folder, &exec.command);
    let asking = |target: &Target| format!("beginning the command in {}", target.name());
    for target in targets {
        let said = ask(context.cluster(), target, &begin).await;
        match said.map_err(|error| Failure::exec(&asking(target), &error))? {
            Ok(said) if said.code == 0 => {
                context.log(format!("hook {}: begun in the background in {}", hook.name, target.name()));
            }
            Ok(said) => {
                return Err(Failure::Failed(format!(
                    "in {} the command could not be begun: {}; it needs a shell, mkfifo and a /tmp that may be written",
                    target.name(),
                    said.output.last_words()
                )));
            }
            Err(why) => {
                return Err(Failure::Failed(format!(
                    "in {} the command could not be begun: {why}; it needs a shell",
                    target.name()
                )));
            }
        }
    }
    await_begun(context, hook, exec, targets, &script::look(&folder)).await
}

/// Waits until the command runs in each of its Pods, or has come to where it waits.
async fn await_begun(
    context: &TaskContext,
    hook: &Hook,
    exec: &ExecHook,
    targets: &[Target],
    look: &[String],
) -> Result<(), Failure> {
    let waits = script::waits(&exec.command);
    let started = Instant::now();
    let deadline = started + Duration::from_secs(u64::from(hook.timeout_seconds));
    let mut told = started;
    let mut left: Vec<&Target> = targets.iter().collect();
    loop {
        let mut still = Vec::new();
        for target in left {
            let asking = format!("looking at the command in {}", target.name());
            let said = ask(context.cluster(), target, look).await;
            let said = said
                .map_err(|error| Failure::exec(&asking, &error))?
                .map_err(|why| Failure::Failed(format!("{asking} failed: {why}")))?;
            match script::state(&said.text) {
                Some(State::Ready) => {}
                Some(State::Running) if !waits => {}
                Some(State::Running) => still.push(target),
                Some(State::Ended(code)) if code == "0" && !waits => {
                    context.log(format!("hook {}: ended at once in {}", hook.name, target.name()));
                }
                Some(State::Ended(code)) => {
                    return Err(Failure::Failed(format!(
                        "in {} the command ended with {code} before it was held; {}",
                        target.name(),
                        said.output.last_words()
                    )));
                }
                Some(State::Gone) | None => {
                    return Err(Failure::Failed(format!(
                        "in {} nothing is known of the command: was the container restarted?",
                        target.name()
                    )));
                }
            }
        }
        left = still;
        let Some(first) = left.first() else { return Ok(()) };
        if Instant::now() > deadline {
            return Err(Failure::Failed(format!(
                "in {} the command did not come to {} within {} s",
                first.name(),
                isthmus_shared::resources::WAIT_CMD,
                hook.timeout_seconds
            )));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let seconds = started.elapsed().as_secs();
            context.doing(format!(
                "hook {}: waits for it in {} to begin, for {seconds} s",
                hook.name,
                first.name()
            ));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Lets a command go everywhere, and forgets it. What it was in each Pod. Where a node cannot be asked
/// nothing is waited for: without a spoke that wants it, the command ends by itself.
pub async fn let_go(
    context: &TaskContext,
    migration: &str,
    held: &Held,
    record: &mut Record,
) -> Result<Vec<(Target, Was)>, TaskError> {
    let found = end(context, migration, held, false).await?;
    forget(context, migration, held, &found, record).await?;
    Ok(found)
}

/// Ends a command everywhere. What it was in each Pod; of a Pod that is gone, or of another container,
/// that it is gone. A second time finds the same.
async fn end(
    context: &TaskContext,
    migration: &str,
    held: &Held,
    patient: bool,
) -> Result<Vec<(Target, Was)>, TaskError> {
    context.doing(format!("hook {}: lets its command go", held.hook));
    let script = script::end(&script::folder(migration, &held.hook));
    let one = |target: Target| {
        let script = &script;
        async move {
            let was = end_in(context, held, &target, script, patient).await?;
            context.log(format!("hook {}: {}: it {}", held.hook, target.name(), describe(&was)));
            Ok((target, was))
        }
    };
    futures::stream::iter(held.targets.clone().into_iter().map(one)).buffered(AT_A_TIME).try_collect().await
}

async fn end_in(
    context: &TaskContext,
    held: &Held,
    target: &Target,
    script: &[String],
    patient: bool,
) -> Result<Was, TaskError> {
    Ok(match ask(context.cluster(), target, script).await {
        Err(error) if error.is_not_found() => Was::Gone,
        Err(error) if patient && error.is_transient() => {
            let doing = format!("letting go the command of hook {}", held.hook);
            return Err(TaskError::cluster(target.name(), &doing, &error));
        }
        // The container does not run, or nobody may look into it any more.
        Err(error) => Was::Unknown(error.to_string()),
        Ok(Err(why)) => Was::Unknown(why),
        Ok(Ok(said)) => {
            for line in &said.lines {
                context.log(format!("hook {}: {}/{}: {line}", held.hook, target.namespace, target.pod));
            }
            script::was(&said.text).unwrap_or(Was::Gone)
        }
    })
}

/// Forgets a command that has been ended: in the record first, so that nothing is taken to have been
/// gone that was held.
async fn forget(
    context: &TaskContext,
    migration: &str,
    held: &Held,
    found: &[(Target, Was)],
    record: &mut Record,
) -> Result<(), TaskError> {
    record.let_go(&held.hook).await?;
    let folder = script::folder(migration, &held.hook);
    for (target, _) in found.iter().filter(|(_, was)| !matches!(was, Was::Gone | Was::Unknown(_))) {
        // What is left is a folder in /tmp of a container, at worst.
        drop(ask(context.cluster(), target, &script::forget(&folder)).await);
    }
    Ok(())
}

fn describe(was: &Was) -> String {
    match was {
        Was::Held(Some(code)) => format!("went on until it was let go, and returned {code}"),
        Was::Held(None) => "went on until it was let go, and has not ended yet".to_owned(),
        Was::Ended(code) => format!("had ended before with {code}"),
        Was::Lapsed => {
            format!("had been ended by itself, as no spoke had wanted it for {} s", script::LEASE)
        }
        Was::Gone => "went with its container".to_owned(),
        Was::Unknown(why) => format!(
            "could not be asked ({why}); if it still runs, it ends by itself within {} s",
            script::LEASE
        ),
    }
}

/// Why a command was not held to the end, if it was not.
pub fn not_held(run: &Run, found: &[(Target, Was)]) -> Option<String> {
    let (target, was) = found.iter().find(|(_, was)| match was {
        Was::Held(_) => false,
        // A cutover takes the Pods away itself.
        Was::Gone | Was::Unknown(_) => !run.spec.quiesce,
        Was::Ended(_) | Was::Lapsed => true,
    })?;
    Some(format!(
        "in {} the command in the background was not held to the end: it {}",
        target.name(),
        describe(was)
    ))
}

/// Lets go what is held for the volumes alone, when they have been moved.
pub async fn volumes_moved(
    context: &TaskContext,
    run: &Run,
    side: Side,
    record: &mut Record,
) -> Result<(), TaskError> {
    let of_side = |hook: &&Hook| hook.side() == side && hook.ends_with_volumes();
    for hook in run.spec.hooks.iter().filter(of_side) {
        let Some(held) = record.held().into_iter().find(|held| held.hook == hook.name) else { continue };
        let found = end(context, &run.migration, &held, true).await?;
        if let Some(why) = not_held(run, &found) {
            let why = format!("{why}; the volumes may have been read without it");
            match hook.on_error {
                // Still in the record: a spoke that starts anew here finds the same.
                OnError::Fail => return Err(TaskError::Failed(super::failure_of(hook, &why).into())),
                OnError::Continue => context.warn(finding(object(hook), "NotHeld", why)),
            }
        }
        forget(context, &run.migration, &held, &found, record).await?;
    }
    Ok(())
}
