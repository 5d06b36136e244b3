//! `weft coordinator` without a recipe: a queue, from outside.
#![allow(clippy::unwrap_used, reason = "a test that cannot be set up fails")]

mod daemon;
mod full_disk;
mod jobs;
mod listing;
mod read_only;
mod restart;
