//! Why a job waits, as a value: the log, the command line and the dashboard print the same one.

use std::fmt;
use std::time::Duration;

use weft_common::id::Step;

use super::super::action::Notice;
use super::super::context::Context;
use super::super::terms::JobTerms;
use super::Run;

/// Why a job waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum WaitReason {
    /// Workers are missing, or still load the job.
    Workers {
        /// Those ready.
        ready: u32,
        /// Those attached.
        attached: u32,
        /// Those that must be ready.
        needed: u32,
        /// Those attached that are given no job any more.
        kept_out: u32,
    },
    /// Jobs that come first have the workers.
    Turn {
        /// Workers that it must have.
        needed: u32,
    },
    /// All workers were lost, and one that still holds the newest state may come back.
    Holders {
        /// As many steps are committed.
        committed: Step,
        /// As many are saved in the newest checkpoint.
        saved: Step,
        /// How long the job waits before it goes back to that.
        within: Duration,
    },
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Workers {
                ready,
                attached,
                needed,
                kept_out,
            } => {
                write!(f, "{ready} of {needed} workers ready, {attached} attached")?;
                match kept_out {
                    0 => Ok(()),
                    1 => f.write_str(
                        ", of whom 1 is given no job any more: start it again (`weft workers` says why)",
                    ),
                    many => write!(
                        f,
                        ", of whom {many} are given no job any more: start them again (`weft workers` says why)"
                    ),
                }
            }
            Self::Turn { needed } => write!(
                f,
                "jobs that come first have the workers; it needs {needed}"
            ),
            Self::Holders {
                committed,
                saved,
                within,
            } => write!(
                f,
                "no worker holds the state after step {committed}; the checkpoint after step {saved} is taken if none \
                 comes back within {:.0} s",
                within.as_secs_f64()
            ),
        }
    }
}

impl Run {
    /// Tells people what the job waits for, when that changes.
    pub(super) fn wait(&mut self, terms: &JobTerms, cx: &mut Context<'_>) {
        let reason = self.reason_to_wait(terms, cx);
        if reason != self.waiting {
            if let Some(reason) = &reason {
                cx.notify(Notice::Waiting(reason.clone()));
            }
            self.waiting = reason;
        }
    }

    fn reason_to_wait(&self, terms: &JobTerms, cx: &Context<'_>) -> Option<WaitReason> {
        if !self.is_short(terms) || self.is_decided() {
            return None;
        }
        if self.target < terms.min_workers.max(1) {
            let needed = terms.min_workers.max(1);
            return Some(WaitReason::Turn { needed });
        }
        let lost = self.was_formed() || terms.continued.is_some();
        let behind = self.live_count() == 0 && self.saved_step() != self.committed;
        if lost && behind && !self.is_held() {
            return Some(WaitReason::Holders {
                committed: self.committed,
                saved: self.saved_step(),
                within: cx.limits.reattach_within,
            });
        }
        let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
        Some(WaitReason::Workers {
            ready: count(self.live_count() + self.holders().len()),
            attached: count(cx.fleet.attached().count()),
            needed: if lost {
                terms.min_workers.max(1)
            } else {
                self.target
            },
            kept_out: count(cx.fleet.kept_out(&terms.needs)),
        })
    }
}
