//! `Migration`: one run that takes namespaces from one cluster of a pair to the other.

mod options;
mod turned;

pub use turned::Turned;

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use kube::{CustomResource, KubeSchema};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::{
    ExistingResourcePolicy, HealthOptions, Hook, IncludeClusterResources, LabelSelectors, MetadataPolicy,
    MigrationStatus, MoverOptions, NamespaceEntry, OnFailure, OperatorRef, PerStep, Retention, Transform,
    VerifyMethod, VolumeChoice, VolumeMethod, VolumeReclaim,
};

/// What to move and how. The names are those of Kubemotion's Migration, so that such a manifest
/// works once its apiVersion is changed.
#[derive(CustomResource, KubeSchema, Clone, Debug, Deserialize, Serialize, PartialEq)]
#[kube(
    group = "isthmus.dev",
    version = "v1alpha1",
    kind = "Migration",
    plural = "migrations",
    namespaced,
    status = "MigrationStatus",
    category = "isthmus",
    derive = "PartialEq",
    printcolumn(name = "Pair", type_ = "string", json_path = ".spec.clusterPair"),
    printcolumn(name = "Step", type_ = "string", json_path = ".status.step"),
    printcolumn(name = "Status", type_ = "string", json_path = ".status.status"),
    printcolumn(name = "Volumes", type_ = "string", json_path = ".status.volumesSummary"),
    printcolumn(name = "Resources", type_ = "string", json_path = ".status.resourcesSummary"),
    printcolumn(name = "Elapsed", type_ = "string", json_path = ".status.elapsed"),
    printcolumn(name = "Bytes", type_ = "string", json_path = ".status.bytesSummary"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp", priority = 1)
)]
#[serde(rename_all = "camelCase")]
#[x_kube(validation = ("self == oldSelf", "a Migration is one run and cannot be changed: create another"))]
// Rules in CEL cannot see `namespaces`: its items are of no one type.
#[schemars(extend("anyOf" = [
    {"required": ["clusterPair", "namespaces"]}, {"required": ["clusterPair", "namespaceSelector"]},
    {"required": ["plan"]}, {"required": ["rollbackOf"]}, {"required": ["schedule"]}
]))]
pub struct MigrationSpec {
    /// The `ClusterPair`, in this namespace.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    #[schemars(length(min = 1, max = 253))]
    pub cluster_pair: String,
    /// The namespaces to move: names (`cms`), globs (`team-*`), and mappings to other names on the
    /// destination (`cms: cms-green`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(min = 1, max = 100))]
    pub namespaces: Vec<NamespaceEntry>,
    /// Also the namespaces with these labels.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace_selector: Option<LabelSelector>,
    /// What kind of run this is.
    #[serde(default)]
    pub action: MigrationAction,
    /// The `MigrationPlan`, in this namespace, whose options the run takes as they are when it
    /// begins. Beside it only `clusterPair` (the same), `action`, `quiesce`, `startApplications` and
    /// `dryRun` may be set.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub plan: Option<String>,
    /// The Migration, in this namespace, that a `Rollback` undoes; nothing else is set beside it
    /// but `reclaim`, and `clusterPair` (the same).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub rollback_of: Option<String>,
    /// The `MigrationSchedule`, in this namespace, that a `Failover` or a `Failback` is of; nothing
    /// else is set beside it but `clusterPair` (the same).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 253))]
    pub schedule: Option<String>,
    /// A cutover: the source is stopped before its volumes are read for the last time, and from
    /// then on one side runs and no more than one. Unset, the source goes on running.
    #[serde(default)]
    pub quiesce: bool,
    /// What is done when a cutover fails after the source was stopped.
    #[serde(default)]
    pub on_failure: OnFailure,
    /// What becomes of the claims that the run made on the destination when it is undone.
    #[serde(default)]
    pub reclaim: VolumeReclaim,
    /// When started applications are well.
    #[serde(default)]
    pub health: HealthOptions,
    /// Commands and Jobs that are carried out at certain points.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub hooks: Vec<Hook>,
    /// Workloads of the source that manage others: in a cutover they stop first and start first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub operators: Vec<OperatorRef>,
    /// What becomes of single volumes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 500))]
    pub volumes: Vec<VolumeChoice>,
    /// Goes from the pair's destination to its source; the pair must be bidirectional.
    #[serde(default)]
    pub reverse: bool,
    /// Whether the namespaces' objects are taken along.
    #[serde(default = "yes")]
    pub include_resources: bool,
    /// Whether the volumes' data is taken along.
    #[serde(default = "yes")]
    pub include_volumes: bool,
    /// Whether the applications are started on the destination; in a cutover they always are.
    #[serde(default)]
    pub start_applications: bool,
    /// Volumes moved at a time.
    #[serde(default = "default_parallel_volumes")]
    #[schemars(range(min = 1, max = 32))]
    pub parallel_volumes: u32,
    /// Files of a volume that are read, or written, at a time. Unset: as many as the mover has
    /// cores, at most 8.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 8))]
    pub parallel_files: Option<u32>,
    /// The most bytes a second that the run sends to staging, and likewise that it fetches from
    /// there, as a quantity (`50Mi`, `100M`); shared evenly by the volumes that move at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 32))]
    pub bandwidth_limit: Option<String>,
    /// What is read of the volumes.
    #[serde(default)]
    pub method: VolumeMethod,
    /// How it is made sure that what arrived is what was sent.
    #[serde(default)]
    pub verify: VerifyMethod,
    /// What is done about file metadata that the destination refuses to set.
    #[serde(default)]
    pub metadata_policy: MetadataPolicy,
    /// Paths below the root of every volume that are neither read nor touched: names and globs
    /// as in a `.gitignore` without negation (`/cache`, `*.tmp`, `logs/**/old`).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 100), inner(length(min = 1, max = 1024)))]
    pub exclude_paths: Vec<String>,
    /// How mover Pods are run.
    #[serde(default, skip_serializing_if = "MoverOptions::is_default")]
    pub mover: MoverOptions,
    /// What is kept after the run for the next one.
    #[serde(default)]
    pub retention: Retention,
    /// Seconds that a step may go without any news from the spoke that does it.
    #[serde(default = "default_step_timeout")]
    #[schemars(range(min = 60, max = 86400))]
    pub step_timeout_seconds: u32,
    /// Seconds that each step may take in all, 10 to 2592000; unset a day, a week for volumes and for
    /// going back.
    #[serde(default, skip_serializing_if = "PerStep::is_empty")]
    pub timeouts: PerStep,
    /// How often each step is begun again after it failed, at most 10; unset never, except that movers
    /// of `volumes` are begun again twice. Hooks have retries of their own.
    #[serde(default, skip_serializing_if = "PerStep::is_empty")]
    pub retries: PerStep,
    /// Only objects that one of these selects: a map of labels (all of them), or a list of label
    /// selectors, maps of labels, or texts such as `app=web,tier in (front, back)`.
    #[serde(default, skip_serializing_if = "LabelSelectors::is_empty")]
    pub selectors: LabelSelectors,
    /// Not objects that one of these selects, written likewise; of a map each label counts by
    /// itself.
    #[serde(default, skip_serializing_if = "LabelSelectors::is_empty")]
    pub exclude_selectors: LabelSelectors,
    /// Only these types: a kind (`Deployment`), a resource with its group (`deployments.apps`),
    /// or all of a group (`*.apps`). Empty is all.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 317)))]
    pub included_resource_types: Vec<String>,
    /// Not these types, written likewise.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 200), inner(length(min = 1, max = 317)))]
    pub excluded_resource_types: Vec<String>,
    /// Types that are left behind unless they are named here: `Pod` (bare Pods) and `Job`
    /// (completed Jobs).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 20), inner(length(min = 1, max = 317)))]
    pub include_optional_resource_types: Vec<String>,
    /// Which objects of cluster scope go along.
    #[serde(default)]
    pub include_cluster_resources: IncludeClusterResources,
    /// What is done with objects that the destination has already. Unset: those that a migration
    /// brought are updated, others make the run fail before it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub existing_resource_policy: Option<ExistingResourcePolicy>,
    /// Deletes on the destination what an earlier run of the same namespace through the same pair
    /// brought and what is gone from the source.
    #[serde(default)]
    pub purge_deleted_resources: bool,
    /// Storage classes of the source, and what stands for them on the destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub storage_class_mapping: BTreeMap<String, String>,
    /// Access modes of claims, and what stands for them on the destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 10), inner(length(max = 63)))]
    pub access_mode_mapping: BTreeMap<String, String>,
    /// Registries, repositories or whole images (without tag or digest), and what stands for
    /// them; the longest match counts, tags and digests are kept.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 200), inner(length(max = 1024)))]
    pub image_mapping: BTreeMap<String, String>,
    /// Ingress classes, and what stands for them on the destination.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    #[schemars(length(max = 100), inner(length(max = 253)))]
    pub ingress_class_mapping: BTreeMap<String, String>,
    /// Keeps all node ports of Services. Unset: those that a person chose are kept, those that
    /// the source allocated are not.
    #[serde(default)]
    pub preserve_node_ports: bool,
    /// Also rewrites `<service>.<namespace>.svc` host names of renamed namespaces in ConfigMaps,
    /// environment variables and arguments; each is listed.
    #[serde(default)]
    pub rewrite_host_names: bool,
    /// Own rewritings, in their order, after all others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 50))]
    pub transforms: Vec<Transform>,
    /// Looks what would be created, changed, skipped and refused, and what would be in the way, and
    /// changes nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// The `Rule`, in this namespace, that is carried out on the source before anything is changed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub pre_exec_rule: Option<String>,
    /// The `Rule`, in this namespace, that is carried out on the source when the volumes have been
    /// moved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 253))]
    pub post_exec_rule: Option<String>,
}

impl MigrationSpec {
    /// A spec with every option at its default, and no namespace yet.
    pub fn through(cluster_pair: &str) -> Self {
        Self {
            cluster_pair: cluster_pair.to_owned(),
            namespaces: Vec::new(),
            namespace_selector: None,
            action: MigrationAction::default(),
            plan: None,
            rollback_of: None,
            schedule: None,
            quiesce: false,
            on_failure: OnFailure::default(),
            reclaim: VolumeReclaim::default(),
            health: HealthOptions::default(),
            hooks: Vec::new(),
            operators: Vec::new(),
            volumes: Vec::new(),
            reverse: false,
            include_resources: true,
            include_volumes: true,
            start_applications: false,
            parallel_volumes: default_parallel_volumes(),
            parallel_files: None,
            bandwidth_limit: None,
            method: VolumeMethod::default(),
            verify: VerifyMethod::default(),
            metadata_policy: MetadataPolicy::default(),
            exclude_paths: Vec::new(),
            mover: MoverOptions::default(),
            retention: Retention::default(),
            step_timeout_seconds: default_step_timeout(),
            timeouts: PerStep::default(),
            retries: PerStep::default(),
            selectors: LabelSelectors::default(),
            exclude_selectors: LabelSelectors::default(),
            included_resource_types: Vec::new(),
            excluded_resource_types: Vec::new(),
            include_optional_resource_types: Vec::new(),
            include_cluster_resources: IncludeClusterResources::default(),
            existing_resource_policy: None,
            purge_deleted_resources: false,
            storage_class_mapping: BTreeMap::new(),
            access_mode_mapping: BTreeMap::new(),
            image_mapping: BTreeMap::new(),
            ingress_class_mapping: BTreeMap::new(),
            preserve_node_ports: false,
            rewrite_host_names: false,
            transforms: Vec::new(),
            dry_run: false,
            pre_exec_rule: None,
            post_exec_rule: None,
        }
    }
}

/// What kind of run a migration is.
#[derive(JsonSchema, Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum MigrationAction {
    /// A pass of the volumes while the application runs; as often as wanted.
    Stage,
    /// Volumes and objects, and the applications started where that is asked for.
    #[default]
    Final,
    /// Undoes the `Final` that `rollbackOf` names: the destination stops, what the run made there
    /// is removed, and the source is started as it was.
    Rollback,
    /// Hands the applications of a schedule over to its destination: by a cutover where the source is
    /// heard, else from what the schedule's last complete run has brought.
    Failover,
    /// Hands the applications of a schedule back to where they came from, by a cutover in the other
    /// direction.
    Failback,
}

impl MigrationAction {
    /// Whether the run brings everything and may start it on the destination.
    pub fn brings_all(self) -> bool {
        matches!(self, Self::Final | Self::Failover | Self::Failback)
    }

    /// Whether the run waits for no room beside others: somebody may be without the applications.
    pub fn is_urgent(self) -> bool {
        matches!(self, Self::Rollback | Self::Failover)
    }

    /// Whether the run is of a schedule and goes by its options.
    pub fn is_of_schedule(self) -> bool {
        matches!(self, Self::Failover | Self::Failback)
    }
}

fn yes() -> bool {
    true
}

fn default_parallel_volumes() -> u32 {
    2
}

fn default_step_timeout() -> u32 {
    1800
}
