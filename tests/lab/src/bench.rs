//! `isthmus-lab bench`: what moving a volume costs, beside the tools that people use today.
//!
//! ```text
//!   tree ── pass 1 ──▶ each tool ── 1% changed ──▶ pass 2 ──▶ each tool
//!            │ source folder ──▶ S3 (garage, else the embedded server) ──▶ destination folder
//! ```
//!
//! - [`tools`]: one file a tool: how it moves a tree from the source to the destination.
//! - [`store`]: the S3 server, a process of its own, the same for all tools of a run.
//! - [`child`]: this executable as one of the benchmark's processes.
//! - [`measured`]: another program, with its CPU time and memory.
//! - [`row`]: a measurement, as JSON and as a line of the table.
//!
//! Every tool reads the same source and has a destination and a prefix of the bucket of its own.
//! The wall time of a pass is from the source folder to the destination folder. Isthmus' sender
//! and receiver start together, as in a migration, and its two trees are compared after each pass.

pub(crate) mod child;
pub(crate) mod garage;
pub(crate) mod measure;
mod measured;
mod row;
pub(crate) mod store;
pub(crate) mod tools;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context;
use clap::{Args, ValueEnum};

pub use child::child;
use row::Row;
use store::Store;
use tools::{Figures, Scene, Tool};

use crate::trees::{TreeKind, TreeSummary, change, generate};

/// The same trees each time.
const SEED: u64 = 2026;
/// One part in this many changes between the passes.
const CHANGED_PART: u64 = 100;

/// Arguments of `bench`.
#[derive(Debug, Clone, Args)]
pub struct BenchArgs {
    /// Print an array of rows as JSON
    #[arg(long)]
    pub json: bool,
    /// The trees' size; 1 is the benchmark's own
    #[arg(long, default_value_t = 1.0)]
    pub scale: f64,
    /// Which trees [default: large,small,mixed]
    #[arg(long, value_delimiter = ',')]
    pub tree: Vec<Tree>,
    /// Which tools [default: all that are installed]
    #[arg(long, value_delimiter = ',')]
    pub tool: Vec<Tool>,
    /// Which S3 server [default: garage where it is installed]
    #[arg(long)]
    pub store: Option<store::Kind>,
    /// Leave out the second pass
    #[arg(long)]
    pub one_pass: bool,
    /// Where trees and objects are put for the time of the run; needs about 40 GiB at scale 1
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
    /// Let the receiver end before all is on disk, as cp, restic and rclone do
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
    /// One file of 8 GiB, half compressible
    Single,
}

impl From<Tree> for TreeKind {
    fn from(tree: Tree) -> Self {
        match tree {
            Tree::Large => Self::Large,
            Tree::Small => Self::Small,
            Tree::Mixed => Self::Mixed,
            Tree::Single => Self::Single,
        }
    }
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
        [] => TreeKind::COMPARED.to_vec(),
        some => some.iter().copied().map(TreeKind::from).collect(),
    };
    let tools = tools::chosen(&args.tool)?;
    let store_kind = store::choose(args.store)?;
    if !args.json {
        println!("S3 server: {store_kind}");
        println!("{}", row::heading());
    }
    let (mut rows, mut kept) = (Vec::new(), Vec::new());
    for kind in kinds {
        let place = tempfile::tempdir_in(folder.path()).context("making a folder for a tree")?;
        let found = measure_tree(place.path(), kind, &tools, store_kind, &args).await?;
        // ext4 searches long for inodes that were not freed within the last minutes: a tree that
        // is removed now would be measured with the next one.
        kept.push(place);
        rows.extend(found);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&rows)?);
    }
    Ok(ExitCode::SUCCESS)
}

async fn measure_tree(
    folder: &Path,
    kind: TreeKind,
    tools: &[Tool],
    store_kind: store::Kind,
    args: &BenchArgs,
) -> anyhow::Result<Vec<Row>> {
    let source = folder.join("source");
    std::fs::create_dir(&source)?;
    let tree = generate(&source, kind, SEED, args.scale).context("making the tree")?;
    let store = Store::start(store_kind, &folder.join("store")).await?;
    let mut rows = Vec::new();
    for pass in 1..=if args.one_pass { 1 } else { 2 } {
        if pass > 1 {
            change(&source, kind, SEED, CHANGED_PART).context("changing the tree")?;
        }
        // What was just written must not be on its way to disk while it is measured.
        settle(&source)?;
        for tool in tools {
            let scene = Scene {
                source: &source,
                folder: &folder.join(tool.name()),
                store: &store,
                pass,
                durable: !args.no_sync,
            };
            // No tool waits for the disk with what others left behind.
            rustix::fs::sync();
            let figures = match tool.pass(&scene).await {
                Ok(figures) => figures,
                // Others' tools may refuse what a volume may hold, e.g. names that are not UTF-8.
                Err(error) if *tool != Tool::Isthmus => {
                    eprintln!("{} does not move the {} tree: {error:#}", tool.name(), kind.name());
                    continue;
                }
                Err(error) => return Err(error),
            };
            settle(&source)?;
            let row = row(kind, *tool, pass, tree, figures);
            if !args.json {
                println!("{}", row::line(&row));
            }
            rows.push(row);
        }
    }
    store.stop().await?;
    Ok(rows)
}

fn settle(folder: &Path) -> anyhow::Result<()> {
    rustix::fs::syncfs(std::fs::File::open(folder)?).context("writing everything to disk")
}

fn row(kind: TreeKind, tool: Tool, pass: u32, tree: TreeSummary, figures: Figures) -> Row {
    Row {
        tree: kind.name(),
        tool: tool.name(),
        pass,
        wall_s: figures.wall_s,
        cpu_s: figures.cpu_s,
        peak_mib: figures.peak_mib,
        bytes: tree.bytes,
        files: tree.files,
    }
}
