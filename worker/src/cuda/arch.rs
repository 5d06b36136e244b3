//! GPU generations, as the compiler names them.

use std::fmt;
use std::str::FromStr;

/// A compute capability: `sm_75`, `sm_90a`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Arch {
    /// The number: 75, 90.
    pub number: u32,
    /// With the instructions that this generation alone has (`a`).
    pub specific: bool,
}

/// A name that is no GPU generation.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no GPU generation; write it as sm_75, sm_80, sm_86, sm_89 or sm_90a")]
pub struct UnknownArch(String);

impl Arch {
    /// The generations that the kernels are written for: Turing to Hopper.
    pub const TESTED: [Self; 5] = [
        Self::plain(75),
        Self::plain(80),
        Self::plain(86),
        Self::plain(89),
        Self {
            number: 90,
            specific: true,
        },
    ];

    const fn plain(number: u32) -> Self {
        Self {
            number,
            specific: false,
        }
    }

    /// Whether it has Hopper's own instructions.
    #[must_use]
    pub fn is_hopper(self) -> bool {
        self.number == 90 && self.specific
    }

    /// The one to compile for on a GPU of this compute capability. Only Hopper's own instructions are used.
    #[must_use]
    pub fn of_gpu(major: u32, minor: u32) -> Self {
        let number = 10 * major + minor;
        Self {
            number,
            specific: number == 90,
        }
    }
}

impl fmt::Display for Arch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let suffix = if self.specific { "a" } else { "" };
        write!(f, "sm_{}{suffix}", self.number)
    }
}

impl FromStr for Arch {
    type Err = UnknownArch;

    fn from_str(text: &str) -> Result<Self, UnknownArch> {
        let unknown = || UnknownArch(text.to_owned());
        let digits = text.strip_prefix("sm_").ok_or_else(unknown)?;
        let (digits, specific) = match digits.strip_suffix('a') {
            Some(digits) => (digits, true),
            None => (digits, false),
        };
        let number = digits.parse().map_err(|_| unknown())?;
        if !(75..200).contains(&number) {
            return Err(unknown());
        }
        Ok(Self { number, specific })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for arch in Arch::TESTED {
            assert_eq!(arch.to_string().parse(), Ok(arch));
        }
        assert_eq!(Arch::of_gpu(9, 0).to_string(), "sm_90a");
        assert_eq!(Arch::of_gpu(8, 6).to_string(), "sm_86");
        for wrong in ["90", "sm_", "sm_9000", "sm_61", "sm_90b"] {
            assert!(wrong.parse::<Arch>().is_err(), "{wrong}");
        }
    }
}
