//! A job's status as people read it.

use std::fmt;
use std::time::Duration;

use weft_proto::v1::{Job, JobPhase};

use super::super::clock::{ago, between, known, span, stamp};
use super::super::event::event_line;
use super::super::job::{count, is_over, title};
use super::Facts;
use super::incidents::Incident;
use super::queue::Needs;
use crate::output::figures::grouped;

/// Characters of the bar.
const BAR: u64 = 30;
/// Width of the names in front.
const MARGIN: usize = 12;

impl fmt::Display for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self
            .rows()
            .into_iter()
            .map(|(name, value)| format!("{name:MARGIN$}{value}"))
            .chain(self.history())
            .collect();
        f.write_str(&lines.join("\n"))
    }
}

impl Facts {
    fn rows(&self) -> Vec<(&'static str, String)> {
        let job = &self.job;
        let mut rows = vec![("job", title(job)), ("state", state(job))];
        let mut reasons = Some(job.waits.clone()).filter(|waits| !waits.is_empty());
        if is_over(job) {
            reasons = None;
        }
        let queue = self.queue.iter().flat_map(|queue| queue.words(&self.url));
        for (index, reason) in reasons.into_iter().chain(queue).enumerate() {
            rows.push((if index == 0 { "waits" } else { "" }, reason));
        }
        rows.extend(progress(job, self.seconds_left).map(|text| ("progress", text)));
        rows.extend(job.loss.map(|loss| ("loss", format!("{loss:.4}"))));
        if job.tokens_per_second > 0.0 {
            let speed = grouped(job.tokens_per_second.round() as u64);
            rows.push(("speed", format!("{speed} tokens/s")));
        }
        if !is_over(job) {
            rows.push(("workers", workers(job)));
        }
        let needs = Needs::of(job).words();
        if !needs.is_empty() {
            rows.push(("needs", format!("{needs}, of every worker")));
        }
        if job.priority != 0 {
            rows.push(("priority", job.priority.to_string()));
        }
        rows.extend(self.times());
        if !job.output_dir.is_empty() {
            rows.push(("output", job.output_dir.clone()));
        }
        rows
    }

    fn times(&self) -> Vec<(&'static str, String)> {
        let job = &self.job;
        let told = |at: i64, more: String| format!("{} ({}){more}", ago(at, self.now), stamp(at));
        let after = |earlier: i64, later: i64, what: &str| {
            let time = known(earlier).map(|earlier| span(between(earlier, later)));
            time.map_or_else(String::new, |time| format!(", {what} {time}"))
        };
        let submitted =
            known(job.submitted_unix_ms).map(|at| ("submitted", told(at, String::new())));
        let started = known(job.started_unix_ms).map(|at| {
            let waited = after(job.submitted_unix_ms, at, "after a wait of");
            ("started", told(at, waited))
        });
        let ended = known(job.ended_unix_ms).map(|at| {
            let ran = after(job.started_unix_ms, at, "after a run of");
            ("ended", told(at, ran))
        });
        [submitted, started, ended].into_iter().flatten().collect()
    }

    fn history(&self) -> Vec<String> {
        let incidents = &self.incidents;
        if incidents.newest.is_empty() {
            return Vec::new();
        }
        let mut lines = vec![String::new(), "incidents".to_owned()];
        if incidents.earlier > 0 {
            let (earlier, id) = (incidents.earlier as u64, &self.job.id);
            let s = if earlier == 1 { "one" } else { "ones" };
            let earlier = grouped(earlier);
            lines.push(format!("  {earlier} earlier {s} in `weft logs {id}`"));
        }
        for incident in &incidents.newest {
            lines.push(format!("  {}", event_line(&incident.event)));
            lines.extend(
                self.sequel(incident)
                    .map(|sequel| format!("{:24}{sequel}", "")),
            );
        }
        lines
    }

    /// When training went on.
    fn sequel(&self, incident: &Incident) -> Option<String> {
        match (
            incident.next_commit_after_seconds,
            incident.next_commit_step,
        ) {
            (Some(seconds), Some(step)) => {
                let time = span(Duration::from_secs_f64(seconds));
                Some(format!(
                    "training went on: step {step} was committed {time} later"
                ))
            }
            (Some(_) | None, _) if incident.interrupts && self.job.phase() == JobPhase::Running => {
                let time = span(between(incident.event.unix_ms, self.now));
                Some(format!("no step was committed in the {time} since"))
            }
            (Some(_) | None, _) => None,
        }
    }
}

fn state(job: &Job) -> String {
    match job.phase() {
        JobPhase::Unspecified => "unknown to this version of weft".to_owned(),
        JobPhase::Queued => "queued".to_owned(),
        JobPhase::Preparing => "preparing its data".to_owned(),
        JobPhase::Forming => "waiting for its workers".to_owned(),
        JobPhase::Running => "running".to_owned(),
        JobPhase::Draining => "draining: it finishes its step and writes a checkpoint".to_owned(),
        JobPhase::Succeeded | JobPhase::Failed | JobPhase::Cancelled => job.detail.clone(),
    }
}

fn progress(job: &Job, seconds_left: Option<f64>) -> Option<String> {
    let (done, total) = (job.committed_steps, job.total_steps);
    if total == 0 {
        return None;
    }
    let full = BAR * done.min(total) / total;
    let bar: String = (0..BAR)
        .map(|at| if at < full { '#' } else { '-' })
        .collect();
    let percent = 100 * done.min(total) / total;
    let left = seconds_left.map_or_else(String::new, |seconds| {
        format!(", about {} left", span(Duration::from_secs_f64(seconds)))
    });
    let (done, total) = (grouped(done), grouped(total));
    Some(format!("[{bar}] {percent}%, step {done} of {total}{left}"))
}

fn workers(job: &Job) -> String {
    let (min, max) = (job.min_workers, job.max_workers);
    let wanted = count(job.workers.into(), "worker");
    let bounds = if max == 0 {
        String::new()
    } else {
        format!("; {min} to {max} are possible")
    };
    format!("{} of {wanted}{bounds}", job.members)
}
