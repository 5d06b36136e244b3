//! Random weights, for measurements and tests.

use rayon::prelude::*;

use super::{
    DenseMatrix, DenseValues, FrozenLinear, LayerWeights, LinearWeights, ModelWeights, Projection,
    Spec,
};
use crate::counter::Counter;
use crate::quant::{Absmax, Nf4Matrix, StoredDtype};

/// How random weights are stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RandomFormat {
    /// Everything in f32.
    F32,
    /// Linears in NF4 made directly of random codes, tables in bfloat16: no more memory than the result takes.
    Nf4,
}

impl ModelWeights {
    /// Random weights of a size that keeps activations near 1. Equal arguments give equal weights.
    ///
    /// **Cost**: the result's memory and no more; for 8 billion parameters some ten seconds of processor time, shared
    /// among rayon's threads.
    #[must_use]
    pub fn random(spec: &Spec, seed: u64, format: RandomFormat) -> Self {
        let random = Random { seed, format };
        let table = |name: &str| random.table(name, spec.vocab, spec.hidden);
        Self {
            embed: table("embed"),
            layers: (0..spec.layers)
                .map(|layer| random.layer(spec, layer))
                .collect(),
            final_norm: random.norm("final_norm", spec.hidden),
            head: (!spec.tied_head).then(|| table("head")),
        }
    }
}

struct Random {
    seed: u64,
    format: RandomFormat,
}

impl Random {
    fn layer(&self, spec: &Spec, layer: usize) -> LayerWeights {
        let norm = |name: &str| self.norm(&format!("{layer}.{name}"), spec.hidden);
        let linear = |projection: Projection| {
            let (rows, cols) = spec.shape(projection);
            let weight = self.linear(&format!("{layer}.{}", projection.module()), rows, cols);
            LinearWeights { weight, bias: None }
        };
        LayerWeights {
            attn_norm: norm("attn_norm"),
            q: linear(Projection::Q),
            k: linear(Projection::K),
            v: linear(Projection::V),
            o: linear(Projection::O),
            mlp_norm: norm("mlp_norm"),
            gate: linear(Projection::Gate),
            up: linear(Projection::Up),
            down: linear(Projection::Down),
        }
    }

    fn norm(&self, name: &str, width: usize) -> Vec<f32> {
        let random = Counter::new(self.seed, name);
        (0..width as u64)
            .map(|i| (1.0 + 0.1 * random.normal(i)) as f32)
            .collect()
    }

    fn table(&self, name: &str, rows: usize, cols: usize) -> DenseMatrix {
        // Uniform with the variance of a usual initialisation, 0.02².
        let random = Counter::new(self.seed, name);
        let value = |i: u64| ((2.0 * random.unit(i) - 1.0) * 0.035) as f32;
        let count = rows * cols;
        let values = match self.format {
            RandomFormat::F32 => DenseValues::F32(numbers(count, value)),
            RandomFormat::Nf4 => {
                DenseValues::Bf16(numbers(count, |i| half::bf16::from_f32(value(i))))
            }
        };
        DenseMatrix { rows, cols, values }
    }

    fn linear(&self, name: &str, rows: usize, cols: usize) -> FrozenLinear {
        let random = Counter::new(self.seed, name);
        let bound = (3.0 / cols as f64).sqrt();
        if self.format == RandomFormat::F32 {
            let value = |i| ((2.0 * random.unit(i) - 1.0) * bound) as f32;
            let values = numbers(rows * cols, value);
            return FrozenLinear::Dense(DenseMatrix {
                rows,
                cols,
                values: DenseValues::F32(values),
            });
        }
        let packed = numbers((rows * cols).div_ceil(2), |i| random.bits(i) as u8);
        let blocks = (rows * cols).div_ceil(64);
        let absmax = Absmax::Double {
            codes: vec![127; blocks],
            nested: vec![0.0; blocks.div_ceil(256)],
            offset: bound as f32,
        };
        let matrix = Nf4Matrix::from_parts((rows, cols), packed, absmax, StoredDtype::F32);
        FrozenLinear::Nf4(matrix.expect("the parts were made for this shape"))
    }
}

/// Number by number from its position, on all threads.
fn numbers<T: Send>(count: usize, value: impl Fn(u64) -> T + Sync) -> Vec<T> {
    (0..count)
        .into_par_iter()
        .map(|i| value(i as u64))
        .collect()
}
