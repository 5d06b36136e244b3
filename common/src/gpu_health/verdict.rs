//! What follows from how a GPU is.

use std::fmt;
use std::time::Duration;

use super::xid::{Remedy, Xid};
use super::{GpuHealth, Slowdown};

/// A driver that says nothing for so long hangs; it is looked at every few seconds.
const SILENT_AFTER: Duration = Duration::from_secs(60);

/// What follows from how a GPU is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing.
    Well,
    /// People should know, and work goes on.
    Watch(Vec<Concern>),
    /// No work must be given to it.
    Sick(Sickness),
}

/// Why no work must be given to a GPU.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sickness {
    /// The driver reported an error.
    Xid(Xid, Remedy),
    /// Memory errors that could not be corrected: so many.
    UncorrectedEcc(u64),
    /// Rows of memory that could not be replaced.
    RemapFailed,
    /// It cannot be reached any more.
    Lost,
}

/// What people should know of a GPU that goes on working.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Concern {
    /// The driver reported an error that does not concern the GPU's health, or not yet.
    Xid(Xid),
    /// Rows of memory are replaced at the next reset.
    RemapPending,
    /// It is slower than it could be.
    Slowdown(Slowdown),
    /// The driver does not answer.
    Silent(Duration),
}

/// Judges how a GPU is. The first error that came says most: others follow from it.
#[must_use]
pub fn judge(health: &GpuHealth) -> Verdict {
    let xid = health.xids.iter();
    let mut xid = xid.filter_map(|xid| Some(Sickness::Xid(*xid, xid.remedy()?)));
    let ecc = health.uncorrected_ecc;
    let sickness = xid
        .next()
        .or(health.lost.then_some(Sickness::Lost))
        .or((ecc > 0).then_some(Sickness::UncorrectedEcc(ecc)))
        .or(health.remap_failed.then_some(Sickness::RemapFailed));
    if let Some(sickness) = sickness {
        return Verdict::Sick(sickness);
    }
    let mut concerns: Vec<Concern> = health.xids.iter().copied().map(Concern::Xid).collect();
    concerns.extend(health.remap_pending.then_some(Concern::RemapPending));
    concerns.extend((!health.slowdown.is_none()).then_some(Concern::Slowdown(health.slowdown)));
    concerns.extend((health.age >= SILENT_AFTER).then_some(Concern::Silent(health.age)));
    match concerns.as_slice() {
        [] => Verdict::Well,
        _ => Verdict::Watch(concerns),
    }
}

impl Sickness {
    /// What must be done before the GPU can be computed with again.
    #[must_use]
    pub fn remedy(&self) -> Remedy {
        match self {
            Self::Xid(_, remedy) => *remedy,
            Self::UncorrectedEcc(_) | Self::RemapFailed => Remedy::Reset,
            Self::Lost => Remedy::Reboot,
        }
    }
}

impl Concern {
    /// Whether it is of the same kind: figures in it may differ.
    #[must_use]
    pub fn is_like(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Silent(_), Self::Silent(_)) => true,
            (one, other) => one == other,
        }
    }
}

/// `ok`, or what is wrong.
impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Well => f.write_str("ok"),
            Self::Watch(concerns) => {
                let concerns: Vec<String> = concerns.iter().map(ToString::to_string).collect();
                f.write_str(&concerns.join("; "))
            }
            Self::Sick(sickness) => sickness.fmt(f),
        }
    }
}

/// `GPU sick: XID 79 (it has fallen off the bus)`.
impl fmt::Display for Sickness {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("GPU sick: ")?;
        match self {
            Self::Xid(xid, _) => xid.fmt(f),
            Self::UncorrectedEcc(1) => f.write_str("1 memory error that could not be corrected"),
            Self::UncorrectedEcc(count) => {
                write!(f, "{count} memory errors that could not be corrected")
            }
            Self::RemapFailed => f.write_str("a row of memory could not be remapped"),
            Self::Lost => f.write_str("it cannot be reached any more"),
        }
    }
}

impl fmt::Display for Concern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Xid(xid) => xid.fmt(f),
            Self::RemapPending => f.write_str("memory is remapped at the next reset"),
            Self::Slowdown(slowdown) => write!(f, "throttled: {slowdown}"),
            Self::Silent(age) => write!(f, "its driver has said nothing for {} s", age.as_secs()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut GpuHealth)) -> GpuHealth {
        let mut health = GpuHealth::default();
        change(&mut health);
        health
    }

    fn sickness(health: &GpuHealth) -> String {
        match judge(health) {
            Verdict::Sick(sickness) => format!("{sickness}; {}", sickness.remedy()),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_quiet_gpu_is_well() {
        assert_eq!(judge(&GpuHealth::default()), Verdict::Well);
        let young = with(|health| health.age = SILENT_AFTER - Duration::from_secs(1));
        assert_eq!(judge(&young), Verdict::Well);
    }

    #[test]
    fn the_first_critical_error_names_the_sickness() {
        let health = with(|health| {
            health.xids = [31, 48, 79, 95].map(Xid).to_vec();
            health.uncorrected_ecc = 1;
        });
        assert_eq!(
            judge(&health),
            Verdict::Sick(Sickness::Xid(Xid(48), Remedy::Reset))
        );
        let lost = with(|health| health.lost = true);
        assert!(sickness(&lost).ends_with("reboot the machine"));
    }

    #[test]
    fn errors_of_memory_are_counted_and_ask_for_a_reset() {
        let two = with(|health| health.uncorrected_ecc = 2);
        let said = sickness(&two);
        assert!(said.contains("2 memory errors"), "{said}");
        assert!(said.contains("nvidia-smi --gpu-reset"), "{said}");
        let failed = with(|health| health.remap_failed = true);
        assert!(sickness(&failed).contains("could not be remapped"));
    }

    #[test]
    fn concerns_are_told_and_stop_nothing() {
        let health = with(|health| {
            health.xids = vec![Xid(63)];
            health.remap_pending = true;
            health.slowdown = Slowdown {
                hardware: true,
                thermal: true,
                power_brake: false,
            };
            health.age = Duration::from_secs(75);
        });
        assert_eq!(
            judge(&health).to_string(),
            "XID 63 (a row of memory is remapped at the next reset); memory is remapped at the next reset; throttled: too \
             hot; its driver has said nothing for 75 s"
        );
    }

    #[test]
    fn a_silence_that_grows_is_the_same_concern() {
        let silent = |seconds| Concern::Silent(Duration::from_secs(seconds));
        assert!(silent(60).is_like(&silent(99)));
        assert!(!silent(60).is_like(&Concern::RemapPending));
    }

    #[test]
    fn a_process_remembers_each_error_once_and_not_without_end() {
        let mut health = GpuHealth::default();
        for code in (0..40).chain(0..40) {
            health.saw(Xid(code));
        }
        assert_eq!(health.xids.len(), super::super::MOST_XIDS);
        assert_eq!(health.xids[..2], [Xid(0), Xid(1)]);
    }
}
