//! `--device`: where to compute.

use std::fmt;
use std::str::FromStr;

use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{GpuFacts, Inventory};
use weft_worker::device::Device;

use crate::exit::{Exit, Failure};
use crate::output::memory::Hardware;
use crate::recipe::CacheArgs;

/// What `--device` takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DeviceChoice {
    /// The GPUs where there are usable ones, else the CPU.
    Auto,
    /// The CPU.
    Cpu,
    /// The GPUs.
    Cuda,
    /// One GPU.
    CudaOrdinal(usize),
}

/// What a choice stands for on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Devices {
    /// The CPU.
    Cpu,
    /// GPUs, at least one.
    Gpus(Vec<GpuFacts>),
}

impl Devices {
    /// The GPUs; none on the CPU.
    pub(crate) fn gpus(&self) -> &[GpuFacts] {
        match self {
            Self::Cpu => &[],
            Self::Gpus(gpus) => gpus,
        }
    }

    /// What `--device` of worker `number`, from 1, says: where there are more workers than GPUs they share them.
    pub(crate) fn of_worker(&self, number: u32) -> String {
        let gpus = self.gpus();
        let turn = (number as usize).saturating_sub(1) % gpus.len().max(1);
        let choice = gpus.get(turn).map_or(DeviceChoice::Cpu, |gpu| {
            DeviceChoice::CudaOrdinal(gpu.ordinal)
        });
        choice.to_string()
    }
}

/// `--device`, for commands that compute.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct DeviceArgs {
    /// Where to compute: `auto` (a GPU where one is usable, else the CPU), `cpu`, `cuda`, or one GPU as in `cuda:1`
    #[arg(long, value_name = "DEVICE", default_value_t = DeviceChoice::Auto)]
    device: DeviceChoice,
}

impl DeviceArgs {
    /// All devices that are meant.
    ///
    /// # Errors
    /// A GPU was asked for and none is usable, or not that one.
    pub(crate) fn all(&self) -> Result<Devices, Failure> {
        // Looking for libraries takes some 0.1 s.
        let devices = match self.device {
            DeviceChoice::Cpu => Ok(Devices::Cpu),
            DeviceChoice::Auto | DeviceChoice::Cuda | DeviceChoice::CudaOrdinal(_) => {
                let inventory = Inventory::take(&Environment::of_process());
                select(self.device, usable(&inventory))
            }
        };
        devices.map_err(|problem| Failure::new(Exit::Environment, problem))
    }

    /// The first of them; with `threads` compute threads, if it is the CPU, and compiled kernels in `cache`, if it is a GPU.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub(crate) fn first(&self, threads: usize, cache: &CacheArgs) -> Result<Device, Failure> {
        let first = match self.all()? {
            Devices::Cpu => None,
            Devices::Gpus(gpus) => gpus.into_iter().next(),
        };
        let on = |gpu| Device::Cuda {
            gpu,
            kernels: cache.kernels(),
        };
        Ok(first.map_or_else(|| cpu(threads), on))
    }

    /// All of them, as [`Self::first`] makes the first.
    ///
    /// # Errors
    /// As [`Self::all`].
    pub(crate) fn every(&self, threads: usize, cache: &CacheArgs) -> Result<Vec<Device>, Failure> {
        Ok(match self.all()? {
            Devices::Cpu => vec![cpu(threads)],
            Devices::Gpus(gpus) => gpus
                .into_iter()
                .map(|gpu| Device::Cuda {
                    gpu,
                    kernels: cache.kernels(),
                })
                .collect(),
        })
    }
}

fn cpu(threads: usize) -> Device {
    Device::Cpu {
        threads,
        memory_bytes: Hardware::cpu().total_bytes,
    }
}

/// The GPUs, if nothing stands in the way; else what does.
fn usable(inventory: &Inventory) -> Result<Vec<GpuFacts>, String> {
    let obstacles = inventory.obstacles();
    match &inventory.gpus {
        Ok(gpus) if obstacles.is_empty() => Ok(gpus.clone()),
        Ok(_) | Err(_) => Err(obstacles.join("\n  ")),
    }
}

fn select(choice: DeviceChoice, usable: Result<Vec<GpuFacts>, String>) -> Result<Devices, String> {
    let gpus = match (choice, usable) {
        (DeviceChoice::Cpu, _) | (DeviceChoice::Auto, Err(_)) => return Ok(Devices::Cpu),
        (DeviceChoice::Auto | DeviceChoice::Cuda | DeviceChoice::CudaOrdinal(_), Ok(gpus)) => gpus,
        (DeviceChoice::Cuda | DeviceChoice::CudaOrdinal(_), Err(why)) => {
            return Err(format!(
                "--device {choice} finds no usable GPU; `weft doctor` shows what is there, --device cpu trains without:\n  \
                 {why}"
            ));
        }
    };
    let DeviceChoice::CudaOrdinal(ordinal) = choice else {
        return Ok(Devices::Gpus(gpus));
    };
    let count = gpus.len();
    let one: Vec<GpuFacts> = gpus
        .into_iter()
        .filter(|gpu| gpu.ordinal == ordinal)
        .collect();
    if one.is_empty() {
        return Err(format!(
            "--device {choice} names no GPU of this machine, which has {count}, counted from 0; `weft doctor` lists them"
        ));
    }
    Ok(Devices::Gpus(one))
}

impl FromStr for DeviceChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let ordinal = || text.strip_prefix("cuda:")?.parse().ok();
        match text {
            "auto" => Ok(Self::Auto),
            "cpu" => Ok(Self::Cpu),
            "cuda" => Ok(Self::Cuda),
            _ => ordinal().map(Self::CudaOrdinal).ok_or_else(|| {
                "write auto, cpu, cuda, or one GPU as in cuda:1; `weft doctor` lists them"
                    .to_owned()
            }),
        }
    }
}

impl fmt::Display for DeviceChoice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Auto => f.write_str("auto"),
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda => f.write_str("cuda"),
            Self::CudaOrdinal(ordinal) => write!(f, "cuda:{ordinal}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use weft_worker::cuda::Arch;

    use super::*;

    fn gpus() -> Vec<GpuFacts> {
        let gpu = |ordinal| GpuFacts {
            ordinal,
            name: format!("GPU {ordinal}"),
            arch: "sm_90a".parse::<Arch>().unwrap(),
            memory_bytes: 1 << 37,
            multiprocessors: 132,
        };
        (0..2).map(gpu).collect()
    }

    fn nothing() -> Result<Vec<GpuFacts>, String> {
        Err("CUDA driver was not found; install it".to_owned())
    }

    #[test]
    fn words_are_read_as_they_are_written() {
        for text in ["auto", "cpu", "cuda", "cuda:3"] {
            assert_eq!(text.parse::<DeviceChoice>().unwrap().to_string(), text);
        }
        for text in ["gpu", "cuda:", "cuda:x", "cuda:-1", ""] {
            let refused = text.parse::<DeviceChoice>().unwrap_err();
            assert!(refused.contains("cuda:1"), "{refused}");
        }
    }

    #[test]
    fn auto_takes_the_gpus_where_there_are_usable_ones() {
        assert_eq!(
            select(DeviceChoice::Auto, Ok(gpus())),
            Ok(Devices::Gpus(gpus()))
        );
        assert_eq!(select(DeviceChoice::Auto, nothing()), Ok(Devices::Cpu));
        assert_eq!(select(DeviceChoice::Cpu, Ok(gpus())), Ok(Devices::Cpu));
    }

    #[test]
    fn workers_take_turns_with_the_gpus() {
        let devices = Devices::Gpus(gpus());
        let each = [1, 2, 3].map(|number| devices.of_worker(number));
        assert_eq!(each, ["cuda:0", "cuda:1", "cuda:0"]);
        assert_eq!(Devices::Cpu.of_worker(2), "cpu");
    }

    #[test]
    fn a_gpu_that_is_not_there_is_refused_with_the_reason_and_a_remedy() {
        let one = select(DeviceChoice::CudaOrdinal(1), Ok(gpus()));
        assert_eq!(one, Ok(Devices::Gpus(gpus()[1..].to_vec())));
        let beyond = select(DeviceChoice::CudaOrdinal(2), Ok(gpus())).unwrap_err();
        assert!(
            beyond.contains("has 2") && beyond.contains("weft doctor"),
            "{beyond}"
        );
        let none = select(DeviceChoice::Cuda, nothing()).unwrap_err();
        for part in ["driver was not found", "weft doctor", "--device cpu"] {
            assert!(none.contains(part), "{none}");
        }
        let two = Err("no driver\n  no NVRTC".to_owned());
        let both = select(DeviceChoice::Cuda, two).unwrap_err();
        assert_eq!(
            both.lines().skip(1).collect::<Vec<_>>(),
            ["  no driver", "  no NVRTC"]
        );
    }
}
