//! What a spoke is asked to do.

use std::fmt;
use std::str::FromStr;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize};

use super::{PruneTask, RunPrune};
use crate::resources::{HookPhase, MigrationSpec, NamespaceMove, Side, Step, TargetState, UndoneRun};
use crate::staging::access::StoreAccess;

/// `<record uid>/<step>[/<item>]`. A spoke's work is idempotent by it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
pub struct TaskId {
    /// The uid of the record that the task is derived from.
    pub record: String,
    /// The step of a migration, `Activate` for a cluster's, or `Prune` for a pair's.
    pub step: String,
    /// What of the step: `source`, `destination`, `survey`, `send.<volume uid>`, `receive.<volume uid>`, ….
    pub item: Option<String>,
}

impl fmt::Display for TaskId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.record, self.step)?;
        self.item.as_ref().map_or(Ok(()), |item| write!(f, "/{item}"))
    }
}

/// A text that is not a task id.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a task id: it must be <record uid>/<step>[/<item>]")]
pub struct BadTaskId(String);

impl FromStr for TaskId {
    type Err = BadTaskId;

    fn from_str(text: &str) -> Result<Self, BadTaskId> {
        let mut parts = text.splitn(3, '/');
        let mut part = || parts.next().filter(|p| !p.is_empty()).map(str::to_owned);
        match (part(), part()) {
            (Some(record), Some(step)) => Ok(Self { record, step, item: part() }),
            _ => Err(BadTaskId(text.to_owned())),
        }
    }
}

impl TryFrom<String> for TaskId {
    type Error = BadTaskId;

    fn try_from(text: String) -> Result<Self, BadTaskId> {
        text.parse()
    }
}

impl From<TaskId> for String {
    fn from(id: TaskId) -> Self {
        id.to_string()
    }
}

/// Something to do.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Task {
    /// Which.
    pub id: TaskId,
    /// What.
    pub work: Work,
}

/// What to do. Each is written so that doing it twice is doing it once.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(tag = "kind", rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Work {
    /// Write to staging what the destination serves and has, for the source to choose by. Changes
    /// nothing.
    SurveyDestination {
        /// The run.
        run: Run,
    },
    /// Look at the source: write the inventory (namespaces, claims, API kinds with counts, the
    /// custom resource definitions needed) to staging and report the volumes. Changes nothing
    /// in the cluster.
    InspectSource {
        /// The run.
        run: Run,
    },
    /// Look whether the destination can take what the inventory lists. Changes nothing.
    InspectDestination {
        /// The run.
        run: Run,
    },
    /// Make the namespaces and, where data is moved, the claims.
    PrepareDestination {
        /// The run.
        run: Run,
    },
    /// Read the objects into staging.
    ExportResources {
        /// The run.
        run: Run,
    },
    /// Send one volume: a mover Job on the source.
    SendVolume {
        /// The run.
        run: Run,
        /// The volume.
        volume: VolumeTask,
    },
    /// Receive one volume: a mover Job on the destination.
    ReceiveVolume {
        /// The run.
        run: Run,
        /// The volume.
        volume: VolumeTask,
    },
    /// Apply the exported objects, stopped.
    ApplyResources {
        /// The run.
        run: Run,
    },
    /// Compare what is there with what was exported.
    Verify {
        /// The run.
        run: Run,
    },
    /// Start the applications of the namespaces at the counts that were kept.
    StartApplications {
        /// The run.
        run: Run,
    },
    /// Wait until the started workloads are ready, as `spec.health` says. Those that are not in
    /// time fail a cutover and are warnings of a promotion.
    HealthCheck {
        /// The run.
        run: Run,
    },
    /// Carry out the hooks of a phase that are for this side, in their order.
    RunHooks {
        /// The run.
        run: Run,
        /// The phase.
        phase: HookPhase,
        /// The side.
        side: Side,
    },
    /// Stop the source's applications, each remembered with the run's mark, and wait until their
    /// Pods are gone and their volumes detached. Done only when all stand still.
    Quiesce {
        /// The run.
        run: Run,
    },
    /// Stop the applications in the destination's namespaces of the run, and wait until their Pods
    /// are gone. Namespaces that are not there are stopped.
    StopDestination {
        /// The run.
        run: Run,
    },
    /// Start on the source what the run stopped, exactly as it was, and nothing else.
    RestoreSource {
        /// The run.
        run: Run,
    },
    /// Remove from the destination what the run made there; claims as `spec.reclaim` says.
    RemoveFromDestination {
        /// The run.
        run: Run,
    },
    /// Remove mover Jobs, their service accounts, policies and everything else that the run made
    /// for its own use in this cluster.
    Cleanup {
        /// The run.
        run: Run,
        /// What of the run's volumes is then collected in staging, on the side that sent them.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        prune: Option<RunPrune>,
        /// Whether a cutover has succeeded: what it kept back for going back is then let go.
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        settled: bool,
    },
    /// Collect what staging keeps of a pair's volumes and nobody needs.
    PruneStaging {
        /// What.
        prune: PruneTask,
    },
    /// Start or stop a namespace's applications.
    Activate {
        /// The namespace.
        namespace: String,
        /// What they are to be.
        state: TargetState,
        /// They are started although they may run on the other side: that is known to stand still,
        /// or a person wants it so.
        #[serde(default)]
        cleared: bool,
        /// Of one that stops them: to which side, `<cluster>/<namespace>`, they have been handed over.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        handed_over_to: Option<String>,
    },
}

/// What every task of a migration needs to know.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Run {
    /// The migration's uid: the mark on what it brings.
    pub migration: String,
    /// The migration, `<namespace>/<name>`, for messages and logs.
    pub name: String,
    /// The cluster that it takes from.
    pub source: String,
    /// The cluster that it brings to.
    #[serde(default)]
    pub destination: String,
    /// When it began.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<Time>,
    /// The migration that this one undoes; unset where it undoes itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub undoes: Option<UndoneRun>,
    /// The uid of the migration whose objects this one brings back, as its own source is not heard:
    /// what that has read of the source is in its part of staging.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recovers: Option<String>,
    /// What is asked for.
    pub spec: Box<MigrationSpec>,
    /// The namespaces that its globs and selectors came to; empty until the source was looked at.
    #[serde(default)]
    pub namespaces: Vec<NamespaceMove>,
    /// Where it is staged.
    pub staging: Staging,
}

impl Run {
    /// The uid whose marks are on what is to be undone.
    pub fn undone(&self) -> &str {
        self.undoes.as_ref().map_or(&self.migration, |undone| &undone.uid)
    }

    /// When the run began whose marks are on what is to be undone.
    pub fn undone_since(&self) -> Option<&Time> {
        self.undoes.as_ref().map_or(self.started_at.as_ref(), |undone| undone.started_at.as_ref())
    }

    /// What a namespace of the source is called on the destination.
    pub fn destination_of<'a>(&'a self, namespace: &'a str) -> &'a str {
        self.namespaces.iter().find(|moved| moved.from == namespace).map_or(namespace, |moved| &moved.to)
    }

    /// What a claim of the source is called on the destination.
    pub fn claim_on_destination<'a>(&'a self, namespace: &str, claim: &'a str) -> &'a str {
        self.spec.arriving_claim(namespace, claim)
    }

    /// The namespaces by their names on the source.
    pub fn sources(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(|moved| moved.from.as_str())
    }

    /// The namespaces by their names on the destination.
    pub fn destinations(&self) -> impl Iterator<Item = &str> {
        self.namespaces.iter().map(|moved| moved.to.as_str())
    }
}

/// The pair's place in the bucket and the key to it.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Staging {
    /// How to reach the store.
    pub access: StoreAccess,
    /// The pair's uid.
    pub pair: String,
    /// The pair's key, base64 ([`crate::staging::seal::PairKey`]).
    pub key: String,
}

impl fmt::Debug for Staging {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Staging")
            .field("access", &self.access)
            .field("pair", &self.pair)
            .finish_non_exhaustive()
    }
}

/// One volume of a run.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub struct VolumeTask {
    /// The claim's namespace, as on the source.
    pub namespace: String,
    /// The claim.
    pub claim: String,
    /// The uid of the volume in staging: that of the source's claim, or on the way back that of the
    /// destination's.
    pub uid: String,
    /// The pass to make.
    pub pass: u32,
    /// The complete pass that it builds on.
    #[serde(default)]
    pub previous_pass: Option<u32>,
    /// Nothing writes to the volume any more: it is read as it is, and a file that changes all the
    /// same is an error.
    #[serde(default)]
    pub quiesced: bool,
    /// The pass is complete in staging and has no sender: the volume is brought back to it, whatever a
    /// later pass has made of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recover: bool,
    /// This volume's share of the run's bandwidth, bytes a second.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<u64>,
}

impl Work {
    /// The run that the work belongs to, if it is a migration's.
    pub fn run(&self) -> Option<&Run> {
        match self {
            Self::SurveyDestination { run }
            | Self::InspectSource { run }
            | Self::InspectDestination { run }
            | Self::PrepareDestination { run }
            | Self::ExportResources { run }
            | Self::SendVolume { run, .. }
            | Self::ReceiveVolume { run, .. }
            | Self::ApplyResources { run }
            | Self::Verify { run }
            | Self::StartApplications { run }
            | Self::HealthCheck { run }
            | Self::RunHooks { run, .. }
            | Self::Quiesce { run }
            | Self::StopDestination { run }
            | Self::RestoreSource { run }
            | Self::RemoveFromDestination { run }
            | Self::Cleanup { run, .. } => Some(run),
            Self::Activate { .. } | Self::PruneStaging { .. } => None,
        }
    }
}

impl TaskId {
    /// The task of a step of a migration.
    pub fn of_step(migration: &str, step: Step, item: Option<String>) -> Self {
        Self { record: migration.to_owned(), step: format!("{step:?}"), item }
    }
}
