//! What each of a decoder's tensors is called in the two formats.

use crate::model::Projection;

/// One tensor of the model, independent of the file format.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TensorRole {
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
pub(super) enum Part {
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
    /// The name in a Hugging Face checkpoint.
    pub(super) fn hugging_face(self) -> String {
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
    pub(super) fn gguf(self) -> String {
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
