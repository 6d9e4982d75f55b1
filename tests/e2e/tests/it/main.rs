//! End-to-end tests: hub, spokes, movers and command line as processes, on a lab of their own
//! each.
//!
//! ```text
//!   world     a lab with a hub, two joined spokes, a store and a pair; some tests share one
//!   runs      a run from its spec to what became of every object
//!   reading   what is in the clusters
//!   app       the application that most tests move, and what must have become of it
//! ```
//!
//! Every test runs on the embedded lab, or on a real etcd and kube-apiserver where the lab finds
//! them; `ISTHMUS_LAB` forces one.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::large_futures,
    reason = "a test tells its failures so, and runs once"
)]

mod activation;
mod admission;
mod app;
mod bad_input;
mod claim_checks;
mod cutover;
mod damage;
mod demo;
mod diff;
mod documented;
mod existing;
mod failback;
mod failover;
mod failover_lost;
mod hooks;
mod identity;
mod left_behind;
mod limited_access;
mod limits;
mod main_job;
mod many;
mod movers;
mod obstacles;
mod old_definitions;
mod openshift;
mod operator;
mod overloaded;
mod plan_checks;
mod plans;
mod probes;
mod purge;
mod reading;
mod renamed;
mod restarts;
mod runs;
mod schedules;
mod scoped_access;
mod selection;
mod shared_binding;
mod snapshots;
mod staging;
mod stateful;
mod step_limits;
mod transforms;
mod turns;
mod versions;
mod volume_choices;
mod volume_options;
mod world;
mod writers;
