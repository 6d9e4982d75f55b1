//! The S3 server of a run: garage where it is installed, else the lab's own; a process of its own
//! in either case.

use std::{fmt, path::Path};

use anyhow::{Context, bail};
use clap::ValueEnum;
use isthmus_shared::staging::{PairKey, StoreAccess, VolumeKey, VolumeUid};
use serde::{Deserialize, Serialize};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    process::Child,
};

use super::{child::start, garage, tools::installed};

/// Which server.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Kind {
    /// Garage, from the search path
    Garage,
    /// The lab's own
    Embedded,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Garage => "garage",
            Self::Embedded => "embedded",
        })
    }
}

/// The one asked for; without that, garage where it is installed.
pub fn choose(asked: Option<Kind>) -> anyhow::Result<Kind> {
    let there = installed(garage::PROGRAM).is_some();
    match asked {
        Some(Kind::Garage) if !there => {
            bail!(
                "garage is not on the search path: install it (`cargo install garage`), or choose --store embedded"
            )
        }
        Some(kind) => Ok(kind),
        None => Ok(if there { Kind::Garage } else { Kind::Embedded }),
    }
}

/// A running server with an empty bucket.
pub struct Store {
    process: Child,
    access: StoreAccess,
    volume_key: VolumeKey,
}

impl Store {
    /// Starts a server that keeps its objects in `folder`.
    pub async fn start(kind: Kind, folder: &Path) -> anyhow::Result<Self> {
        std::fs::create_dir_all(folder).with_context(|| format!("making {}", folder.display()))?;
        let (process, access) = match kind {
            Kind::Garage => garage::start_server(folder).await.context("starting garage")?,
            Kind::Embedded => embedded(folder).await.context("starting the embedded S3 server")?,
        };
        let volume_key = PairKey::generate()?.volume_key(&VolumeUid::new("tree")?)?;
        Ok(Self { process, access, volume_key })
    }

    /// How to reach it.
    pub fn access(&self) -> &StoreAccess {
        &self.access
    }

    /// A key for the run's one volume.
    pub fn volume_key(&self) -> &VolumeKey {
        &self.volume_key
    }

    /// Ends it.
    pub async fn stop(mut self) -> anyhow::Result<()> {
        self.process.kill().await.context("ending the S3 server")
    }
}

async fn embedded(folder: &Path) -> anyhow::Result<(Child, StoreAccess)> {
    let mut process = start("s3")?;
    let mut input = process.stdin.take().context("the process has no input")?;
    input.write_all(format!("{}\n", serde_json::to_string(folder)?).as_bytes()).await?;
    process.stdin = Some(input);
    let output = process.stdout.take().context("the process has no output")?;
    let line = BufReader::new(output).lines().next_line().await?.context("the S3 process ended at once")?;
    Ok((process, serde_json::from_str(&line).context("reading the S3 server's address")?))
}
