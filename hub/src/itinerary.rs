//! The step machine of a migration: pure, no I/O, no clock of its own.
//!
//! ```text
//!   spec ──plan──▶ pipeline                       spoke's report
//!                     │                                │
//!   PairView, now ─ advance ──▶ MigrationStatus ◀── record
//!                                   │
//!                                 tasks ──▶ what each spoke should be doing now
//! ```
//!
//! - [`plan`] lists the steps that a spec asks for; [`roster`] says who does what in each.
//! - [`advance`] moves a run on as far as status, surroundings and time allow.
//! - [`tasks`] derives from a status what every spoke should be doing. Nothing is stored but the
//!   status, so a hub that starts anew derives the same tasks.
//! - [`claims`] tells which namespaces a run may touch, so that no two touch the same.
//! - [`record`] puts a spoke's report into the status, once: a report of a task that is not
//!   under way changes nothing.
//! - [`voice`] makes one line of what the two movers of a volume say.
//! - [`notes`] tells two statuses apart in words: the events on the record.
//!
//! - [`recovery`] is about failovers whose source is not heard, or falls silent on the way.
//! - [`rules`] makes hooks of the rules that a run names; [`lone_hooks`] tells which of them a failover
//!   without its source carries out.
//! - [`undo`] tells how a run that ends early goes back, and which side is the active one.
//!
//! Promises: all functions are total and deterministic; a status never grows past its bounds;
//! a step that failed is never begun again; after a failure only going back and `Cleanup` are
//! done; a run is terminal only when its clean-up has ended or was given up. In a cutover the last
//! pass of the volumes never begins before the source has stopped, and neither side is started
//! while the other may run.
//!
//! - [`patience`] bounds what a step takes, and begins one that failed again, where that is asked for.
//!
//! A new step is a row in [`plan`] and in [`roster`]: nothing else knows the order.

mod admission;
mod advance;
mod claims;
mod findings;
mod lone_hooks;
mod namespaces;
mod notes;
mod origin;
mod patience;
mod plan;
mod record;
mod recovery;
mod rules;
mod steps;
mod summary;
mod tasks;
mod undo;
mod view;
mod voice;
mod volumes;

#[cfg(test)]
mod tests;

pub use admission::{PENDING_LIMIT_SECONDS, SETTLE_SECONDS, waits_for_room};
pub use advance::advance;
pub use claims::{Claim, Reach, claims, meeting};
pub use findings::{MAX_MESSAGE, MAX_OBJECT, MAX_REASON};
pub use notes::{Note, notes};
pub use patience::{LONGEST_RETRY_PAUSE_SECONDS, RETRY_PAUSE_SECONDS};
pub use plan::{Duty, plan, roster};
pub use record::{Verdict, record};
pub use recovery::{Handover, TURN_AFTER_SECONDS, handover, is_unsettled, request, runs_to_end};
pub use steps::{CLEANUP_TIMEOUT_SECONDS, GONE_AFTER_SECONDS};
pub use summary::{elapsed, human_bytes, stamp};
pub use tasks::{Assignment, Job, side_of, tasks};
pub use undo::{UNDO_PATIENCE_SECONDS, left_nothing_running, supersedes};
pub use view::{Busy, Origin, Pair, PairView, Rules, Scheduled, Site, Told, Undone};
