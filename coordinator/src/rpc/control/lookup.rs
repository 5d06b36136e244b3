//! Which job is meant, and which jobs there are: those that this coordinator runs, and those of its records.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::watch;
use tonic::Status;
use weft_common::id::JobId;
use weft_proto::v1;

use super::ControlService;
use crate::records::{Over, Records, RecordsError};
use crate::rpc::blocking;
use crate::view::JobView;

/// A job that was found.
pub(super) enum Job {
    /// This coordinator runs it, or has not long ago.
    Known(watch::Receiver<JobView>),
    /// It is over.
    Recorded(Box<JobView>),
}

impl Job {
    pub(super) fn view(&self) -> JobView {
        match self {
            Self::Known(view) => view.borrow().clone(),
            Self::Recorded(view) => (**view).clone(),
        }
    }

    pub(super) fn id(&self) -> JobId {
        self.view().id
    }
}

impl ControlService {
    /// The job that is meant.
    pub(super) async fn find(&self, wanted: v1::JobRef) -> Result<Job, Status> {
        let wanted = wanted.id;
        let exact = wanted.parse().ok();
        if let Some(known) = exact.as_ref().and_then(|id| self.coordinator.job(id)) {
            return Ok(Job::Known(known));
        }
        let records = self.coordinator.records.clone();
        let known = self.coordinator.jobs();
        let asked = wanted.clone();
        let id = blocking(move || match_job(&known, records.as_ref(), &asked)).await??;
        if let Some(known) = self.coordinator.job(&id) {
            return Ok(Job::Known(known));
        }
        let recorded = match self.coordinator.records.clone() {
            Some(records) => blocking(move || records.job(&id))
                .await?
                .map_err(unreadable)?,
            None => None,
        };
        let view = recorded.ok_or_else(|| none(&wanted))?;
        Ok(Job::Recorded(Box::new(view)))
    }

    /// The jobs there are, oldest first.
    pub(super) async fn list(&self, ended: bool, last: u32) -> Result<v1::ListJobsReply, Status> {
        let known = self.coordinator.jobs();
        let recorded = match self.coordinator.records.clone() {
            Some(records) if ended => blocking(move || records.over(last))
                .await?
                .map_err(unreadable)?,
            Some(_) | None => Over {
                jobs: Vec::new(),
                left_out: 0,
            },
        };
        let mut all: BTreeMap<JobId, JobView> = recorded
            .jobs
            .into_iter()
            .map(|job| (job.id.clone(), job))
            .collect();
        let shown = known
            .into_iter()
            .filter(|job| ended || !job.phase.is_over());
        all.extend(shown.map(|job| (job.id.clone(), job)));
        let mut jobs: Vec<JobView> = all.into_values().collect();
        jobs.sort_by(|one, other| {
            let order = |job: &JobView| job.submitted_unix_ms;
            order(one).cmp(&order(other)).then(one.id.cmp(&other.id))
        });
        let too_many = match last {
            0 => 0,
            last => jobs.len().saturating_sub(last as usize),
        };
        let left_out = recorded.left_out + too_many as u64;
        let jobs = jobs.into_iter().skip(too_many).map(Into::into).collect();
        Ok(v1::ListJobsReply { jobs, left_out })
    }
}

/// An id, else the beginning of one, else the newest job of that name.
fn match_job(known: &[JobView], records: Option<&Records>, wanted: &str) -> Result<JobId, Status> {
    if wanted.is_empty() {
        return Err(Status::invalid_argument(
            "no job is named; give its id, the beginning of it, or its name",
        ));
    }
    let recorded = match records {
        Some(records) => records.find(wanted).map_err(unreadable)?,
        None => crate::records::Found::default(),
    };
    let ids = known.iter().map(|job| &job.id).chain(&recorded.by_prefix);
    let by_prefix: BTreeSet<&JobId> = ids.filter(|id| id.as_str().starts_with(wanted)).collect();
    if let Some(exact) = by_prefix.iter().find(|id| id.as_str() == wanted) {
        return Ok((*exact).clone());
    }
    let newest = known.iter().filter(|job| job.name == wanted);
    let newest = newest.max_by_key(|job| (job.submitted_unix_ms, job.id.clone()));
    match (by_prefix.len(), newest, recorded.by_name) {
        (1, ..) => Ok(by_prefix
            .into_iter()
            .next()
            .cloned()
            .ok_or_else(|| none(wanted))?),
        (_, Some(newest), _) => Ok(newest.id.clone()),
        (_, None, Some(recorded)) => Ok(recorded),
        (0, None, None) => Err(none(wanted)),
        (many, None, None) => Err(ambiguous(wanted, many, &by_prefix)),
    }
}

fn none(wanted: &str) -> Status {
    Status::not_found(format!("no job {wanted}; ListJobs names those there are"))
}

fn ambiguous(wanted: &str, many: usize, candidates: &BTreeSet<&JobId>) -> Status {
    let some: Vec<&str> = candidates.iter().take(10).map(|id| id.as_str()).collect();
    let more = if many > some.len() { ", …" } else { "" };
    Status::invalid_argument(format!(
        "{wanted} may mean any of {}{more}; give more of the id",
        some.join(", ")
    ))
}

fn unreadable(error: RecordsError) -> Status {
    Status::unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::view::tests::view;

    #[test]
    fn an_id_comes_before_a_beginning_and_a_beginning_before_a_name() {
        let named = |id: &str, name: &str, submitted: i64| JobView {
            name: name.to_owned(),
            submitted_unix_ms: submitted,
            ..view(id)
        };
        let jobs = [
            named("job-1", "llama", 1),
            named("job-12", "job-1", 2),
            named("job-2", "llama", 3),
        ];
        let found = |wanted: &str| match_job(&jobs, None, wanted).map(|id| id.to_string());
        assert_eq!(found("job-1").unwrap(), "job-1");
        assert_eq!(found("job-12").unwrap(), "job-12");
        assert_eq!(found("job-2").unwrap(), "job-2");
        assert_eq!(found("llama").unwrap(), "job-2");
        let refused = found("job-").unwrap_err();
        assert_eq!(refused.code(), tonic::Code::InvalidArgument);
        for candidate in ["job-1", "job-12", "job-2"] {
            assert!(refused.message().contains(candidate), "{refused}");
        }
        assert_eq!(found("mistral").unwrap_err().code(), tonic::Code::NotFound);
        assert_eq!(found("").unwrap_err().code(), tonic::Code::InvalidArgument);
    }
}
