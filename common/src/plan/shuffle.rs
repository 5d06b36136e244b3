//! A shuffle that can be asked for any position without remembering the others.
//!
//! A Fisher–Yates shuffle needs all positions at once, and resuming in the middle would mean replaying it. Here the
//! order of an epoch is a keyed permutation instead: a balanced Feistel network over the smallest even number of bits
//! that can count the rows, with cycle walking (Black and Rogaway, "Ciphers with Arbitrary Finite Domains", 2002): a
//! value outside the rows is enciphered again until it falls inside. A Feistel network is a bijection whatever its
//! round function is, and walking its cycles keeps it one on the rows.
//!
//! The network's domain is less than four times the rows, so a look-up takes fewer than four enciphers on average, and
//! always ends, because the cycle it walks returns to the row it started from.

/// Rounds of the network. Four make a pseudo-random permutation with ideal round functions (Luby and Rackoff); the
/// round function here is a plain mixer and small tables have few bits, so more are taken; they cost little beside
/// everything else that is done with a row.
const ROUNDS: usize = 10;

/// The order of the rows in one epoch.
#[derive(Debug, Clone)]
pub struct Shuffle {
    rows: u32,
    half_bits: u32,
    round_keys: [u64; ROUNDS],
}

impl Shuffle {
    /// The order of `rows` rows in epoch `epoch` under `seed`.
    #[must_use]
    pub fn new(seed: u64, epoch: u32, rows: u32) -> Self {
        let bits = u32::BITS - rows.saturating_sub(1).leading_zeros();
        let epoch_key = mix(mix(seed) ^ u64::from(epoch));
        Self {
            rows,
            half_bits: bits.div_ceil(2).max(1),
            round_keys: std::array::from_fn(|round| mix(epoch_key.wrapping_add(round as u64))),
        }
    }

    /// The row at `position` of the epoch. **Cost**: constant.
    ///
    /// # Panics
    /// If `position` is not below the number of rows.
    #[must_use]
    pub fn row_at(&self, position: u32) -> u32 {
        assert!(
            position < self.rows,
            "position {position} of an epoch of {} rows",
            self.rows
        );
        let mut value = u64::from(position);
        loop {
            value = self.encipher(value);
            if value < u64::from(self.rows) {
                return u32::try_from(value).expect("below `rows`, which is a u32");
            }
        }
    }

    fn encipher(&self, value: u64) -> u64 {
        let mask = (1u64 << self.half_bits) - 1;
        let (mut left, mut right) = (value >> self.half_bits, value & mask);
        for key in self.round_keys {
            (left, right) = (right, left ^ (mix(right ^ key) & mask));
        }
        left << self.half_bits | right
    }
}

/// Spreads every input bit over the whole word. Source: the finalizer of SplitMix64 (Steele, Lea, Flood 2014).
fn mix(value: u64) -> u64 {
    let value = value.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let value = (value ^ value >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    let value = (value ^ value >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
    value ^ value >> 31
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn every_row_comes_exactly_once(seed: u64, epoch in 0u32..1000, rows in 1u32..3000) {
            let shuffle = Shuffle::new(seed, epoch, rows);
            let mut order: Vec<u32> = (0..rows).map(|position| shuffle.row_at(position)).collect();
            order.sort_unstable();
            prop_assert_eq!(order, (0..rows).collect::<Vec<_>>());
        }
    }

    #[test]
    fn the_largest_table_can_be_shuffled() {
        let shuffle = Shuffle::new(3407, 0, u32::MAX);
        let rows: std::collections::BTreeSet<u32> =
            (0..1000).map(|at| shuffle.row_at(at)).collect();
        assert_eq!(rows.len(), 1000);
    }

    #[test]
    fn epochs_and_seeds_have_orders_of_their_own() {
        let order = |seed, epoch| {
            let shuffle = Shuffle::new(seed, epoch, 100);
            (0..100).map(|at| shuffle.row_at(at)).collect::<Vec<_>>()
        };
        assert_ne!(order(3407, 0), order(3407, 1));
        assert_ne!(order(3407, 0), order(3408, 0));
        assert_ne!(order(0, 1), order(1, 0));
    }

    /// The order is part of what a recipe means: it may change only together with the checkpoint format.
    #[test]
    fn the_order_never_changes_between_versions() {
        let shuffle = Shuffle::new(3407, 0, 10);
        let order: Vec<u32> = (0..10).map(|at| shuffle.row_at(at)).collect();
        assert_eq!(order, [3, 4, 0, 6, 7, 1, 9, 8, 5, 2]);
    }

    #[test]
    fn every_row_is_equally_likely_at_every_position() {
        // Chi-square with 19 degrees of freedom at each of 20 positions over 4000 epochs: its 99.999th percentile is 58.
        const ROWS: u32 = 20;
        const EPOCHS: u32 = 4000;
        let mut counts = vec![[0u32; ROWS as usize]; ROWS as usize];
        for epoch in 0..EPOCHS {
            let shuffle = Shuffle::new(42, epoch, ROWS);
            for position in 0..ROWS {
                counts[position as usize][shuffle.row_at(position) as usize] += 1;
            }
        }
        let expected = f64::from(EPOCHS / ROWS);
        for (position, row_counts) in counts.iter().enumerate() {
            let deviation = |&count: &u32| (f64::from(count) - expected).powi(2) / expected;
            let chi_square: f64 = row_counts.iter().map(deviation).sum();
            assert!(chi_square < 58.0, "position {position}: {chi_square}");
        }
    }
}
