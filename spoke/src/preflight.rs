//! Preflight: both sides are looked at, nothing is changed, and everything that is in the way is
//! named at once.
//!
//! ```text
//!   survey       what the destination serves, for the source to choose versions by
//!   source       the namespaces, their claims and objects ──▶ inventory, candidates
//!    ├─ hooks        commands where none are carried out, pure; likewise on the destination
//!    ├─ health       its Pods that are not well, pure
//!    └─ fullness     its volumes that are nearly full, pure
//!   destination  every candidate tried on the destination ──▶ preview, findings
//!    ├─ places       the namespaces as they are, or will be
//!    ├─ trial        one object: rewritten, met, dry-run; refusal judges the answers
//!    ├─ pods         one workload's Pods, dry-run
//!    ├─ kept         whether volumes that move themselves can be reached here
//!    ├─ claims       whether data can be written into the claims that are there
//!    ├─ checks       what no single object tells, each part pure:
//!    │   quota, limits, pod_level, classes, storage, images, nodes, ports, hosts
//!    └─ preview      a line for each object
//!   movers       whether movers can work on a side
//! ```
//!
//! Promises: nothing is written to a cluster; what surely makes the run fail is a failure and what
//! may is a warning; memory holds some objects at a time, and small facts of the rest.

mod checks;
mod claims;
mod classes;
mod concern;
mod destination;
mod fullness;
mod health;
mod hooks;
mod hosts;
mod images;
mod kept;
mod limits;
mod movers;
mod nodes;
mod places;
mod pod_level;
mod pod_shape;
mod pods;
mod ports;
mod preview;
mod quota;
mod refusal;
mod source;
mod storage;
mod survey;
mod trial;

pub use destination::inspect_destination;
pub use source::inspect_source;
pub use survey::survey_destination;
