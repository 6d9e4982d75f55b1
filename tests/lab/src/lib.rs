//! The lab: Kubernetes clusters and S3 on one machine, with nothing installed, for tests and the demo.
//! Never for production: nothing is isolated and little is durable.
//!
//! ```text
//!  Lab ──▶ Cluster (hub, members) ──▶ API server: embedded, or a real etcd and kube-apiserver
//!   │              └──▶ controllers, scheduler, provisioner, kubelet: clients of either
//!   ├────▶ S3, with faults on demand
//!   └────▶ programs: hubs, spokes, movers and command lines, as processes of one executable
//! ```
//!
//! - [`apiserver`]: the lab's own API server.
//! - [`cluster`]: a cluster, of either flavour.
//! - [`kubelet`]: nodes; mover Pods as local processes, all other Pods simulated.
//! - [`s3`]: the S3 server.
//! - [`trees`]: folders full of files, made and compared.
//! - [`lab`]: all of it together.
//! - [`programs`]: the multi-call executable, and handles on what it runs.

pub mod apiserver;
pub mod bench;
pub mod bench_manifest;
pub mod bench_objects;
pub mod cluster;
mod command;
mod controllers;
mod demo;
pub mod kubelet;
pub mod lab;
pub mod ledger;
pub mod programs;
pub mod s3;
pub mod simulate;
pub mod trees;
mod up;

pub use lab::{Lab, LabOptions};

/// Makes aws-lc-rs the process's TLS provider, unless one is there already.
pub(crate) fn install_crypto_provider() {
    // The error says only that one was installed before.
    drop(rustls::crypto::aws_lc_rs::default_provider().install_default());
}
