//! The hub as a whole, in one process: an API server in memory, the router without its TLS, and
//! spokes that sign their requests.

mod election;
mod fake_api;
mod harness;
mod joining;
mod many;
mod plans;
mod running;
mod scheduling;
