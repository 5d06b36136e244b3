//! What only one job may have, while it is on its way in and nobody else knows of it.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use weft_common::id::JobId;

/// What is claimed. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Claims(Arc<Mutex<BTreeSet<Claimed>>>);

/// What only one job may have.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Claimed {
    Output(PathBuf),
    Job(JobId),
}

/// Something claimed, until this is dropped.
#[derive(Debug)]
pub(crate) struct Claim {
    what: Claimed,
    claims: Claims,
}

impl Claims {
    /// `None` where somebody else has it.
    pub(crate) fn take(&self, what: Claimed) -> Option<Claim> {
        let free = self.locked().insert(what.clone());
        free.then(|| Claim {
            what,
            claims: self.clone(),
        })
    }

    /// Nobody panics while holding the lock; if somebody did, what is there is still whole.
    fn locked(&self) -> MutexGuard<'_, BTreeSet<Claimed>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.claims.locked().remove(&self.what);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_claimed_is_free_again_once_it_is_dropped() {
        let claims = Claims::default();
        let output = || Claimed::Output(PathBuf::from("/out"));
        let claim = claims.take(output()).unwrap();
        assert!(claims.take(output()).is_none());
        drop(claim);
        assert!(claims.take(output()).is_some());
    }
}
