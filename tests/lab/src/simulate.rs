//! `isthmus-lab simulate`: what a hub costs that has very many spokes and migrations under way, and how
//! soon after a report the next task arrives.
//!
//! The hub is a process of its own; its API server and the spokes are in this one.
//!
//! - [`setting`]: the records that are there from the beginning, and the migrations.
//! - [`spoke`]: a spoke as the hub sees one: enrolment, heartbeats, polls, reports.
//! - [`outcome`]: what a task is said to have found and done.
//! - [`ledger`]: which tasks are open, when a run was reported on, and when its next task came.
//! - [`pacer`]: ends tasks at a given rate.
//! - [`result`]: what is printed.

mod ledger;
mod outcome;
mod pacer;
mod result;
mod setting;
mod spoke;

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use clap::Args;
use tokio::task::JoinSet;

use crate::bench::measure::usage_of;
use crate::bench_objects::FlavourName;
use crate::cluster::{ClusterTraits, Flavour, FlavourError};
use crate::lab::{HUB_CLUSTER, Lab, LabOptions};
use crate::programs::HubOptions;
use crate::up::HUB_NAMESPACE;
use ledger::Ledger;
use pacer::Pacer;
use result::{Measured, Row};
use setting::Setting;
use spoke::Spoke;

/// How long tasks end at their rate before anything is measured.
const WARM_UP: Duration = Duration::from_secs(10);
/// How long a task that ought to come may take, once the last report was sent.
const LAST_TASKS: Duration = Duration::from_mins(1);
/// How long a part of the preparations may go without headway.
const PATIENCE: Duration = Duration::from_mins(3);
/// How often it is looked whether they are done.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Arguments of `simulate`.
#[derive(Debug, Clone, Args)]
pub struct SimulateArgs {
    /// Spokes; an even number
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(2..))]
    pub spokes: u32,
    /// Migrations that are under way at the same time
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..))]
    pub migrations: u32,
    /// Tasks that end per second
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    pub rate: u32,
    /// Seconds that are measured
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..))]
    pub seconds: u64,
    /// Print one JSON object: {cpu_s, peak_mib, p50_ms, p99_ms, ...}
    #[arg(long)]
    pub json: bool,
    /// What serves the hub's cluster
    #[arg(long, value_enum, default_value = "embedded")]
    pub flavour: FlavourName,
    /// Where the hub's log and the cluster's data are kept; a temporary folder that is removed if not given
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<std::path::PathBuf>,
}

/// Runs the simulation.
pub async fn run(args: SimulateArgs) -> anyhow::Result<()> {
    ensure!(args.spokes.is_multiple_of(2), "--spokes must be even: each pair is made of two");
    let say = |text: String| {
        if args.json {
            tracing::info!("{text}");
        } else {
            println!("{text}");
        }
    };
    let flavour = match args.flavour {
        FlavourName::Embedded => Flavour::Embedded,
        FlavourName::Real => Flavour::real().ok_or_else(FlavourError::no_binaries)?,
    };
    let traits = ClusterTraits { bare: true, ..ClusterTraits::default() };
    let lab = Lab::start(LabOptions {
        dir: args.dir.clone(),
        flavour: Some(flavour),
        traits: [(HUB_CLUSTER.to_owned(), traits)].into(),
        ..LabOptions::default()
    })
    .await?;
    // All are to be under way at once, so the limits must let them.
    let limit = args.migrations;
    let mut options = HubOptions::new(HUB_NAMESPACE);
    options.args = vec![format!("--max-runs-per-cluster={limit}"), format!("--max-runs-per-store={limit}")];
    say(format!("The hub is started with {}.", options.args.join(" ")));
    let hub = lab.start_hub(options).await?;
    let pid = hub.program.pid();
    let done = Box::pin(simulate(&args, &lab, &hub.url, pid, &say)).await;
    let measured = match done {
        Ok(measured) => measured,
        Err(error) => {
            eprintln!("The end of the log of {}:\n{}\n", hub.program.name(), hub.program.log_tail());
            return Err(error);
        }
    };
    hub.program.terminate().await?;
    lab.stop().await;
    let row = Row::new(&args, &measured)?;
    if args.json {
        println!("{}", serde_json::to_string(&row)?);
    } else {
        println!("{row}");
    }
    Ok(())
}

async fn simulate(
    args: &SimulateArgs,
    lab: &Lab,
    url: &str,
    pid: u32,
    say: &impl Fn(String),
) -> anyhow::Result<Measured> {
    let said = |what: &str| anyhow::Ok(format!("{what}; the hub has used {}", result::used(&usage_of(pid)?)));
    let setting = Setting::new(lab.client(HUB_CLUSTER)?, HUB_NAMESPACE, args.spokes, args.migrations);
    setting.create_records(lab).await?;
    let tokens = setting.join_tokens().await?;
    say(said("Clusters and pairs are on record")?);

    let ledger = Arc::new(Ledger::default());
    let mut background = JoinSet::new();
    let mut spokes = Vec::with_capacity(tokens.len());
    for (index, joining) in spoke::enrol_all(url, tokens).await?.into_iter().enumerate() {
        let spoke = Arc::new(Spoke::new(index, joining, Arc::clone(&ledger)));
        spoke.start(&mut background);
        spokes.push(spoke);
    }
    say(said("The spokes have joined")?);
    setting.pairs_ready().await?;
    say(said("The pairs are ready")?);

    setting.create_migrations().await?;
    say(said("The migrations are on record")?);
    let wanted = usize::try_from(args.migrations)?;
    headway("the migrations to be under way", wanted, || ledger.under_way()).await?;
    say(said("The migrations are under way")?);

    let pacer = Pacer::start(args.rate, Arc::clone(&ledger), spokes);
    tokio::time::sleep(WARM_UP).await;
    ledger.measure(true);
    let (before, begun) = (usage_of(pid)?, Instant::now());
    let mut fewest = ledger.under_way();
    while begun.elapsed() < Duration::from_secs(args.seconds) {
        tokio::time::sleep(LOOK_EVERY).await;
        fewest = fewest.min(ledger.under_way());
    }
    let (window_s, usage) = (begun.elapsed().as_secs_f64(), usage_of(pid)?);
    let ended = ledger.ended();
    pacer.stop().await?;
    let deadline = Instant::now() + LAST_TASKS;
    while ledger.awaited() > 0 && ledger.refused().is_none() {
        ensure!(
            Instant::now() < deadline,
            "{} tasks did not come within {} s of the last report",
            ledger.awaited(),
            LAST_TASKS.as_secs()
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
    background.abort_all();
    let refused = ledger.refused();
    if let Some((count, first)) = refused {
        bail!("{count} requests of spokes failed, the first with: {first}");
    }
    setting.none_failed().await?;
    Ok(Measured {
        usage,
        window_cpu_s: usage.cpu_s - before.cpu_s,
        window_s,
        in_flight: fewest,
        ended,
        latencies: ledger.latencies(),
    })
}

/// Waits until a count has come to what is wanted, for as long as it rises.
async fn headway(what: &str, wanted: usize, count: impl Fn() -> usize) -> anyhow::Result<()> {
    let (mut highest, mut since) = (0, Instant::now());
    loop {
        let now = count();
        if now >= wanted {
            return Ok(());
        }
        if now > highest {
            (highest, since) = (now, Instant::now());
        }
        if since.elapsed() > PATIENCE {
            bail!("waited for {what}: {now} of {wanted}, and no more for {} s", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits for a condition of records that a request looks at.
async fn eventually<T>(
    what: &str,
    mut look: impl AsyncFnMut() -> anyhow::Result<Result<T, usize>>,
) -> anyhow::Result<T> {
    let (mut fewest, mut since) = (usize::MAX, Instant::now());
    loop {
        match look().await.with_context(|| format!("waiting for {what}"))? {
            Ok(found) => return Ok(found),
            Err(missing) if missing < fewest => (fewest, since) = (missing, Instant::now()),
            Err(missing) if since.elapsed() > PATIENCE => {
                bail!("waited for {what}: {missing} are missing, and no fewer for {} s", PATIENCE.as_secs());
            }
            Err(_) => {}
        }
        tokio::time::sleep(LOOK_EVERY * 5).await;
    }
}
