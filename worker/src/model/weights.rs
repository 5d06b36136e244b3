//! The frozen weights in host memory, as a loader fills them.

use std::ops::Range;

use super::{DenseMatrix, Projection};
use crate::quant::{BlockMatrix, Nf4Matrix};

/// The matrix of a linear that is not trained. Shapes: outputs × inputs.
#[derive(Debug, Clone, PartialEq)]
pub enum FrozenLinear {
    /// Four bits a weight.
    Nf4(Nf4Matrix),
    /// 16 or 32 bits a weight.
    Dense(DenseMatrix),
    /// A block quantization of a GGUF file, kept as it is.
    Blocks(BlockMatrix),
}

impl FrozenLinear {
    /// Outputs.
    #[must_use]
    pub fn rows(&self) -> usize {
        match self {
            Self::Nf4(matrix) => matrix.rows(),
            Self::Dense(matrix) => matrix.rows,
            Self::Blocks(matrix) => matrix.rows(),
        }
    }

    /// Inputs.
    #[must_use]
    pub fn cols(&self) -> usize {
        match self {
            Self::Nf4(matrix) => matrix.cols(),
            Self::Dense(matrix) => matrix.cols,
            Self::Blocks(matrix) => matrix.cols(),
        }
    }

    /// Bytes held.
    #[must_use]
    pub fn bytes(&self) -> usize {
        match self {
            Self::Nf4(matrix) => matrix.bytes(),
            Self::Dense(matrix) => matrix.bytes(),
            Self::Blocks(matrix) => matrix.bytes(),
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
            Self::Blocks(matrix) => matrix.rows_into(rows, out),
        }
    }
}

/// A linear: `y = W·x (+ bias)`.
#[derive(Debug, Clone, PartialEq)]
pub struct LinearWeights<W = FrozenLinear> {
    /// W.
    pub weight: W,
    /// One number an output, where the family has them.
    pub bias: Option<Vec<f32>>,
}

/// One decoder layer.
#[derive(Debug, Clone, PartialEq)]
pub struct LayerWeights<W = FrozenLinear> {
    /// Norm before attention (`input_layernorm`).
    pub attn_norm: Vec<f32>,
    /// `self_attn.q_proj`.
    pub q: LinearWeights<W>,
    /// `self_attn.k_proj`.
    pub k: LinearWeights<W>,
    /// `self_attn.v_proj`.
    pub v: LinearWeights<W>,
    /// `self_attn.o_proj`.
    pub o: LinearWeights<W>,
    /// Norm before the MLP (`post_attention_layernorm`).
    pub mlp_norm: Vec<f32>,
    /// `mlp.gate_proj`.
    pub gate: LinearWeights<W>,
    /// `mlp.up_proj`.
    pub up: LinearWeights<W>,
    /// `mlp.down_proj`.
    pub down: LinearWeights<W>,
}

impl<W> LayerWeights<W> {
    /// The same layer with matrices that `change` makes of these, in the order of [`Projection::ALL`].
    ///
    /// # Errors
    /// The first of `change`'s; the matrices after it are dropped.
    pub fn try_map<V, E>(
        self,
        mut change: impl FnMut(W) -> Result<V, E>,
    ) -> Result<LayerWeights<V>, E> {
        let mut linear = |linear: LinearWeights<W>| {
            Ok(LinearWeights {
                weight: change(linear.weight)?,
                bias: linear.bias,
            })
        };
        Ok(LayerWeights {
            attn_norm: self.attn_norm,
            q: linear(self.q)?,
            k: linear(self.k)?,
            v: linear(self.v)?,
            o: linear(self.o)?,
            mlp_norm: self.mlp_norm,
            gate: linear(self.gate)?,
            up: linear(self.up)?,
            down: linear(self.down)?,
        })
    }

    /// Bytes held, where a matrix holds what `weight` says.
    pub fn bytes(&self, weight: impl Fn(&W) -> usize) -> usize {
        let linear = |projection: &Projection| {
            let LinearWeights { weight: w, bias } = self.linear(*projection);
            weight(w) + bias.as_ref().map_or(0, |bias| 4 * bias.len())
        };
        let linears: usize = Projection::ALL.iter().map(linear).sum();
        linears + 4 * (self.attn_norm.len() + self.mlp_norm.len())
    }

    /// The linear of one projection.
    #[must_use]
    pub fn linear(&self, projection: Projection) -> &LinearWeights<W> {
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
        let layer = |layer: &LayerWeights| layer.bytes(FrozenLinear::bytes);
        let layers: usize = self.layers.iter().map(layer).sum();
        self.embed.bytes()
            + layers
            + 4 * self.final_norm.len()
            + self.head.as_ref().map_or(0, DenseMatrix::bytes)
    }
}
