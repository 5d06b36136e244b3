//! Where work that waits for a disk is done.
#![allow(
    clippy::disallowed_methods,
    reason = "this is the driver's side of the crate, not the engine"
)]

use std::thread;

use tokio::sync::mpsc;

use crate::driver::Message;

/// Where work that waits for a disk is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocking {
    /// On threads of its own, so that the driver never waits.
    OnThreads,
    /// Where it is ordered. For simulations: threads have a time of their own, which no seed decides.
    InPlace,
}

impl Blocking {
    /// Does `work`; what comes of it goes to `inbox`.
    pub(crate) fn spawn(
        self,
        inbox: mpsc::Sender<Message>,
        work: impl FnOnce() -> Message + Send + 'static,
    ) {
        // The driver may have stopped before the work is done.
        match self {
            Self::OnThreads => {
                thread::spawn(move || {
                    let _ = inbox.blocking_send(work());
                });
            }
            Self::InPlace => {
                let done = work();
                tokio::spawn(async move {
                    let _ = inbox.send(done).await;
                });
            }
        }
    }
}
