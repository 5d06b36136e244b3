//! A digest of integer gradients that adds up: the digests of all micro-batches sum to the digest of their sum.
//!
//! `Σ vᵢ·kᵢ mod 2^128` over the elements, with a fixed odd 64-bit key for each position. It costs four
//! multiplications an element, and any order of the elements gives the same value, so that it is
//! taken in parallel, bucket by bucket, and on a GPU. Workers make sure that the integer sums never wrap (a term is below
//! 2^51 in magnitude, and a step has fewer than 2^12 of them), so the coordinator, which holds the digests of a step's
//! micro-batches, can check a reduced sum end to end. It finds every change of a single element and, but for a chance of
//! about 2^-64, every accidental change of several; it is no defence against a forger.

use std::ops::AddAssign;

use crate::id::Digest;
use crate::wire::SumHealth;

/// How many gradient elements could not be represented as integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags {
    /// Infinite or not a number.
    pub non_finite: u64,
    /// Finite, but beyond the range.
    pub overflow: u64,
}

impl AddAssign for Flags {
    fn add_assign(&mut self, other: Self) {
        // Counts of elements do not wrap; what a broken worker claims might.
        self.non_finite = self.non_finite.wrapping_add(other.non_finite);
        self.overflow = self.overflow.wrapping_add(other.overflow);
    }
}

impl Flags {
    /// What they say of a sum. An infinity or NaN outweighs a value that is only too large.
    #[must_use]
    pub fn health(self) -> SumHealth {
        match self {
            Self {
                non_finite: 0,
                overflow: 0,
            } => SumHealth::Finite,
            Self { non_finite: 0, .. } => SumHealth::Overflow,
            Self { .. } => SumHealth::NonFinite,
        }
    }
}

/// The digest of some elements of a gradient, at their positions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SumDigest {
    mixed: u128,
    flags: Flags,
}

impl SumDigest {
    /// The digest of `values`, which lie at `first..` of the gradient.
    #[must_use]
    pub fn of(values: &[i64], first: usize) -> Self {
        let mixed = (first as u64..)
            .zip(values)
            .fold(0_u128, |sum, (position, &value)| {
                let term = i128::from(value) * i128::from(key(position));
                sum.wrapping_add(term.cast_unsigned())
            });
        Self {
            mixed,
            flags: Flags::default(),
        }
    }

    /// A digest that was taken elsewhere: `mixed` is Σ vᵢ·kᵢ mod 2^128.
    #[must_use]
    pub fn from_parts(mixed: u128, flags: Flags) -> Self {
        Self { mixed, flags }
    }

    /// This digest with what could not be represented.
    #[must_use]
    pub fn with_flags(self, flags: Flags) -> Self {
        Self { flags, ..self }
    }

    /// What could not be represented.
    #[must_use]
    pub fn flags(&self) -> Flags {
        self.flags
    }

    /// The digest of both, whether they are parts of one gradient or terms of a sum.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        let mut flags = self.flags;
        flags += other.flags;
        Self {
            mixed: self.mixed.wrapping_add(other.mixed),
            flags,
        }
    }
}

impl From<Digest> for SumDigest {
    /// The reverse of the other conversion: every value of 32 bytes is the digest of some gradient.
    fn from(digest: Digest) -> Self {
        let bytes = digest.0;
        let mut mixed = [0; 16];
        mixed.copy_from_slice(&bytes[..16]);
        let [mut non_finite, mut overflow] = [[0; 8]; 2];
        non_finite.copy_from_slice(&bytes[16..24]);
        overflow.copy_from_slice(&bytes[24..]);
        Self {
            mixed: u128::from_le_bytes(mixed),
            flags: Flags {
                non_finite: u64::from_le_bytes(non_finite),
                overflow: u64::from_le_bytes(overflow),
            },
        }
    }
}

impl std::iter::Sum for SumDigest {
    fn sum<I: Iterator<Item = Self>>(terms: I) -> Self {
        terms.fold(Self::default(), Self::plus)
    }
}

impl From<SumDigest> for Digest {
    /// 16 bytes of mixed elements and twice 8 bytes of flags, little-endian.
    fn from(digest: SumDigest) -> Self {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&digest.mixed.to_le_bytes());
        bytes[16..24].copy_from_slice(&digest.flags.non_finite.to_le_bytes());
        bytes[24..].copy_from_slice(&digest.flags.overflow.to_le_bytes());
        Self(bytes)
    }
}

/// The key of a position: odd, so that no change of one element maps to 0. Source: SplitMix64's output function.
fn key(position: u64) -> u64 {
    let mut z = position.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 31)) | 1
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_flipped_bit_and_every_swap_shows() {
        let values = [3, -5, 1 << 50, 0, i64::MIN];
        let original = SumDigest::of(&values, 0);
        for element in 0..values.len() {
            for bit in 0..64 {
                let mut changed = values;
                changed[element] ^= 1 << bit;
                assert_ne!(
                    SumDigest::of(&changed, 0),
                    original,
                    "element {element} bit {bit}"
                );
            }
        }
        let mut swapped = values;
        swapped.swap(0, 1);
        assert_ne!(SumDigest::of(&swapped, 0), original);
        let mut two_signs = values;
        two_signs[0] ^= i64::MIN;
        two_signs[1] ^= i64::MIN;
        assert_ne!(SumDigest::of(&two_signs, 0), original);
    }

    #[test]
    fn flags_are_part_of_it() {
        let flags = Flags {
            non_finite: 1,
            overflow: 0,
        };
        let plain = SumDigest::of(&[1], 0);
        assert_ne!(Digest::from(plain), Digest::from(plain.with_flags(flags)));
    }

    #[test]
    fn it_travels_in_thirty_two_bytes() {
        let flags = Flags {
            non_finite: 3,
            overflow: u64::MAX,
        };
        let sent = SumDigest::of(&[-7, 1 << 60], 5).with_flags(flags);
        assert_eq!(SumDigest::from(Digest::from(sent)), sent);
    }

    proptest! {
        #[test]
        fn digests_of_terms_add_up_to_the_digest_of_the_sum(
            terms in proptest::collection::vec((-(1_i64 << 51)..1 << 51, -(1_i64 << 51)..1 << 51), 1..40),
            cut in 0_usize..40,
        ) {
            let (a, b): (Vec<_>, Vec<_>) = terms.iter().copied().unzip();
            let sum: Vec<_> = terms.iter().map(|(a, b)| a + b).collect();
            let cut = cut.min(sum.len());
            let parts = SumDigest::of(&sum[..cut], 0).plus(SumDigest::of(&sum[cut..], cut));
            prop_assert_eq!(parts, SumDigest::of(&sum, 0));
            prop_assert_eq!(SumDigest::of(&a, 0).plus(SumDigest::of(&b, 0)), SumDigest::of(&sum, 0));
        }
    }
}
