//! How long the hub may take.

use std::time::Duration;

/// How long the hub may take, and how often it is asked again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HubLimits {
    /// How long a connection may take.
    pub connect: Duration,
    /// How long one attempt may take, beside the time that its bytes take.
    pub attempt: Duration,
    /// The slowest transfer, in bytes a second, that is waited for.
    pub slowest: u64,
    /// How long a request is tried again after its start.
    pub retry_within: Duration,
    /// The pause after the first failure; it doubles up to thirty times this.
    pub first_pause: Duration,
    /// Parts of one file that are on their way at a time.
    pub parts_at_a_time: usize,
}

impl Default for HubLimits {
    fn default() -> Self {
        Self {
            connect: Duration::from_secs(10),
            attempt: Duration::from_secs(60),
            // A tenth of what a home connection uploads.
            slowest: 128 << 10,
            retry_within: Duration::from_secs(180),
            first_pause: Duration::from_secs(1),
            parts_at_a_time: 4,
        }
    }
}

impl HubLimits {
    /// How long one attempt to send `bytes` may take.
    pub(super) fn attempt_for(&self, bytes: u64) -> Duration {
        self.attempt + Duration::from_secs(bytes / self.slowest.max(1))
    }

    /// The pause after `failed` attempts.
    pub(super) fn pause(&self, failed: u32) -> Duration {
        self.first_pause * 2_u32.saturating_pow(failed.saturating_sub(1)).min(30)
    }
}
