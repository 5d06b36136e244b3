//! What stands between a job that waits and its start: jobs before it, workers that are missing or do not suit it.

use std::collections::BTreeMap;
use std::fmt;

use serde::Serialize;
use weft_proto::v1::{Job, JobPhase, WorkerInfo};

use super::super::job::{count, state};
use super::super::workers::{labels, memory};

/// Jobs before it that are named.
const NAMED: usize = 3;

/// A waiting job among the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Queue {
    /// Those that come first, in their order.
    jobs_before: Vec<Before>,
    /// Workers that can be talked to.
    workers: usize,
    /// Those of them that have what the job asks for.
    workers_suitable: usize,
    /// Those of the suitable ones that work for no job.
    workers_free: usize,
    /// Those that are given no job any more, each with its reason.
    workers_kept_out: Vec<String>,
    #[serde(skip)]
    needs: Needs,
}

/// A job that comes first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Before {
    id: String,
    name: String,
    state: &'static str,
}

/// What a job asks of its workers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Needs {
    workers: u32,
    memory_bytes: u64,
    labels: BTreeMap<String, String>,
}

impl Needs {
    /// Of a job.
    pub(super) fn of(job: &Job) -> Self {
        Self {
            workers: job.min_workers.max(1),
            memory_bytes: job.worker_memory_bytes,
            labels: job.worker_labels.clone().into_iter().collect(),
        }
    }

    fn suit(&self, worker: &WorkerInfo) -> bool {
        let mut labels = self.labels.iter();
        // One that does not tell its memory suits every job.
        let memory = worker.memory_bytes == 0 || worker.memory_bytes >= self.memory_bytes;
        memory
            && worker.kept_out.is_empty()
            && labels.all(|(key, value)| worker.labels.get(key) == Some(value))
    }

    /// `gpu=h200 and 40.0 GiB of memory`; empty where any worker will do.
    pub(super) fn words(&self) -> String {
        let memory = match self.memory_bytes {
            0 => None,
            bytes => Some(format!("{} of memory", memory(bytes))),
        };
        let labels = Some(labels(&self.labels)).filter(|labels| !labels.is_empty());
        let all: Vec<String> = labels.into_iter().chain(memory).collect();
        all.join(" and ")
    }
}

impl Queue {
    /// Of `job` among all that are not over, oldest first, and the workers.
    pub(super) fn of(job: &Job, jobs: &[Job], workers: &[WorkerInfo]) -> Self {
        let needs = Needs::of(job);
        let place = |other: &Job| {
            let at = jobs.iter().position(|listed| listed.id == other.id);
            (std::cmp::Reverse(other.priority), at.unwrap_or(usize::MAX))
        };
        let first = |other: &&Job| other.id != job.id && place(other) < place(job);
        let mut before: Vec<&Job> = match job.phase() {
            JobPhase::Queued => jobs.iter().filter(first).collect(),
            // Its turn has come; only workers are missing.
            JobPhase::Unspecified
            | JobPhase::Preparing
            | JobPhase::Forming
            | JobPhase::Running
            | JobPhase::Draining
            | JobPhase::Succeeded
            | JobPhase::Failed
            | JobPhase::Cancelled => Vec::new(),
        };
        before.sort_by_key(|other| place(other));
        let suitable = || workers.iter().filter(|worker| needs.suit(worker));
        Self {
            jobs_before: before.into_iter().map(Before::of).collect(),
            workers: workers.len(),
            workers_suitable: suitable().count(),
            workers_free: suitable().filter(|worker| worker.job.is_empty()).count(),
            workers_kept_out: workers
                .iter()
                .filter(|worker| !worker.kept_out.is_empty())
                .map(|worker| format!("{} ({})", worker.host, worker.kept_out))
                .collect(),
            needs,
        }
    }

    /// A sentence for each reason to wait. `url` is where workers should go.
    pub(super) fn words(&self, url: &str) -> Vec<String> {
        let mut words = Vec::new();
        let named: Vec<String> = self
            .jobs_before
            .iter()
            .take(NAMED)
            .map(ToString::to_string)
            .collect();
        let named = named.join(", ");
        match self.jobs_before.len() {
            0 => {}
            1 => words.push(format!("1 job comes first: {named}")),
            many if many <= NAMED => words.push(format!("{many} jobs come first: {named}")),
            many => words.push(format!(
                "{many} jobs come first: {named} and {} more",
                many - NAMED
            )),
        }
        words.push(self.about_workers(url));
        words.extend(self.about_those_kept_out());
        words
    }

    fn about_workers(&self, url: &str) -> String {
        let (there, suitable, free) = (self.workers, self.workers_suitable, self.workers_free);
        let start = format!("start more with `weft worker --coordinator {url}`");
        let too_few = suitable < self.needs.workers as usize;
        let asks = self.needs.words();
        let mut words = match (there, asks.as_str()) {
            (0, _) => "no worker is there".to_owned(),
            (_, "") => format!("{} there, {free} of them free", are(there)),
            (_, asks) => format!(
                "it asks for {asks}; {} there, {suitable} of them with that, {free} of those free",
                are(there)
            ),
        };
        if too_few {
            let needed = count(self.needs.workers.into(), "worker");
            words.push_str(&format!("; it needs {needed}: {start}"));
        }
        words
    }
}

impl Queue {
    fn about_those_kept_out(&self) -> Option<String> {
        let all = &self.workers_kept_out;
        let more = all.len().saturating_sub(NAMED);
        let named = all.iter().take(NAMED).map(String::as_str);
        let named = named.collect::<Vec<_>>().join(", ");
        let of_all = match more {
            0 => named,
            more => format!("{named} and {more} more"),
        };
        (!all.is_empty()).then(|| format!("given no job until started again: {of_all}"))
    }
}

fn are(workers: usize) -> String {
    let are = if workers == 1 { "is" } else { "are" };
    format!("{} {are}", count(workers as u64, "worker"))
}

impl Before {
    fn of(job: &Job) -> Self {
        Self {
            id: job.id.clone(),
            name: job.name.clone(),
            state: state(job),
        }
    }
}

impl fmt::Display for Before {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, name, state } = self;
        match name.as_str() {
            "" => write!(f, "{id} ({state})"),
            name => write!(f, "{name} ({state})"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn job(id: &str, priority: i32) -> Job {
        Job {
            id: id.to_owned(),
            phase: JobPhase::Queued.into(),
            priority,
            min_workers: 2,
            ..Job::default()
        }
    }

    fn worker(memory_bytes: u64, gpu: &str, job: &str) -> WorkerInfo {
        WorkerInfo {
            memory_bytes,
            labels: [("gpu".to_owned(), gpu.to_owned())].into(),
            job: job.to_owned(),
            ..WorkerInfo::default()
        }
    }

    #[test]
    fn who_comes_first_is_older_or_more_urgent() {
        let jobs = [
            job("old", 0),
            job("urgent", 5),
            job("mine", 0),
            job("young", 0),
        ];
        let queue = Queue::of(&jobs[2], &jobs, &[]);
        let before: Vec<&str> = queue
            .jobs_before
            .iter()
            .map(|job| job.id.as_str())
            .collect();
        assert_eq!(before, ["urgent", "old"]);
        let words = queue.words("http://here:1");
        assert_eq!(words[0], "2 jobs come first: urgent (queued), old (queued)");
        assert_eq!(
            words[1],
            "no worker is there; it needs 2 workers: start more with `weft worker --coordinator http://here:1`"
        );
    }

    #[test]
    fn workers_that_are_given_no_job_are_named_with_their_reason() {
        let liar = WorkerInfo {
            host: "node-7".to_owned(),
            kept_out: "its sum is wrong".to_owned(),
            ..worker(0, "h200", "")
        };
        let mine = job("mine", 0);
        let workers = [liar, worker(0, "h200", "mine")];
        let queue = Queue::of(&mine, std::slice::from_ref(&mine), &workers);
        assert_eq!(
            queue.words("http://here:1"),
            [
                "2 workers are there, 0 of them free; it needs 2 workers: start more with `weft worker --coordinator \
                 http://here:1`",
                "given no job until started again: node-7 (its sum is wrong)"
            ]
        );
    }

    #[test]
    fn workers_that_do_not_suit_are_not_counted() {
        let mut mine = job("mine", 0);
        mine.worker_memory_bytes = 40 << 30;
        mine.worker_labels = [("gpu".to_owned(), "h200".to_owned())].into();
        let workers = [
            worker(80 << 30, "h200", "other"),
            worker(80 << 30, "h200", ""),
            worker(20 << 30, "h200", ""),
            worker(80 << 30, "a10", ""),
        ];
        let queue = Queue::of(&mine, std::slice::from_ref(&mine), &workers);
        assert_eq!(
            queue.words("http://here:1"),
            [
                "it asks for gpu=h200 and 40.0 GiB of memory; 4 workers are there, 2 of them with that, 1 of those free"
            ]
        );
    }
}
