//! How long a store may take.

use std::time::Duration;

/// How long a store may take, and how often it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoreLimits {
    /// How long one attempt may take, beside the time that its bytes take.
    pub attempt: Duration,
    /// The slowest transfer, in bytes a second, that is waited for.
    pub slowest: u64,
    /// How long an operation is tried again after its start.
    pub retry_within: Duration,
    /// The longest pause between two attempts; the first is a hundredth of it.
    pub longest_pause: Duration,
    /// Files above this size go to a bucket in parts of this size, each tried again on its own.
    pub part_bytes: u64,
}

impl Default for StoreLimits {
    fn default() -> Self {
        Self {
            attempt: Duration::from_secs(20),
            // A tenth of what a home connection uploads.
            slowest: 256 << 10,
            // An outage of a minute passes; the coordinator waits ten minutes for the last checkpoint.
            retry_within: Duration::from_secs(120),
            longest_pause: Duration::from_secs(10),
            // S3 takes parts from 5 MiB on and at most 10,000 of them.
            part_bytes: 64 << 20,
        }
    }
}

impl StoreLimits {
    /// How long one attempt to move `bytes` may take.
    #[must_use]
    pub(super) fn attempt_for(&self, bytes: u64) -> Duration {
        self.attempt + Duration::from_secs(bytes / self.slowest.max(1))
    }

    /// The pause after `failed` attempts. Doubles from a hundredth of the longest, and a random half of it is left out, so
    /// that workers which failed together do not come back together. `random` is any number.
    #[must_use]
    pub(super) fn pause(&self, failed: u32, random: u64) -> Duration {
        let doubled =
            self.longest_pause / 100 * 2u32.saturating_pow(failed.saturating_sub(1).min(16));
        let whole = doubled.min(self.longest_pause);
        whole / 2 + whole / 2 * u32::from(random as u8) / 255
    }
}

/// A number that differs from process to process and call to call.
pub(super) fn random() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest_and_spread_over_half_of_it() {
        let limits = StoreLimits::default();
        assert_eq!(limits.pause(1, 255), Duration::from_millis(100));
        assert_eq!(limits.pause(1, 0), Duration::from_millis(50));
        assert_eq!(limits.pause(3, 255), Duration::from_millis(400));
        for failed in [8, 20, u32::MAX] {
            assert_eq!(limits.pause(failed, 255), limits.longest_pause);
            assert_eq!(limits.pause(failed, 0), limits.longest_pause / 2);
        }
    }

    #[test]
    fn a_large_file_gets_the_time_that_its_bytes_take() {
        let limits = StoreLimits::default();
        assert_eq!(limits.attempt_for(0), limits.attempt);
        let more = limits.attempt_for(100 * limits.slowest) - limits.attempt;
        assert_eq!(more, Duration::from_secs(100));
    }
}
