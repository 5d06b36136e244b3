//! What is in `deploy/`, and what `weft k8s render` prints: looked at with the tools that would take it, and run as far as
//! a machine without a cluster can.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod arguments;
mod cluster;
mod image;
mod manifests;
mod schema;
mod service;
mod slurm;
mod systemd;
mod tools;
