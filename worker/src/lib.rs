//! The training engine and the worker's side of the protocol.
//!
//! Data path, by folder: [`quant`] and [`model`] (frozen base) + [`lora`] → [`ops`] (compute backends) → [`train`]
//! (forward/backward, exact accumulation, optimizer) → [`collective`] (all-reduce) → [`checkpoint`]. [`agent`] speaks
//! with the coordinator; [`cuda`] finds the GPU and compiles its kernels.

pub mod agent;
pub mod bench;
pub mod checkpoint;
pub mod collective;
pub mod cuda;
pub mod device;
pub mod eval;
pub mod export;
pub mod generate;
pub mod health;
pub mod lora;
pub mod model;
pub mod ops;
pub mod quant;
pub mod train;

mod counter;
