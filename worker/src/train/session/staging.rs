//! Room for the gradient of one micro-batch of which it is not yet known whether it counts.

use std::ops::Range;

use weft_common::sum_digest::SumDigest;

use super::snapshot::internal;
use crate::agent::EngineError;
use crate::collective::Cancel;
use crate::train::GradSink;
use crate::train::accumulator::Accumulator;

/// A second accumulator, allocated when the first micro-batch is staged.
#[derive(Debug)]
pub(super) struct Staging {
    len: usize,
    room: Option<Accumulator>,
    holds: Holds,
}

/// What is in the room.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Nothing,
    /// A part of a micro-batch.
    Part,
    /// A micro-batch.
    Whole,
}

impl Staging {
    /// Empty room for a gradient of `len` elements.
    pub(super) fn new(len: usize) -> Self {
        Self {
            len,
            room: None,
            holds: Holds::Nothing,
        }
    }

    /// What is allocated.
    pub(super) fn bytes(&self) -> u64 {
        let allocated = self.room.as_ref().map_or(0, Accumulator::len);
        (allocated * size_of::<i64>()) as u64
    }

    /// Where the gradient of a micro-batch goes, until `cancel` is raised. What was staged before is forgotten.
    pub(super) fn begin<'a>(&'a mut self, cancel: &'a Cancel) -> StagedSink<'a> {
        self.discard();
        self.holds = Holds::Part;
        let room = self.room.get_or_insert_with(|| Accumulator::new(self.len));
        StagedSink { room, cancel }
    }

    /// The micro-batch is whole: its digest.
    pub(super) fn end(&mut self) -> SumDigest {
        self.holds = Holds::Whole;
        self.room
            .as_mut()
            .map(Accumulator::end_slot)
            .unwrap_or_default()
    }

    /// Adds the staged micro-batch to `accumulator`.
    pub(super) fn merge_into(&mut self, accumulator: &mut Accumulator) -> Result<(), EngineError> {
        match &mut self.room {
            Some(room) if self.holds == Holds::Whole => {
                accumulator.absorb(room);
                self.holds = Holds::Nothing;
                Ok(())
            }
            Some(_) | None => Err(internal("nothing is staged that could count".to_owned())),
        }
    }

    /// Forgets what is staged, whole or not.
    pub(super) fn discard(&mut self) {
        if let (Some(room), Holds::Part | Holds::Whole) = (&mut self.room, self.holds) {
            room.clear();
        }
        self.holds = Holds::Nothing;
    }
}

/// Hands finished gradients to the staging room while they are wanted.
pub(super) struct StagedSink<'a> {
    room: &'a mut Accumulator,
    cancel: &'a Cancel,
}

impl GradSink for StagedSink<'_> {
    fn accept(&mut self, range: Range<usize>, grad: &Vec<f32>) {
        self.room.add(range.start, &grad[..range.len()]);
    }

    fn abandoned(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
