//! What a mover and its spoke say to each other.
//!
//! A mover proves who it is with a projected service account token of its Pod, and gets what it
//! needs for its one volume, in memory. Nothing of it lies in the application's namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Progress, TaskId};
use crate::resources::{Finding, MetadataPolicy, Verified, VerifyMethod};
use crate::staging::access::StoreAccess;

/// `POST` with [`MoverSessionRequest`], answered by [`MoverGrant`].
pub const MOVER_SESSION_PATH: &str = "/v1/mover/session";
/// `POST` with [`MoverProgress`], answered by [`MoverReply`].
pub const MOVER_PROGRESS_PATH: &str = "/v1/mover/progress";
/// `POST` with [`MoverResult`], answered by [`MoverReply`].
pub const MOVER_RESULT_PATH: &str = "/v1/mover/result";
/// The audience of a mover's projected token.
pub const MOVER_AUDIENCE: &str = "isthmus-spoke";

/// A mover's first message; its token is the bearer.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverSessionRequest {
    /// The task that it was started for.
    pub task: TaskId,
}

/// Which way a mover works.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum Direction {
    /// From the volume to staging.
    Send,
    /// From staging to the volume.
    Receive,
}

/// What a mover needs for its one volume.
#[derive(Clone, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverGrant {
    /// Which way.
    pub direction: Direction,
    /// The pair's uid.
    pub pair: String,
    /// The volume's uid.
    pub volume: String,
    /// The pass to make.
    pub pass: u32,
    /// The complete pass that it builds on.
    #[serde(default)]
    pub previous_pass: Option<u32>,
    /// The pass is complete in staging and has no sender.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub recover: bool,
    /// The uid of the claim that the mover mounts, or that the snapshot which it mounts is of: passes
    /// over one volume may go either way between two claims.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claim: Option<String>,
    /// The volume's key, base64 ([`crate::staging::seal::VolumeKey`]).
    pub key: String,
    /// How to reach the store.
    pub access: StoreAccess,
    /// When the access ends, where it is that of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_expires: Option<jiff::Timestamp>,
    /// What to do about metadata that the destination refuses.
    pub metadata_policy: MetadataPolicy,
    /// How it is made sure that what arrived is what was sent.
    #[serde(default)]
    pub verify: VerifyMethod,
    /// What the volume holds.
    #[serde(default)]
    pub content: VolumeContent,
    /// Nothing writes to the volume while it is read (a snapshot, or a stopped application): a
    /// file that changes all the same is a failure.
    #[serde(default)]
    pub still: bool,
    /// The mover was given what it takes to see and set `trusted.*` attributes, and must find that
    /// it can ([`crate::resources::MoverOptions::privileged_attributes`]).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub privileged_attributes: bool,
    /// Paths that are neither read nor touched ([`crate::resources::MigrationSpec::exclude_paths`]).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub exclude_paths: Vec<String>,
    /// The most bytes a second to or from the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bandwidth_limit: Option<u64>,
    /// Files at a time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parallel_files: Option<u32>,
    /// Seconds without anything new from the other side after which a receiver gives up.
    pub peer_timeout_seconds: u64,
}

impl fmt::Debug for MoverGrant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MoverGrant")
            .field("direction", &self.direction)
            .field("volume", &self.volume)
            .field("pass", &self.pass)
            .finish_non_exhaustive()
    }
}

/// What a volume holds.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
#[serde(rename_all = "camelCase")]
pub enum VolumeContent {
    /// A filesystem: the root is a directory.
    #[default]
    Filesystem,
    /// Raw blocks: the root is a block device, or a file that stands for one.
    Block,
}

/// How far a mover is, about once a second.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverProgress {
    /// The task.
    pub task: TaskId,
    /// How far.
    pub progress: Progress,
}

/// How a mover ended.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct MoverResult {
    /// The task.
    pub task: TaskId,
    /// Whether all of the volume was sent or received.
    pub succeeded: bool,
    /// The final figures.
    pub progress: Progress,
    /// What was made sure of; of a receiver.
    #[serde(default)]
    pub verified: Verified,
    /// Why it failed, at most [`crate::resources::MAX_FINDINGS`].
    pub failures: Vec<Finding>,
    /// How many failures there are.
    pub failures_total: u64,
    /// What a person should know: sockets skipped, files that changed while they were read, ….
    pub warnings: Vec<Finding>,
    /// How many warnings there are.
    pub warnings_total: u64,
}

/// A spoke's answer to a mover.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct MoverReply {
    /// The task is no longer wanted: stop.
    pub cancel: bool,
}
