//! The backend for a job.

use std::path::Path;

use weft_common::recipe::Recipe;

use super::{Cuda, CudaOptions, CudaSizes};
use crate::cuda::kernels::HEAD_DIMS;
use crate::cuda::library::Environment;
use crate::cuda::{Compiler, GpuFacts, Inventory, KernelCache};
use crate::lora::AdapterLayout;
use crate::model::Spec;
use crate::ops::DeviceError;
use crate::train::{Backend, PassShape};

impl Cuda {
    /// Opens a GPU for a job whose largest micro-batch has so many tokens: finds the libraries, and compiles what the folder of
    /// compiled kernels lacks.
    ///
    /// # Errors
    /// What is missing, each with its remedy; a GPU that is too old; the driver's.
    pub fn for_job(
        (gpu, kernels): (&GpuFacts, &Path),
        recipe: &Recipe,
        (spec, tokens): (&Spec, usize),
    ) -> Result<Self, DeviceError> {
        check(gpu, spec)?;
        let layout = AdapterLayout::new(spec, &recipe.lora);
        let layout = layout.map_err(|error| DeviceError(error.to_string()))?;
        let inventory = Inventory::take(&Environment::of_process());
        let (Ok(nvrtc), Ok(products)) = (inventory.nvrtc, inventory.cublas_lt) else {
            let all = Inventory::take(&Environment::of_process()).obstacles();
            return Err(DeviceError(all.join("\n  ")));
        };
        let compiler = Compiler::new(nvrtc, KernelCache::new(kernels));
        let options = CudaOptions {
            ordinal: gpu.ordinal,
            head_dim: spec.head_dim,
            rank: recipe.lora.r as usize,
            lean: false,
            memory_limit: recipe.resources.memory_limit_bytes(),
        };
        let mut cuda = Self::open(&compiler, products, options)?;
        let shape = PassShape {
            tokens,
            rank: layout.max_rank(),
        };
        // What the context takes is taken by now.
        let sizes = CudaSizes::of_job(recipe, (spec, &layout), shape, cuda.free_bytes());
        cuda.options.lean = sizes.lean;
        Ok(cuda)
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
    if !HEAD_DIMS.contains(&spec.head_dim) {
        return Err(DeviceError(format!(
            "the model's attention heads are {} wide, and there are GPU kernels for {HEAD_DIMS:?}; use --device cpu",
            spec.head_dim
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cuda::Arch;
    use crate::model::Preset;

    fn refused(arch: &str, spec: &Spec) -> String {
        let gpu = GpuFacts {
            ordinal: 0,
            name: "a GPU".to_owned(),
            arch: arch.parse::<Arch>().unwrap(),
            memory_bytes: 1 << 34,
            multiprocessors: 40,
        };
        check(&gpu, spec).map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_the_kernels_cannot_do_is_refused_with_another_way() {
        let spec = Preset::Llama3_8b.spec();
        assert_eq!(refused("sm_80", &spec), "");
        assert!(refused("sm_75", &spec).contains("--device cpu"));
        let heads = Spec {
            head_dim: 96,
            ..spec.clone()
        };
        assert!(refused("sm_90a", &heads).contains("96 wide"));
        let odd = Spec {
            vocab: 32_001,
            ..spec
        };
        assert!(refused("sm_90a", &odd).contains("32001"));
    }
}
