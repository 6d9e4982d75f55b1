//! Applications stopped and started, and whether they are well.
//!
//! ```text
//!   state       pure: what stopped and started look like, as patches
//!   rules       how custom resources are stopped, by their operators
//!   charge      pure: who stops what, and which Pods go by themselves
//!   inventory   what runs in a namespace, read
//!     |
//!   switch      workloads brought into a state, one conflict-checked patch each
//!   fence       the marks that tell which side is the active one
//!     |
//!   activation  applications started and stopped for good
//!    └─ leftover    what is gone from where a cutover comes from, and is not started
//!   quiesce     the source brought to a stand, remembered; the destination, without
//!    ├─ operators   stopped first
//!    ├─ standstill  everything stopped, until the Pods have gone
//!    ├─ undoing     pure: what would start it again
//!    ├─ detached    no node holds the volumes any more
//!    └─ patience    how long each of these waits, and which field says so
//!   restore     the source started again, as it was
//!   health      whether what was started is ready, and stays so; and if not, what its Pods say
//! ```
//!
//! Promises: `activate` after `deactivate`, and going back after a quiesce, restore every workload
//! exactly, however often either is interrupted and done again; going back starts what the run stopped
//! and nothing else; what an owner controls is left to its owner; every wait is bounded and says for
//! what it waits.

mod activation;
mod charge;
mod detached;
mod fence;
mod health;
mod inventory;
mod leftover;
mod operators;
mod patience;
mod quiesce;
mod restore;
mod rules;
mod standstill;
pub mod state;
mod switch;
mod undoing;

pub use activation::{activate, start_applications};
pub use fence::is_handed_over;
pub use health::check_health;
pub use leftover::retire;
pub use quiesce::{quiesce, release_operators, stop_destination};
pub use restore::restore_source;

use crate::cluster::{Catalogue, discover};
use crate::findings::Findings;
use crate::task::{TaskContext, TaskError};
use inventory::Reader;
use rules::Registry;

/// What is needed to find out how things are stopped in this cluster.
struct Tools {
    catalogue: Catalogue,
    registry: Registry,
}

impl Tools {
    async fn read(context: &TaskContext) -> Result<(Self, Findings), TaskError> {
        let catalogue = discover(context.cluster())
            .await
            .map_err(|e| TaskError::cluster("the workloads", "asking what the cluster serves", &e))?;
        let (registry, bad) = rules::read(context.cluster(), &context.spoke.namespace)
            .await
            .map_err(|e| TaskError::cluster("the suspend rules", "reading their ConfigMaps", &e))?;
        Ok((Self { catalogue, registry }, bad))
    }

    /// Refuses suspend rules that are no good: what they are for would not be stopped.
    async fn strict(context: &TaskContext) -> Result<Self, TaskError> {
        let (tools, bad) = Self::read(context).await?;
        if bad.is_empty() { Ok(tools) } else { Err(TaskError::Failed(bad)) }
    }

    /// Only warns of them: nothing is to keep a side from being started, or the destination from being
    /// stopped as far as it can be.
    async fn lenient(context: &TaskContext) -> Result<Self, TaskError> {
        let (tools, bad) = Self::read(context).await?;
        for warning in bad.list {
            context.warn(warning);
        }
        Ok(tools)
    }

    fn reader<'a>(&'a self, context: &'a TaskContext) -> Reader<'a> {
        Reader { cluster: context.cluster(), catalogue: &self.catalogue, registry: &self.registry }
    }
}

#[cfg(test)]
mod tests;
