//! What to move and how: the options that `migrate`, `plan create` and `diff` share, and the spec that they make.
//!
//! [`MigrationOptions`] is the whole of it; [`Cutover`], [`Hooks`], [`Selection`], [`Rewriting`], [`Meeting`],
//! [`Volumes`] and [`Movers`] are its groups, which the help shows apart. [`MigrationOptions::spec`] is
//! the one way from options to a spec, so that a diff shows exactly what the migration of the same
//! options would do, and a plan holds what `migrate` would.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, Args, ValueEnum};
use isthmus_shared::resources::{
    ExistingResourcePolicy, IncludeClusterResources, MigrationSpec, NamespaceEntry, NamespaceRule, Transform,
    glob_matcher, parse_selector,
};

use super::duration;
use crate::error::Error;
use crate::names;

mod cutover;
mod hooks;
mod limits;
mod volume_choice;
mod volumes;

pub use cutover::{Cutover, Reclaim};
pub use hooks::Hooks;
pub use limits::StepLimits;
pub use volumes::{Movers, Volumes};

/// What to move and how.
#[derive(Args, Clone)]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of its own, in any combination")]
pub struct MigrationOptions {
    /// The namespaces: names (cms), globs (team-*), or names with the one that they get on the
    /// destination (cms:cms-green)
    #[arg(value_name = "NAMESPACE", required_unless_present = "namespace_selector", value_parser = entry)]
    pub namespaces: Vec<NamespaceEntry>,
    /// The pair to move them through
    #[arg(long, value_parser = names::subdomain)]
    pub pair: String,
    /// Move from the pair's destination to its source; the pair must be bidirectional
    #[arg(long)]
    pub reverse: bool,
    /// Take the namespaces' objects along
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub include_resources: bool,
    /// Take the volumes' data along
    #[arg(long, value_name = "BOOL", default_value_t = true, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub include_volumes: bool,
    /// Start the applications on the destination
    #[arg(long, value_name = "BOOL", default_value_t = false, default_missing_value = "true", num_args = 0..=1,
          require_equals = true, action = ArgAction::Set)]
    pub start_applications: bool,
    /// How long a step may go without any news from the spoke that does it
    #[arg(long, value_name = "TIME", default_value = "30m", value_parser = step_timeout)]
    pub step_timeout: Duration,
    /// What single steps may take.
    #[command(flatten)]
    pub step_limits: StepLimits,
    /// How one side stops and the other starts.
    #[command(flatten)]
    pub cutover: Cutover,
    /// What is carried out at certain points.
    #[command(flatten)]
    pub hooks: Hooks,
    /// Which objects.
    #[command(flatten)]
    pub selection: Selection,
    /// What becomes of them on the way.
    #[command(flatten)]
    pub rewriting: Rewriting,
    /// How they meet what is there.
    #[command(flatten)]
    pub meeting: Meeting,
    /// How volumes move.
    #[command(flatten)]
    pub volumes: Volumes,
    /// What moves them.
    #[command(flatten)]
    pub movers: Movers,
}

/// Which objects.
#[derive(Args, Clone)]
#[command(next_help_heading = "Selection")]
pub struct Selection {
    /// Also the namespaces with these labels, as in kubectl: team=a,tier in (web, db)
    #[arg(long, value_name = "SELECTOR", value_parser = selector)]
    pub namespace_selector: Option<String>,
    /// Only objects with these labels, as in kubectl: app=web,tier!=test. Given several times, any
    /// of the selectors will do
    #[arg(long = "selector", short = 'l', value_name = "SELECTOR", value_parser = selector)]
    pub selectors: Vec<String>,
    /// Not objects with these labels, likewise
    #[arg(long = "exclude-selector", value_name = "SELECTOR", value_parser = selector)]
    pub exclude_selectors: Vec<String>,
    /// Only these types: Deployment, deployments.apps, *.apps
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub include_types: Vec<String>,
    /// Not these types, likewise
    #[arg(long, value_name = "TYPE", value_delimiter = ',')]
    pub exclude_types: Vec<String>,
    /// Types that otherwise stay behind: bare Pods, completed Jobs
    #[arg(long, value_enum, ignore_case = true, value_name = "TYPE", value_delimiter = ',')]
    pub include_optional_types: Vec<OptionalType>,
    /// Which objects of cluster scope go along: those that the chosen ones need, all, or none
    #[arg(long, value_enum, value_name = "WHICH", default_value_t = ClusterResources::Auto)]
    pub cluster_resources: ClusterResources,
}

/// What becomes of the objects on the way.
#[derive(Args, Clone)]
#[command(next_help_heading = "Rewriting")]
pub struct Rewriting {
    /// A storage class, and what stands for it on the destination
    #[arg(long = "storage-class", value_name = "FROM=TO", value_delimiter = ',', value_parser = pair_of_texts)]
    pub storage_classes: Vec<(String, String)>,
    /// An access mode (ReadWriteOnce, RWO, …), and what stands for it on the destination
    #[arg(long = "access-mode", value_name = "FROM=TO", value_delimiter = ',', value_parser = access_modes)]
    pub access_modes: Vec<(String, String)>,
    /// A registry, repository or image without its tag, and what stands for it on the
    /// destination; the longest match counts
    #[arg(long = "image", value_name = "FROM=TO", value_delimiter = ',', value_parser = pair_of_texts)]
    pub images: Vec<(String, String)>,
    /// An ingress class, and what stands for it on the destination
    #[arg(long = "ingress-class", value_name = "FROM=TO", value_delimiter = ',', value_parser = pair_of_texts)]
    pub ingress_classes: Vec<(String, String)>,
    /// Keep all node ports of Services, not only those that a person chose
    #[arg(long)]
    pub preserve_node_ports: bool,
    /// Also rewrite host names (SERVICE.NAMESPACE.svc) of namespaces that get another name, in
    /// ConfigMaps, environment variables and arguments
    #[arg(long)]
    pub rewrite_host_names: bool,
    /// A YAML or JSON file with a list of transforms, as in spec.transforms of a Migration
    #[arg(long, value_name = "FILE")]
    pub transforms: Option<PathBuf>,
}

/// How objects meet what is there.
#[derive(Args, Clone, Copy)]
#[command(next_help_heading = "Meeting what is there")]
pub struct Meeting {
    /// What is done with objects that the destination has already [default: those that a migration
    /// brought are updated, others make the run fail before it begins]
    #[arg(long, value_enum, value_name = "POLICY")]
    pub existing: Option<Existing>,
    /// Delete on the destination what an earlier run brought and what is gone from the source
    #[arg(long)]
    pub purge: bool,
}

/// See [`IncludeClusterResources`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ClusterResources {
    /// Those that the chosen objects need
    Auto,
    /// Every one that is not a cluster's own
    All,
    /// None, not even definitions of custom resources
    None,
}

/// A type that stays behind unless it is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum OptionalType {
    /// Pods that no controller keeps
    #[value(name = "Pod")]
    Pod,
    /// Jobs that are complete
    #[value(name = "Job")]
    Job,
}

/// See [`ExistingResourcePolicy`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Existing {
    /// They stay as they are
    Skip,
    /// The fields that the source has are set; others stay
    Update,
    /// They become as on the source
    Replace,
    /// The run fails before it begins
    Fail,
}

impl MigrationOptions {
    /// The spec that the options make, as long as the hub would begin a run with it.
    pub fn spec(&self) -> Result<MigrationSpec, Error> {
        let spec = self.made()?;
        match spec.problems().as_slice() {
            [] => Ok(spec),
            problems => {
                let told: Vec<String> = problems.iter().map(ToString::to_string).collect();
                Err(Error::Usage(told.join("\n")))
            }
        }
    }

    fn made(&self) -> Result<MigrationSpec, Error> {
        let Self { cutover, hooks, selection, rewriting, meeting, volumes, movers, .. } = self;
        Ok(MigrationSpec {
            namespaces: self.namespaces.clone(),
            quiesce: cutover.quiesce,
            on_failure: cutover.on_failure.into(),
            reclaim: cutover.reclaim.into(),
            health: cutover.health(),
            operators: cutover.operators.clone(),
            hooks: hooks.read()?,
            pre_exec_rule: hooks.pre_exec_rule.clone(),
            post_exec_rule: hooks.post_exec_rule.clone(),
            reverse: self.reverse,
            include_resources: self.include_resources,
            include_volumes: self.include_volumes,
            start_applications: self.start_applications,
            method: volumes.method.into(),
            verify: volumes.verify.into(),
            metadata_policy: volumes.metadata_policy.into(),
            exclude_paths: volumes.exclude_paths.clone(),
            volumes: volumes.choices.clone(),
            bandwidth_limit: volumes.bandwidth_limit.clone(),
            parallel_volumes: volumes.at_a_time,
            parallel_files: volumes.parallel_files,
            retention: volumes.retention(),
            mover: movers.options()?,
            step_timeout_seconds: u32::try_from(self.step_timeout.as_secs()).unwrap_or(u32::MAX),
            timeouts: self.step_limits.timeouts(),
            retries: self.step_limits.retries(),
            namespace_selector: selection
                .namespace_selector
                .as_deref()
                .map(|text| parse_selector(text).map(Into::into))
                .transpose()
                .map_err(Error::Usage)?,
            selectors: selection.selectors.clone().into(),
            exclude_selectors: selection.exclude_selectors.clone().into(),
            included_resource_types: selection.include_types.clone(),
            excluded_resource_types: selection.exclude_types.clone(),
            include_optional_resource_types: selection
                .include_optional_types
                .iter()
                .map(|kind| format!("{kind:?}"))
                .collect(),
            include_cluster_resources: selection.cluster_resources.into(),
            storage_class_mapping: map("--storage-class", &rewriting.storage_classes)?,
            access_mode_mapping: map("--access-mode", &rewriting.access_modes)?,
            image_mapping: map("--image", &rewriting.images)?,
            ingress_class_mapping: map("--ingress-class", &rewriting.ingress_classes)?,
            preserve_node_ports: rewriting.preserve_node_ports,
            rewrite_host_names: rewriting.rewrite_host_names,
            transforms: rewriting.transforms()?,
            existing_resource_policy: meeting.existing.map(Into::into),
            purge_deleted_resources: meeting.purge,
            ..MigrationSpec::through(&self.pair)
        })
    }

    /// A word for what is moved, of which a migration's name is made.
    pub fn stem(&self) -> String {
        let first = self.namespaces.first().and_then(|entry| entry.rule().ok());
        let stem: String = match first {
            Some(NamespaceRule::Name(name)) => name,
            Some(NamespaceRule::Mapped(moved)) => moved.from,
            Some(NamespaceRule::Glob(glob)) => {
                glob.chars().filter(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || *c == '-').collect()
            }
            None => String::new(),
        };
        let stem = stem.trim_matches('-');
        if stem.is_empty() { "namespaces".to_owned() } else { stem.to_owned() }
    }
}

impl Rewriting {
    fn transforms(&self) -> Result<Vec<Transform>, Error> {
        let Some(path) = &self.transforms else { return Ok(Vec::new()) };
        let text =
            std::fs::read_to_string(path).map_err(|source| Error::ReadFile { path: path.clone(), source })?;
        serde_saphyr::from_str(&text).map_err(|error| {
            Error::Usage(format!(
                "{} is no list of transforms: {error}; each has a match and one of jsonPatch, mergePatch and strategicMergePatch",
                path.display()
            ))
        })
    }
}

fn map(option: &str, pairs: &[(String, String)]) -> Result<BTreeMap<String, String>, Error> {
    let mut map = BTreeMap::new();
    for (from, to) in pairs {
        if let Some(before) = map.insert(from.clone(), to.clone()).filter(|before| before != to) {
            return Err(Error::Usage(format!(
                "{option} maps {from} to {before} and to {to}: choose one of them"
            )));
        }
    }
    Ok(map)
}

fn entry(text: &str) -> Result<NamespaceEntry, String> {
    let entry = NamespaceEntry::from(text);
    match entry.rule().map_err(|error| error.to_string())? {
        NamespaceRule::Name(name) => names::label(&name).map(drop),
        NamespaceRule::Mapped(moved) => {
            names::label(&moved.from).and_then(|_| names::label(&moved.to)).map(drop)
        }
        NamespaceRule::Glob(glob) => return glob_matcher(&glob).map(|_| entry),
    }
    .map_err(|error| error.to_string())?;
    Ok(entry)
}

fn step_timeout(text: &str) -> Result<Duration, String> {
    let length = duration(text)?;
    let (least, most) = (Duration::from_mins(1), Duration::from_hours(24));
    if (least..=most).contains(&length) {
        Ok(length)
    } else {
        Err(format!("{text} is not between 1m and 24h"))
    }
}

fn selector(text: &str) -> Result<String, String> {
    parse_selector(text).map(|_| text.to_owned())
}

fn pair_of_texts(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((from, to)) if !from.trim().is_empty() && !to.trim().is_empty() => {
            Ok((from.trim().to_owned(), to.trim().to_owned()))
        }
        _ => Err(format!("{text:?} is no mapping: write it as from=to")),
    }
}

fn access_modes(text: &str) -> Result<(String, String), String> {
    let (from, to) = pair_of_texts(text)?;
    Ok((access_mode(&from)?, access_mode(&to)?))
}

/// An access mode by its name or its abbreviation, as kubectl prints it.
fn access_mode(text: &str) -> Result<String, String> {
    let known = [
        ("ReadWriteOnce", "RWO"),
        ("ReadOnlyMany", "ROX"),
        ("ReadWriteMany", "RWX"),
        ("ReadWriteOncePod", "RWOP"),
    ];
    let found = known.iter().find(|(name, short)| [*name, *short].contains(&text));
    found.map(|(name, _)| (*name).to_owned()).ok_or_else(|| {
        format!(
            "{text:?} is no access mode: write ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod"
        )
    })
}

impl From<ClusterResources> for IncludeClusterResources {
    fn from(which: ClusterResources) -> Self {
        match which {
            ClusterResources::Auto => Self::Auto,
            ClusterResources::All => Self::All,
            ClusterResources::None => Self::None,
        }
    }
}

impl From<Existing> for ExistingResourcePolicy {
    fn from(policy: Existing) -> Self {
        match policy {
            Existing::Skip => Self::Skip,
            Existing::Update => Self::Update,
            Existing::Replace => Self::Replace,
            Existing::Fail => Self::Fail,
        }
    }
}

#[cfg(test)]
mod tests;
