//! Coordinator and workers over real connections on loopback, with an engine whose arithmetic is trivial.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod cluster;
mod fake_engine;
mod faults;
mod raw;
mod steps;
mod takeover;
