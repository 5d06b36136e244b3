//! The backend for a job.

use std::path::Path;

use weft_common::recipe::{GradientCheckpointing, Recipe};

use super::{Cuda, CudaOptions};
use crate::cuda::library::Environment;
use crate::cuda::{Compiler, GpuFacts, Inventory, KernelCache};
use crate::model::Spec;
use crate::ops::DeviceError;

impl Cuda {
    /// Opens a GPU for a job: finds the libraries, and compiles what the folder of compiled kernels lacks.
    ///
    /// # Errors
    /// What is missing, each with its remedy; a GPU that is too old; the driver's.
    pub fn for_job(
        (gpu, kernels): (&GpuFacts, &Path),
        recipe: &Recipe,
        spec: &Spec,
    ) -> Result<Self, DeviceError> {
        check(gpu, spec)?;
        let inventory = Inventory::take(&Environment::of_process());
        let (Ok(nvrtc), Ok(products)) = (inventory.nvrtc, inventory.cublas_lt) else {
            let all = Inventory::take(&Environment::of_process()).obstacles();
            return Err(DeviceError(all.join("; ")));
        };
        let compiler = Compiler::new(nvrtc, KernelCache::new(kernels));
        let options = CudaOptions {
            ordinal: gpu.ordinal,
            head_dim: spec.head_dim,
            rank: recipe.lora.r as usize,
            host_tables: recipe.lora.use_gradient_checkpointing == GradientCheckpointing::Unsloth,
            memory_limit: recipe.resources.memory_limit_bytes(),
        };
        Self::open(&compiler, products, options)
    }
}

/// What the kernels ask of GPU and model.
fn check(gpu: &GpuFacts, spec: &Spec) -> Result<(), DeviceError> {
    if gpu.arch.number < 80 {
        return Err(DeviceError(format!(
            "{} computes in no bfloat16, which this version trains in on GPUs; it needs one of the Ampere generation or \
             newer, or --device cpu",
            gpu.name
        )));
    }
    let widths = [
        spec.hidden,
        spec.q_dim(),
        spec.kv_dim(),
        spec.ffn,
        spec.vocab,
    ];
    if let Some(width) = widths.into_iter().find(|width| !width.is_multiple_of(8)) {
        return Err(DeviceError(format!(
            "the model has a dimension of {width}, and kernels move 8 numbers at a time; use --device cpu"
        )));
    }
    Ok(())
}
