//! When the last checkpoint is too old.

use std::fmt;
use std::time::Duration;

use crate::time::Timestamp;

/// Below this age no alarm: a restarted worker or a store that is down for a minute is no news.
const ALWAYS_FINE: Duration = Duration::from_secs(300);

/// How old the last complete checkpoint may become.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CheckpointAge {
    /// When the last complete one was reported, or training began.
    pub since: Timestamp,
    /// How long it takes from one to the next, by `save_steps` and the time of a step; `None` where only the final one is
    /// written.
    pub every: Option<Duration>,
}

/// The last checkpoint is too old.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AgeAlarm {
    /// How old it is.
    pub age: Duration,
    /// How often one is due.
    pub every: Duration,
}

impl CheckpointAge {
    /// The alarm that is due at `now`: two in a row are overdue, and five minutes have passed.
    #[must_use]
    pub fn alarm(&self, now: Timestamp) -> Option<AgeAlarm> {
        let every = self.every?;
        let age = now.since(self.since);
        (age > (every * 2).max(ALWAYS_FINE)).then_some(AgeAlarm { age, every })
    }
}

impl fmt::Display for AgeAlarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the last complete checkpoint is {} old, though one is due every {}; if all workers stopped now, so much work \
             would be lost: see why the checkpoints before failed, and look at the store and the disk",
            in_words(self.age),
            in_words(self.every)
        )
    }
}

fn in_words(time: Duration) -> String {
    match time.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{:.1} h", seconds as f64 / 3600.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_secs(seconds))
    }

    fn age(every_seconds: u64) -> CheckpointAge {
        CheckpointAge {
            since: at(1000),
            every: Some(Duration::from_secs(every_seconds)),
        }
    }

    #[test]
    fn two_missing_checkpoints_are_an_alarm_with_its_figures() {
        assert_eq!(age(600).alarm(at(2200)), None);
        let alarm = age(600).alarm(at(2201)).unwrap();
        let text = alarm.to_string();
        assert!(
            text.contains("20 min old") && text.contains("every 10 min"),
            "{text}"
        );
    }

    #[test]
    fn a_minute_without_a_store_is_no_alarm() {
        assert_eq!(age(10).alarm(at(1000 + 300)), None);
        assert!(age(10).alarm(at(1000 + 301)).is_some());
    }

    #[test]
    fn a_run_that_saves_only_at_its_end_has_no_alarm() {
        let never = CheckpointAge {
            every: None,
            ..age(1)
        };
        assert_eq!(never.alarm(at(1_000_000)), None);
    }
}
