//! The hub: it keeps the records, runs each migration as a chain of steps, and serves the spokes
//! that dial in.
//!
//! ```text
//!   options ─▶ serve ─┬─ records      what the API server holds, watched; the one way to write
//!                     ├─ leader       one hub of several decides; the others stand by
//!                     ├─ api          HTTPS: spokes, people, probes of life, metrics
//!                     └─ controllers  one a kind: read, ask, write status
//!                            │
//!        surroundings, docket, runs   glue: records and presence to the itinerary's values
//!                            │
//!                        itinerary    what a run does next: pure
//! ```
//!
//! All state is in Kubernetes objects. What a hub keeps beside them in memory (who was heard
//! when, the last probes, which tokens were seen) belongs to one term of leadership and comes
//! back by itself within a minute of the next.

pub mod api;
pub mod auth;
mod causes;
mod checks;
mod clients;
mod conditions;
mod controllers;
pub mod crds;
mod docket;
mod events;
mod fencing;
pub mod itinerary;
pub mod leader;
mod metrics;
mod options;
mod presence;
mod pruning;
mod records;
mod room;
mod runs;
mod schedules;
mod serve;
mod staging;
mod surroundings;
#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::process::ExitCode;

use clap::Parser as _;
use tracing_subscriber::EnvFilter;

use options::{Command, Options};

/// What this hub's version is.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Exit code of a wrong command line.
const USAGE: u8 = 2;

/// Runs the program with `args`, of which the first is its name. `isthmus-hub` is this and
/// nothing else.
pub async fn main_with_args(args: Vec<OsString>) -> ExitCode {
    let options = match Options::try_parse_from(args) {
        Ok(options) => options,
        Err(error) => {
            let code = if error.use_stderr() { ExitCode::from(USAGE) } else { ExitCode::SUCCESS };
            // Nothing is left to tell when not even the usage can be printed.
            let _ = error.print();
            return code;
        }
    };
    start_logging();
    if rustls::crypto::aws_lc_rs::default_provider().install_default().is_err() {
        // The same program may have started other parts of Isthmus, which install the same.
        tracing::debug!("a TLS provider is installed already");
    }
    let result = match options.command {
        Command::Crds(_) => print_crds(),
        Command::Serve(options) => serve::serve(*options).await.map_err(anyhow::Error::from),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

fn print_crds() -> anyhow::Result<()> {
    use std::io::Write as _;
    let yaml = crds::yaml()?;
    std::io::stdout().write_all(yaml.as_bytes())?;
    Ok(())
}

/// Logs go to stderr: as lines, or as JSON where `ISTHMUS_LOG_FORMAT=json`.
fn start_logging() {
    // kube names each object twice in a span around what we log of it, and logs each failed call
    // before we do with what it was for.
    let filter = EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| EnvFilter::new("info,kube_runtime=warn,kube_client::client::builder=off"));
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    let json = std::env::var("ISTHMUS_LOG_FORMAT").is_ok_and(|format| format == "json");
    let started = if json { builder.json().try_init() } else { builder.try_init() };
    // Another part of the same program may log already.
    drop(started);
}
