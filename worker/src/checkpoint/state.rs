//! Everything that training goes on from.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::Digest as _;
use weft_common::id::Digest;
use weft_common::sum_digest::SumDigest;

use crate::lora::Adapter;
use crate::train::LossScale;
use crate::train::optimizer::{AdamW, Moments};

/// Bytes that one task digests; whole words.
const PIECE: usize = 1 << 16;

/// Bytes of a word.
const WORD: usize = 8;

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
    /// What the loss of the next step is scaled by, where gradients have so little range that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loss_scale: Option<LossScale>,
}

impl TrainState {
    /// SHA-256 over the progress and, for each array in the layout's order, its length in bytes and its linear digest: its
    /// bytes as little-endian 64-bit words, the last one filled with zeros, taken as [`SumDigest::of`] from position 0 on.
    /// A linear digest is what a GPU can take of its own memory. **Cost**: reads the state once, on all threads.
    #[must_use]
    pub fn digest(&self) -> Digest {
        let mut hash = StateHash::new(self.progress);
        for array in self.arrays() {
            hash.array_of(array);
        }
        hash.finish()
    }

    /// The bytes of all arrays, in the layout's order.
    #[must_use]
    pub fn arrays(&self) -> Vec<&[u8]> {
        let mut arrays: Vec<&[u8]> = vec![bytemuck::cast_slice(self.adapter.values())];
        for tensor in self.optimizer.tensors() {
            match &tensor.moments {
                Moments::Fp32 { first, second } => {
                    arrays.extend([first, second].map(|moment| bytemuck::cast_slice(moment)));
                }
                Moments::Blocks { first, second } => {
                    for moment in [first, second] {
                        arrays.push(&moment.codes);
                        arrays.push(bytemuck::cast_slice(&moment.absmax));
                    }
                }
            }
        }
        arrays
    }

    /// The same, to be written to.
    pub fn arrays_mut(&mut self) -> Vec<&mut [u8]> {
        let mut arrays: Vec<&mut [u8]> = vec![bytemuck::cast_slice_mut(self.adapter.values_mut())];
        for tensor in self.optimizer.tensors_mut() {
            match &mut tensor.moments {
                Moments::Fp32 { first, second } => {
                    arrays.extend([first, second].map(|moment| bytemuck::cast_slice_mut(moment)));
                }
                Moments::Blocks { first, second } => {
                    for moment in [first, second] {
                        arrays.push(&mut moment.codes);
                        arrays.push(bytemuck::cast_slice_mut(&mut moment.absmax));
                    }
                }
            }
        }
        arrays
    }
}

/// A state's digest in the making: arrays come in the layout's order.
pub(crate) struct StateHash(sha2::Sha256);

impl StateHash {
    pub(crate) fn new(progress: Progress) -> Self {
        let Progress {
            next_step,
            updates,
            skipped_steps,
            loss_scale,
        } = progress;
        let mut hash = sha2::Sha256::new();
        for number in [next_step, updates, skipped_steps] {
            hash.update(number.to_le_bytes());
        }
        // A state without one has the digest that it had before there was any.
        if let Some(scale) = loss_scale {
            for number in [scale.scale(), scale.good_steps()] {
                hash.update(u64::from(number).to_le_bytes());
            }
        }
        Self(hash)
    }

    /// The next array, digested elsewhere.
    pub(crate) fn array(&mut self, bytes: usize, digest: SumDigest) {
        self.0.update((bytes as u64).to_le_bytes());
        // The mixed words; what follows them are flags, which a state has none of.
        self.0.update(&Digest::from(digest).0[..16]);
    }

    /// The next array.
    fn array_of(&mut self, bytes: &[u8]) {
        self.array(bytes.len(), linear_digest(bytes));
    }

    pub(crate) fn finish(self) -> Digest {
        Digest(self.0.finalize().into())
    }
}

/// The linear digest of bytes as little-endian words, the last one filled with zeros.
fn linear_digest(bytes: &[u8]) -> SumDigest {
    let of_piece = |(piece, bytes): (usize, &[u8])| {
        let words: Vec<i64> = bytes.chunks(WORD).map(word).collect();
        SumDigest::of(&words, piece * (PIECE / WORD))
    };
    bytes
        .par_chunks(PIECE)
        .enumerate()
        .map(of_piece)
        .reduce(SumDigest::default, SumDigest::plus)
}

fn word(bytes: &[u8]) -> i64 {
    let mut word = [0; WORD];
    word[..bytes.len()].copy_from_slice(bytes);
    i64::from_le_bytes(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_of_an_array_add_up_and_the_last_word_is_filled_with_zeros() {
        let mut bytes: Vec<u8> = (0..PIECE * 2 + 12).map(|i| (i * 31 % 251) as u8).collect();
        bytes[7] |= 0x80;
        let mut filled = bytes.clone();
        filled.resize(bytes.len().next_multiple_of(WORD), 0);
        let words: Vec<i64> = filled.chunks(WORD).map(word).collect();
        assert_eq!(linear_digest(&bytes), SumDigest::of(&words, 0));
        assert!(words[0] < 0, "signs are kept");
    }

    #[test]
    fn a_loss_scale_is_part_of_the_digest_and_none_adds_nothing() {
        let digest_of = |loss_scale| {
            StateHash::new(Progress {
                next_step: 3,
                loss_scale,
                ..Progress::default()
            })
            .finish()
        };
        let plain = [3_u64, 0, 0].map(u64::to_le_bytes).concat();
        assert_eq!(digest_of(None), Digest::of(&plain));
        let scale = LossScale::default();
        let digests = [Some(scale), Some(scale.after_update())].map(digest_of);
        assert_ne!(digests[0], digests[1]);
        assert!(!digests.contains(&digest_of(None)));
    }

    #[test]
    fn an_array_that_loses_zeros_at_its_end_is_another() {
        let digest_of = |len| {
            let mut hash = StateHash::new(Progress::default());
            hash.array_of(&vec![0; len]);
            hash.finish()
        };
        assert_ne!(digest_of(8), digest_of(12));
    }
}
