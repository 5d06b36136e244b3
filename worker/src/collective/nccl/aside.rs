//! What NCCL does beside the work: communicators of the past end, and a library that is about to be needed gets ready.

use std::sync::{Mutex, PoisonError};
use std::thread::{self, JoinHandle};

use tracing::warn;

/// Threads that do such things; whoever holds the last of it waits for them, so that the process does not end under NCCL.
#[derive(Debug, Default)]
pub(super) struct Aside(Mutex<Vec<JoinHandle<()>>>);

impl Aside {
    /// Does `work` on a thread of its own, and here where there is none to be had.
    pub(super) fn run(&self, work: impl FnOnce() + Send + 'static) {
        let mut threads = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        threads.retain(|thread| !thread.is_finished());
        let work = Mutex::new(Some(work));
        let shared = std::sync::Arc::new(work);
        let own = shared.clone();
        let spawned = thread::Builder::new()
            .name("weft-nccl".to_owned())
            .spawn(move || once(&own));
        match spawned {
            Ok(thread) => threads.push(thread),
            Err(error) => {
                warn!(%error, "NCCL holds up training for a moment");
                once(&shared);
            }
        }
    }
}

fn once(work: &Mutex<Option<impl FnOnce()>>) {
    let work = work.lock().unwrap_or_else(PoisonError::into_inner).take();
    if let Some(work) = work {
        work();
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        let threads = self.0.get_mut().unwrap_or_else(PoisonError::into_inner);
        for thread in threads.drain(..) {
            // A panic of NCCL's thread has been told of.
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[test]
    fn whoever_holds_the_last_of_it_waits_for_all_work() {
        let (aside, done) = (Aside::default(), Arc::new(AtomicU32::new(0)));
        for _ in 0..8 {
            let done = done.clone();
            aside.run(move || {
                thread::yield_now();
                done.fetch_add(1, Ordering::SeqCst);
            });
        }
        drop(aside);
        assert_eq!(done.load(Ordering::SeqCst), 8);
    }
}
