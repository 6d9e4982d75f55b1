//! The mover's process: `isthmus-spoke mover …`, started by the spoke as a Job.
//!
//! It proves who it is with the projected token of its Pod, gets its grant over a pinned TLS
//! connection, runs the engine, tells about once a second how far it is, and reports the result
//! until the spoke has taken it. Nothing that it gets is written anywhere.
//!
//! Exit codes: 0 done and reported; 1 failed and reported, or no longer wanted: do not start it
//! again; 2 the spoke could not be reached, the process was told to stop, or its credentials for
//! the store came to their end: it may be started again and goes on where it was.

mod outcome;
mod spoke;

use std::{ffi::OsString, path::PathBuf, process::ExitCode, sync::Arc, time::Duration};

use clap::{Parser, ValueEnum};
use isthmus_shared::{
    protocol::{Direction, MoverGrant, MoverProgress, MoverResult, Progress as Told, TaskId, VolumeContent},
    resources::Exclusions,
    staging::{PairUid, VolumeKey, VolumeUid, s3},
};
use jiff::Timestamp;
use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

use self::{
    outcome::Outcome,
    spoke::{CallError, SpokeClient},
};
use super::{
    Limits, MoverError, Pass, Progress, ReceiveOptions, SendOptions,
    limits::MAX_WORKERS,
    metadata, receive, receive_device, recover, recover_device, send, send_device,
    throttle::{self, Throttled},
};

/// How often the spoke hears how far the mover is.
const PROGRESS_INTERVAL: Duration = Duration::from_secs(1);
/// Where Kubernetes takes a container's last words from.
const TERMINATION_LOG: &str = "/dev/termination-log";
/// The most that Kubernetes keeps of them.
const TERMINATION_BYTES: usize = 4096;

const DONE: u8 = 0;
const FAILED: u8 = 1;
/// The exit code of a mover that may be started again.
pub const MAY_RESTART: u8 = 2;
/// How far the clocks of node, STS and store may be apart where the end of a session is judged.
const CLOCK_SKEW: Duration = Duration::from_mins(5);

/// Moves one volume; started by the spoke as a Job.
#[derive(Debug, Parser)]
#[command(name = "isthmus-spoke mover", version)]
struct Arguments {
    /// Which way: it must be that of the task.
    #[arg(long)]
    direction: Way,
    /// Where the spoke listens for movers.
    #[arg(long)]
    spoke_url: String,
    /// The spoke's CA, as PEM.
    #[arg(long, env = "ISTHMUS_SPOKE_CA", conflicts_with = "spoke_ca_file")]
    spoke_ca: Option<String>,
    /// A file with the spoke's CA, as PEM.
    #[arg(long)]
    spoke_ca_file: Option<PathBuf>,
    /// The Pod's projected service account token; read again for each request.
    #[arg(long, default_value = "/var/run/secrets/isthmus/token")]
    token_file: PathBuf,
    /// The task.
    #[arg(long)]
    task: TaskId,
    /// Where the volume is mounted.
    #[arg(long, default_value = "/volume")]
    root: PathBuf,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Way {
    Send,
    Receive,
}

/// Runs the mover; `arguments` are those behind `mover`.
pub async fn run(arguments: Vec<OsString>) -> ExitCode {
    let name = OsString::from("isthmus-spoke mover");
    let arguments = match Arguments::try_parse_from(std::iter::once(name).chain(arguments)) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { MAY_RESTART } else { DONE });
        }
    };
    allow_many_files();
    let (code, last_words) = work(&arguments).await;
    if code == DONE {
        tracing::info!("{last_words}");
    } else {
        tracing::error!("{last_words}");
    }
    leave_last_words(&last_words);
    ExitCode::from(code)
}

async fn work(arguments: &Arguments) -> (u8, String) {
    let client = match SpokeClient::new(arguments) {
        Ok(client) => client,
        Err(error) => return (MAY_RESTART, error.to_string()),
    };
    let grant = match client.session(&arguments.task).await {
        Ok(grant) => grant,
        Err(error @ CallError::Unwanted { .. }) => return (FAILED, error.to_string()),
        Err(error) => return (MAY_RESTART, error.to_string()),
    };
    let progress = Progress::new();
    let cancel = CancellationToken::new();
    let told_to_stop = CancellationToken::new();
    let watching = watch_signals(cancel.clone(), told_to_stop.clone());
    let telling = tokio::spawn(tell_progress(
        client.clone(),
        arguments.task.clone(),
        (grant.direction, grant.recover),
        progress.clone(),
        cancel.clone(),
    ));
    let outcome = move_volume(arguments, &grant, &progress, &cancel).await;
    if session_ended(grant.access_expires, Timestamp::now(), outcome.reason()) {
        telling.abort();
        watching.abort();
        return (MAY_RESTART, format!("{}; a new mover goes on with new credentials", outcome.last_words()));
    }
    telling.abort();
    watching.abort();
    if told_to_stop.is_cancelled() {
        return (MAY_RESTART, "told to stop; a new mover goes on from here".to_owned());
    }
    if cancel.is_cancelled() {
        return (FAILED, "the task is no longer wanted: stopped".to_owned());
    }
    report(&client, arguments, &grant, &progress, outcome).await
}

async fn move_volume(
    arguments: &Arguments,
    grant: &MoverGrant,
    progress: &Progress,
    cancel: &CancellationToken,
) -> Outcome {
    let way = match grant.direction {
        Direction::Send => Way::Send,
        Direction::Receive => Way::Receive,
    };
    if way != arguments.direction {
        return Outcome::failed(
            "WrongDirection",
            "the grant is for the other direction; check that spoke and mover are of the same version",
        );
    }
    let block = grant.content == VolumeContent::Block;
    if grant.privileged_attributes && !block && !metadata::sees_trusted() {
        return Outcome::failed(
            "PrivilegedAttributesUnavailable",
            "the mover was started with the capability SYS_ADMIN and may set no trusted.* attributes all the same: \
             look for what takes it away (user namespaces of Pods, or the node's SELinux policy, whose boolean \
             virt_sandbox_use_sys_admin allows it), or leave mover.privilegedAttributes out",
        );
    }
    let pass = match prepare(grant, arguments.root.clone()) {
        Ok(pass) => pass,
        Err(outcome) => return *outcome,
    };
    tracing::info!(pass = pass.number, volume = %pass.volume, direction = ?grant.direction, "starting");
    let (progress, cancel) = (progress.clone(), cancel.clone());
    match grant.direction {
        Direction::Send => {
            let options = SendOptions { pass, sender: sender_name(), still: grant.still };
            Outcome::of_sending(if block {
                send_device(options, progress, cancel).await
            } else {
                send(options, progress, cancel).await
            })
        }
        Direction::Receive => {
            let (metadata_policy, verify) = (grant.metadata_policy, grant.verify);
            let options = ReceiveOptions { pass, metadata_policy, verify };
            Outcome::of_receiving(match (block, grant.recover) {
                (true, true) => recover_device(options, progress, cancel).await,
                (true, false) => receive_device(options, progress, cancel).await,
                (false, true) => recover(options, progress, cancel).await,
                (false, false) => receive(options, progress, cancel).await,
            })
        }
    }
}

fn prepare(grant: &MoverGrant, root: PathBuf) -> Result<Pass, Box<Outcome>> {
    let unsound = |error: String| Box::new(Outcome::failed("UnsoundGrant", &error));
    let mut store = s3::open_with(&grant.access, s3::RetryPolicy::PATIENT)
        .map_err(|error| Box::new(Outcome::of_sending(Err(MoverError::Store(error)))))?;
    if let Some(rate) = grant.bandwidth_limit {
        store = Arc::new(Throttled::new(store, rate));
    }
    let exclude = Exclusions::new(&grant.exclude_paths)
        .map_err(|error| unsound(format!("spec.excludePaths[{}]: {error}", error.index)))?;
    Ok(Pass {
        root,
        store,
        key: VolumeKey::from_base64(&grant.key).map_err(|error| unsound(error.to_string()))?,
        pair: PairUid::new(grant.pair.as_str()).map_err(|error| unsound(error.to_string()))?,
        volume: VolumeUid::new(grant.volume.as_str()).map_err(|error| unsound(error.to_string()))?,
        number: grant.pass,
        previous: grant.previous_pass,
        claim: grant.claim.clone(),
        exclude,
        limits: limits(grant),
    })
}

/// The engine's bounds under this grant.
fn limits(grant: &MoverGrant) -> Limits {
    let default = Limits::default();
    let asked = grant.parallel_files.map(|files| usize::try_from(files).unwrap_or(MAX_WORKERS));
    Limits {
        workers: asked.unwrap_or(default.workers).clamp(1, MAX_WORKERS),
        peer_timeout: Duration::from_secs(grant.peer_timeout_seconds),
        pack_bytes: grant.bandwidth_limit.map_or(default.pack_bytes, throttle::pack_bytes),
        ..default
    }
}

/// Whether a failure is that of credentials whose time is over. Not every store says so: for some
/// such credentials are unknown, or may do nothing.
fn session_ended(expires: Option<Timestamp>, now: Timestamp, reason: Option<&str>) -> bool {
    let Some(expires) = expires else { return false };
    match reason {
        Some("SessionExpired") => true,
        Some("BadCredentials" | "AccessDenied") => now + CLOCK_SKEW >= expires,
        _ => false,
    }
}

async fn report(
    client: &SpokeClient,
    arguments: &Arguments,
    grant: &MoverGrant,
    progress: &Progress,
    outcome: Outcome,
) -> (u8, String) {
    let last_words = outcome.last_words();
    let code = if outcome.succeeded { DONE } else { FAILED };
    let result = MoverResult {
        task: arguments.task.clone(),
        succeeded: outcome.succeeded,
        progress: outcome::progress(grant.direction, progress.figures(), None),
        verified: outcome.verified,
        failures: outcome.failures.list,
        failures_total: outcome.failures.total,
        warnings: outcome.warnings.list,
        warnings_total: outcome.warnings.total,
    };
    match client.result(&result).await {
        Ok(()) => (code, last_words),
        Err(error) => (MAY_RESTART, format!("{last_words}; but the result was not taken: {error}")),
    }
}

async fn tell_progress(
    client: SpokeClient,
    task: TaskId,
    (direction, recovers): (Direction, bool),
    progress: Progress,
    cancel: CancellationToken,
) {
    let mut ticks = tokio::time::interval(PROGRESS_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        let figures = progress.figures();
        let message = match (direction, figures.bytes_done, figures.bytes_read_back) {
            (Direction::Send, ..) => "sending",
            (Direction::Receive, _, 0) if recovers => "going back to a complete pass",
            (Direction::Receive, 0, _) => "waiting for the sender",
            (Direction::Receive, _, 0) => "receiving",
            (Direction::Receive, ..) => "reading back and comparing",
        };
        let message = MoverProgress {
            task: task.clone(),
            progress: Told {
                stalled: progress.stalled(),
                ..outcome::progress(direction, figures, Some(message))
            },
        };
        match client.progress(&message).await {
            Ok(reply) if reply.cancel => {
                cancel.cancel();
                return;
            }
            Ok(_) => {}
            // The spoke may be starting again; the move goes on without it.
            Err(error) => tracing::debug!(%error, "progress was not told"),
        }
    }
}

fn watch_signals(cancel: CancellationToken, told: CancellationToken) -> tokio::task::JoinHandle<()> {
    tokio::spawn(async move {
        let (Ok(mut terminate), Ok(mut interrupt)) =
            (signal(SignalKind::terminate()), signal(SignalKind::interrupt()))
        else {
            tracing::warn!("signals cannot be watched: a stop will not be clean");
            return;
        };
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        told.cancel();
        cancel.cancel();
    })
}

/// The pod's name, for the receiver's messages.
fn sender_name() -> String {
    std::env::var("HOSTNAME")
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "a mover without a name".to_owned())
}

/// Deep trees hold a descriptor for each level.
fn allow_many_files() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        tracing::debug!(%error, "the limit of open files stays as it is");
    }
}

fn leave_last_words(words: &str) {
    let path = std::path::Path::new(TERMINATION_LOG);
    if !path.exists() {
        return;
    }
    let mut end = words.len().min(TERMINATION_BYTES);
    while !words.is_char_boundary(end) {
        end -= 1;
    }
    if let Err(error) = std::fs::write(path, &words[..end]) {
        tracing::debug!(%error, "no last words were left");
    }
}

#[cfg(test)]
mod tests;
