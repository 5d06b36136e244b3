//! Memory on a GPU, counted without one.

use weft_common::recipe::{GradientCheckpointing, Optimizer, Recipe};

use super::linear::{GROUPS, weights_len};
use super::loss::logits_len;
use crate::lora::AdapterLayout;
use crate::model::{Projection, Spec};
use crate::ops::Sizes;
use crate::ops::cuda::row_stride;
use crate::quant::Nf4Matrix;
use crate::train::{MemoryPlan, PassShape};

/// Elements of an 8-bit moment that share a scale.
const MOMENT_BLOCK: usize = 256;

/// What the memory of a job on a GPU depends on, beside the model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CudaSizes {
    /// Rank of the adapters; 0 without.
    pub rank: usize,
    /// Whether what a step seldom reads or writes lies in host memory: embeddings that are no head, gradient sums, and the
    /// adapter in f32.
    pub lean: bool,
}

impl CudaSizes {
    /// Bytes that the driver, its libraries and the kernels' code take before anything else; measured on an H200.
    pub const CONTEXT_BYTES: u64 = 594 << 20;

    /// Bytes that NCCL takes for a communicator; measured on four H200s.
    pub const NCCL_BYTES: u64 = 1200 << 20;

    /// Those of a job that may take `free` bytes beside the context; all that it wants where that is unknown. It is lean where
    /// its recipe says so, or leaves it open and nothing else has room.
    #[must_use]
    pub fn of_job(
        recipe: &Recipe,
        (spec, layout): (&Spec, &AdapterLayout),
        shape: PassShape,
        free: Option<u64>,
    ) -> Self {
        let rank = recipe.lora.r as usize;
        let generous = Self { rank, lean: false };
        let lean = match recipe.lora.use_gradient_checkpointing {
            GradientCheckpointing::Unsloth => true,
            GradientCheckpointing::True | GradientCheckpointing::False => false,
            GradientCheckpointing::Auto => free.is_some_and(|free| {
                let taken = generous.base_bytes(spec, recipe.model.load_in_4bit)
                    + generous.state_bytes(layout, recipe.training.optim);
                let needed = MemoryPlan::recompute().bytes(&generous, spec, shape);
                needed > Self::budget(free.saturating_sub(taken))
            }),
        };
        Self { rank, lean }
    }

    /// Bytes of the frozen base, its linears in 4 bits or in 16.
    #[must_use]
    pub fn base_bytes(self, spec: &Spec, load_in_4bit: bool) -> u64 {
        let linear = |projection: &Projection| {
            let shape = spec.shape(*projection);
            match load_in_4bit {
                // The map of the magnitudes' codes lies beside each matrix.
                true => Nf4Matrix::bytes_for(shape) + 256 * size_of::<f32>(),
                false => 2 * shape.0 * shape.1,
            }
        };
        let layer: usize = Projection::ALL.iter().map(linear).sum();
        let norms = (2 * spec.layers + 1) * spec.hidden * size_of::<f32>();
        let tables = match (spec.tied_head, self.lean) {
            (true, _) | (false, true) => 1,
            (false, false) => 2,
        };
        (spec.layers * layer + norms + 2 * tables * spec.vocab * spec.hidden) as u64
    }

    /// Bytes of an adapter in f32 and in 16 bits, its optimizer, the sums of its gradient and a layer's gradient, as far as they
    /// lie on the device.
    #[must_use]
    pub fn state_bytes(self, layout: &AdapterLayout, optimizer: Optimizer) -> u64 {
        let len = layout.len();
        let moments = match optimizer {
            Optimizer::AdamW8bit => 2 * (len + len.div_ceil(MOMENT_BLOCK) * size_of::<f32>()),
            Optimizer::AdamW => 2 * len * size_of::<f32>(),
        };
        let seldom = match self.lean {
            true => 0,
            false => len * (size_of::<f32>() + size_of::<i64>()),
        };
        let numbers = 2 * len + seldom;
        (numbers + moments + layout.max_layer_len() * size_of::<f32>()) as u64
    }

    /// Bytes of all linears as products read them, forward and backward.
    #[must_use]
    pub fn resident_bytes(self, spec: &Spec) -> u64 {
        let group = |projections: &[Projection]| {
            let inputs = spec.shape(projections[0]).1;
            let outputs: usize = projections.iter().map(|&p| spec.shape(p).0).sum();
            let rank = projections.len() * self.rank;
            outputs * row_stride(inputs, rank) + (outputs + rank) * inputs
        };
        let layer: usize = GROUPS.into_iter().map(group).sum();
        (2 * spec.layers * layer) as u64
    }

    /// What a pass may take of `free` bytes: not what the allocator rounds up, nor the token ids of a pass.
    #[must_use]
    pub fn budget(free: u64) -> u64 {
        free - free / 50
    }

    /// Elements from one row to the next of matrices side by side.
    pub(super) fn stride(self, widths: &[usize]) -> usize {
        row_stride(widths.iter().sum(), self.tail())
    }

    /// Spare columns behind every matrix: what the adapters of q, k and v need together.
    pub(super) fn tail(self) -> usize {
        3 * self.rank
    }

    /// Elements of what a pass dequantizes to at a time, and of its logits, which are not there at the same time.
    pub(super) fn scratch_len(self, spec: &Spec, tokens: usize, rank: usize) -> usize {
        weights_len(spec, rank).max(logits_len(spec, tokens))
    }
}

impl Sizes for CudaSizes {
    fn peers_bytes(&self, params: usize) -> u64 {
        let sums = match self.lean {
            true => 0,
            false => (params * size_of::<i64>()) as u64,
        };
        sums + Self::NCCL_BYTES
    }

    fn matrix_bytes(&self, rows: usize, widths: &[usize]) -> u64 {
        (2 * rows * self.stride(widths)) as u64
    }

    fn lendable_bytes(&self, rows: usize, width: usize) -> u64 {
        self.matrix_bytes(rows, &[width])
    }

    fn is_lean(&self) -> bool {
        self.lean
    }

    fn scratch_bytes(&self, spec: &Spec, tokens: usize, rank: usize) -> u64 {
        (self.scratch_len(spec, tokens, rank) * 2 + tokens * spec.heads * size_of::<f32>()) as u64
    }
}

#[cfg(test)]
mod tests {
    use weft_common::recipe::Format;

    use super::*;
    use crate::model::Preset;

    const GIB: f64 = 1_073_741_824.0;

    #[test]
    fn llama_3_8b_in_four_bits_takes_what_it_takes_on_a_gpu() {
        let spec = Preset::Llama3_8b.spec();
        let sizes = CudaSizes {
            rank: 16,
            lean: false,
        };
        let base = sizes.base_bytes(&spec, true) as f64 / GIB;
        // 6.98e9 weights at 4.127 bits, and two tables of 128256x4096 in 16 bits.
        assert!((base - 5.31).abs() < 0.02, "{base} GiB");
        let without_embeddings = CudaSizes {
            lean: true,
            ..sizes
        };
        let table = sizes.base_bytes(&spec, true) - without_embeddings.base_bytes(&spec, true);
        assert_eq!(table, 2 * 128_256 * 4096);
        // Rows of 4096 columns and 48 spare ones begin at whole lines.
        assert_eq!(sizes.matrix_bytes(1, &[4096]), 2 * 4160);
    }

    #[test]
    fn a_job_is_lean_where_its_recipe_says_so_or_nothing_else_has_room() {
        let spec = Preset::Llama3_8b.spec();
        let shape = PassShape {
            tokens: 4096,
            rank: 16,
        };
        let lean = |checkpointing: &str, free: Option<u64>| {
            let text = format!(
                "model: {{base_model: m}}\ndatasets: [{{path: d}}]\nlora: {{use_gradient_checkpointing: {checkpointing}}}\n"
            );
            let recipe = Recipe::parse(&text, Format::Yaml).unwrap();
            let layout = AdapterLayout::new(&spec, &recipe.lora).unwrap();
            CudaSizes::of_job(&recipe, (&spec, &layout), shape, free).lean
        };
        assert!(lean("unsloth", Some(80 << 30)) && lean("unsloth", None));
        assert!(!lean("true", Some(6 << 30)) && !lean("false", Some(6 << 30)));
        assert!(!lean("auto", None) && !lean("auto", Some(16 << 30)));
        assert!(lean("auto", Some(6 << 30)));
    }
}
