//! What coordinator and worker must agree on.
//!
//! Data path, by folder: [`recipe`] → [`data`] (rows → chat template → tokens and loss mask) → [`plan`] (slots) →
//! [`checkpoint`] and [`ledger`] formats. This crate knows no tensors and serves nothing.

pub mod byte_size;
pub mod checkpoint;
pub mod data;
pub mod failpoint;
pub mod gguf;
pub mod gpu_health;
pub mod hub;
pub mod id;
pub mod ledger;
pub mod mapped;
pub mod plan;
pub mod recipe;
pub mod storage;
pub mod store;
pub mod sum_digest;
pub mod time;
pub mod wire;
