//! The engine against independent implementations: golden values from the real libraries, candle's autograd over
//! plain ops, finite differences; and against itself, where a law says that two ways must agree.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod against_peft;
mod finite_differences;
mod golden_nf4;
mod golden_pass;
mod laws;
mod models;
mod ops_against_autograd;
mod oracle;
mod pass_against_autograd;
#[path = "../peft_case/mod.rs"]
mod peft_case;
mod support;
