//! Places at which a test lets the process die or stand still, named by the environment variable `WEFT_FAILPOINT`.
//!
//! It is for tests. `WEFT_FAILPOINT=reduced:kill` ends the process as `kill -9` does when it comes to `reduced` for the
//! first time, `WEFT_FAILPOINT=reduced@3:stop` stops it as `kill -STOP` does at the third. Each fires once. Without the
//! variable a place costs a load and a branch.
//!
//! | name | whose | where |
//! | --- | --- | --- |
//! | `leased` | worker | a micro-batch is about to be computed |
//! | `computed` | worker | it is, and nobody has been told |
//! | `sealed` | worker | all micro-batches are in; its peers are about to be called |
//! | `reducing` | worker | inside the all-reduce: own terms sent, sums not yet |
//! | `reduced` | worker | it holds the sum, and nobody has been told |
//! | `committed` | worker | it was told that the step is durable, and has not applied it |
//! | `applied` | worker | it has, and nobody has been told |
//! | `snapshot` | worker | the state is copied for a checkpoint, nothing is written |
//! | `manifest` | worker | all files of a checkpoint are written but its manifest |
//! | `state-half-sent` | worker | one of the files of its state is sent to a joiner |
//! | `state-half-received` | worker | a joiner has the first piece of the state |
//! | `granting` | coordinator | a grant is about to be sent |
//! | `sealing` | coordinator | a seal is |
//! | `recording` | coordinator | the sum is agreed on, and its record not yet written |
//! | `recorded` | coordinator | the record is durable, and nobody has been told |
//! | `committing` | coordinator | a commit is about to be sent |
//! | `saving` | coordinator | a member is about to be asked for a checkpoint |
//! | `syncing` | coordinator | a joiner is about to be told whose state to copy |

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// Names the place, and what happens there.
pub const VARIABLE: &str = "WEFT_FAILPOINT";

#[derive(Debug, PartialEq, Eq)]
struct Failpoint {
    name: String,
    /// The hit that fires, from 1.
    at: u32,
    signal: &'static str,
}

impl Failpoint {
    fn parse(text: &str) -> Result<Self, String> {
        let (place, deed) = text.split_once(':').unwrap_or((text, ""));
        let (name, at) = place.split_once('@').unwrap_or((place, "1"));
        let signal = match deed {
            "kill" => "KILL",
            "stop" => "STOP",
            _ => return Err(format!("{deed:?} is neither kill nor stop")),
        };
        let at = at.parse().map_err(|_| format!("{at:?} is no count"))?;
        Ok(Self {
            name: name.to_owned(),
            at,
            signal,
        })
    }
}

/// Dies or stands still here, where `WEFT_FAILPOINT` says so; otherwise nothing.
pub fn hit(name: &str) {
    static FAILPOINT: OnceLock<Option<Failpoint>> = OnceLock::new();
    if let Some(failpoint) = FAILPOINT.get_or_init(from_environment) {
        reach(failpoint, name);
    }
}

fn from_environment() -> Option<Failpoint> {
    let text = std::env::var(VARIABLE).ok()?;
    Failpoint::parse(&text)
        .inspect_err(|why| tracing::error!("{VARIABLE}={text} is ignored: {why}"))
        .ok()
}

fn reach(failpoint: &Failpoint, name: &str) {
    static HITS: AtomicU32 = AtomicU32::new(0);
    if failpoint.name == name && HITS.fetch_add(1, Ordering::Relaxed) + 1 == failpoint.at {
        let signal = failpoint.signal;
        tracing::warn!(name, signal, "failpoint reached");
        signal_self(signal);
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

    #[test]
    fn a_failpoint_names_place_count_and_deed() {
        let parsed = Failpoint::parse("reduced@3:stop");
        let expected = Failpoint {
            name: "reduced".to_owned(),
            at: 3,
            signal: "STOP",
        };
        assert_eq!(parsed, Ok(expected));
        assert_eq!(Failpoint::parse("sealed:kill").map(|point| point.at), Ok(1));
        for text in ["sealed", "sealed:burn", "sealed@x:kill"] {
            assert!(Failpoint::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn without_the_variable_nothing_happens() {
        hit("sealed");
    }
}
