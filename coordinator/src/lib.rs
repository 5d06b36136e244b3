//! Shards the dataset, schedules workers, commits steps.
