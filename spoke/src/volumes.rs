//! Claims, and the movers that carry their data.
//!
//! ```text
//!   prepare     namespaces and claims on the destination
//!   kept        volumes that move themselves, on storage that both clusters reach
//!   passes      what earlier passes of a volume lie in staging
//!   recovery    before a volume goes back to a complete pass
//!   lineage     which volume of staging a claim's data is, whichever way it goes
//!   users       who uses a claim: Pods and workloads
//!   nodes       the nodes, as far as a place depends on them
//!   placement   pure: where a mover runs
//!   identity    pure: as whom it may run
//!   admission   as whom the namespace lets it in
//!   manifests   pure: the Job, its service account and network policy
//!   moving      one volume: the Job, watched until its result is there
//!   snapshot    what the source's mover reads: the volume, or a claim from a snapshot of it
//!   trouble     what is the matter with a Pod or a Job, for a person
//!   access      credentials for one volume, where the store has STS
//!   sessions    what movers that call in are granted
//!   cleanup     everything of ours out of the application's namespace
//! ```
//!
//! Promises: a mover's result is kept on its Job before the mover hears that it was taken, so a
//! spoke may die at any moment; nothing secret is in the application's namespace; every wait is
//! bounded and ends in a failure that says what the Pod was waiting for.

mod access;
mod admission;
mod cleanup;
mod fullness;
mod identity;
mod kept;
mod lineage;
mod manifests;
mod moving;
mod nodes;
mod passes;
mod placement;
mod prepare;
mod recovery;
mod sessions;
mod snapshot;
mod trouble;
mod users;

pub use admission::{Admitted, Answer, ENFORCE, Trial, choose_by_label, no_privileged_attributes};
pub use cleanup::clean_up;
pub use fullness::{Fullness, Measured, of_kubelets};
pub use identity::{Identity, candidates};
pub use kept::{
    Reach, arriving_claims, await_bound, hold, is_retained, is_same_storage, kept_names, reach, release,
    retain, settle, stands_for,
};
pub use lineage::{arriving, of_sent, received_last};
pub use manifests::{MIGRATION, RESULT, trial_pod};
pub use moving::move_volume;
pub use nodes::{Node, Nodes};
#[cfg(test)]
pub use passes::newest_passes;
pub use placement::{Obstacle, Placement, Situation};
pub use prepare::prepare_destination;
pub use sessions::{Sessions, Standing};
pub use snapshot::{Outlook, outlook};
pub use trouble::{job_trouble, pod_trouble};
pub use users::{ClaimUser, Users, pods_of_claims, volume_of};
