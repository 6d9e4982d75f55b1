//! The command line of `isthmus-hub`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{ArgAction, Args, Parser, Subcommand, ValueEnum, value_parser};

use isthmus_shared::protocol::HEARTBEAT_EXPIRY_SECONDS;

use crate::itinerary::TURN_AFTER_SECONDS;
use crate::room::{Limits, RUNS_PER_CLUSTER, RUNS_PER_STORE};

/// The hub of Isthmus: keeps the records, runs migrations, serves spokes.
#[derive(Debug, Parser)]
#[command(name = "isthmus-hub", version)]
pub(crate) struct Options {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Print the custom resource definitions of all kinds.
    Crds(CrdsOptions),
    /// Run the hub.
    Serve(Box<ServeOptions>),
}

#[derive(Debug, Args)]
pub(crate) struct CrdsOptions {
    /// The format.
    #[arg(short, long, value_enum, default_value = "yaml")]
    pub output: Format,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Format {
    /// One YAML document for each.
    Yaml,
}

#[derive(Debug, Args)]
pub(crate) struct ServeOptions {
    /// The kubeconfig of the cluster that holds the records; in-cluster configuration or
    /// $KUBECONFIG if not given.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The context of the kubeconfig.
    #[arg(long)]
    pub context: Option<String>,
    /// The hub's own namespace.
    #[arg(long, default_value = "isthmus", env = "ISTHMUS_NAMESPACE")]
    pub namespace: String,
    /// Where to listen for spokes and people (HTTPS).
    #[arg(long, default_value = "0.0.0.0:8443")]
    pub listen: SocketAddr,
    /// The URL under which spokes reach this hub; https://<listen address> if not given.
    #[arg(long, env = "ISTHMUS_ADVERTISE_URL")]
    pub advertise_url: Option<String>,
    /// The certificate chain (PEM) to serve with, its CA last; the hub's own if not given.
    #[arg(long, requires = "tls_key")]
    pub tls_cert: Option<PathBuf>,
    /// The private key (PEM) of that certificate.
    #[arg(long, requires = "tls_cert")]
    pub tls_key: Option<PathBuf>,
    /// A name that no other running hub has, e.g. the pod's: a hub that is started again under it
    /// takes up its lead at once instead of waiting for the lease to run out.
    #[arg(long, env = "ISTHMUS_REPLICA")]
    pub replica: Option<String>,
    /// Whether to apply the custom resource definitions at the start.
    #[arg(long, default_value_t = true, action = ArgAction::Set, num_args = 0..=1, default_missing_value = "true")]
    pub install_crds: bool,
    /// How many migrations run at a time from or to one cluster; others wait their turn. Rollbacks
    /// wait for no room, but take it.
    #[arg(long, default_value_t = RUNS_PER_CLUSTER, value_name = "RUNS", env = "ISTHMUS_MAX_RUNS_PER_CLUSTER",
        value_parser = value_parser!(u32).range(1..))]
    pub max_runs_per_cluster: u32,
    /// How many migrations run at a time through one object store.
    #[arg(long, default_value_t = RUNS_PER_STORE, value_name = "RUNS", env = "ISTHMUS_MAX_RUNS_PER_STORE",
        value_parser = value_parser!(u32).range(1..))]
    pub max_runs_per_store: u32,
    /// How many seconds the source of a failover that is under way may not be heard before the failover
    /// goes on without it, by the last complete run of its schedule.
    #[arg(long, default_value_t = TURN_AFTER_SECONDS, value_name = "SECONDS", env = "ISTHMUS_FAILOVER_PATIENCE",
        value_parser = value_parser!(i64).range(HEARTBEAT_EXPIRY_SECONDS.cast_signed()..=3600))]
    pub failover_patience: i64,
}

impl ServeOptions {
    /// How many migrations may run at a time.
    pub(crate) fn limits(&self) -> Limits {
        Limits { per_cluster: self.max_runs_per_cluster, per_store: self.max_runs_per_store }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        use clap::CommandFactory as _;
        Options::command().debug_assert();
    }

    #[test]
    fn a_certificate_needs_its_key() {
        let parse = |args: &[&str]| Options::try_parse_from([&["isthmus-hub", "serve"], args].concat());
        assert!(parse(&["--tls-cert", "a"]).is_err());
        assert!(parse(&["--tls-cert", "a", "--tls-key", "b"]).is_ok());
        let Command::Serve(options) = parse(&["--install-crds=false"]).unwrap().command else { panic!() };
        assert!(!options.install_crds);
        assert_eq!((options.max_runs_per_cluster, options.max_runs_per_store), (32, 256));
        assert!(parse(&["--max-runs-per-cluster=0"]).is_err());
        assert_eq!(options.failover_patience, 120);
        assert!(parse(&["--failover-patience=40"]).is_ok());
        assert!(parse(&["--failover-patience=39"]).is_err(), "before that it is not known to be silent");
    }
}
