//! Shards the dataset, schedules workers, commits steps.

pub mod engine;
