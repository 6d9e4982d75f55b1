//! The lab's own tests. Those of clusters and of API servers run on both flavours: on the lab's own API
//! server, and on a real control plane where one is found (see `Flavour::real`). `ISTHMUS_LAB=embedded`
//! or `real` runs one of them only.
//!
//! The flavours differ in this, and in nothing else that these tests look at:
//! - a StatefulSet has ControllerRevisions only with kube-controller-manager;
//! - Endpoints are owned by their Service only with the lab's own controllers;
//! - a failed Job's pods are replaced after 250 ms, not 10 s, with the lab's own controllers.

// The allowance for tests reaches test functions only, not what they share.
#![allow(clippy::unwrap_used, clippy::expect_used)]

mod api;
#[macro_use]
mod cluster;
mod exec;
mod programs;
mod s3;
mod simulate;
mod storage;
mod sts;
mod survival;
mod versions;

/// The lab's executable, for its supervisors and movers.
fn use_lab_executable() {
    isthmus_lab::programs::set_executable(env!("CARGO_BIN_EXE_isthmus-lab"));
}

/// Whether a flavour is to be tested.
fn is_wanted(real: bool) -> bool {
    match std::env::var("ISTHMUS_LAB").as_deref() {
        Ok("embedded") => !real,
        Ok("real") => real,
        _ => true,
    }
}
