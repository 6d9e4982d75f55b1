//! `isthmus-lab up`: a lab to work on by hand.

use std::fs;
use std::path::Path;

use anyhow::Context as _;

use crate::command::Up;
use crate::lab::{BUCKET, HUB_CLUSTER, Lab, LabOptions};
use crate::programs::{HubOptions, SpokeOptions};
use crate::s3::REGION;

/// Where the hub and its records are.
pub(crate) const HUB_NAMESPACE: &str = "isthmus";
/// Where each spoke keeps its identity.
pub(crate) const SPOKE_NAMESPACE: &str = "isthmus-spoke";

pub(crate) async fn run(up: Up) -> anyhow::Result<()> {
    let dir = &up.dir;
    fs::create_dir_all(dir).with_context(|| format!("making the folder {}", dir.display()))?;
    let state = dir.join("lab");
    // What an earlier lab left there belongs to clusters that are gone.
    match fs::remove_dir_all(&state) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the earlier lab in {}", state.display()));
        }
        _ => {}
    }
    let options = LabOptions { dir: Some(state), clusters: up.clusters.clone(), ..LabOptions::default() };
    let lab = Lab::start(options).await?;
    println!("The clusters are served by {}.", lab.flavour());
    write_files(&lab, dir)?;

    if up.bare {
        say_ready(&lab, dir, &up.clusters, None);
        until_told().await?;
    } else {
        let hub = lab.start_hub(HubOptions::new(HUB_NAMESPACE)).await?;
        let mut spokes = Vec::new();
        for cluster in &up.clusters {
            spokes.push(lab.start_spoke(&hub, SpokeOptions::new(cluster, SPOKE_NAMESPACE)).await?);
        }
        say_ready(&lab, dir, &up.clusters, Some(&hub.url));
        until_told().await?;
        println!("Ending the spokes, the hub and the clusters.");
        for spoke in &spokes {
            spoke.program.terminate().await?;
        }
        hub.program.terminate().await?;
    }
    lab.stop().await;
    Ok(())
}

fn write_files(lab: &Lab, dir: &Path) -> anyhow::Result<()> {
    for cluster in lab.clusters() {
        let to = dir.join(format!("{}.kubeconfig", cluster.name()));
        fs::copy(cluster.kubeconfig(), &to).with_context(|| format!("writing {}", to.display()))?;
    }
    let keys = lab.s3_keys();
    let text = format!(
        "export AWS_ACCESS_KEY_ID={}\nexport AWS_SECRET_ACCESS_KEY={}\nexport AWS_ENDPOINT_URL={}\n\
         export AWS_REGION={REGION}\nexport S3_BUCKET={BUCKET}\n",
        keys.access_key,
        keys.secret_key,
        lab.s3().endpoint(),
    );
    let to = dir.join("s3.env");
    crate::cluster::write_private(&to, &text).with_context(|| format!("writing {}", to.display()))
}

fn say_ready(lab: &Lab, dir: &Path, clusters: &[String], hub: Option<&str>) {
    let dir = dir.display();
    println!("Ready. Logs are in {}.\n", lab.dir().join("logs").display());
    for cluster in clusters {
        println!("  kubectl --kubeconfig {dir}/{cluster}.kubeconfig get nodes");
    }
    println!("  kubectl --kubeconfig {dir}/{HUB_CLUSTER}.kubeconfig get namespaces");
    println!("  . {dir}/s3.env       # S3: endpoint, keys, region and bucket");
    if let Some(url) = hub {
        let isthmus =
            format!("isthmus --kubeconfig {dir}/{HUB_CLUSTER}.kubeconfig --namespace {HUB_NAMESPACE}");
        println!("\nThe hub is at {url}, and the clusters have joined it:\n");
        println!("  {isthmus} cluster list");
        if let [source, destination, ..] = clusters {
            println!(
                "  {isthmus} store create lab --endpoint \"$AWS_ENDPOINT_URL\" --bucket \"$S3_BUCKET\" --region \"$AWS_REGION\""
            );
            println!(
                "  {isthmus} pair create pair --source {source} --destination {destination} --store lab"
            );
            println!("  {isthmus} migrate NAMESPACE --pair pair --wait");
        }
        println!("\n`isthmus` is also a command of this program: isthmus-lab isthmus ...");
    }
    println!("\nCtrl-C ends the lab.");
}

/// Returns at Ctrl-C or SIGTERM.
async fn until_told() -> anyhow::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut terminate = signal(SignalKind::terminate()).context("listening for SIGTERM")?;
    tokio::select! {
        told = tokio::signal::ctrl_c() => told.context("listening for Ctrl-C"),
        _ = terminate.recv() => Ok(()),
    }
}
