//! `cluster`, `store` and `pair`.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, Subcommand};

use super::{Creation, Output, duration};
use crate::names;

/// `isthmus cluster …`
#[derive(Subcommand)]
pub enum ClusterCommand {
    /// Record a cluster and print the token with which its spoke joins
    Add(ClusterAdd),
    /// Print a new join token for a cluster; the one before is no longer valid
    Token(ClusterToken),
    /// List the clusters
    List(Output),
    /// Show all that is known of a cluster
    Describe {
        /// The cluster
        #[arg(value_name = "CLUSTER", value_parser = names::label)]
        name: String,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Remove a cluster's record; refused while pairs refer to it
    Remove(ClusterRemove),
}

/// `isthmus cluster add`
#[derive(Args)]
pub struct ClusterAdd {
    /// The cluster, under the name that pairs will use
    #[arg(value_name = "CLUSTER", value_parser = names::label)]
    pub name: String,
    /// The cluster's API endpoint, for people to see; the hub never dials it
    #[arg(long, value_name = "URL")]
    pub api_endpoint: Option<String>,
    /// Where the token goes, and how long to wait for it
    #[command(flatten)]
    pub delivery: TokenDelivery,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
}

/// `isthmus cluster token`
#[derive(Args)]
pub struct ClusterToken {
    /// The cluster
    #[arg(value_name = "CLUSTER", value_parser = names::label)]
    pub name: String,
    /// Where the token goes, and how long to wait for it
    #[command(flatten)]
    pub delivery: TokenDelivery,
    /// How to print it
    #[command(flatten)]
    pub output: Output,
}

/// Where a join token goes.
#[derive(Args)]
pub struct TokenDelivery {
    /// Write the token to this file (mode 0600) instead of printing it
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// How long to wait for the hub to issue the token
    #[arg(long, value_name = "TIME", default_value = "30s", value_parser = duration)]
    pub timeout: Duration,
}

/// `isthmus cluster remove`
#[derive(Args)]
pub struct ClusterRemove {
    /// The cluster
    #[arg(value_name = "CLUSTER", value_parser = names::label)]
    pub name: String,
}

/// `isthmus store …`
#[derive(Subcommand)]
pub enum StoreCommand {
    /// Record a bucket and the keys to it
    Create(Box<StoreCreate>),
    /// List the stores
    List(Output),
    /// Show all that is known of a store
    Describe {
        /// The store
        #[arg(value_name = "STORE", value_parser = names::subdomain)]
        name: String,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Delete a store's record and its keys, not the bucket; refused while pairs refer to it
    Delete {
        /// The store
        #[arg(value_name = "STORE", value_parser = names::subdomain)]
        name: String,
    },
}

/// `isthmus store create`
///
/// The keys come from the flags, from the environment, or from a prompt.
#[derive(Args)]
pub struct StoreCreate {
    /// The store, under the name that pairs will use
    #[arg(value_name = "STORE", value_parser = names::subdomain)]
    pub name: String,
    /// The S3 server, e.g. https://s3.eu-central-1.amazonaws.com
    #[arg(long, value_name = "URL", value_parser = endpoint)]
    pub endpoint: String,
    /// The bucket; it must exist
    #[arg(long, value_parser = bucket)]
    pub bucket: String,
    /// The region that requests are signed for
    #[arg(long, default_value = "us-east-1")]
    pub region: String,
    /// Keep everything below this key prefix
    #[arg(long)]
    pub prefix: Option<String>,
    /// A file with certificates (PEM) to trust for the endpoint, beside the system's
    #[arg(long, value_name = "FILE")]
    pub ca_file: Option<PathBuf>,
    /// Whether the bucket goes into the path rather than into the host name
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub path_style: bool,
    /// Use the keys of this Secret, which is there already, instead of making one
    #[arg(long, value_name = "SECRET", value_parser = names::subdomain)]
    pub credentials_secret: Option<String>,
    /// The access key's id; other users of this machine can see flags, so better use the
    /// environment or the prompt
    #[arg(long, value_name = "ID", env = "AWS_ACCESS_KEY_ID", hide_env_values = true)]
    pub access_key_id: Option<String>,
    /// The secret access key; the same holds
    #[arg(long, value_name = "KEY", env = "AWS_SECRET_ACCESS_KEY", hide_env_values = true)]
    pub secret_access_key: Option<String>,
    /// The session token of temporary keys; the same holds
    #[arg(long, value_name = "TOKEN", env = "AWS_SESSION_TOKEN", hide_env_values = true)]
    pub session_token: Option<String>,
    /// The role that is assumed for each volume, where the store has STS: movers then get
    /// credentials for their one volume instead of the store's keys
    #[arg(long, value_name = "ARN", value_parser = role_arn)]
    pub sts_role_arn: Option<String>,
    /// The STS server, e.g. https://sts.eu-central-1.amazonaws.com [default: the S3 server]
    #[arg(long, value_name = "URL", value_parser = endpoint, requires = "sts_role_arn")]
    pub sts_endpoint: Option<String>,
    /// For how long a volume's credentials are good, 15m to 12h; not longer than the role allows
    #[arg(long, value_name = "TIME", default_value = "1h", value_parser = session_duration,
          requires = "sts_role_arn")]
    pub sts_duration: Duration,
    /// Wait until the hub could write, read, list and delete in the bucket
    #[arg(long)]
    pub wait: bool,
    /// How long --wait waits
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub timeout: Duration,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
}

/// `isthmus pair …`
#[derive(Subcommand)]
pub enum PairCommand {
    /// Pair two clusters through a store
    Create(PairCreate),
    /// List the pairs
    List(Output),
    /// Show all that is known of a pair
    Describe {
        /// The pair
        #[arg(value_name = "PAIR", value_parser = names::subdomain)]
        name: String,
        /// How to print it
        #[command(flatten)]
        output: Output,
    },
    /// Delete a pair; what it has staged can then no longer be opened
    Delete {
        /// The pair
        #[arg(value_name = "PAIR", value_parser = names::subdomain)]
        name: String,
    },
}

/// `isthmus pair create`
#[derive(Args)]
pub struct PairCreate {
    /// The pair
    #[arg(value_name = "PAIR", value_parser = names::subdomain)]
    pub name: String,
    /// The cluster that applications leave
    #[arg(long, value_name = "CLUSTER", value_parser = names::label)]
    pub source: String,
    /// The cluster that they go to
    #[arg(long, value_name = "CLUSTER", value_parser = names::label)]
    pub destination: String,
    /// The store that objects and data are staged in
    #[arg(long, value_parser = names::subdomain)]
    pub store: String,
    /// Allow migrations from destination to source too
    #[arg(long)]
    pub bidirectional: bool,
    /// Namespaces that may be moved, as globs; may be given several times [default: all]
    #[arg(long = "allow-namespace", value_name = "GLOB", value_delimiter = ',')]
    pub allowed_namespaces: Vec<String>,
    /// Wait until both spokes and the store are ready
    #[arg(long)]
    pub wait: bool,
    /// How long --wait waits
    #[arg(long, value_name = "TIME", default_value = "2m", value_parser = duration)]
    pub timeout: Duration,
    /// Whether to create it
    #[command(flatten)]
    pub creation: Creation,
}

fn endpoint(text: &str) -> Result<String, String> {
    let advice = "write it as https://host[:port]";
    let url =
        reqwest::Url::parse(text).map_err(|error| format!("{text:?} is not a URL ({error}): {advice}"))?;
    if !matches!(url.scheme(), "http" | "https") || url.host_str().is_none_or(str::is_empty) {
        return Err(format!("{text:?} is not the URL of an S3 server: {advice}"));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(
            "the endpoint must not contain keys: give them in the environment or at the prompt".to_owned()
        );
    }
    Ok(text.trim_end_matches('/').to_owned())
}

fn role_arn(text: &str) -> Result<String, String> {
    let parts: Vec<&str> = text.splitn(6, ':').collect();
    let legal = parts.len() == 6
        && parts[0] == "arn"
        && !parts[1].is_empty()
        && !parts[5].is_empty()
        && !text.contains(char::is_whitespace);
    let advice = "write it as arn:aws:iam::ACCOUNT:role/NAME";
    if legal { Ok(text.to_owned()) } else { Err(format!("{text:?} is not the ARN of a role: {advice}")) }
}

fn session_duration(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let allowed = Duration::from_mins(15)..=Duration::from_hours(12);
    if allowed.contains(&length) {
        Ok(length)
    } else {
        Err(format!("a session of {text} is not possible: choose 15m to 12h"))
    }
}

fn bucket(text: &str) -> Result<String, String> {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'.' || b == b'-';
    let edge = |b: Option<&u8>| b.is_some_and(|b| b.is_ascii_lowercase() || b.is_ascii_digit());
    let bytes = text.as_bytes();
    let legal = (3..=63).contains(&bytes.len())
        && bytes.iter().all(|b| inner(*b))
        && edge(bytes.first())
        && edge(bytes.last());
    if legal {
        Ok(text.to_owned())
    } else {
        Err(format!("{text:?} is not a bucket's name: 3-63 lower-case letters, digits, '.' and '-'"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_the_url_of_a_server_without_keys() {
        assert_eq!(endpoint("https://s3.example.com/").unwrap(), "https://s3.example.com");
        for bad in ["s3.example.com", "ftp://s3.example.com", "https://", "https://id:key@s3.example.com"] {
            assert!(endpoint(bad).is_err(), "{bad} was taken");
        }
    }

    #[test]
    fn a_bucket_has_a_legal_name() {
        assert!(bucket("isthmus-staging.eu").is_ok());
        for bad in ["ab", "Isthmus", "-ab", "ab-", "a/b"] {
            assert!(bucket(bad).is_err(), "{bad} was taken");
        }
    }
}
