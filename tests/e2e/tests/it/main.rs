//! End-to-end tests: hub, spokes, movers and command line as processes, on a lab of their own
//! each.
//!
//! ```text
//!   world   a lab with a hub, two joined spokes, a store and a pair
//!   app     the applications that are moved, and what must have become of them
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
mod app;
mod bad_input;
mod damage;
mod identity;
mod main_job;
mod probes;
mod restarts;
mod scoped_access;
mod world;
