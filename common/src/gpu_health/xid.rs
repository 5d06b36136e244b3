//! Error codes of NVIDIA's driver.

use std::fmt;

/// An error code of NVIDIA's driver, as its kernel log has it: `NVRM: Xid (PCI:0000:65:00): 79, …`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Xid(pub u32);

/// What must be done before the GPU can be computed with again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// The error was kept to the process that met it; the GPU should be reset when there is time.
    Restart,
    /// Reset the GPU.
    Reset,
    /// Start the machine anew.
    Reboot,
}

/// Codes after which the GPU, or what the process has on it, cannot be relied on.
///
/// Source: NVIDIA's catalog for Ampere and newer (docs.nvidia.com/deploy/xid-errors): codes whose immediate action is to
/// reset the GPU or to restart the machine, those whose workflow leads there (48, 74), and 94, whose process has lost
/// memory. Codes that a program's own mistake gives (13, 31, 43, 45) are not among them: they end the computation that
/// made it.
const CRITICAL: [(u32, &str, Remedy); 17] = [
    (46, "the GPU stopped processing", Remedy::Reset),
    (
        48,
        "a memory error that could not be corrected",
        Remedy::Reset,
    ),
    (62, "its microcontroller halted", Remedy::Reset),
    (64, "a row of memory could not be remapped", Remedy::Reset),
    (74, "an NVLink error", Remedy::Reset),
    (79, "it has fallen off the bus", Remedy::Reboot),
    (94, "a contained memory error", Remedy::Restart),
    (95, "an uncontained memory error", Remedy::Reset),
    (109, "a context switch took too long", Remedy::Reset),
    (110, "a security fault", Remedy::Reset),
    (119, "its system processor does not answer", Remedy::Reset),
    (120, "an error of its system processor", Remedy::Reset),
    (136, "an NVLink could not be trained", Remedy::Reset),
    (
        140,
        "a memory error that was not recovered from",
        Remedy::Reset,
    ),
    (143, "it could not be initialized", Remedy::Reset),
    (155, "an NVLink error", Remedy::Reset),
    (158, "a fatal timeout", Remedy::Reset),
];

/// Codes worth a warning, with what they mean. 63 is row remapping that went well and waits for the next reset.
const NOTED: [(u32, &str); 3] = [
    (63, "a row of memory is remapped at the next reset"),
    (92, "many memory errors that were corrected"),
    (154, "the driver asks for a recovery"),
];

impl Xid {
    /// What must be done before the GPU can be computed with again; nothing where the code does not ask for it.
    #[must_use]
    pub fn remedy(self) -> Option<Remedy> {
        let own = CRITICAL.iter().find(|(code, ..)| *code == self.0);
        own.map(|(.., remedy)| *remedy)
    }

    fn meaning(self) -> Option<&'static str> {
        let critical = CRITICAL.iter().map(|(code, meaning, _)| (*code, *meaning));
        let mut all = critical.chain(NOTED);
        all.find(|(code, _)| *code == self.0)
            .map(|(_, meaning)| meaning)
    }
}

/// `XID 79 (it has fallen off the bus)`.
impl fmt::Display for Xid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "XID {}", self.0)?;
        match self.meaning() {
            Some(meaning) => write!(f, " ({meaning})"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Remedy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Restart => {
                "start the worker again, and reset the GPU (nvidia-smi --gpu-reset) when nothing runs on it"
            }
            Self::Reset => "reset the GPU (nvidia-smi --gpu-reset) or reboot the machine",
            Self::Reboot => "reboot the machine",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_says_what_it_means_and_what_to_do() {
        assert_eq!(Xid(79).to_string(), "XID 79 (it has fallen off the bus)");
        assert_eq!(Xid(79).remedy(), Some(Remedy::Reboot));
        assert_eq!(Xid(94).remedy(), Some(Remedy::Restart));
        assert_eq!(Xid(999).to_string(), "XID 999");
    }

    #[test]
    fn mistakes_of_programs_and_successful_remapping_are_no_sickness() {
        for code in [13, 31, 43, 45, 63, 92] {
            assert_eq!(Xid(code).remedy(), None, "{code}");
        }
        for code in [48, 64, 74, 79, 94, 95, 119, 120] {
            assert!(Xid(code).remedy().is_some(), "{code}");
        }
    }
}
