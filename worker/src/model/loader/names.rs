//! What each of a decoder's tensors is called in the two formats.

use crate::model::{Projection, Spec};

/// One tensor of the model, independent of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TensorRole {
    /// Token embeddings.
    Embed,
    /// The norm before the head.
    FinalNorm,
    /// The output projection, where it is not the embeddings.
    Head,
    /// A tensor of a decoder layer.
    Layer(usize, Part),
}

/// A tensor within a decoder layer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// The norm before attention.
    AttnNorm,
    /// The norm before the MLP.
    MlpNorm,
    /// A linear's matrix.
    Weight(Projection),
    /// What a linear adds.
    Bias(Projection),
}

impl TensorRole {
    /// Every tensor that a model with these dimensions may have, in the order of the forward pass.
    pub fn all(spec: &Spec) -> impl Iterator<Item = Self> {
        let layer = |layer| {
            let linear = |projection| [Part::Weight(projection), Part::Bias(projection)];
            let norms = [Part::AttnNorm, Part::MlpNorm];
            let parts = norms
                .into_iter()
                .chain(Projection::ALL.into_iter().flat_map(linear));
            parts.map(move |part| Self::Layer(layer, part))
        };
        std::iter::once(Self::Embed)
            .chain((0..spec.layers).flat_map(layer))
            .chain([Self::FinalNorm, Self::Head])
    }

    /// Its shape: rows and columns, or a length.
    #[must_use]
    pub fn shape(self, spec: &Spec) -> Vec<usize> {
        match self {
            Self::Embed | Self::Head => vec![spec.vocab, spec.hidden],
            Self::FinalNorm | Self::Layer(_, Part::AttnNorm | Part::MlpNorm) => vec![spec.hidden],
            Self::Layer(_, Part::Weight(projection)) => {
                let (rows, cols) = spec.shape(projection);
                vec![rows, cols]
            }
            Self::Layer(_, Part::Bias(projection)) => vec![spec.shape(projection).0],
        }
    }

    /// The name in a Hugging Face checkpoint.
    #[must_use]
    pub fn hugging_face(self) -> String {
        match self {
            Self::Embed => "model.embed_tokens.weight".to_owned(),
            Self::FinalNorm => "model.norm.weight".to_owned(),
            Self::Head => "lm_head.weight".to_owned(),
            Self::Layer(layer, part) => {
                let (module, kind) = match part {
                    Part::AttnNorm => ("input_layernorm", "weight"),
                    Part::MlpNorm => ("post_attention_layernorm", "weight"),
                    Part::Weight(projection) => (projection.module(), "weight"),
                    Part::Bias(projection) => (projection.module(), "bias"),
                };
                format!("model.layers.{layer}.{module}.{kind}")
            }
        }
    }

    /// The name in a GGUF file.
    #[must_use]
    pub fn gguf(self) -> String {
        match self {
            Self::Embed => "token_embd.weight".to_owned(),
            Self::FinalNorm => "output_norm.weight".to_owned(),
            Self::Head => "output.weight".to_owned(),
            Self::Layer(layer, part) => {
                let (module, kind) = match part {
                    Part::AttnNorm => ("attn_norm", "weight"),
                    Part::MlpNorm => ("ffn_norm", "weight"),
                    Part::Weight(projection) => (gguf_module(projection), "weight"),
                    Part::Bias(projection) => (gguf_module(projection), "bias"),
                };
                format!("blk.{layer}.{module}.{kind}")
            }
        }
    }
}

fn gguf_module(projection: Projection) -> &'static str {
    match projection {
        Projection::Q => "attn_q",
        Projection::K => "attn_k",
        Projection::V => "attn_v",
        Projection::O => "attn_output",
        Projection::Gate => "ffn_gate",
        Projection::Up => "ffn_up",
        Projection::Down => "ffn_down",
    }
}
