//! All kernels compile for every GPU generation, without a GPU, and fit their registers.
//!
//! Needs NVRTC: `WEFT_TEST_NVRTC` names a folder with `libnvrtc.so.*` (`.ci/run` unpacks the `nvidia-cuda-nvrtc` wheel),
//! or it is on the machine.

#![allow(clippy::unwrap_used, reason = "a test's helpers fail by panicking")]

use std::path::Path;

use rayon::prelude::*;
use weft_worker::cuda::library::Environment;
use weft_worker::cuda::{Arch, Compiler, HalfFormat, KernelCache, Nvrtc, function_usage, kernels};

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
    let native = Arch::TESTED.map(|arch| (arch, HalfFormat::of(arch)));
    let [_, ampere, .., hopper] = Arch::TESTED;
    let other = [ampere, hopper].map(|arch| (arch, HalfFormat::F16));
    let all: Vec<_> = (native.into_iter().chain(other))
        .flat_map(|target| kernels::for_arch(target.0).map(move |kernel| (target, kernel)))
        .collect();
    all.par_iter().for_each(|&((arch, half), kernel)| {
        let compiled = nvrtc.compile(kernel, (arch, half)).unwrap();
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
            println!(
                "{arch} {half} {} {} registers",
                function.name, function.registers
            );
            assert_eq!(
                (function.spill_stores, function.stack),
                (0, 0),
                "{} of {} keeps what it computes with in memory on {arch} in {half}",
                function.name,
                kernel.name
            );
            // What a launch asks for fills all that Turing has.
            let full = arch.number == 75 && kernel.name.starts_with("attention_");
            assert!(
                !full || kernel.name == "attention_delta" || function.shared == 0,
                "{} of {} has {} bytes of shared memory beside its tiles",
                function.name,
                kernel.name,
                function.shared
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
    let prepare = || {
        compiler
            .prepare_files((arch, HalfFormat::of(arch)), kernels::common())
            .unwrap()
    };
    let (first, second) = (prepare(), prepare());
    assert!(first.iter().all(|file| file.compiled));
    assert!(second.iter().all(|file| !file.compiled));
    let code = |prepared: &[weft_worker::cuda::Prepared]| {
        let cubins = prepared.iter().map(|file| file.cubin.clone());
        cubins.collect::<Vec<_>>()
    };
    assert_eq!(code(&first), code(&second));
}
