//! The sum of a worker's micro-batch gradients, exact, and its reduction over all workers.

use rayon::prelude::*;
use weft_common::sum_digest::SumDigest;

use super::fixed_point::{self, Flags};
use crate::collective::{Cancel, Collective, CollectiveError};

/// Elements that one task converts at a time; fits the first-level cache beside its gradients.
const BLOCK: usize = 2048;

/// Elements that are summed over members through host memory at a time: 4 MB. Every member cuts the sums so, whatever it computes
/// on.
pub(crate) const BUCKET: usize = 512 * 1024;

/// Exact gradient sums of one step on one worker.
///
/// The sums are kept while they are reduced, so that a reduction that fails can be repeated with other members.
#[derive(Debug, Clone)]
pub struct Accumulator {
    sums: Vec<i64>,
    flags: Flags,
    slot: SumDigest,
}

/// What a reduction over all workers found, besides the gradient.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReducedSum {
    /// Digest of the summed integers and flags; equal on every member.
    pub digest: SumDigest,
    /// The same of what this member put in, as it was read for that.
    pub part: SumDigest,
    /// What could not be represented in any micro-batch of any member; the gradient is of use only if nothing.
    pub flags: Flags,
}

impl Accumulator {
    /// An empty sum of `len` elements.
    #[must_use]
    pub fn new(len: usize) -> Self {
        Self {
            sums: vec![0; len],
            flags: Flags::default(),
            slot: SumDigest::default(),
        }
    }

    /// How many elements a gradient has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.sums.len()
    }

    /// Whether gradients have no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.sums.is_empty()
    }

    /// Adds a part of one micro-batch's gradient, which starts at `offset`. Cost: one pass over the part.
    ///
    /// # Panics
    /// If the part reaches beyond the gradient.
    pub fn add(&mut self, offset: usize, grads: &[f32]) {
        let sums = &mut self.sums[offset..][..grads.len()];
        let part = sums
            .par_chunks_mut(BLOCK)
            .zip(grads.par_chunks(BLOCK))
            .enumerate()
            .map(|(block, (sums, grads))| add_block(sums, grads, offset + block * BLOCK))
            .reduce(SumDigest::default, SumDigest::plus);
        self.flags += part.flags();
        self.slot = self.slot.plus(part);
    }

    /// Ends a micro-batch: the digest of everything added since the last one ended.
    pub fn end_slot(&mut self) -> SumDigest {
        std::mem::take(&mut self.slot)
    }

    /// Adds all that `staged` holds and empties it. Cost: one pass over both.
    ///
    /// # Panics
    /// If `staged` has another length.
    pub fn absorb(&mut self, staged: &mut Self) {
        assert_eq!(staged.len(), self.len(), "sums of the same gradient");
        self.sums
            .par_chunks_mut(BLOCK)
            .zip(staged.sums.par_chunks_mut(BLOCK))
            .for_each(|(sums, terms)| {
                for (sum, term) in sums.iter_mut().zip(terms) {
                    *sum = sum.wrapping_add(std::mem::take(term));
                }
            });
        self.flags += std::mem::take(&mut staged.flags);
        self.slot = self.slot.plus(std::mem::take(&mut staged.slot));
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.sums.fill(0);
        self.flags = Flags::default();
        self.slot = SumDigest::default();
    }

    /// Sums over all members into `grads`, bucket by bucket through a bounce buffer; the own sums stay.
    ///
    /// # Errors
    /// The collective's; `grads` is unspecified then and the call can be repeated with another collective.
    ///
    /// # Panics
    /// If `grads` has another length.
    pub fn reduce(
        &self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
        grads: &mut [f32],
    ) -> Result<ReducedSum, CollectiveError> {
        assert_eq!(grads.len(), self.sums.len(), "one gradient for each sum");
        let flags = self.reduce_flags(collective, cancel)?;
        let mut digest = SumDigest::default().with_flags(flags);
        let mut part = SumDigest::default().with_flags(self.flags);
        let mut bounce = vec![0; BUCKET.min(self.sums.len())];
        let buckets = self.sums.chunks(BUCKET).zip(grads.chunks_mut(BUCKET));
        for (index, (sums, grads)) in buckets.enumerate() {
            let bounce = &mut bounce[..sums.len()];
            bounce.copy_from_slice(sums);
            part = part.plus(digest_of(bounce, index * BUCKET));
            collective.all_reduce_sum(bounce, cancel)?;
            digest = digest.plus(convert_bucket(bounce, grads, index * BUCKET));
        }
        Ok(ReducedSum {
            digest,
            part,
            flags,
        })
    }

    /// The two reserved elements: how many gradient elements could not be represented.
    fn reduce_flags(
        &self,
        collective: &mut dyn Collective,
        cancel: &Cancel,
    ) -> Result<Flags, CollectiveError> {
        let mut counts = [self.flags.non_finite, self.flags.overflow].map(u64::cast_signed);
        collective.all_reduce_sum(&mut counts, cancel)?;
        let [non_finite, overflow] = counts.map(i64::cast_unsigned);
        Ok(Flags {
            non_finite,
            overflow,
        })
    }
}

fn add_block(sums: &mut [i64], grads: &[f32], first: usize) -> SumDigest {
    let mut fixed = [0; BLOCK];
    let fixed = &mut fixed[..grads.len()];
    let flags = fixed_point::to_fixed(grads, fixed);
    for (sum, term) in sums.iter_mut().zip(&*fixed) {
        *sum = sum.wrapping_add(*term);
    }
    SumDigest::of(fixed, first).with_flags(flags)
}

fn digest_of(sums: &[i64], first: usize) -> SumDigest {
    sums.par_chunks(BLOCK)
        .enumerate()
        .map(|(block, sums)| SumDigest::of(sums, first + block * BLOCK))
        .reduce(SumDigest::default, SumDigest::plus)
}

fn convert_bucket(sums: &[i64], grads: &mut [f32], first: usize) -> SumDigest {
    sums.par_chunks(BLOCK)
        .zip(grads.par_chunks_mut(BLOCK))
        .enumerate()
        .map(|(block, (sums, grads))| {
            for (grad, &sum) in grads.iter_mut().zip(sums) {
                *grad = fixed_point::to_float(sum);
            }
            SumDigest::of(sums, first + block * BLOCK)
        })
        .reduce(SumDigest::default, SumDigest::plus)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::collective::Local;

    /// Gradients of very different magnitudes, for which f32 sums depend on the order.
    fn gradient(slot: usize, len: usize) -> Vec<f32> {
        let value = |i: usize| {
            let bits = ((slot * 7919 + i + 1) as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
            let magnitude = 2_f32.powi(-((bits % 45) as i32));
            magnitude * ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0)
        };
        (0..len).map(value).collect()
    }

    fn reduced(accumulator: &Accumulator) -> (Vec<f32>, ReducedSum) {
        let mut grads = vec![f32::NAN; accumulator.len()];
        let sum = accumulator
            .reduce(&mut Local, &Cancel::new(), &mut grads)
            .unwrap();
        (grads, sum)
    }

    #[test]
    fn order_parts_and_threads_do_not_change_a_bit() {
        let len = 3 * BLOCK + 17;
        let mut whole = Accumulator::new(len);
        for slot in 0..9 {
            whole.add(0, &gradient(slot, len));
        }
        let mut parts = Accumulator::new(len);
        let one_thread = rayon::ThreadPoolBuilder::new()
            .num_threads(1)
            .build()
            .unwrap();
        for slot in (0..9).rev() {
            let grads = gradient(slot, len);
            one_thread.install(|| parts.add(5000, &grads[5000..]));
            parts.add(0, &grads[..5000]);
        }
        assert_eq!(reduced(&whole), reduced(&parts));
    }

    #[test]
    fn slot_digests_add_up_to_the_digest_of_the_sum() {
        let mut accumulator = Accumulator::new(100);
        let mut slots = SumDigest::default();
        for slot in 0..5 {
            accumulator.add(0, &gradient(slot, 100));
            slots = slots.plus(accumulator.end_slot());
        }
        let sum = reduced(&accumulator).1;
        assert_eq!((sum.digest, sum.part), (slots, slots));
    }

    #[test]
    fn a_reduction_can_be_repeated_and_clearing_forgets() {
        let mut accumulator = Accumulator::new(40);
        accumulator.add(0, &gradient(1, 40));
        let first = reduced(&accumulator);
        assert_eq!(reduced(&accumulator), first);
        assert_eq!(
            first.0,
            gradient(1, 40)
                .iter()
                .map(|g| fixed_then_float(*g))
                .collect::<Vec<_>>()
        );

        accumulator.add(0, &[f32::NAN]);
        accumulator.clear();
        accumulator.add(0, &gradient(1, 40));
        assert_eq!(reduced(&accumulator), first);
    }

    #[test]
    fn flags_of_every_slot_reach_the_sum() {
        let mut accumulator = Accumulator::new(3);
        accumulator.add(1, &[f32::INFINITY]);
        accumulator.add(0, &[1.0, 1e30, f32::NAN]);
        let flags = reduced(&accumulator).1.flags;
        assert_eq!(
            flags,
            Flags {
                non_finite: 2,
                overflow: 1
            }
        );
    }

    #[test]
    fn absorbing_equals_adding_and_leaves_nothing() {
        let len = BLOCK + 5;
        let (mut direct, mut staging) = (Accumulator::new(len), Accumulator::new(len));
        let mut sick = gradient(2, len);
        (sick[0], sick[7]) = (f32::NAN, 1e30);
        let mut main = Accumulator::new(len);
        for slot in [gradient(1, len), sick, gradient(3, len)] {
            direct.add(0, &slot);
            staging.add(0, &slot);
            assert_eq!(staging.end_slot(), direct.end_slot());
            main.absorb(&mut staging);
        }
        assert_eq!(reduced(&main), reduced(&direct));
        assert_eq!(reduced(&staging), reduced(&Accumulator::new(len)));
    }

    fn fixed_then_float(grad: f32) -> f32 {
        let mut fixed = [0];
        fixed_point::to_fixed(&[grad], &mut fixed);
        fixed_point::to_float(fixed[0])
    }
}
