//! How old the newest complete checkpoint is, and when that is too old.

use std::time::Duration;

use weft_common::checkpoint::{AgeAlarm, CheckpointAge};
use weft_common::time::Timestamp;

use super::super::action::Notice;
use super::super::context::Context;
use super::super::terms::JobTerms;
use super::Run;

/// Share of a new step in the running mean.
const NEWS: f64 = 0.3;

/// Since when there is a complete checkpoint, and how soon another one should follow.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct SavedAge {
    /// When the newest complete one was reported, or the job began.
    since: Timestamp,
    seconds_per_step: Option<f64>,
    /// What people were told, until another one is complete.
    pub alarm: Option<AgeAlarm>,
}

impl SavedAge {
    /// The state is saved, or initial.
    pub(super) fn fresh(now: Timestamp) -> Self {
        Self {
            since: now,
            ..Self::default()
        }
    }

    /// A checkpoint is complete.
    pub(super) fn saved(&mut self, now: Timestamp) {
        self.since = now;
        self.alarm = None;
    }

    /// A step took so long.
    pub(super) fn stepped(&mut self, took: Duration) {
        let news = took.as_secs_f64();
        let old = self.seconds_per_step.unwrap_or(news);
        self.seconds_per_step = Some(old + NEWS * (news - old));
    }

    fn every(&self, save_steps: u64) -> Option<Duration> {
        let seconds = self.seconds_per_step? * save_steps as f64;
        let every = Duration::try_from_secs_f64(seconds).ok()?;
        (save_steps > 0).then_some(every)
    }
}

impl Run {
    /// Tells people once when the newest complete checkpoint is too old. A job that waits computes nothing that could be
    /// lost.
    pub(super) fn mind_age(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        if self.age.alarm.is_some() || self.waiting.is_some() {
            return;
        }
        let age = CheckpointAge {
            since: self.age.since,
            every: self.age.every(terms.save_steps),
        };
        if let Some(alarm) = age.alarm(cx.now) {
            self.age.alarm = Some(alarm);
            cx.notify(Notice::CheckpointOverdue(alarm));
        }
    }
}
