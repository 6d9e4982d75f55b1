//! How the volumes' data is moved, and how the movers that do it are run.

use std::collections::BTreeMap;

use clap::{Args, ValueEnum};
use isthmus_shared::resources::{
    MetadataPolicy, MoverOptions, Retention, SnapshotRetention, VerifyMethod, VolumeChoice, VolumeMethod,
};
use k8s_openapi::api::core::v1::{ResourceRequirements, Toleration};
use k8s_openapi::apimachinery::pkg::api::resource::Quantity;

use super::volume_choice::volume_choice;
use super::{map, pair_of_texts};
use crate::error::Error;

/// How the volumes' data is moved.
#[derive(Args, Clone)]
#[command(next_help_heading = "Volumes")]
pub struct Volumes {
    /// What is read of a volume: a CSI snapshot where there can be one, the volume itself, or a
    /// snapshot in any case
    #[arg(long, value_enum, value_name = "METHOD", default_value_t = Method::Auto)]
    pub method: Method,
    /// Check each block as it is written, or also read the destination back and compare it file by
    /// file
    #[arg(long, value_enum, value_name = "HOW", default_value_t = Verify::Inline)]
    pub verify: Verify,
    /// What is done about owners, modes and attributes that the destination refuses to set: fail,
    /// or go on and warn
    #[arg(long, value_enum, value_name = "POLICY", default_value_t = Metadata::Strict)]
    pub metadata_policy: Metadata,
    /// Neither read nor touch these paths below the root of each volume, as in a .gitignore:
    /// /var/cache, '*.tmp', 'logs/**/old'. May be given several times
    #[arg(long = "exclude-path", value_name = "PATTERN")]
    pub exclude_paths: Vec<String>,
    /// The most bytes a second that the run uploads, and that it downloads: 50Mi, 100M
    #[arg(long, value_name = "QUANTITY")]
    pub bandwidth_limit: Option<String>,
    /// How many volumes to move at a time
    #[arg(long = "parallel-volumes", value_name = "N", default_value_t = 2,
          value_parser = clap::value_parser!(u32).range(1..=32))]
    pub at_a_time: u32,
    /// How many files of a volume to move at a time [default: as many as the mover has cores, at
    /// most 8]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=8))]
    pub parallel_files: Option<u32>,
    /// How many complete passes of each volume staging keeps after the run; the next run sends only
    /// what changed since the newest, or with 0 everything
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=100))]
    pub keep_passes: u32,
    /// What becomes of one volume: copy, skip (the claim goes along without its data) or keep (the
    /// volume itself moves, in a cutover), and with copy its storage class, size, access mode, name
    /// and verification on the destination. May be given several times
    #[arg(long = "volume", value_parser = volume_choice,
          value_name = "NAMESPACE/CLAIM=ACTION[,class=…,size=…,mode=…,name=…,verify=…]")]
    pub choices: Vec<VolumeChoice>,
    /// Leave the CSI snapshots that the run makes where they are
    #[arg(long)]
    pub retain_snapshots: bool,
}

/// How movers are run, on both sides.
#[derive(Args, Clone)]
#[command(next_help_heading = "Movers")]
pub struct Movers {
    /// Run movers only on nodes with this label
    #[arg(long = "mover-node-selector", value_name = "LABEL=VALUE", value_delimiter = ',', value_parser = label)]
    pub node_selector: Vec<(String, String)>,
    /// Tolerate a taint, written as kubectl taint has it: KEY, KEY=VALUE, KEY:EFFECT or
    /// KEY=VALUE:EFFECT; '*' tolerates every taint
    #[arg(long = "mover-toleration", value_name = "TAINT", value_delimiter = ',', value_parser = toleration)]
    pub tolerations: Vec<Toleration>,
    /// The priority class of movers; it must be there on both sides
    #[arg(long = "mover-priority-class", value_name = "NAME")]
    pub priority_class: Option<String>,
    /// What movers request: cpu=100m,memory=256Mi
    #[arg(long = "mover-request", value_name = "RESOURCE=AMOUNT", value_delimiter = ',', value_parser = pair_of_texts)]
    pub requests: Vec<(String, String)>,
    /// What movers may take at most: cpu=2,memory=1Gi
    #[arg(long = "mover-limit", value_name = "RESOURCE=AMOUNT", value_delimiter = ',', value_parser = pair_of_texts)]
    pub limits: Vec<(String, String)>,
    /// Keep trusted.* and all security.* attributes: movers get the capability SYS_ADMIN, which
    /// namespaces must allow (Pod Security level privileged)
    #[arg(long = "mover-privileged-attributes")]
    pub privileged_attributes: bool,
}

/// See [`VolumeMethod`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Method {
    /// A CSI snapshot where the storage class has a snapshot class, else the volume itself
    Auto,
    /// The volume itself
    Live,
    /// A CSI snapshot; the run does not begin where there can be none
    Snapshot,
}

/// See [`VerifyMethod`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Verify {
    /// Each block is checked as it is written
    Inline,
    /// Also, the destination is read back and compared file by file
    Full,
}

/// See [`MetadataPolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Metadata {
    /// The run fails and names the file
    Strict,
    /// The run goes on and warns
    BestEffort,
}

impl Volumes {
    /// What is kept after the run.
    pub(super) fn retention(&self) -> Retention {
        let snapshots =
            if self.retain_snapshots { SnapshotRetention::Retain } else { SnapshotRetention::Delete };
        Retention { passes: self.keep_passes, snapshots }
    }
}

impl Movers {
    /// The options as they stand in a spec.
    pub(super) fn options(&self) -> Result<MoverOptions, Error> {
        let amounts = |option: &str, pairs: &[(String, String)]| -> Result<_, Error> {
            let amounts: BTreeMap<String, Quantity> = map(option, pairs)?
                .into_iter()
                .map(|(resource, amount)| (resource, Quantity(amount)))
                .collect();
            Ok(Some(amounts).filter(|amounts| !amounts.is_empty()))
        };
        let resources = ResourceRequirements {
            claims: None,
            requests: amounts("--mover-request", &self.requests)?,
            limits: amounts("--mover-limit", &self.limits)?,
        };
        Ok(MoverOptions {
            resources: Some(resources).filter(|resources| *resources != ResourceRequirements::default()),
            node_selector: map("--mover-node-selector", &self.node_selector)?,
            tolerations: self.tolerations.clone(),
            priority_class_name: self.priority_class.clone(),
            privileged_attributes: self.privileged_attributes,
        })
    }
}

/// A label, whose value may be empty.
fn label(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.trim().is_empty() => Ok((key.trim().to_owned(), value.trim().to_owned())),
        _ => Err(format!("{text:?} is no label: write it as label=value")),
    }
}

/// A taint that is tolerated, as `kubectl taint` writes taints.
fn toleration(text: &str) -> Result<Toleration, String> {
    let (taint, effect) = text.split_once(':').map_or((text, None), |(taint, effect)| (taint, Some(effect)));
    let (key, value) = taint.split_once('=').map_or((taint, None), |(key, value)| (key, Some(value)));
    let every = key == "*";
    if key.is_empty() || effect == Some("") || (every && value.is_some()) {
        return Err(format!(
            "{text:?} is no taint: write KEY, KEY=VALUE, KEY:EFFECT or KEY=VALUE:EFFECT, or '*' for every taint"
        ));
    }
    Ok(Toleration {
        key: (!every).then(|| key.to_owned()),
        operator: Some(if value.is_some() { "Equal" } else { "Exists" }.to_owned()),
        value: value.map(str::to_owned),
        effect: effect.map(str::to_owned),
        toleration_seconds: None,
    })
}

impl From<Method> for VolumeMethod {
    fn from(method: Method) -> Self {
        match method {
            Method::Auto => Self::Auto,
            Method::Live => Self::Live,
            Method::Snapshot => Self::Snapshot,
        }
    }
}

impl From<Verify> for VerifyMethod {
    fn from(verify: Verify) -> Self {
        match verify {
            Verify::Inline => Self::Inline,
            Verify::Full => Self::Full,
        }
    }
}

impl From<Metadata> for MetadataPolicy {
    fn from(policy: Metadata) -> Self {
        match policy {
            Metadata::Strict => Self::Strict,
            Metadata::BestEffort => Self::BestEffort,
        }
    }
}
