//! A job as people and programs read it.

use std::collections::BTreeMap;

use serde::Serialize;
use weft_proto::v1::{Job, JobPhase};

use super::clock::known;

/// Characters of an id that tell two jobs apart which were not submitted in the same millisecond.
const SHORT_ID: usize = 16;

/// Where a job stands, in one word.
pub(super) fn state(job: &Job) -> &'static str {
    match job.phase() {
        // A coordinator of a later version may know others.
        JobPhase::Unspecified => "unknown",
        JobPhase::Queued => "queued",
        JobPhase::Preparing => "preparing",
        JobPhase::Forming => "forming",
        JobPhase::Running => "running",
        JobPhase::Draining => "draining",
        JobPhase::Succeeded => "succeeded",
        JobPhase::Failed => "failed",
        JobPhase::Cancelled => "cancelled",
    }
}

/// Whether nothing more will happen to a job.
pub(super) fn is_over(job: &Job) -> bool {
    match job.phase() {
        JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => true,
        JobPhase::Unspecified
        | JobPhase::Queued
        | JobPhase::Preparing
        | JobPhase::Forming
        | JobPhase::Running
        | JobPhase::Draining => false,
    }
}

/// The id, with the name where there is one.
pub(super) fn title(job: &Job) -> String {
    match job.name.as_str() {
        "" => job.id.clone(),
        name => format!("{} ({name})", job.id),
    }
}

/// `1 worker`, `2 workers`.
pub(super) fn count(number: u64, what: &str) -> String {
    let s = if number == 1 { "" } else { "s" };
    format!("{number} {what}{s}")
}

/// How much of each id tells it apart from the others.
pub(super) fn short_ids<'a>(ids: impl Iterator<Item = &'a str> + Clone) -> Vec<String> {
    let mut sorted: Vec<&str> = ids.clone().collect();
    sorted.sort_unstable();
    sorted.dedup();
    let shared = |a: &str, b: &str| a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count();
    let length = |id: &str| {
        let at = sorted.partition_point(|other| *other < id);
        let before = at.checked_sub(1).and_then(|at| sorted.get(at));
        let neighbours = before.into_iter().chain(sorted.get(at + 1));
        let longest = neighbours.map(|other| shared(id, other)).max();
        longest.map_or(0, |longest| longest + 1).max(SHORT_ID)
    };
    ids.map(|id| id.chars().take(length(id)).collect())
        .collect()
}

/// What programs are told of a job. The names are promised; `docs/commands.md` lists them.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(super) struct JobDocument {
    id: String,
    name: Option<String>,
    state: &'static str,
    detail: Option<String>,
    waits: Option<String>,
    committed_steps: u64,
    total_steps: u64,
    loss: Option<f64>,
    tokens_per_second: f64,
    members: u32,
    workers: u32,
    min_workers: u32,
    max_workers: u32,
    priority: i32,
    members_lost: u32,
    worker_memory_bytes: u64,
    worker_labels: BTreeMap<String, String>,
    output_dir: String,
    submitted_unix_ms: Option<i64>,
    started_unix_ms: Option<i64>,
    ended_unix_ms: Option<i64>,
}

impl From<&Job> for JobDocument {
    fn from(job: &Job) -> Self {
        let said = |text: &String| (!text.is_empty()).then(|| text.clone());
        Self {
            id: job.id.clone(),
            name: said(&job.name),
            state: state(job),
            detail: said(&job.detail),
            waits: said(&job.waits),
            committed_steps: job.committed_steps,
            total_steps: job.total_steps,
            loss: job.loss,
            tokens_per_second: job.tokens_per_second,
            members: job.members,
            workers: job.workers,
            min_workers: job.min_workers,
            max_workers: job.max_workers,
            priority: job.priority,
            members_lost: job.incidents,
            worker_memory_bytes: job.worker_memory_bytes,
            worker_labels: job.worker_labels.clone().into_iter().collect(),
            output_dir: job.output_dir.clone(),
            submitted_unix_ms: known(job.submitted_unix_ms),
            started_unix_ms: known(job.started_unix_ms),
            ended_unix_ms: known(job.ended_unix_ms),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_id_names_one_job() {
        let ids = [
            "job-019aa2b4c6d87000",
            "job-019aa2b4c6d87f00",
            "job-019bb2b4c6d87000",
            "tiny",
            "tiny",
        ];
        let short = short_ids(ids.into_iter());
        assert_eq!(
            short,
            [
                "job-019aa2b4c6d870",
                "job-019aa2b4c6d87f",
                "job-019bb2b4c6d8",
                "tiny",
                "tiny"
            ]
        );
    }
}
