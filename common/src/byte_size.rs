//! Amounts of memory as people write them.

use std::fmt;
use std::str::FromStr;

/// Bytes, written with a unit: `6.2GiB`, `800 MB`, `2g`, or `1048576`. Bits (`6.2Gb`) are refused, not taken for bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ByteSize(pub u64);

/// Text that is no amount of memory.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no amount of memory; {HOW}")]
pub struct NoByteSize(String);

/// How an amount of memory is written.
pub const HOW: &str = "write a number and a unit of bytes (B, KB, MB, GB, TB, KiB, MiB, GiB or TiB), as in 6.2GiB or 800MB";

const UNITS: [(&str, f64); 14] = [
    ("", 1.0),
    ("b", 1.0),
    ("kb", 1e3),
    ("mb", 1e6),
    ("gb", 1e9),
    ("tb", 1e12),
    ("kib", 1024.0),
    ("mib", 1_048_576.0),
    ("gib", 1_073_741_824.0),
    ("tib", 1_099_511_627_776.0),
    ("k", 1024.0),
    ("m", 1_048_576.0),
    ("g", 1_073_741_824.0),
    ("t", 1_099_511_627_776.0),
];

impl FromStr for ByteSize {
    type Err = NoByteSize;

    fn from_str(text: &str) -> Result<Self, NoByteSize> {
        let refused = || NoByteSize(text.to_owned());
        let text = text.trim();
        let digits = text
            .find(|c: char| !c.is_ascii_digit() && c != '.' && c != '_')
            .unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let unit = unit.trim();
        // By its letters, `Gb` is gigabits; all in small letters nobody means those.
        if unit.ends_with('b') && unit.starts_with(|c: char| c.is_ascii_uppercase()) {
            return Err(refused());
        }
        let unit = unit.to_ascii_lowercase();
        let (_, factor) = UNITS
            .into_iter()
            .find(|(name, _)| *name == unit)
            .ok_or_else(refused)?;
        let number: f64 = number.replace('_', "").parse().map_err(|_| refused())?;
        let bytes = number * factor;
        if bytes < 1.0 || bytes > u64::MAX as f64 {
            return Err(refused());
        }
        Ok(Self(bytes as u64))
    }
}

impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What is nothing in GiB was meant otherwise: a number without a unit is bytes.
        match self.0 {
            bytes if bytes < 1 << 20 => write!(f, "{bytes} bytes"),
            bytes => write!(f, "{:.3} GiB", bytes as f64 / f64::from(1 << 30)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_in_units_of_1000_and_of_1024() {
        let amounts = [
            ("6.2GiB", 6_657_199_308),
            (" 800 MB ", 800_000_000),
            ("1_048_576", 1_048_576),
            ("2g", 2 << 30),
            ("1.5 tib", 3 << 39),
        ];
        for (text, bytes) in amounts {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
    }

    #[test]
    fn what_is_no_amount_is_refused_with_an_example() {
        for text in [
            "",
            "GiB",
            "6.2.1GiB",
            "-1GB",
            "6 gibibytes",
            "0",
            "1e3",
            "6.2Gb",
            "8Mib",
        ] {
            let refused = text.parse::<ByteSize>().unwrap_err();
            assert!(refused.to_string().contains("6.2GiB"), "{refused}");
        }
    }

    #[test]
    fn amounts_are_shown_in_gib_and_small_ones_in_bytes() {
        assert_eq!(ByteSize(24).to_string(), "24 bytes");
        assert_eq!(ByteSize(3 << 29).to_string(), "1.500 GiB");
    }
}
