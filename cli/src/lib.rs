//! The command `isthmus`, which also works as `kubectl isthmus`.
//!
//! ```text
//!   args ──▶ commands ──▶ records (the API server) and hub_api (the hub)
//!                │
//!                └──▶ manifests, render, progress: values in, text out
//! ```
//!
//! A command reads or writes records in the cluster where the hub runs; the hub does the rest.
//! The one thing that is asked of the hub itself is what does not fit into a record: the results
//! of every object and the log of a migration.
//!
//! Promises: what `--dry-run` prints needs no cluster at all and is what `kubectl apply -f -`
//! accepts; results go to standard output, everything else to standard error; keys of a store
//! and join tokens are never shown unless they are what was asked for; the exit code is that of
//! [`Ending`].

mod args;
mod commands;
mod connect;
mod ending;
mod error;
mod hub_api;
mod log_lines;
mod manifests;
mod names;
mod output;
mod progress;
mod records;
mod render;
mod secret_file;
mod watching;

use std::ffi::OsString;
use std::path::Path;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches};
use tracing_subscriber::EnvFilter;

pub use ending::Ending;

/// Runs the program: `args[0]` is its name. Usage errors end with exit code 2.
pub async fn main_with_args(args: Vec<OsString>) -> ExitCode {
    log_to_stderr();
    install_crypto();
    let command = args::Cli::command().bin_name(spoken_name(args.first()));
    let parsed = command.try_get_matches_from(args).and_then(|matches| args::Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` come as errors too, and belong to standard output.
            let ending = if error.use_stderr() { Ending::Usage } else { Ending::Succeeded };
            return match error.print() {
                Ok(()) => ending.into(),
                Err(_) => Ending::Failed.into(),
            };
        }
    };
    match commands::run(cli).await {
        Ok(ending) => ending.into(),
        // Whoever reads our output has read enough: `isthmus migration list | head -1`.
        Err(error) if error.is_closed_pipe() => Ending::Succeeded.into(),
        Err(error) => {
            output::note(&format!("error: {error}"));
            error.ending().into()
        }
    }
}

/// How help should call the program: as it was called.
fn spoken_name(first: Option<&OsString>) -> &'static str {
    let stem = first.and_then(|name| Path::new(name).file_stem()).and_then(|stem| stem.to_str());
    if stem == Some("kubectl-isthmus") { "kubectl isthmus" } else { "isthmus" }
}

fn log_to_stderr() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("error"));
    let json = std::env::var("ISTHMUS_LOG_FORMAT").is_ok_and(|format| format == "json");
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        // Log collectors show colour codes as they are.
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
    let installed = if json { builder.json().try_init() } else { builder.try_init() };
    if let Err(error) = installed {
        // Within another program of ours the subscriber is that program's.
        tracing::debug!(%error, "logging was set up already");
    }
}

fn install_crypto() {
    if rustls::crypto::CryptoProvider::get_default().is_none()
        && rustls::crypto::aws_lc_rs::default_provider().install_default().is_err()
    {
        tracing::debug!("another thread installed the TLS provider first");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn help_calls_the_program_as_it_was_called() {
        assert_eq!(spoken_name(Some(&OsString::from("/usr/bin/kubectl-isthmus"))), "kubectl isthmus");
        assert_eq!(spoken_name(Some(&OsString::from("/usr/bin/isthmus"))), "isthmus");
        assert_eq!(spoken_name(None), "isthmus");
    }
}
