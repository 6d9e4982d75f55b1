//! A Job from an image: made once for each attempt, waited for, its output into the run's log.

use std::time::Duration;

use isthmus_shared::protocol::Run;
use isthmus_shared::resources::{Hook, JobHook};
use serde_json::Value;
use tokio::time::Instant;

use super::TELL_EVERY;
use super::failure::Failure;
use super::manifest::{self, CONTAINER};
use super::output::Output;
use super::pods::namespaces;
use crate::cluster::{DeleteOptions, Stream, array, escape, name, text};
use crate::task::TaskContext;
use crate::volumes::job_trouble;

/// How often a Job is looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How long a Job and its Pods may take to go.
pub const GONE_TIMEOUT: Duration = Duration::from_mins(2);
/// The Pods of a Job that are looked at; it has one, unless a node was lost.
const MAX_LISTED: usize = 10;
/// The last lines of a Pod's log that are read.
const LINES: u32 = 1_000;
/// How much of them, bytes.
const LOG_BYTES: u32 = 1024 * 1024;

/// How a Job stands.
#[derive(Debug, PartialEq, Eq)]
enum Standing {
    Runs,
    Complete,
    /// It has failed; what Kubernetes says of it.
    Failed(String),
}

/// Makes the Job of an attempt, unless it is there, and waits for its end.
pub async fn carry_out(
    context: &TaskContext,
    run: &Run,
    hook: &Hook,
    job: &JobHook,
    attempt: u32,
) -> Result<(), Failure> {
    let of_run = || namespaces(run, hook.side()).into_iter().next();
    let Some(namespace) = job.namespace.clone().or_else(of_run) else {
        return Err(Failure::Failed(
            "the run has no namespace on this side: name one in job.namespace".to_owned(),
        ));
    };
    let collection = format!("/apis/batch/v1/namespaces/{namespace}/jobs");
    let job_name = manifest::job_name(&run.migration, &hook.name, attempt);
    let path = format!("{collection}/{job_name}");
    let what = format!("Job {namespace}/{job_name}");
    let failed = |doing: &str| {
        let doing = format!("{doing} {what}");
        move |error| Failure::cluster(&doing, &error)
    };
    if context.cluster().find(&path).await.map_err(failed("reading"))?.is_none() {
        let object = manifest::job(&run.migration, &context.id, &namespace, hook, job, attempt);
        match context.cluster().make(&collection, &object).await {
            Ok(_) => context.log(format!("hook {}: {what} made", hook.name)),
            Err(error) if error.is_already_exists() => {}
            Err(error) => return Err(failed("making")(error)),
        }
    }
    let ended = wait(context, hook, &namespace, &path, &what).await?;
    let pods = pods(context, &namespace, &job_name).await?;
    let output = read_output(context, hook, &namespace, &pods).await;
    let why = match ended {
        Ok(()) => return Ok(()),
        Err(why) => why,
    };
    remove(context, &namespace, &job_name, &path).await?;
    Err(Failure::Failed(format!("{what} {why}{}", last_words(&pods, &output))))
}

/// Waits for a Job's end: that it has succeeded, or why it has not.
async fn wait(
    context: &TaskContext,
    hook: &Hook,
    namespace: &str,
    path: &str,
    what: &str,
) -> Result<Result<(), String>, Failure> {
    let started = Instant::now();
    let deadline = started + Duration::from_secs(u64::from(hook.timeout_seconds));
    let mut told = started;
    let mut troubled: Option<(String, Instant)> = None;
    loop {
        let reading = |error| Failure::cluster(&format!("reading {what}"), &error);
        let Some(job) = context.cluster().find(path).await.map_err(reading)? else {
            return Ok(Err("was removed while it ran".to_owned()));
        };
        match standing(&job) {
            Standing::Complete => return Ok(Ok(())),
            Standing::Failed(why) => return Ok(Err(format!("failed ({why})"))),
            Standing::Runs => {}
        }
        let pods = pods(context, namespace, name(&job)).await?;
        let trouble = job_trouble(context.cluster(), &job, &pods).await.map_err(reading)?;
        // How a container ended, the Job says in a moment.
        let trouble = trouble.filter(|trouble| trouble.exit_code.is_none());
        let seconds = started.elapsed().as_secs();
        if let Some(trouble) = &trouble {
            let since = match &troubled {
                Some((reason, since)) if *reason == trouble.reason => *since,
                _ => Instant::now(),
            };
            troubled = Some((trouble.reason.clone(), since));
            if since.elapsed() > trouble.patience {
                return Ok(Err(format!(
                    "has no Pod that runs ({trouble}); if its image runs as root, set runAsUser"
                )));
            }
        } else {
            troubled = None;
        }
        if Instant::now() > deadline {
            let waits = trouble.map(|trouble| format!(" ({trouble})")).unwrap_or_default();
            return Ok(Err(format!("did not end within {} s{waits}, and was removed", hook.timeout_seconds)));
        }
        if told.elapsed() > TELL_EVERY {
            told = Instant::now();
            let waits = trouble.map(|trouble| format!("; {trouble}")).unwrap_or_default();
            context.doing(format!("hook {}: waits for {what}, for {seconds} s{waits}", hook.name));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// What a Job's conditions say.
fn standing(job: &Value) -> Standing {
    for condition in array(job, "/status/conditions") {
        if text(condition, "/status") != "True" {
            continue;
        }
        match text(condition, "/type") {
            "Complete" => return Standing::Complete,
            "Failed" => {
                let (reason, message) = (text(condition, "/reason"), text(condition, "/message"));
                let told = [reason, message].into_iter().filter(|part| !part.is_empty());
                return Standing::Failed(told.collect::<Vec<_>>().join(": "));
            }
            _ => {}
        }
    }
    Standing::Runs
}

async fn pods(context: &TaskContext, namespace: &str, job: &str) -> Result<Vec<Value>, Failure> {
    let path = format!("/api/v1/namespaces/{namespace}/pods");
    let query = format!("labelSelector={}", escape(&format!("job-name={job}")));
    let pods = context.cluster().list(&path, &query, MAX_LISTED).await;
    pods.map_err(|error| Failure::cluster(&format!("listing the Pods of Job {namespace}/{job}"), &error))
}

/// Reads what a Job's Pods printed into the run's log.
async fn read_output(context: &TaskContext, hook: &Hook, namespace: &str, pods: &[Value]) -> Output {
    let mut output = Output::default();
    for pod in pods {
        let path = format!(
            "/api/v1/namespaces/{namespace}/pods/{}/log?container={CONTAINER}&tailLines={LINES}&limitBytes={LOG_BYTES}",
            name(pod)
        );
        let mut lines = match context.cluster().get_text(&path).await {
            Ok(text) => output.take(Stream::Out, text.as_bytes()),
            // What the container left for its end is at hand without.
            Err(error) => {
                context.log(format!("hook {}: the log of {} cannot be read: {error}", hook.name, name(pod)));
                output.take(Stream::Out, last_message(pod).as_bytes())
            }
        };
        lines.extend(output.finish());
        for line in lines {
            context.log(format!("hook {}: {namespace}/{}: {line}", hook.name, name(pod)));
        }
    }
    output
}

/// How the container of a Pod ended.
fn terminated(pod: &Value) -> Option<&Value> {
    let status = array(pod, "/status/containerStatuses").iter().find(|s| text(s, "/name") == CONTAINER)?;
    status.pointer("/state/terminated")
}

fn last_message(pod: &Value) -> &str {
    terminated(pod).map(|ended| text(ended, "/message")).unwrap_or_default()
}

/// How the Pods of a Job ended, with what they printed last.
fn last_words(pods: &[Value], output: &Output) -> String {
    let ends: Vec<String> = pods
        .iter()
        .filter_map(|pod| {
            let code = terminated(pod)?.get("exitCode")?.as_i64()?;
            Some(format!("; its Pod {} returned {code}", name(pod)))
        })
        .collect();
    let left = || pods.iter().map(last_message).find(|message| !message.is_empty());
    let words = match left() {
        // One that was never begun has printed nothing, and says here why.
        Some(message) if output.tail().is_empty() => message.trim().to_owned(),
        _ => output.last_words(),
    };
    if ends.is_empty() { String::new() } else { format!("{}; {words}", ends.concat()) }
}

/// Removes a Job, and waits until its Pods are gone: the next attempt is not to meet this one.
async fn remove(context: &TaskContext, namespace: &str, job: &str, path: &str) -> Result<(), Failure> {
    let started = Instant::now();
    let removed = context.cluster().delete(path, &DeleteOptions::default()).await;
    removed.map_err(|error| Failure::cluster(&format!("removing Job {namespace}/{job}"), &error))?;
    while started.elapsed() < GONE_TIMEOUT {
        if pods(context, namespace, job).await?.is_empty() {
            return Ok(());
        }
        context.doing(format!("waits for the Pods of Job {namespace}/{job} to go"));
        tokio::time::sleep(LOOK_EVERY).await;
    }
    let message = format!(
        "the Pods of Job {namespace}/{job}, which was removed, are still there after {} s: look at their nodes",
        GONE_TIMEOUT.as_secs()
    );
    Err(Failure::Failed(message))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_jobs_conditions_say_how_it_stands() {
        let job = |kind: &str, status: &str| {
            json!({"status": {"conditions": [
                {"type": kind, "status": status, "reason": "DeadlineExceeded", "message": "too long"}
            ]}})
        };
        assert_eq!(standing(&json!({})), Standing::Runs);
        assert_eq!(standing(&job("Suspended", "True")), Standing::Runs);
        assert_eq!(standing(&job("Complete", "False")), Standing::Runs);
        assert_eq!(standing(&job("Complete", "True")), Standing::Complete);
        assert_eq!(
            standing(&job("Failed", "True")),
            Standing::Failed("DeadlineExceeded: too long".to_owned())
        );
    }

    #[test]
    fn a_failed_pod_is_named_with_its_code_and_its_last_words() {
        let pod = json!({"metadata": {"name": "p"}, "status": {"containerStatuses": [
            {"name": "proxy", "state": {"terminated": {"exitCode": 9}}},
            {"name": "hook", "state": {"terminated": {"exitCode": 3, "message": "no space"}}}
        ]}});
        let mut output = Output::default();
        output.take(Stream::Out, last_message(&pod).as_bytes());
        assert_eq!(
            last_words(std::slice::from_ref(&pod), &output),
            "; its Pod p returned 3; its last output: no space"
        );
        let silent = Output::default();
        assert_eq!(last_words(&[pod], &silent), "; its Pod p returned 3; no space");
        assert_eq!(last_words(&[], &output), "");
    }
}
