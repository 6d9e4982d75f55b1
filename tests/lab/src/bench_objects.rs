//! `isthmus-lab bench-objects`: what exporting and applying objects costs, beside the rate that the
//! destination's API server reaches by itself.
//!
//! A hub and two spokes run as processes of their own, and one migration without volumes goes through
//! them: what is measured is what users run. Each cluster is an API server and its etcd, which waits for
//! the disk as in production, and no controllers, so that nothing else writes.
//!
//! - [`objects`]: what is moved, the same each time.
//! - [`flood`]: eight clients that create the same objects flat out, on a [`connection`] each.
//! - [`steps`]: times, CPU and requests of the steps; [`requests`] counts these.

mod connection;
mod flood;
mod objects;
mod requests;
mod steps;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use isthmus_shared::resources::{Migration, MigrationSpec, NamespaceEntry};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::PostParams;
use kube::{Api, Client};
use serde::Serialize;

use crate::bench::measure::usage_of;
use crate::cluster::{ClusterTraits, Flavour, FlavourError};
use crate::lab::{BUCKET, HUB_CLUSTER, Lab, LabOptions};
use crate::programs::{Hub, HubOptions, Spoke, SpokeOptions};
use crate::s3::REGION;
use crate::up::{HUB_NAMESPACE, SPOKE_NAMESPACE};
use connection::{Protocol, Server};
use flood::{CLIENTS, Flood, flood};
use objects::{Kind, Object};
use steps::{Report, Sides};

const SOURCE: &str = "east";
const DESTINATION: &str = "west";
const PAIR: &str = "bench";
const MIGRATION: &str = "bench";
const MIB: f64 = 1024.0 * 1024.0;
/// After so long without a write, an API server has nothing left to do.
const QUIET: Duration = Duration::from_secs(2);
/// It becomes quiet within this time, or the run is given up.
const QUIET_DEADLINE: Duration = Duration::from_mins(5);

/// Arguments of `bench-objects`.
///
/// In the JSON, `objects_per_s` is that of the apply, as is `requests_per_object`; `cpu_s` is that of the
/// source's spoke while it exports and of the destination's while it applies.
#[derive(Debug, Clone, Args)]
pub struct BenchObjectsArgs {
    /// How many objects are moved
    #[arg(long, default_value_t = 10_000)]
    pub objects: usize,
    /// Print one JSON object
    #[arg(long)]
    pub json: bool,
    /// What serves the clusters; real where its programs are found
    #[arg(long, value_enum)]
    pub flavour: Option<FlavourName>,
    /// Where clusters and bucket keep their data for the time of the run
    #[arg(long, value_name = "FOLDER")]
    pub dir: Option<PathBuf>,
}

/// A flavour by its name on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum FlavourName {
    /// The lab's own API server; its figures say nothing of real clusters
    Embedded,
    /// etcd and kube-apiserver
    Real,
}

/// The result, as `--json` prints it.
#[derive(Debug, Clone, Serialize)]
struct Row {
    /// Objects moved.
    objects: usize,
    /// Seconds of the step ExportResources.
    export_s: f64,
    /// Seconds of the step ApplyResources.
    apply_s: f64,
    /// `objects / apply_s`.
    objects_per_s: f64,
    /// Objects per second of eight clients that create the same objects in the same API server.
    flood_per_s: f64,
    /// Requests to the destination's API server during the apply, for each object.
    requests_per_object: f64,
    /// CPU seconds of the source's spoke during the export and of the destination's during the apply.
    cpu_s: f64,
    /// The most memory of either spoke at any time, in MiB.
    peak_mib: f64,
}

/// Everything at work.
struct Bench {
    lab: Lab,
    hub: Hub,
    source: Spoke,
    destination: Spoke,
}

/// Runs the benchmark.
pub async fn run(args: BenchObjectsArgs) -> anyhow::Result<ExitCode> {
    let say = |text: &str| {
        if !args.json {
            println!("{text}");
        }
    };
    let bench = Bench::start(&args).await?;
    let (objects, bytes) = {
        let objects = objects::generate(args.objects);
        let bytes: usize = objects.iter().map(|object| object.body.len()).sum();
        (Arc::new(objects), bytes)
    };
    let servers = match bench.lab.flavour() {
        Flavour::Embedded => "the lab's own API server",
        Flavour::Real(_) => "etcd, waiting for the disk, and kube-apiserver",
    };
    say(&format!("{} served by {servers}.", contents(&objects, bytes)));
    if matches!(bench.lab.flavour(), Flavour::Embedded) {
        say("The embedded API server keeps all in memory: these figures say nothing of real clusters.");
    }
    let done = Box::pin(bench.measure(&objects)).await;
    let (report, floods) = match done {
        Ok(done) => done,
        Err(error) => {
            for program in [&bench.hub.program, &bench.source.program, &bench.destination.program] {
                eprintln!("The end of the log of {}:\n{}\n", program.name(), program.log_tail());
            }
            return Err(error);
        }
    };
    let peaks = [usage_of(bench.source.program.pid())?, usage_of(bench.destination.program.pid())?]
        .map(|usage| usage.peak_mib);
    bench.stop().await?;
    let row = row(args.objects, &report, &floods, peaks);
    if args.json {
        println!("{}", serde_json::to_string(&row)?);
    } else {
        print_table(&row, &report, &floods, peaks);
    }
    Ok(ExitCode::SUCCESS)
}

fn contents(objects: &[Object], bytes: usize) -> String {
    let count = |kind: Kind| objects.iter().filter(|object| object.kind == kind).count();
    let [maps, secrets, deployments, services] = Kind::ALL.map(count);
    #[allow(clippy::cast_precision_loss)]
    let size = bytes as f64 / MIB;
    format!(
        "{} objects ({maps} ConfigMaps, {secrets} Secrets, {deployments} Deployments at 0 replicas, {services} Services; {size:.1} MiB) in {} namespaces,",
        objects.len(),
        objects::namespaces(objects.len()),
    )
}

impl Bench {
    async fn start(args: &BenchObjectsArgs) -> anyhow::Result<Self> {
        let flavour = match args.flavour {
            None => Flavour::detect()?,
            Some(FlavourName::Embedded) => Flavour::Embedded,
            Some(FlavourName::Real) => Flavour::real().ok_or_else(FlavourError::no_binaries)?,
        };
        let traits = ClusterTraits { durable: true, bare: true, ..ClusterTraits::default() };
        let names = [SOURCE, DESTINATION];
        let dir = args.dir.as_deref().map(fresh).transpose()?;
        let lab = Lab::start(LabOptions {
            dir,
            clusters: names.map(str::to_owned).to_vec(),
            flavour: Some(flavour),
            traits: names.map(|name| (name.to_owned(), traits.clone())).into(),
            ..LabOptions::default()
        })
        .await?;
        let hub = lab.start_hub(HubOptions::new(HUB_NAMESPACE)).await?;
        let source = lab.start_spoke(&hub, SpokeOptions::new(SOURCE, SPOKE_NAMESPACE)).await?;
        let destination = lab.start_spoke(&hub, SpokeOptions::new(DESTINATION, SPOKE_NAMESPACE)).await?;
        Ok(Self { lab, hub, source, destination })
    }

    async fn stop(self) -> anyhow::Result<()> {
        for program in [&self.source.program, &self.destination.program, &self.hub.program] {
            program.terminate().await?;
        }
        self.lab.stop().await;
        Ok(())
    }

    fn server(&self, cluster: &str) -> anyhow::Result<Server> {
        Server::of(self.lab.cluster(cluster)?)
    }

    /// The migration's report, and the rates of the floods before and after it.
    async fn measure(&self, objects: &Arc<Vec<Object>>) -> anyhow::Result<(Report, [Flood; 2])> {
        let (source, destination) = (self.server(SOURCE)?, self.server(DESTINATION)?);
        self.pair().await?;
        let moved = self.namespaces(SOURCE, "bench", objects.len()).await?;
        flood(&source, Protocol::Http2, objects, &moved).await.context("filling the source")?;

        let first = self.namespaces(DESTINATION, "flood-a", objects.len()).await?;
        quiet(&[&source, &destination]).await?;
        let before = flood(&destination, Protocol::Http2, objects, &first).await.context("flooding")?;
        quiet(&[&source, &destination]).await?;

        let hub = self.lab.client(HUB_CLUSTER)?;
        let spec = MigrationSpec {
            namespaces: moved.iter().map(|name| NamespaceEntry::from(name.as_str())).collect(),
            include_volumes: false,
            ..MigrationSpec::through(PAIR)
        };
        let sides = Sides {
            source: (source.clone(), self.source.program.pid()),
            destination: (destination.clone(), self.destination.program.pid()),
        };
        let migrations = Api::<Migration>::namespaced(hub.clone(), HUB_NAMESPACE);
        migrations
            .create(&PostParams::default(), &Migration::new(MIGRATION, spec))
            .await
            .context("creating the migration")?;
        let report = steps::follow(hub, HUB_NAMESPACE, MIGRATION, &sides).await?;
        let applied = report.status.resources.created;
        if report.status.failures_total > 0 || applied < objects.len() as u64 {
            bail!(
                "{applied} of {} objects were created on the destination; {}",
                objects.len(),
                steps::findings(&report.status)
            );
        }

        let second = self.namespaces(DESTINATION, "flood-b", objects.len()).await?;
        quiet(&[&source, &destination]).await?;
        let after = flood(&destination, Protocol::Http1, objects, &second).await.context("flooding")?;
        Ok((report, [before, after]))
    }

    async fn pair(&self) -> anyhow::Result<()> {
        let keys = self.lab.s3_keys();
        let store = [
            "store",
            "create",
            "bench",
            "--endpoint",
            self.lab.s3().endpoint(),
            "--bucket",
            BUCKET,
            "--region",
            REGION,
            "--access-key-id",
            &keys.access_key,
            "--secret-access-key",
            &keys.secret_key,
            "--wait",
        ];
        let pair =
            ["pair", "create", PAIR, "--source", SOURCE, "--destination", DESTINATION, "--store", "bench"];
        for args in [&store[..], &[&pair[..], &["--wait"]].concat()] {
            let output = self.lab.isthmus(args).await?;
            if !output.status.success() {
                bail!("isthmus {} failed: {}", args[..2].join(" "), String::from_utf8_lossy(&output.stderr));
            }
        }
        Ok(())
    }

    /// Makes the namespaces for so many objects.
    async fn namespaces(&self, cluster: &str, prefix: &str, objects: usize) -> anyhow::Result<Vec<String>> {
        let client = self.lab.client(cluster)?;
        let mut names = Vec::new();
        for number in 1..=objects::namespaces(objects) {
            let name = format!("{prefix}-{number}");
            create_namespace(&client, &name).await.with_context(|| format!("creating namespace {name}"))?;
            names.push(name);
        }
        Ok(names)
    }
}

/// A namespace with the account that a controller would give it.
async fn create_namespace(client: &Client, name: &str) -> kube::Result<()> {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let mut account = ServiceAccount::default();
    account.metadata.name = Some("default".to_owned());
    Api::<ServiceAccount>::namespaced(client.clone(), name).create(&PostParams::default(), &account).await?;
    Ok(())
}

/// A folder of this run in the given one.
fn fresh(dir: &Path) -> anyhow::Result<PathBuf> {
    let folder = dir.join(format!("bench-objects-{}", std::process::id()));
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    Ok(folder)
}

/// Waits until nobody asks these API servers for anything.
async fn quiet(servers: &[&Server]) -> anyhow::Result<()> {
    /// Heartbeats and the spokes' own looks around.
    const BACKGROUND: u64 = 20;
    let deadline = Instant::now() + QUIET_DEADLINE;
    let count = async || {
        let mut sum = 0;
        for server in servers {
            sum += requests::answered(server).await?;
        }
        anyhow::Ok(sum)
    };
    let mut last = count().await?;
    loop {
        tokio::time::sleep(QUIET).await;
        let now = count().await?;
        if now - last <= BACKGROUND {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!(
                "the API servers were still asked {} times within {QUIET:?} after {QUIET_DEADLINE:?}",
                now - last
            );
        }
        last = now;
    }
}

#[allow(clippy::cast_precision_loss)]
fn row(objects: usize, report: &Report, floods: &[Flood; 2], peaks: [f64; 2]) -> Row {
    let rounded = |value: f64| (value * 1000.0).round() / 1000.0;
    Row {
        objects,
        export_s: rounded(report.export.seconds),
        apply_s: rounded(report.apply.seconds),
        objects_per_s: rounded(objects as f64 / report.apply.seconds),
        flood_per_s: rounded(floods[0].rate.max(floods[1].rate)),
        requests_per_object: rounded(report.apply.requests as f64 / objects as f64),
        cpu_s: rounded(report.export.cpu_s + report.apply.cpu_s),
        peak_mib: rounded(peaks[0].max(peaks[1])),
    }
}

#[allow(clippy::cast_precision_loss)]
fn print_table(row: &Row, report: &Report, floods: &[Flood; 2], peaks: [f64; 2]) {
    println!(
        "\n{:24} {:>8} {:>10} {:>16} {:>12} {:>13}",
        "", "s", "objects/s", "requests/object", "spoke CPU s", "server CPU s"
    );
    let count = row.objects as f64;
    for (name, took) in [("export", report.export), ("apply", report.apply)] {
        println!(
            "{name:24} {:>8.2} {:>10.0} {:>16.3} {:>12.2} {:>13.2}",
            took.seconds,
            count / took.seconds,
            took.requests as f64 / count,
            took.cpu_s,
            took.server_cpu_s
        );
    }
    for (when, flood) in [("before, HTTP/2", floods[0]), ("after, HTTP/1.1", floods[1])] {
        println!(
            "{:24} {:>8.2} {:>10.0} {:>16.3} {:>12} {:>13.2}",
            format!("flood {when}"),
            count / flood.rate,
            flood.rate,
            1.0,
            "",
            flood.server_cpu_s
        );
    }
    println!(
        "\nApplying reaches {:.0}% of the rate of {CLIENTS} clients that create the same objects flat out. Server CPU is that of etcd and kube-apiserver of the side.",
        100.0 * row.objects_per_s / row.flood_per_s
    );
    println!("Peak memory: the source's spoke {:.0} MiB, the destination's {:.0} MiB.", peaks[0], peaks[1]);
    let steps: Vec<String> =
        report.steps.iter().map(|(step, seconds)| format!("{step:?} {seconds:.1} s")).collect();
    println!("All steps: {}.", steps.join(", "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_json_has_the_keys_that_others_read() {
        let row = Row {
            objects: 1,
            export_s: 1.0,
            apply_s: 1.0,
            objects_per_s: 1.0,
            flood_per_s: 1.0,
            requests_per_object: 1.0,
            cpu_s: 1.0,
            peak_mib: 1.0,
        };
        let json = serde_json::to_string(&row).unwrap();
        assert_eq!(
            json,
            r#"{"objects":1,"export_s":1.0,"apply_s":1.0,"objects_per_s":1.0,"flood_per_s":1.0,"requests_per_object":1.0,"cpu_s":1.0,"peak_mib":1.0}"#
        );
    }
}
