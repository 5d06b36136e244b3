//! Weights that stay in 16 bits beside their 4, where there is memory that nothing else needs.
//!
//! Dequantization gives the same bits every time, so that keeping its result changes nothing but time. What is kept is what a
//! product reads, as it lies in the scratch otherwise: `[W | B]` forward, `[W ; A]` backward, of which B and A are written
//! anew at each use.

use std::collections::HashMap;
use std::sync::Mutex;

use super::{Cuda, Halves, locked};
use crate::cuda::GpuError;

/// Which product of a group reads the weights.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Way {
    Forward,
    Backward,
}

/// What a buffer of weights holds when it is lent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Holds {
    /// Whatever the last op left.
    Anything,
    /// The group's weights, in 16 bits.
    Weights,
}

/// The weights that are kept. They come one by one in the first pass, until the room is taken.
#[derive(Debug, Default)]
pub(super) struct Resident(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// Bytes that may still be taken.
    room: u64,
    /// By the address of the first matrix of a group.
    groups: HashMap<(u64, Way), Halves>,
}

impl Cuda {
    /// Lets weights stay in 16 bits, as far as `bytes` go.
    pub(super) fn let_weights_stay(&self, bytes: u64) {
        locked(&self.resident.0).room = bytes;
    }

    /// A buffer of at least `len` elements for the weights of the group that begins at address `first`, and what it holds.
    pub(super) fn with_weights<T>(
        &self,
        (first, way): (u64, Way),
        len: usize,
        work: impl FnOnce(&mut Halves, Holds) -> Result<T, GpuError>,
    ) -> Result<T, GpuError> {
        let mut kept = locked(&self.resident.0);
        if let Some(weights) = kept.groups.get_mut(&(first, way)) {
            return work(weights, Holds::Weights);
        }
        let Some(mut made) = self.more_weights(&mut kept, len) else {
            drop(kept);
            let anything = |weights: &mut Halves| work(weights, Holds::Anything);
            return self.scratch.with(&self.kernels, len, anything);
        };
        let done = work(&mut made, Holds::Anything)?;
        kept.groups.insert((first, way), made);
        Ok(done)
    }

    /// A buffer of `len` elements that stays, while there is room. Memory that another process took meanwhile is no fault.
    fn more_weights(&self, kept: &mut Kept, len: usize) -> Option<Halves> {
        let bytes = 2 * len as u64;
        let made = (bytes <= kept.room).then(|| self.kernels.halves(1, &[len], 0));
        match made {
            Some(Ok(mut made)) => {
                kept.room -= bytes;
                made.pop()
            }
            Some(Err(_)) => {
                kept.room = 0;
                None
            }
            None => None,
        }
    }
}
