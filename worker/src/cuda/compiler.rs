//! The compiler with its cache.

use rayon::prelude::*;

use super::arch::Arch;
use super::cache::KernelCache;
use super::half_format::HalfFormat;
use super::kernels::{self, KernelFile};
use super::nvrtc::{Nvrtc, NvrtcError};

/// Compiles what the cache does not hold.
#[derive(Debug)]
pub struct Compiler {
    nvrtc: Nvrtc,
    cache: KernelCache,
}

/// One kernel file, ready to be loaded.
#[derive(Debug)]
pub struct Prepared {
    /// Which.
    pub kernel: &'static KernelFile,
    /// Its code.
    pub cubin: Vec<u8>,
    /// Whether it was compiled now.
    pub compiled: bool,
}

impl Compiler {
    /// A compiler that keeps its results.
    #[must_use]
    pub fn new(nvrtc: Nvrtc, cache: KernelCache) -> Self {
        Self { nvrtc, cache }
    }

    /// The compiler below.
    #[must_use]
    pub fn nvrtc(&self) -> &Nvrtc {
        &self.nvrtc
    }

    /// Where results are kept.
    #[must_use]
    pub fn cache(&self) -> &KernelCache {
        &self.cache
    }

    /// All kernels that a GPU generation may need, in its own number format. Cost: up to a minute the first time, then milliseconds.
    ///
    /// # Errors
    /// That of a file that does not compile.
    pub fn prepare(&self, arch: Arch) -> Result<Vec<Prepared>, NvrtcError> {
        self.prepare_files((arch, HalfFormat::of(arch)), kernels::for_arch(arch))
    }

    /// Some kernels for a GPU generation and a number format, in their order.
    ///
    /// # Errors
    /// That of a file that does not compile.
    pub fn prepare_files(
        &self,
        target: (Arch, HalfFormat),
        files: impl Iterator<Item = &'static KernelFile>,
    ) -> Result<Vec<Prepared>, NvrtcError> {
        let files: Vec<_> = files.collect();
        files
            .into_par_iter()
            .map(|kernel| self.prepare_file(kernel, target))
            .collect()
    }

    fn prepare_file(
        &self,
        kernel: &'static KernelFile,
        (arch, half): (Arch, HalfFormat),
    ) -> Result<Prepared, NvrtcError> {
        let (text, options) = (kernel.text(), kernel.options(arch, half).join(" "));
        let version = format!("{:?}", self.nvrtc.version());
        let key = [text.as_str(), &options, &version];
        if let Some(cubin) = self.cache.get(kernel.name, &key) {
            return Ok(Prepared {
                kernel,
                cubin,
                compiled: false,
            });
        }
        let cubin = self.nvrtc.compile(kernel, (arch, half))?.cubin;
        if let Err(error) = self.cache.put(kernel.name, &key, &cubin) {
            tracing::warn!(
                "cannot keep the compiled kernel {} in {}: {error}; it will be compiled again",
                kernel.name,
                self.cache.folder().display()
            );
        }
        Ok(Prepared {
            kernel,
            cubin,
            compiled: true,
        })
    }
}
