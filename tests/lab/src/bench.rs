//! `isthmus-lab bench`: what moving a volume costs, on the benchmark's three trees.
//!
//! Sender, receiver and S3 server are three processes of this executable, so each one's CPU time
//! and memory is its own. Sender and receiver start together, as in a migration; the wall time
//! ends when both are done, and then the two trees are compared.
//!
//! - [`run`]: the command.
//! - [`child`]: the processes that it starts.

mod child;
mod measure;

use std::{
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
    time::Instant,
};

use anyhow::{Context, bail};
use clap::{Args, ValueEnum};
use serde::Serialize;
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::{Child, Command},
};

pub use child::child;
use child::{ChildReport, Job, ServerAddress};
use measure::Usage;

use crate::trees::{CompareOptions, TreeKind, TreeSummary, compare_trees, generate};

/// The same trees each time.
const SEED: u64 = 2026;
const MIB: f64 = 1024.0 * 1024.0;

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Print an array of rows as JSON
    #[arg(long)]
    pub json: bool,
    /// The trees' size; 1 is the benchmark's own
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Which trees; all of them without it
    #[arg(long, value_delimiter = ',')]
    pub tree: Vec<Tree>,
    /// Where trees and objects are put for the time of the run; needs about 14 GiB at scale 1
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Let the receiver end before all is on disk, as cp and restic do
    #[arg(long)]
    pub no_sync: bool,
}

/// A tree by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tree {
    /// 4 files of 512 MiB, half compressible
    Large,
    /// 100,000 files of 0.5 to 8 KiB
    Small,
    /// 20,000 files of 256 B to 1 MiB with odd metadata
    Mixed,
}

impl From<Tree> for TreeKind {
    fn from(tree: Tree) -> Self {
        match tree {
            Tree::Large => Self::Large,
            Tree::Small => Self::Small,
            Tree::Mixed => Self::Mixed,
        }
    }
}

/// One measurement.
#[derive(Debug, Clone, Serialize)]
struct Row {
    tree: &'static str,
    tool: &'static str,
    pass: u32,
    /// From the start of both sides to the end of both.
    wall_s: f64,
    /// Of both sides.
    cpu_s: f64,
    /// Of the larger side.
    peak_mib: f64,
    bytes: u64,
    files: u64,
    staged_bytes: u64,
    send: Side,
    receive: Side,
    s3_cpu_s: f64,
}

/// One side of a measurement.
#[derive(Debug, Clone, Serialize)]
struct Side {
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
}

/// Runs the benchmark.
pub async fn run(args: BenchArgs) -> anyhow::Result<ExitCode> {
    let folder = match &args.dir {
        Some(dir) => {
            std::fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            tempfile::tempdir_in(dir)
        }
        None => tempfile::tempdir(),
    }
    .context("making a folder for the trees")?;
    let kinds: Vec<TreeKind> = match args.tree.as_slice() {
        [] => TreeKind::ALL.to_vec(),
        some => some.iter().copied().map(TreeKind::from).collect(),
    };
    let (mut rows, mut kept) = (Vec::new(), Vec::new());
    if !args.json {
        println!("{}", heading());
    }
    for kind in kinds {
        let (row, tree) = measure_tree(folder.path(), kind, &args).await?;
        // ext4 searches long for inodes that were not freed within the last minutes: a tree that
        // is removed now would be measured with the next one.
        kept.push(tree);
        if !args.json {
            println!("{}", line(&row));
        }
        rows.push(row);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure_tree(
    folder: &Path,
    kind: TreeKind,
    args: &BenchArgs,
) -> anyhow::Result<(Row, tempfile::TempDir)> {
    let folder = tempfile::tempdir_in(folder).context("making a folder for a tree")?;
    let [source, destination, objects] =
        ["source", "destination", "objects"].map(|name| folder.path().join(name));
    std::fs::create_dir(&source)?;
    std::fs::create_dir(&destination)?;
    let tree = generate(&source, kind, SEED, args.scale).context("making the tree")?;
    // What was just written must not be on its way to disk while it is measured.
    rustix::fs::syncfs(std::fs::File::open(&source)?).context("writing the tree to disk")?;
    let mut server = Server::start(&objects).await?;
    let job = |root: &Path, send: bool| Job {
        send,
        root: root.to_owned(),
        access: server.address.access.clone(),
        key: server.address.volume_key.clone(),
        durable: !args.no_sync,
    };
    let (sending, receiving) = (job(&source, true), job(&destination, false));
    let started = Instant::now();
    let (sent, received) = tokio::try_join!(run_child(&sending), run_child(&receiving))?;
    let wall_s = started.elapsed().as_secs_f64();
    let s3 = server.stop().await?;
    let differences = compare_trees(&source, &destination, &CompareOptions::default())
        .context("comparing the two trees")?;
    if let Some(first) = differences.first() {
        bail!("{} differences between source and destination, the first: {first}", differences.len());
    }
    Ok((row(kind, tree, wall_s, &sent, &received, s3), folder))
}

fn row(
    kind: TreeKind,
    tree: TreeSummary,
    wall_s: f64,
    sent: &ChildReport,
    received: &ChildReport,
    s3: Usage,
) -> Row {
    let side = |report: &ChildReport| Side {
        wall_s: report.wall_s,
        cpu_s: report.usage.cpu_s,
        peak_mib: report.usage.peak_mib,
    };
    Row {
        tree: kind.name(),
        tool: "isthmus",
        pass: 1,
        wall_s,
        cpu_s: sent.usage.cpu_s + received.usage.cpu_s,
        peak_mib: sent.usage.peak_mib.max(received.usage.peak_mib),
        bytes: tree.bytes,
        files: tree.files,
        staged_bytes: sent.staged_bytes,
        send: side(sent),
        receive: side(received),
        s3_cpu_s: s3.cpu_s,
    }
}

fn heading() -> String {
    format!(
        "{:6} {:>8} {:>9} {:>8} {:>8} {:>9} | {:>9} {:>9} | {:>9} {:>9} | {:>6}",
        "tree",
        "files",
        "MiB",
        "staged",
        "wall s",
        "MiB/s",
        "send CPU",
        "peak MiB",
        "recv CPU",
        "peak MiB",
        "S3 CPU"
    )
}

#[allow(clippy::cast_precision_loss)]
fn line(row: &Row) -> String {
    let bytes = row.bytes as f64 / MIB;
    format!(
        "{:6} {:>8} {:>9.1} {:>8.1} {:>8.2} {:>9.1} | {:>9.2} {:>9.1} | {:>9.2} {:>9.1} | {:>6.2}",
        row.tree,
        row.files,
        bytes,
        row.staged_bytes as f64 / MIB,
        row.wall_s,
        bytes / row.wall_s,
        row.send.cpu_s,
        row.send.peak_mib,
        row.receive.cpu_s,
        row.receive.peak_mib,
        row.s3_cpu_s,
    )
}

/// Starts this executable as one of the benchmark's processes; it ends when its input does.
fn start(role: &str) -> anyhow::Result<Child> {
    let executable = std::env::current_exe().context("finding this executable")?;
    Command::new(executable)
        .args(["mover-bench", role])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("starting the {role} process"))
}

async fn run_child(job: &Job) -> anyhow::Result<ChildReport> {
    let role = if job.send { "send" } else { "receive" };
    let mut child = start(role)?;
    let mut input = child.stdin.take().context("the process has no input")?;
    input.write_all(&serde_json::to_vec(job)?).await?;
    drop(input);
    let output = child.wait_with_output().await?;
    if !output.status.success() {
        bail!("the {role} process failed ({})", output.status);
    }
    serde_json::from_slice(&output.stdout).with_context(|| format!("reading the {role} process's report"))
}

/// The S3 server's process.
struct Server {
    process: Child,
    lines: tokio::io::Lines<BufReader<tokio::process::ChildStdout>>,
    address: ServerAddress,
}

impl Server {
    async fn start(objects: &Path) -> anyhow::Result<Self> {
        let mut process = start("s3")?;
        let mut input = process.stdin.take().context("the process has no input")?;
        input.write_all(format!("{}\n", serde_json::to_string(objects)?).as_bytes()).await?;
        process.stdin = Some(input);
        let output = process.stdout.take().context("the process has no output")?;
        let mut lines = BufReader::new(output).lines();
        let line = lines.next_line().await?.context("the S3 process ended at once")?;
        let address = serde_json::from_str(&line).context("reading the S3 server's address")?;
        Ok(Self { process, lines, address })
    }

    async fn stop(&mut self) -> anyhow::Result<Usage> {
        drop(self.process.stdin.take());
        let line = self.lines.next_line().await?.context("the S3 process did not say what it used")?;
        self.process.wait().await?;
        serde_json::from_str(&line).context("reading what the S3 server used")
    }
}
