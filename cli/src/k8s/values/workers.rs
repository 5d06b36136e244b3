//! How many workers.

use std::fmt;
use std::str::FromStr;

/// From how few to how many workers a job may have: `1..8`, or `4` for no other number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::k8s) struct WorkerCount {
    /// Below this many the job waits.
    pub(in crate::k8s) min: u32,
    /// It never has more.
    pub(in crate::k8s) max: u32,
}

impl FromStr for WorkerCount {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let number = |text: &str| {
            let number = text.trim().parse().ok().filter(|number| *number > 0);
            number.ok_or_else(|| {
                format!("{text:?} is no number of workers; write MIN..MAX as in 1..8, or one number above 0")
            })
        };
        let (min, max) = match text.split_once("..") {
            Some((min, max)) => (number(min)?, number(max.trim_start_matches('='))?),
            None => (number(text)?, number(text)?),
        };
        if min > max {
            return Err(format!(
                "at least {min} workers and at most {max} is no range; write the smaller number first, as in {max}..{min}"
            ));
        }
        Ok(Self { min, max })
    }
}

impl fmt::Display for WorkerCount {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..{}", self.min, self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_or_one_number_says_how_many() {
        let read = |text: &str| {
            text.parse::<WorkerCount>()
                .map(|count| (count.min, count.max))
        };
        assert_eq!(read("1..8"), Ok((1, 8)));
        assert_eq!(read("4"), Ok((4, 4)));
        assert!(read("8..2").unwrap_err().contains("2..8"));
        for bad in ["", "0", "0..2", "1..", "..2", "a..b", "1.5"] {
            assert!(read(bad).unwrap_err().contains("MIN..MAX"), "{bad}");
        }
    }
}
