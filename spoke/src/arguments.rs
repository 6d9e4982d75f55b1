//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Isthmus' agent in one cluster.
#[derive(Debug, Parser)]
#[command(name = "isthmus-spoke", version, about)]
pub struct Arguments {
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Serves a cluster: joins the hub and does its tasks.
    Serve(ServeArguments),
    /// Moves one volume; started by the spoke as a Job.
    #[command(disable_help_flag = true)]
    Mover {
        /// The mover's own arguments.
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<std::ffi::OsString>,
    },
}

/// How to serve.
#[derive(Clone, Debug, Args)]
pub struct ServeArguments {
    /// The hub's URL, such as https://hub.example:8443.
    #[arg(long, env = "ISTHMUS_HUB")]
    pub hub: String,
    /// The file with the join token; needed until the spoke has joined.
    #[arg(long, env = "ISTHMUS_JOIN_TOKEN_FILE")]
    pub join_token_file: Option<PathBuf>,
    /// The kubeconfig of the cluster; the pod's service account without it.
    #[arg(long)]
    pub kubeconfig: Option<PathBuf>,
    /// The kubeconfig's context; its current one without it.
    #[arg(long)]
    pub context: Option<String>,
    /// The spoke's own namespace.
    #[arg(long, default_value = "isthmus-spoke", env = "ISTHMUS_NAMESPACE")]
    pub namespace: String,
    /// The image that movers run; it holds this very program.
    #[arg(long, default_value = concat!("isthmus:", env!("CARGO_PKG_VERSION")), env = "ISTHMUS_MOVER_IMAGE")]
    pub mover_image: String,
    /// A Secret for the movers' image, which must be in each namespace whose volumes are moved; may
    /// be given several times.
    #[arg(long, value_delimiter = ',', env = "ISTHMUS_MOVER_IMAGE_PULL_SECRETS")]
    pub mover_image_pull_secret: Vec<String>,
    /// Where movers are listened for.
    #[arg(long, default_value = "0.0.0.0:8444")]
    pub mover_listen: SocketAddr,
    /// The URL at which movers reach this spoke; its Service without it.
    #[arg(long, env = "ISTHMUS_MOVER_ENDPOINT")]
    pub mover_endpoint: Option<String>,
}
