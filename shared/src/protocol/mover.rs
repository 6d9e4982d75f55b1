//! What a mover and its spoke say to each other.
//!
//! A mover proves who it is with a projected service account token of its Pod, and gets what it
//! needs for its one volume, in memory. Nothing of it lies in the application's namespace.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::{Progress, TaskId};
use crate::resources::Finding;
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
    /// The volume's key, base64 ([`crate::staging::seal::VolumeKey`]).
    pub key: String,
    /// How to reach the store.
    pub access: StoreAccess,
    /// When the access ends, where it is that of a session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_expires: Option<jiff::Timestamp>,
    /// What to do about metadata that the destination refuses.
    pub metadata_policy: MetadataPolicy,
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

/// What to do about ownership, modes or xattrs that the destination refuses to set.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, PartialEq, Eq)]
pub enum MetadataPolicy {
    /// The run fails and names the file.
    #[default]
    Strict,
    /// The run goes on and warns.
    BestEffort,
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
    /// Blocks checked on arrival.
    pub blocks_verified: u64,
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
