//! `isthmus-lab bench-manifest`: what very many files cost a mover in memory.
//!
//! Ten million files need not be made for that: a tree of a hundred thousand is mounted again and
//! again below one root, on both sides. To the movers these are ten million names, each walked,
//! listed in manifests, compared with the previous pass and with the destination; only the inodes
//! behind them repeat, and that the engine does not look at. The destination has the files from the
//! beginning, so the first pass compares and sets their metadata, and the second finds them right. (A second mount of the same
//! filesystem has the same device number, so the walk goes into it.)
//!
//! The mounts are made in a namespace of their own, which ends with the benchmark's process. That
//! needs root, and `unshare` and `mount`.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::Args;
use serde::{Deserialize, Serialize};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

use crate::bench::child::{ChildReport, Job};
use crate::bench::store::{self, Store};
use crate::bench::tools::isthmus::run_child;

/// Files in one directory.
const PER_DIRECTORY: u64 = 1000;
/// The fewest distinct files.
const FEWEST: u64 = PER_DIRECTORY;
/// A file that is as young as this is read again in the next pass, as its change time cannot be
/// relied on: the trees grow older than that before they are measured.
const GROWN_UP: Duration = Duration::from_secs(4);

/// Arguments of `bench-manifest`.
#[derive(Debug, Clone, Args, Serialize, Deserialize)]
pub struct BenchManifestArgs {
    /// Numbers of files, one measurement each
    #[arg(long, value_delimiter = ',', default_value = "100000,10000000")]
    pub files: Vec<u64>,
    /// How many of them are really made; the others are mounts of these
    #[arg(long, default_value_t = 100_000)]
    pub distinct: u64,
    /// Which S3 server [default: garage where it is installed]
    #[arg(long)]
    pub store: Option<store::Kind>,
    /// Where trees and objects are put for the time of the run
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Print an array of rows as JSON
    #[arg(long)]
    pub json: bool,
}

/// What one mover used in one pass.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Row {
    files: u64,
    pass: u32,
    mover: String,
    wall_s: f64,
    cpu_s: f64,
    peak_mib: f64,
}

/// Runs the benchmark.
pub async fn run(args: BenchManifestArgs) -> anyhow::Result<ExitCode> {
    let executable = std::env::current_exe().context("finding this executable")?;
    let mut process = Command::new("unshare")
        .args(["--mount", "--propagation", "private", "--"])
        .arg(executable)
        .args(["mover-bench", "manifest"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .context("starting unshare (of util-linux), which the mounts of the simulated tree need")?;
    let mut input = process.stdin.take().context("the process has no input")?;
    input.write_all(&serde_json::to_vec(&args)?).await?;
    drop(input);
    let output = process.wait_with_output().await?;
    if !output.status.success() {
        bail!("the measuring process failed ({}); it needs root for its mounts", output.status);
    }
    let rows: Vec<Row> = serde_json::from_slice(&output.stdout).context("reading what was measured")?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
        return Ok(ExitCode::SUCCESS);
    }
    println!("{:>10} {:>4} {:8} {:>9} {:>9} {:>9}", "files", "pass", "mover", "wall s", "CPU s", "peak MiB");
    for row in rows {
        println!(
            "{:>10} {:>4} {:8} {:>9.1} {:>9.1} {:>9.1}",
            row.files, row.pass, row.mover, row.wall_s, row.cpu_s, row.peak_mib
        );
    }
    Ok(ExitCode::SUCCESS)
}

/// The process within the namespace; its input are the arguments.
pub(crate) async fn measure(json: &str) -> anyhow::Result<()> {
    let args: BenchManifestArgs = serde_json::from_str(json).context("reading the arguments")?;
    let folder = match &args.dir {
        Some(dir) => {
            fs::create_dir_all(dir).with_context(|| format!("making {}", dir.display()))?;
            tempfile::tempdir_in(dir)
        }
        None => tempfile::tempdir(),
    }
    .context("making a folder for the trees")?;
    let kind = store::choose(args.store)?;
    let mut rows = Vec::new();
    for files in &args.files {
        let place = tempfile::tempdir_in(folder.path()).context("making a folder for a tree")?;
        let measured = passes(place.path(), *files, args.distinct, kind).await;
        unmount_below(place.path()).await?;
        rows.extend(measured?);
    }
    println!("{}", serde_json::to_string(&rows)?);
    Ok(())
}

async fn passes(folder: &Path, files: u64, distinct: u64, kind: store::Kind) -> anyhow::Result<Vec<Row>> {
    let distinct = distinct.clamp(FEWEST, files.max(FEWEST)) / PER_DIRECTORY * PER_DIRECTORY;
    let mounts = files.div_ceil(distinct);
    let expected = mounts * distinct;
    let source = Tree::make(folder, "source", mounts, distinct).await?;
    // Made beforehand: through one mount files would appear in the others while those are listed.
    let destination = Tree::make(folder, "destination", mounts, distinct).await?;
    let store = Store::start(kind, &folder.join("store")).await?;
    // What is waited for is the clock itself.
    let left = GROWN_UP.saturating_sub(source.made.elapsed());
    tokio::time::sleep(left).await;
    let mut rows = Vec::new();
    for pass in 1..=2 {
        let job = |root: &Path, send| Job {
            send,
            root: root.to_owned(),
            access: store.access().clone(),
            key: store.volume_key().clone(),
            pass,
            durable: false,
        };
        let (sending, receiving) = (job(&source.root, true), job(&destination.root, false));
        let (sent, received) = tokio::try_join!(run_child(&sending), run_child(&receiving))?;
        for (mover, report) in [("send", sent), ("receive", received)] {
            let ChildReport { wall_s, usage, files } = report;
            if files != expected {
                bail!("the {mover} process of pass {pass} saw {files} files in place of {expected}");
            }
            let (cpu_s, peak_mib) = (usage.cpu_s, usage.peak_mib);
            rows.push(Row { files, pass, mover: mover.to_owned(), wall_s, cpu_s, peak_mib });
        }
    }
    store.stop().await?;
    Ok(rows)
}

/// A root below which one tree is mounted many times.
struct Tree {
    root: PathBuf,
    made: Instant,
}

impl Tree {
    async fn make(folder: &Path, name: &str, mounts: u64, files: u64) -> anyhow::Result<Self> {
        let (base, root) = (folder.join(format!("{name}-base")), folder.join(name));
        fs::create_dir(&base)?;
        fs::create_dir(&root)?;
        for number in 0..files {
            let directory = base.join(format!("{:04}", number / PER_DIRECTORY));
            if number % PER_DIRECTORY == 0 {
                fs::create_dir(&directory)?;
            }
            File::create(directory.join(format!("an-object-with-a-usual-name-{number:08}.dat")))
                .context("making the tree's files")?;
        }
        let made = Instant::now();
        for number in 0..mounts {
            let at = root.join(format!("{number:05}"));
            fs::create_dir(&at)?;
            run_program("mount", &[Path::new("--bind"), &base, &at]).await?;
        }
        Ok(Self { root, made })
    }
}

/// Ends the mounts, so that the folder below them can be removed.
async fn unmount_below(folder: &Path) -> anyhow::Result<()> {
    for name in ["source", "destination"] {
        let Ok(entries) = fs::read_dir(folder.join(name)) else { continue };
        for entry in entries {
            let at = entry?.path();
            // One that was not mounted any more is as well.
            run_program("umount", &[&at]).await.ok();
        }
    }
    Ok(())
}

async fn run_program(name: &str, args: &[&Path]) -> anyhow::Result<()> {
    let output = Command::new(name).args(args).output().await.with_context(|| format!("starting {name}"))?;
    if !output.status.success() {
        bail!("{name} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
