//! What a job's people are told, on its way to those who follow it.

use std::sync::{Arc, OnceLock};

use tokio::sync::mpsc;
use tracing::warn;

use crate::engine::{JobOutcome, Notice};

/// Notices that a slow listener may lag behind. They take memory only as they pile up.
const NOTICES: usize = 4096;

/// What a job's people are told, in order.
#[derive(Debug)]
pub struct Notices {
    notices: mpsc::Receiver<Notice>,
    outcome: Arc<OnceLock<JobOutcome>>,
    ended: bool,
}

impl Notices {
    /// The next notice; `None` after [`Notice::Ended`], and where the coordinator stopped before.
    ///
    /// A listener that lags thousands of notices behind loses some, but never the last one.
    pub async fn next(&mut self) -> Option<Notice> {
        let next = self.notices.recv().await;
        self.or_end(next)
    }

    /// As [`next`](Self::next), on a thread that may block.
    pub(crate) fn next_blocking(&mut self) -> Option<Notice> {
        let next = self.notices.blocking_recv();
        self.or_end(next)
    }

    fn or_end(&mut self, next: Option<Notice>) -> Option<Notice> {
        if next.is_some() || self.ended {
            return next;
        }
        self.ended = true;
        self.outcome.get().cloned().map(Notice::Ended)
    }
}

/// Those who follow one job.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    all: Vec<mpsc::Sender<Notice>>,
    outcome: Arc<OnceLock<JobOutcome>>,
    lost: u64,
}

impl Followers {
    /// One more, who is told what comes from now on.
    pub(crate) fn add(&mut self) -> Notices {
        let (sender, notices) = mpsc::channel(NOTICES);
        self.all.push(sender);
        Notices {
            notices,
            outcome: self.outcome.clone(),
            ended: false,
        }
    }

    /// Tells everyone who still listens. Nothing comes after the end.
    pub(crate) fn tell(&mut self, notice: &Notice) {
        if let Notice::Ended(outcome) = notice {
            // A job ends once.
            let _ = self.outcome.set(outcome.clone());
            self.all.clear();
            return;
        }
        let Self { all, lost, .. } = self;
        all.retain(|follower| match follower.try_send(notice.clone()) {
            Ok(()) => true,
            Err(mpsc::error::TrySendError::Closed(_)) => false,
            Err(mpsc::error::TrySendError::Full(_)) => {
                if *lost == 0 {
                    warn!("notices are lost; a listener is too slow");
                }
                *lost += 1;
                true
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_listener_that_lags_far_behind_still_hears_the_end() {
        let mut followers = Followers::default();
        let mut notices = followers.add();
        for _ in 0..=NOTICES {
            followers.tell(&Notice::Admitted);
        }
        let ended = Notice::Ended(JobOutcome::Cancelled { checkpoint: None });
        followers.tell(&ended);

        let mut heard = Vec::new();
        while let Some(notice) = notices.next().await {
            heard.push(notice);
        }
        assert_eq!(heard.len(), NOTICES + 1);
        assert_eq!(heard.last(), Some(&ended));
    }
}
