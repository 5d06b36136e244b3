//! What leaves weft: adapters, merged models, GGUF files.
//!
//! ```text
//! adapter ─┐                                 ┌─ folder: safetensors in shards, 16-bit or NF4
//! base ────┴─ merge: W + s·B·A, piece by piece ┼─ gguf: one file a quantization, Modelfile
//!                                            └─ (gguf-lora and adapter leave the base where it is)
//! ```
//!
//! Nothing holds a whole tensor in f32: pieces of rows are read, merged, converted and written where they belong, by
//! all cores. An export is a folder that appears complete or not at all ([`Place`]); what it takes is known, and looked
//! for on the disk, before its first byte is written.

mod adapter;
mod card;
mod config;
mod error;
mod folder;
mod gguf;
mod merge;
mod modelfile;
mod place;
mod record;
mod request;
mod run;
mod weights;

#[cfg(test)]
mod tests;

pub use adapter::PeftAdapter;
pub use error::ExportError;
pub use gguf::{Quantization, TensorType};
pub use merge::{Delta, add_delta};
pub use place::Place;
pub use record::{TRAINING_FILE, TrainingRecord};
pub use request::{Control, Format, HalfType, MergeBase, Progress, Request};
pub use run::{ExportedFile, Summary, run};
