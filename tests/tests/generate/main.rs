//! `weft generate` and `weft serve`, driven from outside.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod http;
mod serve;
mod text;
mod whole_path;
