//! What the records of a queue are given.

use weft_common::id::JobId;
use weft_proto::v1;

use super::Driver;
use crate::clock::unix_ms;
use crate::engine::{Notice, StepReport};
use crate::happening::{Happening, Level};
use crate::job_io::JobIo;

impl Driver {
    /// What people are told is recorded as well.
    pub(super) fn record(&self, job: Option<&JobId>, notice: &Notice) {
        let Some(records) = &self.records else {
            return;
        };
        if let Some(io) = job.and_then(|job| self.jobs.get(job)) {
            if let Notice::StepCommitted(step) = notice {
                records.stepped(io.id(), figures(step, io));
            }
            if let Notice::RolledBack { to, .. } = notice {
                records.rolled_back(io.id(), to.0);
            }
        }
        if let Some(happening) = Happening::of(notice) {
            records.happened(job, happening);
        }
    }

    /// Someone wants another number of workers.
    pub(super) fn record_scaled(&self, job: &JobId, workers: u32) {
        if let (Some(records), true) = (&self.records, self.jobs.contains_key(job)) {
            let happening = Happening::new(
                Level::Info,
                "scaled",
                format!("scaled to {workers} workers"),
            );
            records.happened(Some(job), happening);
        }
    }

    /// What the list of jobs says after a restart; most of it changes rarely.
    pub(super) fn record_standing(&mut self, job: &JobId) {
        let (Some(records), Some(io)) = (&self.records, self.jobs.get_mut(job)) else {
            return;
        };
        let view = io.view.borrow();
        let standing = view.standing();
        if io.recorded.as_ref() != Some(&standing) {
            records.stands(&view);
            io.recorded = Some(standing);
        }
    }
}

fn figures(report: &StepReport, io: &JobIo) -> v1::StepFigures {
    let step = report.step.0 + 1;
    v1::StepFigures {
        step,
        unix_ms: unix_ms(),
        loss: report.loss,
        grad_norm: report.grad_norm,
        learning_rate: report.learning_rate,
        tokens: report.tokens,
        supervised_tokens: report.supervised_tokens,
        step_seconds: report.timing.total.as_secs_f64(),
        workers: report.world,
        epoch: step as f64 / io.steps_per_epoch.max(1) as f64,
    }
}
