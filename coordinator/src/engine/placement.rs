//! How many workers each job may have: jobs in order, minimum before growth.
//!
//! 1. In the order of their priority, and of their submission within one, each job takes its minimum of the workers that
//!    suit it. A job that does not find so many takes none, and those behind it may use what is there.
//! 2. In the same order, each of those grows as far as it wants.
//!
//! Nothing here remembers what was given before, so a job that comes with a higher priority shrinks those behind it, and
//! they grow again when it ends. A job prefers the workers that it has.

use std::collections::BTreeSet;
use std::sync::Arc;

use weft_common::id::WorkerId;

/// What a job asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Demand {
    /// Fewer are of no use to it.
    pub(super) min: usize,
    /// More are of no use to it.
    pub(super) wanted: usize,
    /// Workers that suit it; jobs with the same needs share them.
    pub(super) suited: Arc<BTreeSet<WorkerId>>,
    /// Those of them that it has.
    pub(super) has: BTreeSet<WorkerId>,
    /// Those of them that are kept for it.
    pub(super) kept: BTreeSet<WorkerId>,
}

/// The workers there are.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Pool {
    /// How many.
    pub(super) size: usize,
    /// Those of them that nobody is given but whom they are kept for.
    pub(super) kept: BTreeSet<WorkerId>,
}

/// Of how many workers each of these jobs, which stand in order, gets. Post-condition: no worker is counted twice, and a
/// job gets none or at least its minimum.
pub(super) fn place(demands: &[Demand], pool: &Pool) -> Vec<usize> {
    let mut taken = BTreeSet::new();
    let mut given: Vec<usize> = Vec::with_capacity(demands.len());
    for demand in demands {
        let min = demand.min.max(1);
        let found = pick(demand, min, pool, &taken);
        let enough = found.len() == min;
        if enough {
            taken.extend(found);
        }
        given.push(if enough { min } else { 0 });
    }
    for (demand, given) in demands.iter().zip(&mut given) {
        if *given > 0 {
            let more = demand.wanted.saturating_sub(*given);
            let more = pick(demand, more, pool, &taken);
            *given += more.len();
            taken.extend(more);
        }
    }
    given
}

/// As many workers that suit a job and are not taken: those that it has first, then those that are kept for it.
fn pick(demand: &Demand, count: usize, pool: &Pool, taken: &BTreeSet<WorkerId>) -> Vec<WorkerId> {
    // Hundreds of jobs may stand behind those that got all.
    if taken.len() >= pool.size {
        return Vec::new();
    }
    let own = demand.has.iter().chain(demand.kept.difference(&demand.has));
    let own = own.filter(|worker| !taken.contains(worker));
    let others = demand.suited.difference(taken);
    let others =
        others.filter(|worker| !demand.has.contains(worker) && !pool.kept.contains(worker));
    own.chain(others).take(count).copied().collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn demand(min: usize, wanted: usize, suited: std::ops::Range<u128>) -> Demand {
        Demand {
            min,
            wanted,
            suited: Arc::new(suited.map(WorkerId::from_number).collect()),
            has: BTreeSet::new(),
            kept: BTreeSet::new(),
        }
    }

    fn place(demands: &[Demand]) -> Vec<usize> {
        placed(demands, &[])
    }

    /// With these workers kept for the last job.
    fn placed(demands: &[Demand], kept: &[u128]) -> Vec<usize> {
        let mut demands = demands.to_vec();
        let kept = kept.iter().copied().map(WorkerId::from_number);
        let kept: BTreeSet<WorkerId> = kept.collect();
        if let Some(last) = demands.last_mut() {
            last.kept = kept.clone();
        }
        super::place(&demands, &Pool { size: 12, kept })
    }

    #[test]
    fn the_first_job_takes_what_it_wants_and_the_next_what_is_left() {
        assert_eq!(place(&[demand(1, 3, 0..4), demand(1, 3, 0..4)]), [3, 1]);
    }

    #[test]
    fn minima_come_before_growth() {
        assert_eq!(place(&[demand(1, 4, 0..4), demand(2, 4, 0..4)]), [2, 2]);
    }

    #[test]
    fn a_job_that_cannot_start_leaves_its_share_to_those_behind() {
        assert_eq!(place(&[demand(8, 8, 0..4), demand(1, 4, 0..4)]), [0, 4]);
    }

    #[test]
    fn only_workers_that_suit_are_counted() {
        assert_eq!(place(&[demand(1, 4, 2..4), demand(1, 4, 0..4)]), [2, 2]);
    }

    #[test]
    fn workers_that_are_kept_for_a_job_are_given_to_no_other_though_it_comes_first() {
        let jobs = [demand(2, 4, 0..4), demand(1, 4, 0..4)];
        assert_eq!(placed(&jobs, &[]), [3, 1]);
        assert_eq!(placed(&jobs, &[0, 2]), [2, 2]);
        assert_eq!(placed(&jobs, &[0, 1, 2]), [0, 4], "too few are left");
    }

    proptest! {
        #[test]
        fn nobody_is_given_twice_and_nobody_gets_less_than_the_minimum(
            jobs in proptest::collection::vec((1usize..5, 0usize..6, 0u128..6, 0u128..6), 0..6),
        ) {
            let demands: Vec<Demand> = jobs
                .iter()
                .map(|(min, more, from, count)| demand(*min, min + more, *from..from + count))
                .collect();
            let given = place(&demands);
            prop_assert!(given.iter().sum::<usize>() <= 12);
            for (demand, given) in demands.iter().zip(given) {
                prop_assert!(given == 0 || (demand.min..=demand.wanted).contains(&given));
                prop_assert!(given <= demand.suited.len());
            }
        }
    }
}
