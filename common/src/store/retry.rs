//! One operation: attempts with a deadline each, pauses between them, an end.

use std::pin::Pin;
use std::time::Duration;

use object_store::Error;
use tokio::time::{Instant, sleep, timeout};

use super::error::{StoreError, StoreFault, shortened};
use super::limits::{StoreLimits, random};

/// How often something damaged is read: more often than a network between damages it, and no longer than a person waits
/// for one that is damaged for good.
const READS_OF_DAMAGED: u32 = 3;

/// The future of one attempt.
pub(super) type Attempt<T> = Pin<Box<dyn Future<Output = Result<T, Failed>> + Send>>;

/// An attempt that failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) fault: StoreFault,
    pub(super) detail: String,
}

impl Failed {
    pub(super) fn new(fault: StoreFault, detail: impl std::fmt::Display) -> Self {
        let detail = shortened(&detail.to_string());
        Self { fault, detail }
    }
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::new(StoreFault::of(&error), &error)
    }
}

/// What is tried, for errors and deadlines.
#[derive(Debug, Clone)]
pub(super) struct Operation {
    /// A verb.
    pub(super) doing: &'static str,
    /// The object's address.
    pub(super) at: String,
    /// Bytes that it moves.
    pub(super) bytes: u64,
}

impl Operation {
    /// An error before anything was tried.
    pub(super) fn failed(&self, failed: Failed) -> StoreError {
        self.error(failed, 1, Duration::ZERO)
    }

    fn error(&self, failed: Failed, attempts: u32, took: Duration) -> StoreError {
        StoreError {
            doing: self.doing,
            at: self.at.clone(),
            fault: failed.fault,
            attempts,
            took,
            detail: failed.detail,
        }
    }
}

/// Tries until an attempt succeeds, fails for a reason that does not pass, or `limits.retry_within` is over. What is
/// damaged is read three times.
pub(super) async fn persist<T>(
    operation: &Operation,
    limits: &StoreLimits,
    attempt: impl Fn() -> Attempt<T>,
) -> Result<T, StoreError> {
    let start = Instant::now();
    let within = limits.attempt_for(operation.bytes);
    let (mut attempts, mut damaged) = (0, 0);
    loop {
        attempts += 1;
        let failed = match timeout(within, attempt()).await {
            Ok(Ok(done)) => return Ok(done),
            Ok(Err(failed)) => failed,
            Err(_) => Failed::new(
                StoreFault::Slow,
                format_args!("nothing after {:.0} s", within.as_secs_f64()),
            ),
        };
        damaged += u32::from(failed.fault == StoreFault::Damaged);
        let pause = limits.pause(attempts, random());
        let hopeless = !failed.fault.passes() || damaged >= READS_OF_DAMAGED;
        if hopeless || start.elapsed() + pause > limits.retry_within {
            return Err(operation.error(failed, attempts, start.elapsed()));
        }
        tracing::debug!(
            doing = operation.doing,
            at = operation.at,
            attempts,
            fault = ?failed.fault,
            detail = failed.detail,
            "the store is asked again"
        );
        sleep(pause).await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    fn operation() -> Operation {
        Operation {
            doing: "write",
            at: "s3://runs/x".to_owned(),
            bytes: 0,
        }
    }

    /// Fails `times` with `fault`, then succeeds with the number of attempts.
    fn failing(times: u32, fault: StoreFault) -> impl Fn() -> Attempt<u32> {
        let made = Arc::new(AtomicU32::new(0));
        move || {
            let attempt = made.fetch_add(1, Ordering::Relaxed) + 1;
            Box::pin(async move {
                if attempt > times {
                    return Ok(attempt);
                }
                Err(Failed::new(fault, "no"))
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn errors_of_a_minute_are_sat_out() {
        let start = Instant::now();
        let attempt = || -> Attempt<()> {
            Box::pin(async move {
                if start.elapsed() > Duration::from_secs(60) {
                    return Ok(());
                }
                Err(Failed::new(StoreFault::Failing, "500"))
            })
        };
        persist(&operation(), &StoreLimits::default(), attempt)
            .await
            .unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_never_recovers_is_given_up_in_time() {
        let start = Instant::now();
        let limits = StoreLimits::default();
        let error = persist(
            &operation(),
            &limits,
            failing(u32::MAX, StoreFault::Failing),
        )
        .await
        .unwrap_err();
        assert_eq!(error.fault, StoreFault::Failing);
        assert!(error.attempts > 5 && start.elapsed() <= limits.retry_within);
    }

    #[tokio::test(start_paused = true)]
    async fn a_store_that_hangs_is_given_up_in_time() {
        let start = Instant::now();
        let limits = StoreLimits::default();
        let hang = || -> Attempt<()> { Box::pin(std::future::pending()) };
        let error = persist(&operation(), &limits, hang).await.unwrap_err();
        assert_eq!(error.fault, StoreFault::Slow);
        assert!(start.elapsed() <= limits.retry_within + limits.attempt);
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_damaged_is_read_three_times() {
        let limits = StoreLimits::default();
        let attempt = failing(2, StoreFault::Damaged);
        assert_eq!(persist(&operation(), &limits, attempt).await.unwrap(), 3);
        let attempt = failing(3, StoreFault::Damaged);
        let error = persist(&operation(), &limits, attempt).await.unwrap_err();
        assert_eq!((error.fault, error.attempts), (StoreFault::Damaged, 3));
    }

    #[tokio::test]
    async fn what_does_not_pass_is_not_tried_again() {
        let error = persist(
            &operation(),
            &StoreLimits::default(),
            failing(1, StoreFault::Denied),
        )
        .await
        .unwrap_err();
        assert_eq!((error.fault, error.attempts), (StoreFault::Denied, 1));
    }
}
