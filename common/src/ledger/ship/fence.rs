//! What was last seen of the fence in the store, for those who must not go on behind it.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::id::Term;
use crate::store::FenceError;

/// What was seen within this time counts.
const RECENT: Duration = Duration::from_secs(5);

/// How long a new look is waited for.
const LOOK_WITHIN: Duration = Duration::from_secs(2);

/// What was seen of the fence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FenceSeen {
    /// No newer term is claimed.
    None,
    /// This one is; nothing may be committed any more.
    Newer(Term),
    /// The store does not answer. It is as silent to those who would claim a term.
    Unknown,
}

/// Where one thread notes what it saw of the fence, and others look that up.
#[derive(Debug, Default)]
pub(super) struct FenceWatch {
    seen: Mutex<Seen>,
    news: Condvar,
}

#[derive(Debug, Clone, Copy, Default)]
struct Seen {
    /// When the store was asked that knew of no newer term.
    unfenced: Option<Instant>,
    newer: Option<Term>,
    /// Whether the last look failed.
    failing: bool,
}

impl FenceWatch {
    /// A look that began at `asked`.
    pub(super) fn note(&self, asked: Instant, looked: &Result<(), FenceError>) {
        let mut seen = self.lock();
        seen.failing = false;
        match looked {
            Ok(()) => seen.unfenced = Some(asked),
            Err(FenceError::Superseded { newest, .. }) => seen.newer = Some(*newest),
            Err(FenceError::Store(_)) => seen.failing = true,
        }
        drop(seen);
        self.news.notify_all();
    }

    pub(super) fn is_older_than(&self, age: Duration) -> bool {
        let unfenced = self.lock().unfenced;
        unfenced.is_none_or(|asked| asked.elapsed() >= age)
    }

    /// What was seen not long ago; waits a little for a new look where that is needed.
    pub(super) fn recent(&self) -> FenceSeen {
        let open = |seen: &mut Seen| seen.verdict().is_none();
        let waited = self.news.wait_timeout_while(self.lock(), LOOK_WITHIN, open);
        let (seen, _) = waited.unwrap_or_else(PoisonError::into_inner);
        seen.verdict().unwrap_or(FenceSeen::Unknown)
    }

    /// Nobody panics while holding the lock; if somebody did, what is there is still whole.
    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Seen {
    fn verdict(&self) -> Option<FenceSeen> {
        let recent = |asked: Instant| asked.elapsed() < RECENT;
        match (self.newer, self.unfenced) {
            (Some(newer), _) => Some(FenceSeen::Newer(newer)),
            (None, Some(asked)) if recent(asked) => Some(FenceSeen::None),
            (None, Some(_) | None) => self.failing.then_some(FenceSeen::Unknown),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn superseded(by: u64) -> Result<(), FenceError> {
        Err(FenceError::Superseded {
            job: "job-1".parse().unwrap(),
            ours: Term(1),
            newest: Term(by),
        })
    }

    #[test]
    fn what_was_seen_long_ago_does_not_count() {
        let watch = FenceWatch::default();
        watch.note(Instant::now(), &Ok(()));
        assert_eq!(watch.recent(), FenceSeen::None);
        let Some(long_ago) = Instant::now().checked_sub(RECENT) else {
            eprintln!("this machine has just started: not checked");
            return;
        };
        watch.note(long_ago, &Ok(()));
        assert!(watch.is_older_than(RECENT));
        assert_eq!(watch.recent(), FenceSeen::Unknown);
    }

    #[test]
    fn a_newer_term_is_never_forgotten() {
        let watch = FenceWatch::default();
        watch.note(Instant::now(), &superseded(3));
        watch.note(Instant::now(), &Ok(()));
        assert_eq!(watch.recent(), FenceSeen::Newer(Term(3)));
    }

    #[test]
    fn who_needs_a_new_look_gets_what_it_shows() {
        let watch = FenceWatch::default();
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| watch.recent());
            watch.note(Instant::now(), &superseded(2));
            assert_eq!(waits.join().unwrap(), FenceSeen::Newer(Term(2)));
        });
    }
}
