//! Places at which a test lets the process die, stand still, be slow or get a GPU that is sick, named by the environment
//! variable `WEFT_FAILPOINT`.
//!
//! It is for tests. `WEFT_FAILPOINT=reduced:kill` ends the process as `kill -9` does when it comes to `reduced` for the
//! first time, `WEFT_FAILPOINT=reduced@3:stop` stops it as `kill -STOP` does at the third, and with `hang` the thread
//! that comes there never goes on. Each fires once; `WEFT_FAILPOINT=leased@2:delay-500` takes half a second at the second
//! time and at every later one. With `xid-79` the worker's GPU has this error of NVIDIA's driver from then on, be the
//! worker one without a GPU. Several are separated by commas. Without the variable a place costs a load and a branch.
//!
//! | name | whose | where |
//! | --- | --- | --- |
//! | `joined` | worker | it was told the members of an epoch |
//! | `leased` | worker | a micro-batch is about to be computed |
//! | `computed` | worker | it is, and nobody has been told |
//! | `sealed` | worker | all micro-batches are in; its peers are about to be called |
//! | `reducing` | worker | inside the all-reduce: own terms sent, sums not yet |
//! | `reduced` | worker | it holds the sum, and nobody has been told |
//! | `committed` | worker | it was told that the step is durable, and has not applied it |
//! | `applied` | worker | it has, and nobody has been told |
//! | `snapshot` | worker | the state is copied for a checkpoint, nothing is written |
//! | `manifest` | worker | all files of a checkpoint are written but its manifest |
//! | `settling` | worker | its session has ended, and it is about to say what it holds |
//! | `state-half-sent` | worker | a part of its state is about to be sent to a joiner |
//! | `state-half-received` | worker | a joiner has the first piece of the state |
//! | `gpu-looked` | worker | its GPU is about to be asked how it is; only with an error of it |
//! | `token` | `weft serve` | another token is generated, and nobody has been told |
//! | `granting` | coordinator | a grant is about to be sent |
//! | `sealing` | coordinator | a seal is |
//! | `recording` | coordinator | the sum is agreed on, and its record not yet written |
//! | `recorded` | coordinator | the record is durable, and nobody has been told |
//! | `committing` | coordinator | a commit is about to be sent |
//! | `saving` | coordinator | a member is about to be asked for a checkpoint |
//! | `exporting` | `weft export` | another tensor is about to be written |
//! | `syncing` | coordinator | a joiner is about to be told whose state to copy |

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Names the place, and what happens there.
pub const VARIABLE: &str = "WEFT_FAILPOINT";

#[derive(Debug, PartialEq, Eq)]
struct Failpoint {
    name: String,
    /// The hit that fires, from 1.
    at: u32,
    deed: Deed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Deed {
    /// The process gets this signal.
    Signal(&'static str),
    /// The thread never goes on.
    Hang,
    /// The thread sleeps, now and at each later hit.
    Delay(Duration),
    /// The GPU has this error from now on.
    GpuError(u32),
}

impl Failpoint {
    /// Several, separated by commas.
    fn parse_all(text: &str) -> Result<Vec<Self>, String> {
        text.split(',').map(Self::parse).collect()
    }

    fn parse(text: &str) -> Result<Self, String> {
        let (place, deed) = text.split_once(':').unwrap_or((text, ""));
        let (name, at) = place.split_once('@').unwrap_or((place, "1"));
        let at = at.parse().map_err(|_| format!("{at:?} is no count"))?;
        Ok(Self {
            name: name.to_owned(),
            at,
            deed: Deed::parse(deed)?,
        })
    }

    fn fires(&self, name: &str, hits: &AtomicU32) -> bool {
        if self.name != name {
            return false;
        }
        let hit = hits.fetch_add(1, Ordering::Relaxed) + 1;
        match self.deed {
            Deed::Signal(_) | Deed::Hang | Deed::GpuError(_) => hit == self.at,
            Deed::Delay(_) => hit >= self.at,
        }
    }
}

impl Deed {
    fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('-').unwrap_or((text, "")) {
            ("kill", "") => Ok(Self::Signal("KILL")),
            ("stop", "") => Ok(Self::Signal("STOP")),
            ("hang", "") => Ok(Self::Hang),
            ("delay", millis) => {
                let millis = millis.parse();
                let millis = millis.map_err(|_| format!("{text:?} names no milliseconds"))?;
                Ok(Self::Delay(Duration::from_millis(millis)))
            }
            ("xid", code) => {
                let code = code.parse();
                code.map(Self::GpuError)
                    .map_err(|_| format!("{text:?} names no error code"))
            }
            _ => Err(format!(
                "{text:?} is neither kill, stop, hang, delay-MILLISECONDS nor xid-CODE"
            )),
        }
    }
}

/// What the variable names, each with how often its place was come to.
static FAILPOINTS: OnceLock<Vec<(Failpoint, AtomicU32)>> = OnceLock::new();

/// No error of the driver.
const NO_ERROR: u32 = u32::MAX;

/// The error of the GPU that came last.
static GPU_ERROR: AtomicU32 = AtomicU32::new(NO_ERROR);

/// Dies, stands still, is slow or gets a sick GPU here, where `WEFT_FAILPOINT` says so; otherwise nothing.
pub fn hit(name: &str) {
    let here = failpoints().iter();
    for (failpoint, _) in here.filter(|(failpoint, hits)| failpoint.fires(name, hits)) {
        fire(failpoint);
    }
}

/// Whether the GPU has, or will have, an error that a test makes.
#[must_use]
pub fn gives_errors() -> bool {
    let mut all = failpoints().iter();
    all.any(|(failpoint, _)| matches!(failpoint.deed, Deed::GpuError(_)))
}

/// The error of NVIDIA's driver that the GPU has by the will of a test.
#[must_use]
pub fn gpu_error() -> Option<u32> {
    Some(GPU_ERROR.load(Ordering::Relaxed)).filter(|code| *code != NO_ERROR)
}

fn failpoints() -> &'static [(Failpoint, AtomicU32)] {
    FAILPOINTS.get_or_init(|| {
        let failpoints = from_environment().into_iter();
        let failpoints = failpoints.map(|failpoint| (failpoint, AtomicU32::new(0)));
        failpoints.collect()
    })
}

fn from_environment() -> Vec<Failpoint> {
    let Ok(text) = std::env::var(VARIABLE) else {
        return Vec::new();
    };
    Failpoint::parse_all(&text)
        .inspect_err(|why| tracing::error!("{VARIABLE}={text} is ignored: {why}"))
        .unwrap_or_default()
}

fn fire(failpoint: &Failpoint) {
    let Failpoint { name, deed, .. } = failpoint;
    tracing::warn!(name, ?deed, "failpoint reached");
    match deed {
        Deed::Signal(signal) => signal_self(signal),
        Deed::Hang => loop {
            thread::park();
        },
        Deed::Delay(time) => thread::sleep(*time),
        Deed::GpuError(code) => GPU_ERROR.store(*code, Ordering::Relaxed),
    }
}

/// By way of the shell, which can signal where the standard library cannot. Returns once the signal has had its effect.
fn signal_self(signal: &str) {
    let status = Command::new("sh")
        .args(["-c", &format!("kill -{signal} $PPID")])
        .stdin(Stdio::null())
        .status();
    if let Err(error) = status {
        tracing::error!(%error, "no shell to send the signal with");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn point(text: &str) -> Failpoint {
        Failpoint::parse(text).unwrap()
    }

    #[test]
    fn a_failpoint_names_place_count_and_deed() {
        let expected = Failpoint {
            name: "reduced".to_owned(),
            at: 3,
            deed: Deed::Signal("STOP"),
        };
        assert_eq!(point("reduced@3:stop"), expected);
        assert_eq!(point("sealed:kill").at, 1);
        assert_eq!(point("settling:hang").deed, Deed::Hang);
        let half = Deed::Delay(Duration::from_millis(500));
        assert_eq!(point("leased:delay-500").deed, half);
        assert_eq!(point("leased:xid-79").deed, Deed::GpuError(79));
        let several = Failpoint::parse_all("leased@3:xid-79,leased:delay-500").unwrap();
        assert_eq!(
            several,
            [point("leased@3:xid-79"), point("leased:delay-500")]
        );
        for text in [
            "sealed",
            "sealed:burn",
            "sealed@x:kill",
            "leased:delay-long",
            "leased:kill-9",
            "leased:xid",
        ] {
            assert!(Failpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_signal_fires_once_and_a_delay_from_then_on() {
        let fires = |text: &str| {
            let (point, hits) = (point(text), AtomicU32::new(0));
            let places = ["sealed", "leased", "sealed", "sealed"];
            places.map(|place| point.fires(place, &hits))
        };
        assert_eq!(fires("sealed@2:kill"), [false, false, true, false]);
        assert_eq!(fires("sealed@2:delay-1"), [false, false, true, true]);
    }

    #[test]
    fn without_the_variable_nothing_happens() {
        hit("sealed");
    }
}
