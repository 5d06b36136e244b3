//! Amounts of CPU, memory and disk.

use std::fmt;
use std::str::FromStr;

/// Kubernetes' suffixes.
const SUFFIXES: [&str; 14] = [
    "", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei",
];

/// An amount above zero, as `500m`, `4` or `16Gi`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct Quantity(String);

/// What a container asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::k8s) struct Resources {
    /// Cores.
    pub(in crate::k8s) cpu: Quantity,
    /// Host memory, which it never gets more of.
    pub(in crate::k8s) memory: Quantity,
}

impl FromStr for Quantity {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.');
        let (number, suffix) = text.split_at(end.unwrap_or(text.len()));
        let plain = number.starts_with(|c: char| c.is_ascii_digit()) && !number.ends_with('.');
        let above_zero = number.parse().is_ok_and(|number: f64| number > 0.0);
        if plain && above_zero && SUFFIXES.contains(&suffix) {
            return Ok(Self(text.to_owned()));
        }
        Err(format!(
            "{text:?} is no amount above 0; write it as Kubernetes does: 4 or 500m for cores, 16Gi for memory and disk"
        ))
    }
}

impl FromStr for Resources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (mut cpu, mut memory) = (None, None);
        for part in text.split(',') {
            let slot = match part.split_once('=') {
                Some(("cpu", amount)) => (&mut cpu, amount),
                Some(("memory", amount)) => (&mut memory, amount),
                Some(_) | None => return Err(unclear(part)),
            };
            if slot.0.replace(slot.1.parse()?).is_some() {
                return Err(unclear(part));
            }
        }
        match (cpu, memory) {
            (Some(cpu), Some(memory)) => Ok(Self { cpu, memory }),
            (None, _) | (_, None) => Err(unclear(text)),
        }
    }
}

fn unclear(part: &str) -> String {
    format!("{part:?} does not say cores and memory once each; write it as cpu=4,memory=16Gi")
}

impl fmt::Display for Quantity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Resources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "cpu={},memory={}", self.cpu, self.memory)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn amounts_are_read_as_kubernetes_reads_them() {
        for good in ["1", "500m", "1.5", "16Gi", "100G"] {
            assert_eq!(good.parse::<Quantity>().unwrap().to_string(), good);
        }
        for bad in ["", "0", "-1", "16GB", "Gi", "1.", "1.2.3", "0Gi", "1 Gi"] {
            let refused = bad.parse::<Quantity>().unwrap_err();
            assert!(refused.contains("16Gi"), "{bad}: {refused}");
        }
    }

    #[test]
    fn cores_and_memory_are_both_said_once() {
        let text = "cpu=4,memory=16Gi";
        assert_eq!(text.parse::<Resources>().unwrap().to_string(), text);
        for bad in ["", "cpu=4", "cpu=4,cpu=5", "cpu=4,memory=0", "cpu=4,disk=1"] {
            assert!(bad.parse::<Resources>().is_err(), "{bad}");
        }
    }
}
