//! Times as people read them: how long ago, how long, when.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;
use time::macros::format_description;

/// Milliseconds since 1970 on this machine's clock.
pub(super) fn now() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH);
    since.map_or(0, |since| {
        i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
    })
}

/// `3 min ago`. What lies ahead, because two clocks differ, is now.
pub(super) fn ago(unix_ms: i64, now: i64) -> String {
    let passed = between(unix_ms, now);
    if passed < Duration::from_secs(1) {
        return "now".to_owned();
    }
    format!("{} ago", span(passed))
}

/// From one moment to a later one; nothing where it is not later.
pub(super) fn between(earlier: i64, later: i64) -> Duration {
    Duration::from_millis(u64::try_from(later.saturating_sub(earlier)).unwrap_or(0))
}

/// `0.8 s`, `12 s`, `3 min`, `5 h 20 min`, `3 d 4 h`.
pub(super) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..10 => {
            let tenths = time.as_millis() / 100;
            format!("{}.{} s", tenths / 10, tenths % 10)
        }
        10..60 => format!("{seconds} s"),
        60..3600 => format!("{minutes} min"),
        3600..86_400 => format!("{hours} h {} min", minutes % 60),
        86_400.. => format!("{days} d {} h", hours % 24),
    }
}

/// `2026-11-21 16:33:03Z`: the same clock as in the logs of coordinator and workers.
pub(super) fn stamp(unix_ms: i64) -> String {
    let format = format_description!("[year]-[month]-[day] [hour]:[minute]:[second]Z");
    let moment = OffsetDateTime::from_unix_timestamp_nanos(i128::from(unix_ms) * 1_000_000);
    let text = moment.ok().and_then(|moment| moment.format(format).ok());
    text.unwrap_or_else(|| format!("{unix_ms} ms"))
}

/// A moment of the protocol, where 0 says that it has not come.
pub(super) fn known(unix_ms: i64) -> Option<i64> {
    (unix_ms != 0).then_some(unix_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_span_has_at_most_two_units() {
        let spans = [
            (840, "0.8 s"),
            (9_999, "9.9 s"),
            (12_700, "12 s"),
            (200_000, "3 min"),
            (19_260_000, "5 h 21 min"),
            (273_600_000, "3 d 4 h"),
        ];
        for (milliseconds, text) in spans {
            assert_eq!(span(Duration::from_millis(milliseconds)), text);
        }
    }

    #[test]
    fn a_clock_that_is_ahead_makes_no_negative_times() {
        assert_eq!(ago(5_000, 1_000), "now");
        assert_eq!(ago(1_000, 181_000), "3 min ago");
    }

    #[test]
    fn a_moment_is_told_to_the_second_in_universal_time() {
        assert_eq!(stamp(1_795_278_783_999), "2026-11-21 16:33:03Z");
        assert_eq!(stamp(i64::MAX), "9223372036854775807 ms");
    }
}
