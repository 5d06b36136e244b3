//! Hosts whose workers come and go: each short life keeps the next one out for longer.

use std::collections::BTreeMap;
use std::time::Duration;

use weft_common::time::Timestamp;

/// A worker that lived longer did not flap.
const SHORT_LIFE: Duration = Duration::from_secs(30);

/// Short lives that cost nothing: a process that is killed now and then is replaced at once.
const FREE: u32 = 3;

/// The first wait; each further short life doubles it.
const FIRST_WAIT: Duration = Duration::from_secs(1);

/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(60);

/// After this time without a loss a host starts anew.
const FORGIVEN_AFTER: Duration = Duration::from_secs(120);

/// Hosts that are remembered; the one that was lost longest ago goes first.
const HOSTS: usize = 1024;

/// What is remembered of hosts.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub(super) struct Flapping {
    hosts: BTreeMap<String, Strikes>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Strikes {
    short_lives: u32,
    last: Timestamp,
    barred_until: Timestamp,
}

impl Flapping {
    /// A worker of `host` is gone after it `lived`.
    pub(super) fn lost(&mut self, host: &str, lived: Duration, now: Timestamp) {
        let strikes = self.entry(host);
        if now.since(strikes.last) >= FORGIVEN_AFTER {
            strikes.short_lives = 0;
        }
        strikes.last = now;
        if lived >= SHORT_LIFE {
            return;
        }
        strikes.short_lives += 1;
        if let Some(doublings) = strikes.short_lives.checked_sub(FREE + 1) {
            let wait = FIRST_WAIT * 2_u32.saturating_pow(doublings.min(10));
            strikes.barred_until = strikes.barred_until.max(now.plus(wait.min(LONGEST_WAIT)));
        }
    }

    /// Whether a host is kept out now.
    #[must_use]
    pub(super) fn is_barred(&self, host: &str, now: Timestamp) -> bool {
        let strikes = self.hosts.get(host);
        strikes.is_some_and(|strikes| now < strikes.barred_until)
    }

    fn entry(&mut self, host: &str) -> &mut Strikes {
        if self.hosts.len() >= HOSTS && !self.hosts.contains_key(host) {
            let oldest = self.hosts.iter().min_by_key(|(_, strikes)| strikes.last);
            if let Some(oldest) = oldest.map(|(host, _)| host.clone()) {
                self.hosts.remove(&oldest);
            }
        }
        self.hosts.entry(host.to_owned()).or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::after_start(Duration::from_secs(seconds))
    }

    #[test]
    fn the_first_short_lives_cost_nothing_and_each_further_one_twice_as_much() {
        let mut flapping = Flapping::default();
        for _ in 0..3 {
            flapping.lost("a", Duration::ZERO, at(10));
            assert!(!flapping.is_barred("a", at(10)));
        }
        flapping.lost("a", Duration::ZERO, at(10));
        assert!(flapping.is_barred("a", at(10)) && !flapping.is_barred("a", at(11)));
        flapping.lost("a", Duration::ZERO, at(11));
        assert!(flapping.is_barred("a", at(12)) && !flapping.is_barred("a", at(13)));
        assert!(!flapping.is_barred("b", at(12)));
    }

    #[test]
    fn long_lives_and_time_are_forgiven() {
        let mut flapping = Flapping::default();
        for second in 0..20 {
            flapping.lost("a", Duration::from_secs(31), at(second));
        }
        assert!(!flapping.is_barred("a", at(20)));
        for _ in 0..20 {
            flapping.lost("a", Duration::ZERO, at(20));
        }
        assert!(flapping.is_barred("a", at(79)) && !flapping.is_barred("a", at(80)));
        flapping.lost("a", Duration::ZERO, at(200));
        assert!(!flapping.is_barred("a", at(200)));
    }
}
