//! The benchmark's own processes: `mover-bench send|receive|s3|run|manifest`, hidden.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::{ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use isthmus_shared::{
    resources::{Exclusions, MetadataPolicy, VerifyMethod},
    staging::{PairUid, StoreAccess, VolumeKey, VolumeUid, s3},
};
use isthmus_spoke::mover::{Limits, Pass, Progress, ReceiveOptions, SendOptions, receive, send};
use serde::{Deserialize, Serialize};
use tokio::process::{Child, Command};
use tokio_util::sync::CancellationToken;

use super::measure::{Usage, own_usage};
use crate::s3::{KeyAccess, REGION, S3, S3Options};

pub const BUCKET: &str = "bench";
/// A receiver starts with its sender; a sender that is not there by then has failed.
const PEER_TIMEOUT: Duration = Duration::from_mins(1);

/// What a mover's process is to do.
#[derive(Debug, Serialize, Deserialize)]
pub struct Job {
    /// Sending or receiving.
    pub send: bool,
    /// The folder.
    pub root: PathBuf,
    /// The store.
    pub access: StoreAccess,
    /// The volume's key.
    pub key: VolumeKey,
    /// The pass, from 1; it builds on the one before it.
    pub pass: u32,
    /// Whether to wait until all is on disk.
    pub durable: bool,
}

/// What it says when it is done.
#[derive(Debug, Serialize, Deserialize)]
pub struct ChildReport {
    /// From its start to its end.
    pub wall_s: f64,
    /// What it used.
    pub usage: Usage,
    /// Regular files in the volume.
    pub files: u64,
}

/// Runs one of the processes; `args` are those behind `mover-bench`.
pub async fn child(args: Vec<OsString>) -> ExitCode {
    let role = args.first().and_then(|role| role.to_str()).unwrap_or_default();
    let done = perform(role).await;
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isthmus-lab mover-bench {role}: {error:#}");
            ExitCode::FAILURE
        }
    }
}

async fn perform(role: &str) -> anyhow::Result<()> {
    match role {
        "send" | "receive" => mover().await,
        "manifest" => crate::bench_manifest::measure(&whole_input().await?).await,
        "run" => super::measured::run_given(&whole_input().await?).await,
        "s3" => server().await,
        _ => bail!("mover-bench is started by isthmus-lab bench only"),
    }
}

/// Starts this executable as one of the benchmark's processes; it ends when its input does.
pub fn start(role: &str) -> anyhow::Result<Child> {
    let executable = std::env::current_exe().context("finding this executable")?;
    Command::new(executable)
        .args(["mover-bench", role])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting the {role} process"))
}

async fn whole_input() -> anyhow::Result<String> {
    let reading = tokio::task::spawn_blocking(|| std::io::read_to_string(std::io::stdin()));
    reading.await?.context("reading the job")
}

async fn mover() -> anyhow::Result<()> {
    let job: Job = serde_json::from_str(&whole_input().await?).context("reading the job")?;
    let previous = job.pass.checked_sub(1).filter(|pass| *pass > 0);
    // As patient as a mover in a cluster: a server that loses one request must not end a run.
    let store = s3::open_with(&job.access, s3::RetryPolicy::PATIENT)?;
    let (pair, volume) = (PairUid::new("bench")?, VolumeUid::new("tree")?);
    let limits = Limits { peer_timeout: PEER_TIMEOUT, durable: job.durable, ..Limits::default() };
    let (progress, cancel) = (Progress::new(), CancellationToken::new());
    let started = Instant::now();
    let pass = Pass {
        root: job.root,
        store,
        key: job.key,
        volume,
        pair,
        number: job.pass,
        previous,
        claim: None,
        exclude: Exclusions::default(),
        limits,
    };
    let files = if job.send {
        let options = SendOptions { pass, sender: "bench".to_owned(), still: true };
        send(options, progress, cancel).await?.totals.files
    } else {
        let (metadata_policy, verify) = (MetadataPolicy::Strict, VerifyMethod::Inline);
        receive(ReceiveOptions { pass, metadata_policy, verify }, progress, cancel).await?.totals.files
    };
    let report = ChildReport { wall_s: started.elapsed().as_secs_f64(), usage: own_usage()?, files };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

async fn server() -> anyhow::Result<()> {
    let Some(line) = next_line().await? else {
        bail!("no folder was given");
    };
    let dir: PathBuf = serde_json::from_str(&line).context("reading the folder")?;
    let s3 = S3::start(S3Options { dir, tls: false }).await?;
    s3.create_bucket(BUCKET);
    let keys = s3.keys().add(KeyAccess::ReadWrite);
    let access = StoreAccess {
        endpoint: s3.endpoint().to_owned(),
        region: REGION.to_owned(),
        bucket: BUCKET.to_owned(),
        prefix: None,
        path_style: true,
        ca_pem: None,
        access_key_id: keys.access_key,
        secret_access_key: keys.secret_key,
        session_token: None,
        sts: None,
    };
    println!("{}", serde_json::to_string(&access)?);
    // The parent closes our input when it is done, or when it died.
    while next_line().await?.is_some() {}
    Ok(())
}

/// The next line of our input; none at its end.
async fn next_line() -> anyhow::Result<Option<String>> {
    let reading = tokio::task::spawn_blocking(|| std::io::stdin().lines().next().transpose());
    reading.await?.context("reading the input")
}
