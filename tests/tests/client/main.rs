//! The commands that talk to a coordinator's queue, against one that only plays a coordinator.

#![allow(clippy::unwrap_used, reason = "an unwrap that fails is a failed test")]

mod absent;
mod asking;
mod fixture;
mod following;
mod stub;
mod submitting;
mod telling;
