//! Random numbers addressed by position: no state is shared, so the same numbers come out on every worker and in any order.

use std::f64::consts::TAU;

use sha2::{Digest as _, Sha256};

/// The random numbers of one purpose, named by a seed and a text.
pub(crate) struct Counter {
    key: u64,
}

impl Counter {
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let digest = Sha256::new()
            .chain_update(seed.to_le_bytes())
            .chain_update(name)
            .finalize();
        let mut key = [0; 8];
        key.copy_from_slice(&digest[..8]);
        Self {
            key: u64::from_le_bytes(key),
        }
    }

    /// Number `index`, uniform over all 64-bit values. Source: SplitMix64 (Steele, Lea, Flood 2014).
    pub(crate) fn bits(&self, index: u64) -> u64 {
        let mut z = self
            .key
            .wrapping_add(index.wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15));
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        z ^ (z >> 31)
    }

    /// Uniform in the open interval (0, 1).
    pub(crate) fn unit(&self, index: u64) -> f64 {
        ((self.bits(index) >> 11) as f64 + 0.5) / (1_u64 << 53) as f64
    }

    /// Standard normal, by Box and Muller.
    pub(crate) fn normal(&self, index: u64) -> f64 {
        let radius = (-2.0 * self.unit(2 * index).ln()).sqrt();
        radius * (TAU * self.unit(2 * index + 1)).cos()
    }
}
