//! The lab's own command line: `isthmus-lab up | demo | bench | bench-manifest | bench-objects | simulate`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

/// Kubernetes clusters and S3 on one machine, to try and to test Isthmus.
#[derive(Debug, Parser)]
#[command(name = "isthmus-lab", version, arg_required_else_help = true)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure what moving a volume costs, on three trees
    Bench(crate::bench::BenchArgs),
    /// Measure what very many files cost a mover in memory
    ///
    /// A tree of --distinct empty files is mounted again and again below one root, on both sides, until
    /// there are as many as asked for; then two passes are sent and received, the second with nothing
    /// changed. Needs root.
    BenchManifest(crate::bench_manifest::BenchManifestArgs),
    /// Measure what exporting and applying objects costs, beside the API server's own rate
    ///
    /// A hub and two spokes move the objects in one migration without volumes. objects_per_s and
    /// requests_per_object are those of the apply on the destination; cpu_s is that of the source's spoke
    /// while it exports and of the destination's while it applies; peak_mib is the larger spoke's, at any
    /// time. flood_per_s is what eight clients reach that create the same objects in the destination's API
    /// server, one request after the other on a connection each: the better of HTTP/2 and HTTP/1.1.
    BenchObjects(crate::bench_objects::BenchObjectsArgs),
    /// Migrate an application between two clusters, show it, and compare both sides
    Demo,
    /// Measure what a hub costs that has very many spokes and migrations under way
    ///
    /// The hub is a process of its own, as users run it, and its records are in the embedded API server, which
    /// is in this process. So are the spokes, of which nothing but their hub's side is real: each enrols with a
    /// join token, has a connection and a key of its own, signs every request, holds a long poll, and sends
    /// heartbeats, the figures of its running tasks, and the reports that end them. Pairs are made of two
    /// spokes each, and the migrations, of one small volume in a namespace of its own each, are spread over
    /// them; the hub's limits of migrations at a time are set so that all may run at once.
    ///
    /// Once all migrations are under way, tasks end at --rate, those of ten seconds' worth of migrations in
    /// turn while the others go on and tell how far they are every 30 s. After a warm-up it is measured for
    /// --seconds how long it takes from when a spoke begins to send the report that ends a task, the last one of
    /// its step, until the next task of that migration has arrived, and been read, at the spoke that is to do
    /// it; p50_ms and p99_ms are of that. cpu_s is the hub's CPU time from its start to the end of the
    /// measurement, peak_mib the most memory that it held at any time (VmHWM), window_cpu_s its CPU time while
    /// it was measured.
    Simulate(crate::simulate::SimulateArgs),
    /// Keep a lab running until Ctrl-C, for kubectl and isthmus
    Up(Up),
}

/// Arguments of `up`.
#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    /// Folder for kubeconfigs, s3.env, volumes and logs
    #[arg(long, value_name = "FOLDER")]
    pub dir: PathBuf,
    /// Member clusters, beside the hub's
    #[arg(long, value_delimiter = ',', default_value = "east,west")]
    pub clusters: Vec<String>,
    /// Clusters and S3 only, without hub and spokes
    #[arg(long)]
    pub bare: bool,
}

/// Runs the command line.
pub(crate) async fn main(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => error.exit(),
    };
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn"));
    // The error says only that a subscriber was installed before.
    drop(tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).try_init());
    let done = match arguments.command {
        Command::Bench(args) => match crate::bench::run(args).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::BenchManifest(args) => match crate::bench_manifest::run(args).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::BenchObjects(args) => match Box::pin(crate::bench_objects::run(args)).await {
            Ok(code) => return code,
            Err(error) => Err(error),
        },
        Command::Demo => crate::demo::run().await,
        Command::Simulate(args) => Box::pin(crate::simulate::run(args)).await,
        Command::Up(up) => crate::up::run(up).await,
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("isthmus-lab: {error:#}");
            ExitCode::FAILURE
        }
    }
}
