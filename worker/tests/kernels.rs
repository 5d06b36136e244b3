//! All kernels compile for every GPU generation, without a GPU, and fit their registers.
//!
//! Needs NVRTC: `WEFT_TEST_NVRTC` names a folder with `libnvrtc.so.*` (`.ci/run` unpacks the `nvidia-cuda-nvrtc` wheel),
//! or it is on the machine.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::path::Path;

use rayon::prelude::*;
use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{Arch, Compiler, KernelCache, Nvrtc, function_usage, kernels};

/// The compiler, or nothing, said aloud.
fn nvrtc() -> Option<Nvrtc> {
    let environment = match std::env::var_os("WEFT_TEST_NVRTC") {
        Some(folder) => Environment::of_folder(Path::new(&folder)),
        None => Environment::of_process(),
    };
    match Nvrtc::find(&environment, None) {
        Ok(nvrtc) => Some(nvrtc),
        Err(missing) => {
            println!("SKIPPED: set WEFT_TEST_NVRTC to a folder with libnvrtc.so.*; {missing}");
            None
        }
    }
}

#[test]
fn every_kernel_compiles_for_every_generation_without_spilling() {
    let Some(nvrtc) = nvrtc() else { return };
    let all: Vec<_> = Arch::TESTED
        .into_iter()
        .flat_map(|arch| kernels::for_arch(arch).map(move |kernel| (arch, kernel)))
        .collect();
    all.par_iter().for_each(|&(arch, kernel)| {
        let compiled = nvrtc.compile(kernel, arch).unwrap();
        assert!(compiled.cubin.starts_with(b"\x7fELF"), "{}", kernel.name);
        let serialized = compiled
            .log
            .contains("wgmma.mma_async instructions are serialized");
        assert!(
            !serialized,
            "{} waits for each product:\n{}",
            kernel.name, compiled.log
        );
        let functions = function_usage(&compiled.log);
        assert!(!functions.is_empty(), "no report:\n{}", compiled.log);
        for function in functions {
            println!("{arch} {} {} registers", function.name, function.registers);
            assert_eq!(
                (function.spill_stores, function.stack),
                (0, 0),
                "{} of {} keeps what it computes with in memory on {arch}",
                function.name,
                kernel.name
            );
        }
    });
}

#[test]
fn the_second_preparation_compiles_nothing() {
    let Some(nvrtc) = nvrtc() else { return };
    let folder = tempfile::tempdir().unwrap();
    let compiler = Compiler::new(nvrtc, KernelCache::new(folder.path()));
    let arch = Arch::TESTED[1];
    let prepare = || compiler.prepare_files(arch, kernels::common()).unwrap();
    let (first, second) = (prepare(), prepare());
    assert!(first.iter().all(|file| file.compiled));
    assert!(second.iter().all(|file| !file.compiled));
    let code = |prepared: &[weft_worker::cuda::Prepared]| {
        let cubins = prepared.iter().map(|file| file.cubin.clone());
        cubins.collect::<Vec<_>>()
    };
    assert_eq!(code(&first), code(&second));
}
