//! Waiting for what can only be asked.

use std::time::{Duration, Instant};

use crate::collective::CollectiveError;

/// What is done this soon is not slept for.
const SPIN: Duration = Duration::from_micros(50);

/// Sleeps are a sixteenth of the time waited so far, within these bounds, so that they add little to it.
const SLEEP: (Duration, Duration) = (Duration::from_micros(20), Duration::from_millis(1));

/// Looks until there is something to see; nothing where the last look, after `within`, saw nothing.
pub(super) fn poll<T>(
    within: Duration,
    mut look: impl FnMut() -> Result<Option<T>, CollectiveError>,
) -> Result<Option<T>, CollectiveError> {
    let start = Instant::now();
    loop {
        let waited = start.elapsed();
        if let Some(seen) = look()? {
            return Ok(Some(seen));
        }
        if waited >= within {
            return Ok(None);
        }
        if waited < SPIN {
            std::hint::spin_loop();
        } else {
            let (shortest, longest) = SLEEP;
            std::thread::sleep((waited / 16).clamp(shortest, longest));
        }
    }
}
