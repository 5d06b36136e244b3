//! What `weft doctor` says, for people and for scripts.

use std::fmt;
use std::path::{Path, PathBuf};

use serde::Serialize;
use weft_worker::cuda::library::{Opened, Origin};
use weft_worker::cuda::{Arch, GpuFacts, Inventory, KernelCache, Nccl, Prepared};

use super::network::Network;
use super::reach::Reached;
use super::shared_memory::SharedMemory;
use super::topology::Topology;

/// Everything found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    /// Whether nothing stands in the way of training on a GPU.
    cuda_ready: bool,
    driver: Option<Found>,
    nvrtc: Option<Found>,
    cublas_lt: Option<Found>,
    nccl: Option<Found>,
    gpus: Vec<GpuReport>,
    /// How each GPU reaches each, where there are several.
    #[serde(skip_serializing_if = "Option::is_none")]
    links: Option<Topology>,
    shared_memory: Option<SharedMemory>,
    network: Network,
    /// Who was to be reached.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(super) reached: Vec<Reached>,
    /// What is there and known to be bad.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
    /// What is missing, each with its remedy.
    obstacles: Vec<String>,
    /// Kernels compiled ahead, where asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) kernels: Vec<KernelsReport>,
}

/// A library.
#[derive(Debug, Serialize)]
struct Found {
    version: String,
    path: PathBuf,
    found_through: &'static str,
}

#[derive(Debug, Serialize)]
struct GpuReport {
    ordinal: usize,
    name: String,
    arch: String,
    memory_bytes: u64,
    multiprocessors: u32,
}

/// The kernels of one GPU generation.
#[derive(Debug, Serialize)]
pub(crate) struct KernelsReport {
    arch: String,
    files: usize,
    compiled_now: usize,
    folder: PathBuf,
}

impl Report {
    /// Of what was found.
    pub(crate) fn new(inventory: &Inventory) -> Self {
        let driver = inventory.driver.as_ref().ok().map(|driver| {
            let (major, minor) = driver.cuda;
            let version = match &driver.release {
                Some(release) => format!("{release}, CUDA {major}.{minor}"),
                None => format!("CUDA {major}.{minor}"),
            };
            Found::new(version, &driver.path, driver.origin)
        });
        let nvrtc = inventory.nvrtc.as_ref().ok().map(|nvrtc| {
            let (major, minor) = nvrtc.version();
            Found::of(format!("{major}.{minor}"), nvrtc.opened())
        });
        let cublas_lt = inventory.cublas_lt.as_ref().ok().map(|lt| {
            let (major, minor, patch) = lt.version();
            Found::of(format!("{major}.{minor}.{patch}"), lt.opened())
        });
        let nccl = inventory.nccl.as_ref().ok();
        let gpus = inventory.gpus.as_ref().map_or(0, Vec::len);
        let (links, no_links) = match Topology::look(gpus) {
            Ok(links) => (links, None),
            Err(why) => (None, Some(why)),
        };
        let shared_memory = SharedMemory::look();
        let network = Network::look();
        let warnings = [
            nccl.and_then(Nccl::warning),
            no_links,
            links.as_ref().and_then(Topology::warning),
            // Without a second GPU nothing talks through it.
            SharedMemory::warning(shared_memory.as_ref()).filter(|_| gpus > 1),
            network.warning(),
        ];
        let warnings = warnings.into_iter().flatten().collect();
        let nccl = nccl.map(|nccl| Found::of(nccl.version().to_string(), nccl.opened()));
        let obstacles = inventory.obstacles();
        Self {
            cuda_ready: obstacles.is_empty(),
            driver,
            nvrtc,
            cublas_lt,
            nccl,
            warnings,
            gpus: inventory
                .gpus
                .iter()
                .flatten()
                .map(GpuReport::new)
                .collect(),
            links,
            shared_memory,
            network,
            reached: Vec::new(),
            obstacles,
            kernels: Vec::new(),
        }
    }
}

impl Report {
    /// What failed of what was asked for.
    pub(super) fn unreached(&self) -> Vec<String> {
        self.reached.iter().filter_map(Reached::error).collect()
    }
}

impl Found {
    fn of(version: String, opened: &Opened) -> Self {
        Self::new(version, &opened.path, opened.origin)
    }

    fn new(version: String, path: &Path, origin: Origin) -> Self {
        let found_through = match origin {
            Origin::CudaHome => "CUDA_HOME",
            Origin::Python => "a Python environment",
            Origin::Loader => "the system's loader",
            Origin::System => "a system folder",
        };
        Self {
            version,
            path: path.to_owned(),
            found_through,
        }
    }
}

impl GpuReport {
    fn new(gpu: &GpuFacts) -> Self {
        Self {
            ordinal: gpu.ordinal,
            name: gpu.name.clone(),
            arch: gpu.arch.to_string(),
            memory_bytes: gpu.memory_bytes,
            multiprocessors: gpu.multiprocessors,
        }
    }
}

impl KernelsReport {
    /// Of what the compiler gave for one generation.
    pub(crate) fn new(arch: Arch, prepared: &[Prepared], cache: &KernelCache) -> Self {
        Self {
            arch: arch.to_string(),
            files: prepared.len(),
            compiled_now: prepared.iter().filter(|file| file.compiled).count(),
            folder: cache.folder().to_owned(),
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let libraries = [
            ("driver", &self.driver),
            ("NVRTC", &self.nvrtc),
            ("cuBLASLt", &self.cublas_lt),
            ("NCCL", &self.nccl),
        ];
        for (name, found) in libraries {
            match found {
                Some(found) => writeln!(
                    f,
                    "{name:<9}{}  {}, through {}",
                    found.version,
                    found.path.display(),
                    found.found_through
                )?,
                None => writeln!(f, "{name:<9}missing")?,
            }
        }
        for gpu in &self.gpus {
            writeln!(
                f,
                "GPU {:<5}{}, {}, {:.1} GiB, {} multiprocessors",
                gpu.ordinal,
                gpu.name,
                gpu.arch,
                gpu.memory_bytes as f64 / f64::from(1 << 30),
                gpu.multiprocessors
            )?;
        }
        if let Some(links) = &self.links {
            links.fmt(f)?;
        }
        if let Some(shared_memory) = &self.shared_memory {
            shared_memory.fmt(f)?;
        }
        self.network.fmt(f)?;
        for reached in &self.reached {
            reached.fmt(f)?;
        }
        for kernels in &self.kernels {
            writeln!(
                f,
                "kernels  {}: {} files, {} compiled now, in {}",
                kernels.arch,
                kernels.files,
                kernels.compiled_now,
                kernels.folder.display()
            )?;
        }
        for warning in &self.warnings {
            writeln!(f, "warning  {warning}")?;
        }
        if self.cuda_ready {
            return write!(f, "CUDA is ready");
        }
        write!(f, "CUDA is not ready; weft trains on the CPU")?;
        for obstacle in &self.obstacles {
            write!(f, "\n  * {obstacle}")?;
        }
        Ok(())
    }
}
