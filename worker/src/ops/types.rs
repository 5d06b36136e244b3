//! Arguments of ops.

use super::Ops;
use crate::lora::LoraPair;

/// What a device could not do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct DeviceError(pub String);

/// A frozen linear, its bias, its adapter.
pub struct AdaptedLinear<'a, O: Ops> {
    /// W.
    pub weight: &'a O::Linear,
    /// One number an output, where there is a bias.
    pub bias: Option<&'a O::Floats>,
    /// Outputs and inputs.
    pub shape: (usize, usize),
    /// The low-rank branch, where the linear is targeted.
    pub lora: Option<LoraBranch<'a, O::Params>>,
}

/// The low-rank branch beside a linear.
pub struct LoraBranch<'a, B> {
    /// All adapter values.
    pub values: &'a B,
    /// Where A and B lie among them.
    pub pair: LoraPair,
    /// s.
    pub scale: f32,
    /// Offset, among all adapter values, of the first element of the gradient buffer.
    pub grad_base: usize,
}

impl<B> Clone for LoraBranch<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for LoraBranch<'_, B> {}

/// The input of linears in their backward.
#[derive(Debug)]
pub enum Input<'a, B> {
    /// The buffer that the forward read, which nobody wrote since.
    Kept(&'a B),
    /// The same numbers, computed again.
    Again(&'a B),
}

impl<'a, B> Input<'a, B> {
    /// The numbers.
    pub fn buf(&self) -> &'a B {
        match self {
            Self::Kept(buf) | Self::Again(buf) => buf,
        }
    }
}

/// Whether an output replaces or adds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Write {
    /// `=`: the old contents are never read.
    Set,
    /// `+=`.
    Add,
}

/// Where a result goes.
#[derive(Debug)]
pub struct Out<'a, B> {
    /// The buffer.
    pub buf: &'a mut B,
    /// Position of the first element.
    pub offset: usize,
    /// `=` or `+=`.
    pub write: Write,
}

impl<'a, B> Out<'a, B> {
    /// `buf =`.
    pub fn set(buf: &'a mut B) -> Self {
        Self::new(buf, Write::Set)
    }

    /// `buf +=`.
    pub fn add(buf: &'a mut B) -> Self {
        Self::new(buf, Write::Add)
    }

    /// `buf =` or `buf +=`.
    pub fn new(buf: &'a mut B, write: Write) -> Self {
        Self {
            buf,
            offset: 0,
            write,
        }
    }

    /// The same, from element `offset` on.
    #[must_use]
    pub fn at(self, offset: usize) -> Self {
        Self { offset, ..self }
    }

    /// The same place, lent for one call.
    pub fn reborrow(&mut self) -> Out<'_, B> {
        Out {
            buf: self.buf,
            offset: self.offset,
            write: self.write,
        }
    }
}

/// A matrix operand that lies packed in a buffer.
#[derive(Debug)]
pub struct Mat<'a, B> {
    /// The buffer.
    pub buf: &'a B,
    /// Position of the first element.
    pub offset: usize,
    /// Whether the buffer holds the operand's transpose.
    pub transposed: bool,
}

impl<'a, B> Mat<'a, B> {
    /// The operand as it lies.
    pub fn new(buf: &'a B) -> Self {
        Self {
            buf,
            offset: 0,
            transposed: false,
        }
    }

    /// The transpose of what lies there.
    pub fn transpose(buf: &'a B) -> Self {
        Self {
            buf,
            offset: 0,
            transposed: true,
        }
    }

    /// The same, from element `offset` on.
    #[must_use]
    pub fn at(self, offset: usize) -> Self {
        Self { offset, ..self }
    }
}

/// A root-mean-square norm over rows.
#[derive(Debug)]
pub struct Norm<'a, B> {
    /// Its weight, one number a column.
    pub weight: &'a B,
    /// Added to the mean square.
    pub eps: f32,
    /// Rows.
    pub tokens: usize,
    /// Columns.
    pub width: usize,
}

impl<B> Clone for Norm<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Norm<'_, B> {}

/// The angles of a packed batch, and which way to turn.
#[derive(Debug)]
pub struct Rotation<'a, B> {
    /// Cosines, tokens × half a head.
    pub cos: &'a B,
    /// Sines, tokens × half a head.
    pub sin: &'a B,
    /// Tokens.
    pub tokens: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Which way.
    pub turn: Turn,
}

impl<B> Clone for Rotation<'_, B> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<B> Copy for Rotation<'_, B> {}

/// Direction of a rotation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// As the forward pass does.
    Forward,
    /// The other way: the gradient.
    Backward,
}

/// Dimensions of an attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; a divisor of `heads`.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Multiplies the scores: 1/√head_dim.
    pub scale: f32,
}

/// Queries (tokens × heads × width), keys and values (tokens × kv_heads × width).
#[derive(Debug)]
pub struct Qkv<'a, B> {
    /// Queries.
    pub q: &'a B,
    /// Keys.
    pub k: &'a B,
    /// Values.
    pub v: &'a B,
}

/// What the attention's backward needs of its forward.
pub struct AttentionSaved<'a, O: Ops> {
    /// Its inputs.
    pub qkv: Qkv<'a, O::Buf>,
    /// Its output.
    pub out: &'a O::Buf,
    /// Logarithm of the sum of exponentials, tokens × heads.
    pub lse: &'a O::Floats,
}

/// Where the attention's gradients go.
#[derive(Debug)]
pub struct AttentionGrads<'a, B> {
    /// For queries.
    pub dq: &'a mut B,
    /// For keys.
    pub dk: &'a mut B,
    /// For values.
    pub dv: &'a mut B,
}
