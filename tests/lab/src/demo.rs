//! `isthmus-lab demo`: the whole story, from nothing to a migrated application, checked to the last byte.
//!
//! - [`application`]: puts the application with its data into the source cluster.
//! - [`objects`]: compares the objects of both sides, with the list of what may differ.
//!
//! Everything that a person would do is done by the real command line, and shown.

mod application;
mod objects;

use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::lab::{BUCKET, Lab, LabOptions};
use crate::programs::{HubOptions, SpokeOptions};
use crate::s3::REGION;
use crate::trees::{CompareOptions, compare_trees};
use crate::up::{HUB_NAMESPACE, SPOKE_NAMESPACE};

const SOURCE: &str = "dev";
const DESTINATION: &str = "prod";
const NAMESPACE: &str = "cms";
const PAIR: &str = "dev-to-prod";
const MIGRATION: &str = "cms-to-prod";
/// So many differences are shown; all of them count.
const SHOWN_DIFFERENCES: usize = 20;
/// The command line's exit codes for success, without and with warnings.
const SUCCEEDED: [i32; 2] = [0, 3];
/// How long the application has to become ready on either side.
pub(crate) const READY_DEADLINE: Duration = Duration::from_mins(2);

pub(crate) async fn run() -> anyhow::Result<()> {
    let began = Instant::now();
    say("Starting the hub's cluster, clusters dev and prod, and S3");
    let clusters = vec![SOURCE.to_owned(), DESTINATION.to_owned()];
    let lab = Lab::start(LabOptions { clusters, ..LabOptions::default() }).await?;
    println!("The clusters are served by {}. Everything is in {}.", lab.flavour(), lab.dir().display());

    say("Starting the hub and a spoke in each cluster");
    let hub = lab.start_hub(HubOptions::new(HUB_NAMESPACE)).await?;
    let mut spokes = Vec::new();
    for cluster in [SOURCE, DESTINATION] {
        spokes.push(lab.start_spoke(&hub, SpokeOptions::new(cluster, SPOKE_NAMESPACE)).await?);
    }
    println!("The hub serves at {}; both clusters have joined it.", hub.url);

    say("Installing the CMS application in dev, with its data");
    application::install(&lab, SOURCE, NAMESPACE).await?;

    let differences = migrate_and_compare(&lab).await;
    let differences = match differences {
        Ok(differences) => differences,
        Err(error) => {
            println!("\nThe end of the hub's log:\n{}", hub.program.log_tail());
            for spoke in &spokes {
                println!("\nThe end of the log of {}:\n{}", spoke.program.name(), spoke.program.log_tail());
            }
            return Err(error);
        }
    };
    for spoke in &spokes {
        spoke.program.terminate().await?;
    }
    hub.program.terminate().await?;
    lab.stop().await;
    if differences > 0 {
        bail!("{differences} differences between the two sides, listed above");
    }
    println!("\nBoth sides are the same. The demo took {:.0?}.", began.elapsed());
    Ok(())
}

fn say(what: &str) {
    println!("\n== {what}");
}

async fn isthmus(lab: &Lab, args: &[&str]) -> anyhow::Result<()> {
    println!("$ isthmus {}", args.join(" "));
    let status = lab.isthmus_live(args).await?;
    match status.code() {
        Some(code) if SUCCEEDED.contains(&code) => Ok(()),
        _ => bail!("isthmus {} ended with {status}", args.join(" ")),
    }
}

/// From the pair to the running copy; returns how many differences there are.
async fn migrate_and_compare(lab: &Lab) -> anyhow::Result<usize> {
    say("Pairing the clusters through the bucket");
    let endpoint = lab.s3().endpoint();
    let store =
        ["store", "create", "lab", "--endpoint", endpoint, "--bucket", BUCKET, "--region", REGION, "--wait"];
    isthmus(lab, &store).await?;
    let pair = [
        "pair",
        "create",
        PAIR,
        "--source",
        SOURCE,
        "--destination",
        DESTINATION,
        "--store",
        "lab",
        "--wait",
    ];
    isthmus(lab, &pair).await?;

    say("Migrating");
    isthmus(lab, &["migrate", NAMESPACE, "--pair", PAIR, "--name", MIGRATION, "--wait"]).await?;
    say("The result");
    isthmus(lab, &["migration", "describe", MIGRATION, "--details"]).await?;

    say("Comparing what arrived, stopped, with what was sent");
    let mut differences =
        objects::compare(lab, [SOURCE, DESTINATION], NAMESPACE, objects::Running::No).await?;
    differences += compare_files(lab).await?;

    say("Starting the application in prod");
    isthmus(lab, &["activate", NAMESPACE, "--cluster", DESTINATION]).await?;
    application::ready(lab, DESTINATION, NAMESPACE).await?;
    differences += objects::compare(lab, [SOURCE, DESTINATION], NAMESPACE, objects::Running::Yes).await?;
    Ok(differences)
}

async fn compare_files(lab: &Lab) -> anyhow::Result<usize> {
    let mut count = 0;
    for (claim, _) in application::CLAIMS {
        let source = lab.volume_dir(SOURCE, NAMESPACE, claim).await?;
        let destination = lab.volume_dir(DESTINATION, NAMESPACE, claim).await?;
        let comparing = tokio::task::spawn_blocking(move || {
            compare_trees(&source, &destination, &CompareOptions::default())
        });
        let differences = comparing
            .await
            .context("comparing folders was broken off")?
            .with_context(|| format!("reading the folders of claim {claim}"))?;
        show(&format!("the files of claim {claim}, content and metadata"), &differences);
        count += differences.len();
    }
    Ok(count)
}

/// Shows a result of a comparison.
fn show<D: std::fmt::Display>(what: &str, differences: &[D]) {
    if differences.is_empty() {
        println!("  same: {what}");
        return;
    }
    println!("  DIFFERENT: {what}");
    for difference in differences.iter().take(SHOWN_DIFFERENCES) {
        println!("    {difference}");
    }
    if differences.len() > SHOWN_DIFFERENCES {
        println!("    and {} more", differences.len() - SHOWN_DIFFERENCES);
    }
}
