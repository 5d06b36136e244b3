//! The adapter: low-rank matrices beside frozen linears.
//!
//! `y = W·x + s·B·(A·x)`, with A `r × in`, B `out × r` and s = α/r (or α/√r). All matrices lie in one flat f32 array,
//! in the order of their sorted PEFT names, so that every worker, the accumulator, the optimizer and the file agree
//! on where each number is. Source: LoRA (2106.09685).

mod adapter;
mod init;
mod layout;
mod target;

pub use adapter::Adapter;
pub use layout::{AdapterLayout, AdapterTensor, LoraPair};
pub use target::{LoraError, targeted};
