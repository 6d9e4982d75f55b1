//! The tools that are measured, each from a source folder through S3 to a destination folder.

mod copy;
pub mod isthmus;
mod rclone;
mod restic;

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::ValueEnum;

use super::store::Store;

/// A tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Tool {
    /// `cp -a`, the floor
    Cp,
    /// A sending and a receiving mover
    Isthmus,
    /// `restic backup` and `restic restore`
    Restic,
    /// `rclone sync` up and down
    Rclone,
}

/// What a pass of a tool took.
#[derive(Debug, Clone, Copy, Default)]
pub struct Figures {
    /// Seconds from its begin to its end.
    pub wall_s: f64,
    /// CPU seconds of its processes.
    pub cpu_s: f64,
    /// The most memory of one of its processes, MiB.
    pub peak_mib: f64,
}

/// What a tool works on.
pub struct Scene<'a> {
    /// The tree.
    pub source: &'a Path,
    /// A folder of the tool's own.
    pub folder: &'a Path,
    /// The S3 server.
    pub store: &'a Store,
    /// The pass, from 1.
    pub pass: u32,
    /// Whether Isthmus' receiver ends only when all is on disk.
    pub durable: bool,
}

impl Scene<'_> {
    /// Where the tree is to arrive.
    fn destination(&self) -> anyhow::Result<PathBuf> {
        let folder = self.folder.join("destination");
        std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
        Ok(folder)
    }
}

impl Tool {
    /// Its name in rows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Cp => "cp",
            Self::Isthmus => "isthmus",
            Self::Restic => "restic",
            Self::Rclone => "rclone",
        }
    }

    /// Brings the destination up to date with the source.
    pub async fn pass(self, scene: &Scene<'_>) -> anyhow::Result<Figures> {
        match self {
            Self::Cp => copy::pass(scene).await,
            Self::Isthmus => isthmus::pass(scene).await,
            Self::Restic => restic::pass(scene).await,
            Self::Rclone => rclone::pass(scene).await,
        }
    }

    fn is_installed(self) -> bool {
        self == Self::Isthmus || installed(self.name()).is_some()
    }
}

impl Figures {
    /// Of one after the other.
    fn then(self, next: Self) -> Self {
        Self {
            wall_s: self.wall_s + next.wall_s,
            cpu_s: self.cpu_s + next.cpu_s,
            peak_mib: self.peak_mib.max(next.peak_mib),
        }
    }
}

/// The tools asked for; without any, those that are installed.
pub fn chosen(asked: &[Tool]) -> anyhow::Result<Vec<Tool>> {
    if let Some(missing) = asked.iter().find(|tool| !tool.is_installed()) {
        bail!(
            "{} is not installed: install it (Debian has a package of that name), or leave it out",
            missing.name()
        );
    }
    let all = Tool::value_variants().iter().copied();
    Ok(all.filter(|tool| if asked.is_empty() { tool.is_installed() } else { asked.contains(tool) }).collect())
}

/// Where a program is, by the search path.
pub fn installed(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}
