//! The backend for a job.

use std::path::Path;

use tracing::info;
use weft_common::recipe::{Dtype, Recipe};

use super::{Cuda, CudaOptions, CudaSizes};
use crate::cuda::kernels::{HEAD_DIMS, attention};
use crate::cuda::library::{Environment, Missing};
use crate::cuda::{Compiler, CublasLt, GpuFacts, HalfFormat, Inventory, KernelCache, Nccl};
use crate::lora::AdapterLayout;
use crate::model::Spec;
use crate::ops::DeviceError;
use crate::train::{Backend, PassShape};

/// The oldest generation that the kernels run on: Turing.
const OLDEST: u32 = 75;

impl Cuda {
    /// Opens a GPU for a job whose largest micro-batch has so many tokens: finds the libraries, and compiles what the folder of
    /// compiled kernels lacks.
    ///
    /// # Errors
    /// What is missing, each with its remedy; a GPU that is too old for the recipe or the model; the driver's.
    pub fn for_job(
        (gpu, kernels): (&GpuFacts, &Path),
        recipe: &Recipe,
        (spec, tokens): (&Spec, usize),
    ) -> Result<Self, DeviceError> {
        check(gpu, spec)?;
        let half = half_of(gpu, recipe.model.dtype)?;
        let layout = AdapterLayout::new(spec, &recipe.lora);
        let layout = layout.map_err(|error| DeviceError(error.to_string()))?;
        let (compiler, products, nccl) = libraries(kernels)?;
        info!(gpu = gpu.name, dtype = %half, "computing on a GPU");
        let options = CudaOptions {
            ordinal: gpu.ordinal,
            head_dim: spec.head_dim,
            rank: recipe.lora.r as usize,
            half: Some(half),
            lean: false,
            memory_limit: recipe.resources.memory_limit_bytes(),
        };
        let mut cuda = Self::open(&compiler, products, options)?.with_nccl(nccl);
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

impl Cuda {
    /// Opens a GPU for generation with adapters of this rank, 0 without, as [`Self::for_job`] does.
    ///
    /// # Errors
    /// What is missing, each with its remedy; a GPU that is too old for the model; the driver's.
    pub fn for_generation(
        (gpu, kernels): (&GpuFacts, &Path),
        (spec, rank): (&Spec, usize),
    ) -> Result<Self, DeviceError> {
        check(gpu, spec)?;
        let (compiler, products, _) = libraries(kernels)?;
        let options = CudaOptions {
            ordinal: gpu.ordinal,
            head_dim: spec.head_dim,
            rank,
            half: Some(HalfFormat::of(gpu.arch)),
            lean: false,
            memory_limit: None,
        };
        Ok(Self::open(&compiler, products, options)?.by_rows())
    }

    /// The same, with products of one vector that read weights as they are stored. Training keeps to one way of adding up.
    #[must_use]
    pub fn by_rows(self) -> Self {
        Self {
            by_rows: true,
            ..self
        }
    }
}

/// The compiler, the library of products, and NCCL where it is there.
fn libraries(kernels: &Path) -> Result<(Compiler, CublasLt, Result<Nccl, Missing>), DeviceError> {
    let inventory = Inventory::take(&Environment::of_process());
    match (inventory.nvrtc, inventory.cublas_lt) {
        (Ok(nvrtc), Ok(products)) => {
            let compiler = Compiler::new(nvrtc, KernelCache::new(kernels));
            Ok((compiler, products, inventory.nccl))
        }
        _ => {
            let all = Inventory::take(&Environment::of_process()).obstacles();
            Err(DeviceError(all.join("\n  ")))
        }
    }
}

/// The 16-bit format that the recipe asks for.
fn half_of(gpu: &GpuFacts, dtype: Dtype) -> Result<HalfFormat, DeviceError> {
    let native = HalfFormat::of(gpu.arch);
    match dtype {
        Dtype::Auto => Ok(native),
        Dtype::Fp16 => Ok(HalfFormat::F16),
        Dtype::Bf16 if native == HalfFormat::Bf16 => Ok(native),
        Dtype::Bf16 => Err(DeviceError(format!(
            "{} has no bfloat16, which GPUs have from the Ampere generation on; set model.dtype to auto or fp16",
            gpu.name
        ))),
        Dtype::Fp32 => Err(DeviceError(
            "model.dtype is fp32, and on a GPU activations have 16 bits; set it to auto, or use --device cpu, which \
             computes in f32"
                .to_owned(),
        )),
    }
}

/// What the kernels ask of GPU and model.
fn check(gpu: &GpuFacts, spec: &Spec) -> Result<(), DeviceError> {
    if gpu.arch.number < OLDEST {
        return Err(DeviceError(format!(
            "{} is older than the Turing generation, whose instructions the GPU kernels use; use another GPU, or --device \
             cpu",
            gpu.name
        )));
    }
    if !HEAD_DIMS.contains(&spec.head_dim) {
        return Err(DeviceError(format!(
            "the model's attention heads are {} wide, and there are GPU kernels for {HEAD_DIMS:?}; use --device cpu",
            spec.head_dim
        )));
    }
    if attention(gpu.arch, spec.head_dim).next().is_none() {
        return Err(DeviceError(format!(
            "the model's attention heads are {} wide, and {} has too little shared memory for those; use a GPU of the \
             Ampere generation or newer, or --device cpu",
            spec.head_dim, gpu.name
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

    fn gpu(arch: Arch) -> GpuFacts {
        GpuFacts {
            ordinal: 0,
            name: "a GPU".to_owned(),
            arch,
            memory_bytes: 1 << 34,
            multiprocessors: 40,
        }
    }

    fn refused(arch: &str, spec: &Spec) -> String {
        check(&gpu(arch.parse().unwrap()), spec)
            .map_or_else(|error| error.to_string(), |()| String::new())
    }

    #[test]
    fn what_the_kernels_cannot_do_is_refused_with_another_way() {
        let spec = Preset::Llama3_8b.spec();
        for arch in ["sm_75", "sm_80"] {
            assert_eq!(refused(arch, &spec), "");
        }
        let volta = check(&gpu(Arch::of_gpu(7, 0)), &spec).unwrap_err();
        assert!(volta.to_string().contains("Turing"), "{volta}");
        let wide = Spec {
            head_dim: 256,
            ..spec.clone()
        };
        assert!(refused("sm_75", &wide).contains("Ampere"));
        assert_eq!(refused("sm_86", &wide), "");
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
    #[test]
    fn the_format_is_the_gpus_own_unless_the_recipe_says_one_that_it_has() {
        let [turing, ampere, ..] = Arch::TESTED.map(gpu);
        assert_eq!(half_of(&turing, Dtype::Auto), Ok(HalfFormat::F16));
        assert_eq!(half_of(&turing, Dtype::Fp16), Ok(HalfFormat::F16));
        assert_eq!(half_of(&ampere, Dtype::Auto), Ok(HalfFormat::Bf16));
        assert_eq!(half_of(&ampere, Dtype::Bf16), Ok(HalfFormat::Bf16));
        assert_eq!(half_of(&ampere, Dtype::Fp16), Ok(HalfFormat::F16));
        let no_bfloat16 = half_of(&turing, Dtype::Bf16).unwrap_err();
        assert!(no_bfloat16.to_string().contains("model.dtype"));
        let wide = half_of(&ampere, Dtype::Fp32).unwrap_err();
        assert!(wide.to_string().contains("--device cpu"));
    }
}
