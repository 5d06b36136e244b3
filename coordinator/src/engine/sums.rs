//! What members summed, checked against what they said of each micro-batch before.
//!
//! Digests of micro-batches add up (see [`SumDigest`]): those that a member computed must come to the digest of what it
//! put in, and all of them to the digest of the sum. So whoever is wrong is known, be it one of two.

use std::collections::BTreeMap;
use std::fmt;

use weft_common::id::WorkerId;
use weft_common::sum_digest::SumDigest;
use weft_common::wire::{ReducedReport, RejectReason, SumHealth};

/// What members said of one reduction.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Sums {
    said: BTreeMap<WorkerId, Said>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Said {
    part: SumDigest,
    sum: SumDigest,
    health: SumHealth,
}

/// What is wrong with what a member said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mistake {
    /// What it put in is not what it said of its micro-batches.
    Part,
    /// What it got is not the sum of what all put in.
    Sum,
}

impl fmt::Display for Mistake {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Part => "what it put into the sum is not what it had said of its micro-batches",
            Self::Sum => "its sum is not that of all micro-batches",
        })
    }
}

/// What follows from what all members said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SumsVerdict {
    /// The sum is that of the micro-batches, on every member.
    Proven(SumDigest),
    /// These members are wrong.
    Wrong(Vec<(WorkerId, Mistake)>),
}

impl Sums {
    /// Takes what one member says.
    ///
    /// # Errors
    /// It said so before.
    pub fn take(&mut self, worker: WorkerId, report: &ReducedReport) -> Result<(), RejectReason> {
        if self.said.contains_key(&worker) {
            return Err(RejectReason::Phase);
        }
        let said = Said {
            part: report.part.into(),
            sum: report.digest.into(),
            health: report.health,
        };
        self.said.insert(worker, said);
        Ok(())
    }

    /// Whether a member has said what it has.
    #[must_use]
    pub fn has(&self, worker: WorkerId) -> bool {
        self.said.contains_key(&worker)
    }

    /// Who has.
    pub fn members(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.said.keys().copied()
    }

    /// How many have.
    #[must_use]
    pub fn count(&self) -> usize {
        self.said.len()
    }

    /// Checks what all said against the digests of the micro-batches that each computed.
    ///
    /// Where a part is wrong, so is every sum that it went into, and only the part counts.
    #[must_use]
    pub fn verdict(&self, computed: &BTreeMap<WorkerId, SumDigest>) -> SumsVerdict {
        let said = || self.said.iter().map(|(worker, said)| (*worker, *said));
        let parts: Vec<_> = said()
            .filter(|(worker, said)| said.part != computed.get(worker).copied().unwrap_or_default())
            .map(|(worker, _)| (worker, Mistake::Part))
            .collect();
        let total: SumDigest = computed.values().copied().sum();
        let right = (total, total.flags().health());
        let sums: Vec<_> = said()
            .filter(|(_, said)| (said.sum, said.health) != right)
            .map(|(worker, _)| (worker, Mistake::Sum))
            .collect();
        match (parts.is_empty(), sums.is_empty()) {
            (false, _) => SumsVerdict::Wrong(parts),
            (true, false) => SumsVerdict::Wrong(sums),
            (true, true) => SumsVerdict::Proven(total),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use weft_common::id::{Epoch, Step, Term};
    use weft_common::sum_digest::Flags;
    use weft_common::wire::Membership;

    use super::*;

    fn digest(value: i64) -> SumDigest {
        SumDigest::of(&[value, -3 * value], 0)
    }

    fn worker(number: usize) -> WorkerId {
        WorkerId::from_number(number as u128)
    }

    fn report(part: SumDigest, sum: SumDigest) -> ReducedReport {
        let membership = Membership {
            job: "job-1".parse().unwrap(),
            term: Term(1),
            epoch: Epoch(1),
        };
        ReducedReport {
            round: membership.round(Step(0)),
            digest: sum.into(),
            part: part.into(),
            health: sum.flags().health(),
            elapsed: Duration::ZERO,
        }
    }

    /// Members that computed what comes to `computed`, and say that they put in and got what `said` says.
    fn verdict(computed: &[i64], said: &[(i64, i64)]) -> SumsVerdict {
        let mut sums = Sums::default();
        for (number, (part, sum)) in said.iter().enumerate() {
            let report = report(digest(*part), digest(*sum));
            sums.take(worker(number), &report).unwrap();
        }
        let computed = computed.iter().enumerate();
        sums.verdict(
            &computed
                .map(|(n, part)| (worker(n), digest(*part)))
                .collect(),
        )
    }

    #[test]
    fn a_sum_of_all_that_was_computed_is_proven() {
        let proven = SumsVerdict::Proven(digest(12));
        assert_eq!(verdict(&[5, 7], &[(5, 12), (7, 12)]), proven);
        let idle = verdict(&[12], &[(12, 12), (0, 12)]);
        assert_eq!(idle, proven, "who computed nothing puts in nothing");
    }

    #[test]
    fn of_two_the_one_with_another_sum_is_known() {
        let wrong = SumsVerdict::Wrong(vec![(worker(1), Mistake::Sum)]);
        assert_eq!(verdict(&[5, 7], &[(5, 12), (7, 13)]), wrong);
    }

    #[test]
    fn who_puts_in_something_else_than_it_said_is_known_though_all_agree_on_the_sum() {
        let wrong = SumsVerdict::Wrong(vec![(worker(0), Mistake::Part)]);
        assert_eq!(verdict(&[5, 7], &[(6, 13), (7, 13)]), wrong);
    }

    #[test]
    fn what_is_lost_on_the_way_is_everybodys_mistake() {
        let both = vec![(worker(0), Mistake::Sum), (worker(1), Mistake::Sum)];
        let wrong = SumsVerdict::Wrong(both);
        assert_eq!(verdict(&[5, 7], &[(5, 11), (7, 11)]), wrong);
    }

    #[test]
    fn who_lies_about_the_health_of_a_sum_is_known() {
        let sick = digest(5).with_flags(Flags {
            non_finite: 1,
            overflow: 0,
        });
        let computed = [(worker(0), sick)].into();
        let mut honest = Sums::default();
        honest.take(worker(0), &report(sick, sick)).unwrap();
        assert_eq!(honest.verdict(&computed), SumsVerdict::Proven(sick));
        let mut liar = Sums::default();
        let lie = ReducedReport {
            health: SumHealth::Finite,
            ..report(sick, sick)
        };
        liar.take(worker(0), &lie).unwrap();
        let wrong = SumsVerdict::Wrong(vec![(worker(0), Mistake::Sum)]);
        assert_eq!(liar.verdict(&computed), wrong);
    }

    #[test]
    fn nobody_says_twice() {
        let mut sums = Sums::default();
        let report = report(digest(1), digest(1));
        assert_eq!(sums.take(worker(0), &report), Ok(()));
        assert_eq!(sums.take(worker(0), &report), Err(RejectReason::Phase));
        assert!(sums.has(worker(0)) && !sums.has(worker(1)));
    }
}
