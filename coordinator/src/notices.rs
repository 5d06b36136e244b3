//! What a job's people are told, on its way to those who follow it.

use tokio::sync::{mpsc, watch};
use tracing::warn;

use crate::engine::Notice;
use crate::view::JobView;

/// Notices that a slow listener may lag behind. They take memory only as they pile up.
const NOTICES: usize = 4096;

/// What a job's people are told, in order.
#[derive(Debug)]
pub struct Notices {
    notices: mpsc::Receiver<Notice>,
    view: watch::Receiver<JobView>,
    ended: bool,
}

impl Notices {
    /// The next notice; `None` after [`Notice::Ended`], and where the coordinator stopped before.
    ///
    /// A listener that lags thousands of notices behind loses some, but never the last one.
    pub async fn next(&mut self) -> Option<Notice> {
        if self.ended {
            return None;
        }
        let next = match self.notices.recv().await {
            Some(notice) => Some(notice),
            None => self.view.borrow().outcome.clone().map(Notice::Ended),
        };
        self.ended = matches!(next, None | Some(Notice::Ended(_)));
        next
    }
}

/// Those who follow one job.
#[derive(Debug, Default)]
pub(crate) struct Followers {
    all: Vec<mpsc::Sender<Notice>>,
    lost: u64,
}

impl Followers {
    /// One more, who is told what comes from now on.
    pub(crate) fn add(&mut self, view: watch::Receiver<JobView>) -> Notices {
        let (sender, notices) = mpsc::channel(NOTICES);
        self.all.push(sender);
        Notices {
            notices,
            view,
            ended: false,
        }
    }

    /// Tells everyone who still listens.
    pub(crate) fn tell(&mut self, notice: &Notice) {
        let Self { all, lost } = self;
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
    use crate::engine::JobOutcome;
    use crate::view::tests::view;

    #[tokio::test]
    async fn a_listener_that_lags_far_behind_still_hears_the_end() {
        let job = watch::Sender::new(view("job-1"));
        let mut followers = Followers::default();
        let mut notices = followers.add(job.subscribe());
        for _ in 0..=NOTICES {
            followers.tell(&Notice::Admitted);
        }
        let ended = Notice::Ended(JobOutcome::Cancelled { checkpoint: None });
        followers.tell(&ended);
        job.send_modify(|view| view.told(&ended, 5_000));
        drop(followers);

        let mut heard = Vec::new();
        while let Some(notice) = notices.next().await {
            heard.push(notice);
        }
        assert_eq!(heard.len(), NOTICES + 1);
        assert_eq!(heard.last(), Some(&ended));
    }
}
