//! Everything that training goes on from.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use weft_common::id::Digest;

use crate::lora::Adapter;
use crate::train::optimizer::{AdamW, Moments};

/// Bytes that one task hashes; part of the digest's definition.
const HASHED_PIECE: usize = 1 << 20;

/// The adapter and its optimizer after some steps.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainState {
    /// The adapter.
    pub adapter: Adapter,
    /// Its optimizer.
    pub optimizer: AdamW,
    /// Where training stands.
    pub progress: Progress,
}

/// Where training stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Progress {
    /// The step that comes next: so many are committed.
    pub next_step: u64,
    /// Optimizer updates among them.
    pub updates: u64,
    /// Steps that passed without an update, because their gradient was not finite.
    pub skipped_steps: u64,
}

impl TrainState {
    /// SHA-256 over the progress and the SHA-256 of every piece of every array, in the layout's order. **Cost**: reads the
    /// state once, on all threads.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let Progress {
            next_step,
            updates,
            skipped_steps,
        } = self.progress;
        let mut arrays: Vec<&[u8]> = vec![bytemuck::cast_slice(self.adapter.values())];
        for tensor in self.optimizer.tensors() {
            match &tensor.moments {
                Moments::Fp32 { first, second } => {
                    arrays.extend([
                        bytemuck::cast_slice(first),
                        bytemuck::cast_slice::<f32, u8>(second),
                    ]);
                }
                Moments::Blocks { first, second } => {
                    for moment in [first, second] {
                        arrays.extend([
                            moment.codes.as_slice(),
                            bytemuck::cast_slice(&moment.absmax),
                        ]);
                    }
                }
            }
        }
        let pieces: Vec<&[u8]> = arrays
            .iter()
            .flat_map(|array| array.chunks(HASHED_PIECE))
            .collect();
        let digests: Vec<Digest> = pieces.into_par_iter().map(Digest::of).collect();
        let mut hash = sha2::Sha256::new();
        for number in [next_step, updates, skipped_steps] {
            hash.update(number.to_le_bytes());
        }
        digests.iter().for_each(|digest| hash.update(digest.0));
        Digest(hash.finalize().into())
    }
}
