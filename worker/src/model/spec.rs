//! What distinguishes one model family, or size, from another.

use super::RopeSpec;

/// Dimensions and conventions of a decoder-only transformer.
#[derive(Debug, Clone, PartialEq)]
pub struct Spec {
    /// Vocabulary entries.
    pub vocab: usize,
    /// Width of the residual stream.
    pub hidden: usize,
    /// Decoder layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; each serves `heads / kv_heads` query heads.
    pub kv_heads: usize,
    /// Width of one head.
    pub head_dim: usize,
    /// Width inside the MLP.
    pub ffn: usize,
    /// Longest sequence, in tokens.
    pub context: usize,
    /// Added to the mean square in every norm.
    pub rms_eps: f32,
    /// Rotary position embedding.
    pub rope: RopeSpec,
    /// The MLP's gate.
    pub activation: Activation,
    /// Added to every norm's weight: 1 for Gemma, else 0.
    pub norm_offset: f32,
    /// Multiplies embeddings: √hidden for Gemma, else 1.
    pub embed_scale: f32,
    /// Whether the head is the embedding matrix.
    pub tied_head: bool,
}

/// The function applied to the MLP's gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Activation {
    /// `x · sigmoid(x)` (Llama, Mistral).
    Silu,
    /// GELU in its tanh form (Gemma).
    GeluTanh,
}

/// One of a layer's seven linears.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Projection {
    /// Queries.
    Q,
    /// Keys.
    K,
    /// Values.
    V,
    /// Attention output.
    O,
    /// MLP gate.
    Gate,
    /// MLP up.
    Up,
    /// MLP down.
    Down,
}

impl Projection {
    /// All seven, in the order of the forward pass.
    pub const ALL: [Self; 7] = [
        Self::Q,
        Self::K,
        Self::V,
        Self::O,
        Self::Gate,
        Self::Up,
        Self::Down,
    ];

    /// Position in [`Self::ALL`].
    #[must_use]
    pub fn index(self) -> usize {
        self as usize
    }

    /// Hugging Face's path of the module within its layer.
    #[must_use]
    pub fn module(self) -> &'static str {
        match self {
            Self::Q => "self_attn.q_proj",
            Self::K => "self_attn.k_proj",
            Self::V => "self_attn.v_proj",
            Self::O => "self_attn.o_proj",
            Self::Gate => "mlp.gate_proj",
            Self::Up => "mlp.up_proj",
            Self::Down => "mlp.down_proj",
        }
    }
}

/// What a linear reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Input {
    /// The norm before attention: queries, keys, values.
    AttentionNorm,
    /// The attention's output.
    Attention,
    /// The norm before the MLP: gate and up.
    MlpNorm,
    /// The gated unit's output.
    GatedUnit,
}

impl Projection {
    /// What it reads.
    #[must_use]
    pub fn input(self) -> Input {
        match self {
            Self::Q | Self::K | Self::V => Input::AttentionNorm,
            Self::O => Input::Attention,
            Self::Gate | Self::Up => Input::MlpNorm,
            Self::Down => Input::GatedUnit,
        }
    }
}

/// Dimensions that no model can have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SpecError {
    /// A dimension is zero.
    #[error("model dimension {0} is 0; check the model's config")]
    Zero(&'static str),
    /// Query heads cannot be shared out.
    #[error(
        "{heads} attention heads cannot share {kv_heads} key/value heads; the first must be a multiple of the second"
    )]
    Heads {
        /// Query heads.
        heads: usize,
        /// Key and value heads.
        kv_heads: usize,
    },
    /// Rotary embedding turns pairs.
    #[error("attention head width {0} is odd; rotary embedding needs an even width")]
    HeadDim(usize),
}

impl Spec {
    /// Checks that the dimensions fit together.
    ///
    /// # Errors
    /// The first dimension that does not.
    pub fn validate(&self) -> Result<(), SpecError> {
        let dimensions = [
            ("vocab", self.vocab),
            ("hidden", self.hidden),
            ("layers", self.layers),
            ("heads", self.heads),
            ("kv_heads", self.kv_heads),
            ("head_dim", self.head_dim),
            ("ffn", self.ffn),
            ("context", self.context),
        ];
        if let Some((name, _)) = dimensions.into_iter().find(|&(_, value)| value == 0) {
            return Err(SpecError::Zero(name));
        }
        if !self.heads.is_multiple_of(self.kv_heads) {
            return Err(SpecError::Heads {
                heads: self.heads,
                kv_heads: self.kv_heads,
            });
        }
        if !self.head_dim.is_multiple_of(2) {
            return Err(SpecError::HeadDim(self.head_dim));
        }
        Ok(())
    }

    /// Width of all query heads together.
    #[must_use]
    pub fn q_dim(&self) -> usize {
        self.heads * self.head_dim
    }

    /// Width of all key (or value) heads together.
    #[must_use]
    pub fn kv_dim(&self) -> usize {
        self.kv_heads * self.head_dim
    }

    /// Outputs and inputs of a linear.
    #[must_use]
    pub fn shape(&self, projection: Projection) -> (usize, usize) {
        match projection {
            Projection::Q => (self.q_dim(), self.hidden),
            Projection::K | Projection::V => (self.kv_dim(), self.hidden),
            Projection::O => (self.hidden, self.q_dim()),
            Projection::Gate | Projection::Up => (self.ffn, self.hidden),
            Projection::Down => (self.hidden, self.ffn),
        }
    }

    /// Parameters of all linears in all layers.
    #[must_use]
    pub fn linear_parameters(&self) -> usize {
        let one_layer: usize = Projection::ALL
            .iter()
            .map(|&p| self.shape(p))
            .map(|(out, inp)| out * inp)
            .sum();
        self.layers * one_layer
    }

    /// Parameters of the base model, a tied head counted once.
    #[must_use]
    pub fn parameters(&self) -> usize {
        let tables = if self.tied_head { 1 } else { 2 };
        self.linear_parameters()
            + tables * self.vocab * self.hidden
            + (2 * self.layers + 1) * self.hidden
    }
}
