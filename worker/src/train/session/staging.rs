//! Room for the gradient of one micro-batch of which it is not yet known whether it counts.

use std::ops::Range;

use weft_common::sum_digest::SumDigest;

use super::snapshot::internal;
use crate::agent::EngineError;
use crate::collective::Cancel;
use crate::train::{Backend, GradSink};

/// Second sums, allocated when the first micro-batch is staged.
#[derive(Debug)]
pub(super) struct Staging<S> {
    len: usize,
    room: Option<S>,
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

impl<S> Staging<S> {
    /// Empty room for a gradient of `len` elements.
    pub(super) fn new(len: usize) -> Self {
        Self {
            len,
            room: None,
            holds: Holds::Nothing,
        }
    }

    /// What is allocated.
    pub(super) fn bytes<B: Backend<Sums = S>>(&self, backend: &B) -> u64 {
        self.room
            .as_ref()
            .map_or(0, |room| backend.sums_bytes(room))
    }

    /// Where the gradient of a micro-batch goes, times `unscale`, until `cancel` is raised. What was staged before is forgotten.
    pub(super) fn begin<'a, B: Backend<Sums = S>>(
        &'a mut self,
        backend: &'a B,
        unscale: f32,
        cancel: &'a Cancel,
    ) -> StagedSink<'a, B> {
        self.discard(backend);
        self.holds = Holds::Part;
        let room = self.room.get_or_insert_with(|| backend.new_sums(self.len));
        StagedSink {
            backend,
            room,
            unscale,
            cancel,
        }
    }

    /// The micro-batch is whole: its digest.
    pub(super) fn end<B: Backend<Sums = S>>(&mut self, backend: &B) -> SumDigest {
        self.holds = Holds::Whole;
        self.room
            .as_mut()
            .map(|room| backend.end_slot(room))
            .unwrap_or_default()
    }

    /// Adds the staged micro-batch to `sums`.
    pub(super) fn merge_into<B: Backend<Sums = S>>(
        &mut self,
        backend: &B,
        sums: &mut S,
    ) -> Result<(), EngineError> {
        match &mut self.room {
            Some(room) if self.holds == Holds::Whole => {
                backend.absorb(sums, room);
                self.holds = Holds::Nothing;
                Ok(())
            }
            Some(_) | None => Err(internal("nothing is staged that could count".to_owned())),
        }
    }

    /// Forgets what is staged, whole or not.
    pub(super) fn discard<B: Backend<Sums = S>>(&mut self, backend: &B) {
        if let (Some(room), Holds::Part | Holds::Whole) = (&mut self.room, self.holds) {
            backend.clear(room);
        }
        self.holds = Holds::Nothing;
    }
}

/// Hands finished gradients to the staging room while they are wanted.
pub(super) struct StagedSink<'a, B: Backend> {
    backend: &'a B,
    room: &'a mut B::Sums,
    unscale: f32,
    cancel: &'a Cancel,
}

impl<B: Backend> GradSink<B::Floats> for StagedSink<'_, B> {
    fn accept(&mut self, range: Range<usize>, grad: &B::Floats) {
        self.backend.add(self.room, range, grad, self.unscale);
    }

    fn abandoned(&self) -> bool {
        self.cancel.is_cancelled()
    }
}
