//! The spoke: Isthmus' agent in one cluster.
//!
//! ```text
//!   hub_link ── tasks ──▶ runner ──▶ work ─┬─▶ preflight, export (collect) ──▶ staging
//!      ▲                     │             ├─▶ apply (transform)  ◀──────────── staging
//!      └────── reports ──────┘             ├─▶ workloads, hooks
//!                                          └─▶ volumes ──▶ mover Jobs ──▶ mover_server
//!                                                             │
//!                                                           mover (the data plane)
//! ```
//!
//! Promises: the spoke dials out and is never dialled by the hub; everything that it does is
//! idempotent by its task's id, so that it may be killed at any moment; an object stays JSON from
//! the one API server to the other.

mod apply;
mod arguments;
mod cluster;
mod collect;
mod diff;
mod export;
mod findings;
mod hooks;
mod hub_link;
mod journals;
pub mod mover;
mod mover_server;
mod own_pods;
mod preflight;
mod prune;
mod runner;
mod serve;
mod staging_area;
mod task;
mod transform;
mod volumes;
mod work;
mod workloads;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;
use tracing_subscriber::EnvFilter;

use arguments::{Arguments, Command};

// The lab's simulated spokes speak to a hub as this one does.
pub use hub_link::{Anchor, Channel, LinkError, SignedChannel};

/// The program `isthmus-spoke`; the first argument is its name.
pub async fn main_with_args(args: Vec<OsString>) -> ExitCode {
    let arguments = match Arguments::try_parse_from(args) {
        Ok(arguments) => arguments,
        Err(error) => {
            // Nothing can be done about a closed terminal.
            let _ = error.print();
            return ExitCode::from(if error.use_stderr() { 2 } else { 0 });
        }
    };
    log_to_stderr();
    // Whoever runs us in its own process may have installed it before.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match arguments.command {
        Command::Mover { arguments } => mover::run(arguments).await,
        Command::Serve(arguments) => match serve::serve(*arguments).await {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                tracing::error!("{}", cluster::chain(error.as_ref()));
                ExitCode::FAILURE
            }
        },
    }
}

/// Logs to stderr as `RUST_LOG` and `ISTHMUS_LOG_FORMAT` say.
fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let subscriber = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Log collectors show colour codes as they are.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let json = std::env::var("ISTHMUS_LOG_FORMAT").is_ok_and(|format| format == "json");
    // Whoever runs us in its own process may log already.
    let _ = if json { subscriber.json().try_init() } else { subscriber.try_init() };
}
