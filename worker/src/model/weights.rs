//! The frozen weights in host memory, as a loader fills them.

use std::ops::Range;

use super::{DenseMatrix, Projection};
use crate::quant::Nf4Matrix;

/// The matrix of a linear that is not trained. Shapes: outputs × inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum FrozenLinear {
    /// Four bits a weight.
    Nf4(Nf4Matrix),
    /// 16 or 32 bits a weight.
    Dense(DenseMatrix),
}

impl FrozenLinear {
    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Nf4(matrix) => matrix.rows(),
            Self::Dense(matrix) => matrix.rows,
        }
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        match self {
            Self::Nf4(matrix) => matrix.cols(),
            Self::Dense(matrix) => matrix.cols,
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Nf4(matrix) => matrix.bytes(),
            Self::Dense(matrix) => matrix.bytes(),
        }
    }

    /// Writes rows as f32, `=`.
    ///
    /// # Panics
    /// If `out` does not hold exactly the rows asked for.
    pub fn rows_into(&self, rows: Range<usize>, out: &mut [f32]) {
        match self {
            Self::Nf4(matrix) => matrix.dequantize_rows_into(rows, out),
            Self::Dense(matrix) => matrix.rows_into(rows, out),
        }
    }
}

/// A linear: `y = W·x (+ bias)`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearWeights {
    /// W.
    pub weight: FrozenLinear,
    /// One number an output, where the family has them.
    pub bias: Option<Vec<f32>>,
}

/// One decoder layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights {
    /// Norm before attention (`input_layernorm`).
    pub attn_norm: Vec<f32>,
    /// `self_attn.q_proj`.
    pub q: LinearWeights,
    /// `self_attn.k_proj`.
    pub k: LinearWeights,
    /// `self_attn.v_proj`.
    pub v: LinearWeights,
    /// `self_attn.o_proj`.
    pub o: LinearWeights,
    /// Norm before the MLP (`post_attention_layernorm`).
    pub mlp_norm: Vec<f32>,
    /// `mlp.gate_proj`.
    pub gate: LinearWeights,
    /// `mlp.up_proj`.
    pub up: LinearWeights,
    /// `mlp.down_proj`.
    pub down: LinearWeights,
}

impl LayerWeights {
    /// The linear of one projection.
    #[must_use]
    pub fn linear(&self, projection: Projection) -> &LinearWeights {
        match projection {
            Projection::Q => &self.q,
            Projection::K => &self.k,
            Projection::V => &self.v,
            Projection::O => &self.o,
            Projection::Gate => &self.gate,
            Projection::Up => &self.up,
            Projection::Down => &self.down,
        }
    }
}

/// A whole base model.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelWeights {
    /// Token embeddings, vocabulary × hidden.
    pub embed: DenseMatrix,
    /// The decoder layers, first to last.
    pub layers: Vec<LayerWeights>,
    /// Norm before the head.
    pub final_norm: Vec<f32>,
    /// `lm_head`, vocabulary × hidden; `None` where it is tied to the embeddings.
    pub head: Option<DenseMatrix>,
}

impl ModelWeights {
    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let norms = |layer: &LayerWeights| 4 * (layer.attn_norm.len() + layer.mlp_norm.len());
        let linear =
            |l: &LinearWeights| l.weight.bytes() + l.bias.as_ref().map_or(0, |b| 4 * b.len());
        let layer = |l: &LayerWeights| {
            norms(l)
                + Projection::ALL
                    .iter()
                    .map(|&p| linear(l.linear(p)))
                    .sum::<usize>()
        };
        let layers: usize = self.layers.iter().map(layer).sum();
        self.embed.bytes()
            + layers
            + 4 * self.final_norm.len()
            + self.head.as_ref().map_or(0, DenseMatrix::bytes)
    }
}
