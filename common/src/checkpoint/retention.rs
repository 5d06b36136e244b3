//! Which checkpoints may be removed.

use std::num::NonZeroU32;

use crate::id::Step;

/// A checkpoint as far as retention needs to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Candidate {
    /// Its step.
    pub(super) step: Step,
    /// Whether it has a manifest.
    pub(super) finished: bool,
}

/// The steps that may be removed, oldest first, where `newest` is the newest complete one and `limit` complete ones stay.
///
/// The newest always stays. What is newer is left alone, because it may just be written; what is older and was never
/// finished is a ruin and goes.
pub(super) fn removable(candidates: &[Candidate], newest: Step, limit: NonZeroU32) -> Vec<Step> {
    let mut older: Vec<Candidate> = candidates.to_vec();
    older.retain(|candidate| candidate.step < newest);
    older.sort_by_key(|candidate| candidate.step);
    let mut left = limit.get() - 1;
    let mut removed = Vec::new();
    for candidate in older.iter().rev() {
        if candidate.finished && left > 0 {
            left -= 1;
        } else {
            removed.push(candidate.step);
        }
    }
    removed.reverse();
    removed
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn candidates(finished: &[(u64, bool)]) -> Vec<Candidate> {
        let candidate = |&(step, finished)| Candidate {
            step: Step(step),
            finished,
        };
        finished.iter().map(candidate).collect()
    }

    fn removed(limit: u32, candidates: &[Candidate], newest: u64) -> Vec<u64> {
        let limit = NonZeroU32::new(limit).unwrap();
        let removed = removable(candidates, Step(newest), limit);
        removed.iter().map(|step| step.0).collect()
    }

    #[test]
    fn the_newest_stay_up_to_the_limit() {
        let all = candidates(&[(10, true), (20, true), (30, true), (40, true)]);
        assert_eq!(removed(1, &all, 40), [10, 20, 30]);
        assert_eq!(removed(2, &all, 40), [10, 20]);
        assert_eq!(removed(9, &all, 40), Vec::<u64>::new());
    }

    #[test]
    fn ruins_go_and_what_is_newer_stays() {
        let all = candidates(&[(10, false), (20, true), (30, true), (40, false)]);
        assert_eq!(removed(5, &all, 30), [10]);
    }

    proptest! {
        #[test]
        fn the_newest_is_never_removed_and_the_limit_holds(
            finished in proptest::collection::vec(any::<bool>(), 1..12),
            limit in 1u32..6,
        ) {
            let all: Vec<(u64, bool)> = (1..).zip(finished).collect();
            let Some((newest, _)) = all.iter().rev().find(|(_, finished)| *finished) else {
                return Ok(());
            };
            let removed = removed(limit, &candidates(&all), *newest);
            prop_assert!(!removed.contains(newest));
            let stay = all.iter().filter(|(step, finished)| *finished && !removed.contains(step));
            prop_assert!(stay.count() as u32 <= limit);
        }
    }
}
