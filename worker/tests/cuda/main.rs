//! The CUDA kernels against the CPU backend, on random inputs, into poisoned outputs: in bfloat16, and once more in IEEE
//! half precision (`fp16`).
//!
//! Needs a GPU; says loudly when there is none. `WEFT_REQUIRE_GPU=1` makes that a failure.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

mod across_gpus;
mod adamw;
mod against_peft;
mod attention;
mod elementwise;
mod exact;
mod fp16;
mod gemm;
mod gemv;
mod load;
mod nf4;
mod norm;
mod pass;
#[path = "../peft_case/mod.rs"]
mod peft_case;
mod quantize;
mod state;
mod support;
#[path = "../written_model/mod.rs"]
mod written_model;
