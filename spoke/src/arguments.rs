//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use k8s_openapi::api::core::v1::Toleration;

/// Tolerations of one argument.
#[derive(Clone, Debug, PartialEq)]
pub struct Tolerations(pub Vec<Toleration>);

fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("a label is KEY=VALUE")?;
    if key.is_empty() {
        Err("the label has no key".to_owned())
    } else {
        Ok((key.to_owned(), value.to_owned()))
    }
}

fn tolerations(text: &str) -> Result<Tolerations, String> {
    serde_json::from_str(text)
        .map(Tolerations)
        .map_err(|error| format!("no JSON list of tolerations: {error}"))
}

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
    Serve(Box<ServeArguments>),
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
    /// A label, as KEY=VALUE, that movers' nodes must have where a run's spec.mover names none; may
    /// be given several times.
    #[arg(long, value_parser = label)]
    pub mover_node_selector: Vec<(String, String)>,
    /// Taints that movers tolerate in this cluster, as a JSON list of Kubernetes' tolerations.
    #[arg(long, value_parser = tolerations)]
    pub mover_tolerations: Option<Tolerations>,
    /// Whether runs may have commands carried out in this cluster's Pods.
    #[arg(long, value_name = "BOOL", default_value_t = true, action = clap::ArgAction::Set, env = "ISTHMUS_HOOK_COMMANDS")]
    pub hook_commands: bool,
    /// Where movers are listened for.
    #[arg(long, default_value = "0.0.0.0:8444")]
    pub mover_listen: SocketAddr,
    /// The URL at which movers reach this spoke; its Service without it.
    #[arg(long, env = "ISTHMUS_MOVER_ENDPOINT")]
    pub mover_endpoint: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_movers_are_given_in_a_cluster_is_read() {
        let read = |more: &[&str]| {
            let all = ["isthmus-spoke", "serve", "--hub", "https://hub"].iter().chain(more);
            Arguments::try_parse_from(all).map(|arguments| match arguments.command {
                Command::Serve(serve) => *serve,
                Command::Mover { .. } => panic!("it serves"),
            })
        };
        let tolerations = r#"--mover-tolerations=[{"key":"infra","operator":"Exists"}]"#;
        let given = read(&[
            "--mover-image-pull-secret=a",
            "--mover-image-pull-secret=b",
            "--mover-node-selector=disk=fast",
            tolerations,
        ])
        .unwrap();
        assert_eq!(given.mover_image_pull_secret, ["a", "b"]);
        assert_eq!(given.mover_node_selector, [("disk".to_owned(), "fast".to_owned())]);
        assert_eq!(given.mover_tolerations.unwrap().0[0].key.as_deref(), Some("infra"));
        for bad in ["--mover-node-selector=disk", "--mover-node-selector==x", "--mover-tolerations=infra"] {
            assert!(read(&[bad]).is_err(), "{bad}");
        }
    }
}
