//! A program of somebody else's, with what it used.
//!
//! It runs as the one child of a process of this executable, which asks the kernel afterwards
//! what its children used.

use std::{
    collections::BTreeMap,
    ffi::OsStr,
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt;

use super::child::start;
use super::measure::{Usage, children_cpu_s, peak_mib_of};
use super::tools::Figures;

/// How often a program's memory is looked at: its peak is a mark that only rises.
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// How long a program may take for one way; one that waits for ever ends the benchmark.
const TIME_LIMIT: Duration = Duration::from_hours(1);
/// The end of a failed program's messages that is repeated, bytes.
const MAX_SAID: usize = 2048;

/// A program to run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Program {
    name: String,
    args: Vec<PathBuf>,
    /// Variables to set, or to leave out.
    env: BTreeMap<String, Option<String>>,
    folder: PathBuf,
}

#[derive(Serialize, Deserialize)]
struct Report {
    wall_s: f64,
    usage: Usage,
    failure: Option<String>,
}

impl Program {
    /// A program that runs in a folder.
    pub fn new(name: &str, folder: &Path) -> Self {
        Self { name: name.to_owned(), args: Vec::new(), env: BTreeMap::new(), folder: folder.to_owned() }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.args.push(PathBuf::from(arg.as_ref()));
        self
    }

    /// Adds arguments.
    pub fn args<const N: usize>(&mut self, args: [&str; N]) -> &mut Self {
        for arg in args {
            self.arg(arg);
        }
        self
    }

    /// Sets a variable of its environment.
    pub fn env(&mut self, name: &str, value: &str) -> &mut Self {
        self.env.insert(name.to_owned(), Some(value.to_owned()));
        self
    }

    /// Leaves out a variable of this process' environment.
    pub fn without_env(&mut self, name: &str) -> &mut Self {
        self.env.insert(name.to_owned(), None);
        self
    }

    /// Runs it in another folder.
    pub fn folder(&mut self, folder: &Path) -> &mut Self {
        folder.clone_into(&mut self.folder);
        self
    }
}

/// Runs a program to its end.
pub async fn measured(program: &Program) -> anyhow::Result<Figures> {
    let mut child = start("run")?;
    let mut input = child.stdin.take().context("the process has no input")?;
    input.write_all(&serde_json::to_vec(program)?).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("the process that runs {} failed ({})", program.name, output.status);
    }
    let report: Report = serde_json::from_slice(&output.stdout).context("reading what the program used")?;
    if let Some(failure) = report.failure {
        bail!("{} failed: {failure}", program.name);
    }
    let Usage { cpu_s, peak_mib } = report.usage;
    Ok(Figures { wall_s: report.wall_s, cpu_s, peak_mib })
}

/// The process that runs one program; its input says which.
pub async fn run_given(json: &str) -> anyhow::Result<()> {
    let program: Program = serde_json::from_str(json).context("reading what to run")?;
    let said = tempfile::NamedTempFile::new().context("making a file for the program's messages")?;
    let started = Instant::now();
    let mut command = tokio::process::Command::new(&program.name);
    for (name, value) in &program.env {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    let mut child = command
        .args(&program.args)
        .current_dir(&program.folder)
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .stderr(said.reopen()?)
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting {}", program.name))?;
    let mut peak_mib: f64 = 0.0;
    let status = loop {
        if started.elapsed() > TIME_LIMIT {
            bail!("{} was not done after {} minutes", program.name, TIME_LIMIT.as_secs() / 60);
        }
        tokio::select! {
            status = child.wait() => break status?,
            () = tokio::time::sleep(LOOK_EVERY) => {
                if let Some(id) = child.id() {
                    // It may have ended in between.
                    peak_mib = peak_mib.max(peak_mib_of(id).unwrap_or_default());
                }
            }
        }
    };
    let wall_s = started.elapsed().as_secs_f64();
    let failure = if status.success() { None } else { Some(format!("{status}: {}", tail(said.path())?)) };
    let report = Report { wall_s, usage: Usage { cpu_s: children_cpu_s()?, peak_mib }, failure };
    println!("{}", serde_json::to_string(&report)?);
    Ok(())
}

fn tail(path: &Path) -> anyhow::Result<String> {
    let bytes = std::fs::read(path)?;
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(MAX_SAID)..]).into_owned();
    Ok(text.trim().to_owned())
}
