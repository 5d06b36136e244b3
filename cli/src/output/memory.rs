//! Memory of the device that workers compute on: what they use of it and what it has. On a CPU both come from the
//! kernel's own accounting.

use std::collections::BTreeMap;
use std::fs;

use weft_common::wire::Heartbeat;
use weft_worker::cuda::GpuFacts;

use super::figures::{gib, percent};

/// What computes, as a memory report names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Hardware {
    /// `CPU` or `GPU`.
    pub(crate) kind: &'static str,
    /// The model's name.
    pub(crate) name: String,
    /// Its memory in bytes; 0 where unknown.
    pub(crate) total_bytes: u64,
}

impl Hardware {
    /// This machine's processors and their memory. Asks the kernel.
    pub(crate) fn cpu() -> Self {
        let cpuinfo = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let meminfo = fs::read_to_string("/proc/meminfo").unwrap_or_default();
        Self {
            kind: "CPU",
            name: field(&cpuinfo, "model name").unwrap_or("CPU").to_owned(),
            total_bytes: kibibytes(&meminfo, "MemTotal"),
        }
    }

    /// GPUs together; those of one name are counted.
    pub(crate) fn gpus(gpus: &[GpuFacts]) -> Self {
        Self {
            kind: "GPU",
            name: counted(gpus.iter().map(|gpu| gpu.name.as_str())).join(", "),
            total_bytes: gpus.iter().map(|gpu| gpu.memory_bytes).sum(),
        }
    }
}

/// `2 x NVIDIA H200`, or the name alone where it comes once.
pub(crate) fn counted<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_insert(0) += 1;
    }
    let named = |(name, count): (&str, u32)| match count {
        1 => name.to_owned(),
        _ => format!("{count} x {name}"),
    };
    counts.into_iter().map(named).collect()
}

/// Resident memory of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Resident {
    /// Now, in bytes.
    pub(crate) current_bytes: u64,
    /// The most it ever was, in bytes.
    pub(crate) peak_bytes: u64,
}

impl Resident {
    /// Asks the kernel about process `pid`; `None` when it is gone.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        Some(Self {
            current_bytes: kibibytes(&status, "VmRSS"),
            peak_bytes: kibibytes(&status, "VmHWM"),
        })
    }
}

/// What is in use of `gpus` GPUs by their drivers' count, which `members` tell, each of the one it computes on; nothing
/// where none has told yet.
pub(crate) fn counted_bytes(members: &[Heartbeat], gpus: usize) -> Option<u64> {
    let told = || members.iter().map(|member| member.device_bytes);
    let telling = told().filter(|&bytes| bytes > 0).count() as u64;
    // Workers that share a GPU, evenly as they take turns, all tell the same.
    let mean = told().sum::<u64>().checked_div(telling)?;
    Some(mean * telling.min(gpus as u64))
}

fn field<'a>(text: &'a str, key: &str) -> Option<&'a str> {
    text.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == key).then(|| value.trim())
    })
}

fn kibibytes(text: &str, key: &str) -> u64 {
    let number =
        field(text, key).and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    number.unwrap_or(0) * 1024
}

/// The report before training: device, its memory, and what the loaded model takes.
pub(crate) fn before(hardware: &Hardware, start_bytes: u64) -> String {
    format!(
        "{} = {}. Max memory = {:.3} GiB.\n{:.3} GiB of memory reserved.",
        hardware.kind,
        hardware.name,
        gib(hardware.total_bytes),
        gib(start_bytes),
    )
}

/// The report after training: time, peak, and the share of it that training itself added.
pub(crate) fn after(
    hardware: &Hardware,
    start_bytes: u64,
    peak_bytes: u64,
    train_seconds: f64,
) -> String {
    let training_bytes = peak_bytes.saturating_sub(start_bytes);
    format!(
        "{train_seconds:.4} seconds used for training.\n\
         {:.2} minutes used for training.\n\
         Peak reserved memory = {:.3} GiB.\n\
         Peak reserved memory for training = {:.3} GiB.\n\
         Peak reserved memory % of max memory = {:.3} %.\n\
         Peak reserved memory for training % of max memory = {:.3} %.",
        train_seconds / 60.0,
        gib(peak_bytes),
        gib(training_bytes),
        percent(peak_bytes, hardware.total_bytes),
        percent(training_bytes, hardware.total_bytes),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_resident_memory() {
        let resident = Resident::of(std::process::id()).unwrap();
        assert!(resident.current_bytes > 0 && resident.peak_bytes >= resident.current_bytes);
    }

    #[test]
    fn a_process_that_is_gone_has_none() {
        assert_eq!(Resident::of(u32::MAX), None);
    }

    #[test]
    fn what_workers_on_one_gpu_tell_counts_once() {
        let member = |device_bytes| Heartbeat {
            device_bytes,
            ..Heartbeat::default()
        };
        assert_eq!(counted_bytes(&[member(0), member(0)], 1), None);
        assert_eq!(counted_bytes(&[member(6), member(6)], 1), Some(6));
        assert_eq!(counted_bytes(&[member(6), member(8)], 2), Some(14));
        assert_eq!(counted_bytes(&[member(6), member(0)], 2), Some(6));
    }

    #[test]
    fn gpus_of_one_name_are_counted_and_their_memory_added() {
        let gpu = |ordinal| GpuFacts {
            ordinal,
            name: "NVIDIA H200".to_owned(),
            arch: "sm_90a".parse().unwrap(),
            memory_bytes: 150_120_038_400,
            multiprocessors: 132,
        };
        let one = before(&Hardware::gpus(&[gpu(0)]), 1 << 30);
        assert!(
            one.starts_with("GPU = NVIDIA H200. Max memory = 139.810 GiB.\n"),
            "{one}"
        );
        let two = Hardware::gpus(&[gpu(0), gpu(1)]);
        assert_eq!(two.name, "2 x NVIDIA H200");
        assert_eq!(two.total_bytes, 300_240_076_800);
    }

    #[test]
    fn the_report_has_the_six_figures_that_notebooks_print() {
        let hardware = Hardware {
            kind: "CPU",
            name: "Test CPU".to_owned(),
            total_bytes: 16 << 30,
        };
        let text = after(&hardware, 1 << 30, 3 << 30, 90.0);
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "90.0000 seconds used for training.",
                "1.50 minutes used for training.",
                "Peak reserved memory = 3.000 GiB.",
                "Peak reserved memory for training = 2.000 GiB.",
                "Peak reserved memory % of max memory = 18.750 %.",
                "Peak reserved memory for training % of max memory = 12.500 %.",
            ]
        );
    }
}
