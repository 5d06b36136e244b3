//! The thread that looks, and what it saw last.

use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use tracing::{debug, warn};
use weft_common::gpu_health::GpuHealth;

use super::HealthSource;

/// A driver that took longer for its first answer hangs. A machine with many GPUs takes seconds.
const FIRST_WITHIN: Duration = Duration::from_secs(20);

/// What a GPU's driver said last.
#[derive(Debug, Clone)]
pub struct Monitor {
    last: Arc<Mutex<Seen>>,
}

#[derive(Debug)]
struct Seen {
    health: GpuHealth,
    at: Instant,
}

impl Monitor {
    /// Watches what `open` gives, on a thread of its own. Nothing where that gives nothing.
    ///
    /// The thread ends after the last copy of the monitor. Nobody waits for that: a driver that hangs would hang them too.
    #[must_use]
    pub fn start(
        open: impl FnOnce() -> Option<Box<dyn HealthSource>> + Send + 'static,
        every: Duration,
    ) -> Option<Self> {
        let last = Arc::new(Mutex::new(Seen {
            health: GpuHealth::default(),
            at: Instant::now(),
        }));
        let (looked, first) = mpsc::sync_channel(1);
        let seen = Arc::downgrade(&last);
        let watch = move || {
            let Some(mut source) = open() else { return };
            watch_once(&mut *source, Duration::ZERO, &seen);
            // Whoever waited may have given up.
            let _ = looked.send(());
            while watch_once(&mut *source, every, &seen) {}
        };
        let started = thread::Builder::new()
            .name("gpu-health".to_owned())
            .spawn(watch);
        if let Err(error) = started {
            warn!(%error, "no thread to watch the GPU with");
            return None;
        }
        match first.recv_timeout(FIRST_WITHIN) {
            Ok(()) => {}
            Err(RecvTimeoutError::Disconnected) => return None,
            Err(RecvTimeoutError::Timeout) => {
                warn!("the GPU's driver does not answer; the worker goes on and asks it again");
            }
        }
        Some(Self { last })
    }

    /// What the driver said last, and how long ago.
    #[must_use]
    pub fn now(&self) -> GpuHealth {
        let seen = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        GpuHealth {
            age: seen.at.elapsed(),
            ..seen.health.clone()
        }
    }
}

/// Looks once; false once nobody wants to know any more. The lock is not held while the driver is asked.
fn watch_once(source: &mut dyn HealthSource, patience: Duration, seen: &Weak<Mutex<Seen>>) -> bool {
    let Some(mut health) = read(seen) else {
        return false;
    };
    match source.look(patience, &mut health) {
        Ok(()) => write(seen, health, Some(Instant::now())),
        Err(why) => {
            debug!(why, "the GPU's driver does not say how it is");
            write(seen, health, None);
            // An answer that comes at once must not keep a processor busy.
            thread::sleep(patience);
        }
    }
    true
}

fn read(seen: &Weak<Mutex<Seen>>) -> Option<GpuHealth> {
    let seen = seen.upgrade()?;
    let seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
    Some(seen.health.clone())
}

/// Keeps what was read; `at` this moment, unless that is not all.
fn write(seen: &Weak<Mutex<Seen>>, health: GpuHealth, at: Option<Instant>) {
    if let Some(seen) = seen.upgrade() {
        let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.health = health;
        seen.at = at.unwrap_or(seen.at);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use weft_common::gpu_health::xid::Xid;

    use super::*;

    const SOON: Duration = Duration::from_millis(1);
    const DEADLINE: Duration = Duration::from_secs(20);

    /// Says one thing after another, and nothing once the test has nothing more for it.
    struct Script {
        says: Receiver<Result<u32, String>>,
        heard: SyncSender<()>,
    }

    impl HealthSource for Script {
        fn look(&mut self, _: Duration, health: &mut GpuHealth) -> Result<(), String> {
            let says = self.says.recv().map_err(|error| error.to_string())?;
            // The test may be over.
            let _ = self.heard.send(());
            health.saw(Xid(says?));
            Ok(())
        }
    }

    type Says = SyncSender<Result<u32, String>>;

    fn script() -> (Says, Receiver<()>, Box<dyn HealthSource>) {
        let (say, says) = sync_channel(8);
        let (heard, hears) = sync_channel(8);
        (say, hears, Box::new(Script { says, heard }))
    }

    #[test]
    fn a_monitor_starts_with_the_first_look_and_remembers_errors() {
        let (say, heard, source) = script();
        say.send(Ok(31)).unwrap();
        let monitor = Monitor::start(move || Some(source), SOON).unwrap();
        assert_eq!(monitor.now().xids, [Xid(31)]);

        say.send(Ok(79)).unwrap();
        say.send(Err("busy".to_owned())).unwrap();
        say.send(Ok(31)).unwrap();
        for _ in 0..4 {
            heard.recv_timeout(DEADLINE).unwrap();
        }
        // The last one is taken in before the next look.
        assert_eq!(monitor.now().xids, [Xid(31), Xid(79)]);
    }

    #[test]
    fn what_was_read_grows_old_where_the_driver_hangs() {
        let (say, _heard, source) = script();
        say.send(Ok(31)).unwrap();
        let monitor = Monitor::start(move || Some(source), SOON).unwrap();
        let (first, second) = (monitor.now(), monitor.now());
        assert!(second.age >= first.age);
        assert_eq!(first.xids, second.xids);
    }

    #[test]
    fn without_a_source_there_is_no_monitor() {
        assert!(Monitor::start(|| None, SOON).is_none());
    }

    #[test]
    fn the_thread_ends_after_the_last_copy() {
        let (say, heard, source) = script();
        say.send(Ok(1)).unwrap();
        let monitor = Monitor::start(move || Some(source), SOON).unwrap();
        drop(monitor);
        // The look in hand comes to its end, and the source goes with the thread.
        let _ = say.send(Ok(2));
        while heard.recv_timeout(DEADLINE).is_ok() {}
        assert!(say.send(Ok(3)).is_err());
    }
}
