//! A sending and a receiving mover at once, as in a migration; then the trees are compared.

use std::{path::Path, time::Instant};

use anyhow::{Context, bail};
use tokio::io::AsyncWriteExt;

use super::{Figures, Scene};
use crate::bench::child::{ChildReport, Job, start};
use crate::trees::{CompareOptions, compare_trees};

/// Brings the destination up to date with the source.
pub async fn pass(scene: &Scene<'_>) -> anyhow::Result<Figures> {
    let destination = scene.destination()?;
    let job = |root: &Path, send: bool| Job {
        send,
        root: root.to_owned(),
        access: scene.store.access().clone(),
        key: scene.store.volume_key().clone(),
        pass: scene.pass,
        durable: scene.durable,
    };
    let (sending, receiving) = (job(scene.source, true), job(&destination, false));
    let started = Instant::now();
    let (sent, received) = tokio::try_join!(run_child(&sending), run_child(&receiving))?;
    let wall_s = started.elapsed().as_secs_f64();
    let differences = compare_trees(scene.source, &destination, &CompareOptions::default())
        .context("comparing the two trees")?;
    if let Some(first) = differences.first() {
        bail!("{} differences between source and destination, the first: {first}", differences.len());
    }
    Ok(Figures {
        wall_s,
        cpu_s: sent.usage.cpu_s + received.usage.cpu_s,
        peak_mib: sent.usage.peak_mib.max(received.usage.peak_mib),
    })
}

/// Runs a mover in a process of its own.
pub async fn run_child(job: &Job) -> anyhow::Result<ChildReport> {
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
