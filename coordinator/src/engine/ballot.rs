//! A vote on a digest: members that did the same work must report the same one.

use std::collections::BTreeMap;

use weft_common::id::{Digest, WorkerId};
use weft_common::wire::RejectReason;

/// The votes of one round.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Ballot {
    votes: BTreeMap<WorkerId, Digest>,
}

/// What the votes say so far.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum BallotVerdict {
    /// Members are missing.
    Open,
    /// All agree.
    Unanimous(Digest),
    /// They do not: these are outside the majority, or all where there is none.
    Split(Vec<WorkerId>),
}

impl Ballot {
    /// Takes one vote.
    ///
    /// # Errors
    /// The voter voted before.
    pub(super) fn cast(&mut self, voter: WorkerId, digest: Digest) -> Result<(), RejectReason> {
        if self.votes.contains_key(&voter) {
            return Err(RejectReason::Phase);
        }
        self.votes.insert(voter, digest);
        Ok(())
    }

    /// Takes a vote back.
    pub(super) fn withdraw(&mut self, voter: WorkerId) {
        self.votes.remove(&voter);
    }

    /// Who voted.
    pub(super) fn voters(&self) -> impl Iterator<Item = WorkerId> + '_ {
        self.votes.keys().copied()
    }

    /// Counts, once `world` members voted.
    pub(super) fn verdict(&self, world: usize) -> BallotVerdict {
        if self.votes.len() < world {
            return BallotVerdict::Open;
        }
        let mut counts: BTreeMap<Digest, usize> = BTreeMap::new();
        for digest in self.votes.values() {
            *counts.entry(*digest).or_default() += 1;
        }
        let majority = counts.iter().find(|(_, count)| **count * 2 > world);
        match majority {
            Some((digest, count)) if *count == world => BallotVerdict::Unanimous(*digest),
            Some((digest, _)) => BallotVerdict::Split(self.voters_outside(Some(*digest))),
            None => BallotVerdict::Split(self.voters_outside(None)),
        }
    }

    pub(super) fn voters_outside(&self, majority: Option<Digest>) -> Vec<WorkerId> {
        let outside = self.votes.iter().filter(|(_, d)| Some(**d) != majority);
        outside.map(|(voter, _)| *voter).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ballot(votes: &[&str]) -> Ballot {
        let mut ballot = Ballot::default();
        for (number, vote) in votes.iter().enumerate() {
            let voter = WorkerId::from_number(number as u128);
            ballot.cast(voter, Digest::of(vote.as_bytes())).unwrap();
        }
        ballot
    }

    #[test]
    fn the_odd_one_of_three_is_named() {
        let odd = vec![WorkerId::from_number(1)];
        assert_eq!(
            ballot(&["a", "b", "a"]).verdict(3),
            BallotVerdict::Split(odd)
        );
    }

    #[test]
    fn two_that_disagree_are_both_named() {
        let both = vec![WorkerId::from_number(0), WorkerId::from_number(1)];
        assert_eq!(ballot(&["a", "b"]).verdict(2), BallotVerdict::Split(both));
    }

    #[test]
    fn a_second_vote_is_refused() {
        let mut ballot = ballot(&["a"]);
        let again = ballot.cast(WorkerId::from_number(0), Digest::of(b"b"));
        assert_eq!(again, Err(RejectReason::Phase));
        assert_eq!(
            ballot.verdict(1),
            BallotVerdict::Unanimous(Digest::of(b"a"))
        );
    }
}
