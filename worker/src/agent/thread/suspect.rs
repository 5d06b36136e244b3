//! Which neighbour ended a collective.

use weft_common::id::Rank;

use crate::collective::{Cancel, Collective, CollectiveError};

/// A collective whose error is looked at on its way through the engine.
pub(super) struct Watched<'a> {
    collective: &'a mut dyn Collective,
    /// The neighbour that is probably gone.
    pub(super) suspect: Option<Rank>,
}

impl<'a> Watched<'a> {
    pub(super) fn new(collective: &'a mut dyn Collective) -> Self {
        Self {
            collective,
            suspect: None,
        }
    }
}

impl Collective for Watched<'_> {
    fn world(&self) -> u32 {
        self.collective.world()
    }

    fn rank(&self) -> Rank {
        self.collective.rank()
    }

    fn all_reduce_sum(&mut self, buf: &mut [i64], cancel: &Cancel) -> Result<(), CollectiveError> {
        let summed = self.collective.all_reduce_sum(buf, cancel);
        if let Err(error) = &summed {
            self.suspect = error.suspect();
        }
        summed
    }
}
