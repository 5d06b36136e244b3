//! A merged model, or an adapter, for llama.cpp: GGUF version 3.
//!
//! ```text
//! spec ─ architecture ┐
//! tokenizer ─ vocabulary ┼─ container (front part) ─┐
//! quantization ─ mix ────┘                         ├─ model: rows → q/k order → blocks → file
//! merged rows ─────────────────────────────────────┘
//! ```
//!
//! Which tensor gets which type, and what a model's metadata are, follows llama.cpp's `llama-quant.cpp` and
//! `conversion/llama.py`.

mod architecture;
mod container;
mod lora;
mod mix;
mod model;
mod pre_tokenizer;
mod quantize;
mod rotary;
mod scores;
mod vocabulary;

pub(super) use lora::LoraFile;
pub use mix::Quantization;
pub(super) use model::ModelFiles;
pub use quantize::TensorType;
pub(super) use vocabulary::vocabulary;
