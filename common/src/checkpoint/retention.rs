//! Which checkpoints may be removed.

use std::num::NonZeroU32;

use crate::id::Step;

/// How many checkpoints stay, and which.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retention {
    /// How many complete ones stay, the newest and the best among them.
    pub limit: NonZeroU32,
    /// Which ones.
    pub keep: Keep,
}

/// Which checkpoints stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keep {
    /// The newest.
    Newest,
    /// The newest, and the one with the lowest evaluation loss however old it is. Where the limit is 1 and the two are
    /// not the same, both stay.
    NewestAndBest,
}

/// A checkpoint as far as retention needs to know it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Candidate {
    /// Its step.
    pub step: Step,
    /// Whether it has a manifest.
    pub finished: bool,
    /// Evaluation loss at that step, where it was evaluated.
    pub eval_loss: Option<f64>,
}

impl Retention {
    /// The steps that may be removed, oldest first, where `newest` is the newest complete one.
    ///
    /// That one always stays. What is newer is left alone, because it may just be written; what is older and was never
    /// finished is a ruin and goes.
    #[must_use]
    pub fn removable(&self, candidates: &[Candidate], newest: Step) -> Vec<Step> {
        let mut older: Vec<Candidate> = candidates.to_vec();
        older.retain(|candidate| candidate.step < newest);
        older.sort_by_key(|candidate| candidate.step);
        let best = match self.keep {
            Keep::Newest => None,
            Keep::NewestAndBest => best(candidates, newest),
        };
        let mut left = self.limit.get() - 1;
        if best.is_some_and(|best| best < newest) {
            left = left.saturating_sub(1);
        }
        let mut removed = Vec::new();
        for candidate in older.iter().rev() {
            if best == Some(candidate.step) {
                continue;
            }
            if candidate.finished && left > 0 {
                left -= 1;
            } else {
                removed.push(candidate.step);
            }
        }
        removed.reverse();
        removed
    }
}

/// The finished one with the lowest loss; of equals the newest.
fn best(candidates: &[Candidate], newest: Step) -> Option<Step> {
    let evaluated = candidates
        .iter()
        .filter(|candidate| candidate.finished && candidate.step <= newest)
        .filter_map(|candidate| Some((candidate.eval_loss?, candidate.step)))
        .filter(|(loss, _)| !loss.is_nan());
    let best = evaluated.min_by(|(a, old), (b, new)| a.total_cmp(b).then(new.cmp(old)));
    best.map(|(_, step)| step)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn retention(limit: u32, keep: Keep) -> Retention {
        let limit = NonZeroU32::new(limit).unwrap();
        Retention { limit, keep }
    }

    fn evaluated(losses: &[(u64, f64)]) -> Vec<Candidate> {
        let candidate = |&(step, loss)| Candidate {
            step: Step(step),
            finished: true,
            eval_loss: Some(loss),
        };
        losses.iter().map(candidate).collect()
    }

    fn removed(limit: u32, keep: Keep, candidates: &[Candidate], newest: u64) -> Vec<u64> {
        let removed = retention(limit, keep).removable(candidates, Step(newest));
        removed.iter().map(|step| step.0).collect()
    }

    #[test]
    fn the_best_stays_however_old_and_counts_towards_the_limit() {
        let losses = evaluated(&[(10, 1.0), (20, 0.5), (30, 0.8), (40, 0.9)]);
        let best = Keep::NewestAndBest;
        assert_eq!(removed(2, Keep::Newest, &losses, 40), [10, 20]);
        assert_eq!(removed(2, best, &losses, 40), [10, 30]);
        assert_eq!(removed(3, best, &losses, 40), [10]);
        assert_eq!(removed(1, best, &losses, 40), [10, 30]);
    }

    #[test]
    fn where_the_newest_is_the_best_the_limit_is_the_newests() {
        let losses = evaluated(&[(10, 1.0), (20, 0.5), (30, 0.4)]);
        assert_eq!(removed(2, Keep::NewestAndBest, &losses, 30), [10]);
    }

    #[test]
    fn of_equally_good_ones_the_newer_stays_and_a_loss_that_is_no_number_is_not_good() {
        let losses = evaluated(&[(10, 0.5), (20, 0.5), (30, f64::NAN), (40, 0.9)]);
        assert_eq!(removed(2, Keep::NewestAndBest, &losses, 40), [10, 30]);
    }

    #[test]
    fn ruins_go_and_what_is_newer_stays() {
        let mut candidates = evaluated(&[(10, 1.0), (20, 1.0), (30, 1.0), (40, 1.0)]);
        candidates[0].finished = false;
        candidates[3].finished = false;
        assert_eq!(removed(5, Keep::Newest, &candidates, 30), [10]);
    }

    proptest! {
        #[test]
        fn the_newest_and_the_best_are_never_removed_and_the_limit_holds(
            losses in proptest::collection::vec((any::<bool>(), proptest::option::of(0u8..4)), 1..12),
            limit in 1u32..6,
        ) {
            let candidates: Vec<Candidate> = losses.iter().zip(1..).map(|(&(finished, loss), step)| Candidate {
                step: Step(step),
                finished,
                eval_loss: loss.map(f64::from),
            }).collect();
            let Some(newest) = candidates.iter().rev().find(|candidate| candidate.finished) else {
                return Ok(());
            };
            let removed = retention(limit, Keep::NewestAndBest).removable(&candidates, newest.step);
            let stay = |step: Step| !removed.contains(&step);
            prop_assert!(stay(newest.step));
            prop_assert!(best(&candidates, newest.step).is_none_or(stay));
            let finished = candidates.iter().filter(|candidate| candidate.finished && stay(candidate.step));
            prop_assert!(finished.count() as u32 <= limit.max(2));
        }
    }
}
