//! Which tensor gets how many bits. Source: llama.cpp `llama-quant.cpp`, `llama_tensor_get_type_impl` and
//! `tensor_type_fallback`.

use super::TensorType;
use crate::model::loader::{Part, TensorRole};
use crate::model::{Projection, Spec};

/// A kind of GGUF file, as llama.cpp names them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Quantization {
    /// Single precision.
    F32,
    /// IEEE half precision.
    F16,
    /// bfloat16.
    Bf16,
    /// 8 bits.
    Q8_0,
    /// 6 bits.
    Q6K,
    /// 5 bits, some tensors 6.
    Q5KM,
    /// 5 bits.
    Q5KS,
    /// 4 bits, some tensors 6.
    Q4KM,
    /// 4 bits, some tensors 5.
    Q4KS,
}

impl Quantization {
    /// All of them, largest first.
    pub const ALL: [Self; 9] = [
        Self::F32,
        Self::F16,
        Self::Bf16,
        Self::Q8_0,
        Self::Q6K,
        Self::Q5KM,
        Self::Q5KS,
        Self::Q4KM,
        Self::Q4KS,
    ];

    /// As written on the command line; file names have it in capitals.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::F16 => "f16",
            Self::Bf16 => "bf16",
            Self::Q8_0 => "q8_0",
            Self::Q6K => "q6_k",
            Self::Q5KM => "q5_k_m",
            Self::Q5KS => "q5_k_s",
            Self::Q4KM => "q4_k_m",
            Self::Q4KS => "q4_k_s",
        }
    }

    /// The quantization of that name, in small letters or capitals.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let name = name.to_ascii_lowercase();
        Self::ALL
            .into_iter()
            .find(|quantization| quantization.name() == name)
    }

    /// `general.file_type`.
    pub(super) fn file_type(self) -> u32 {
        match self {
            Self::F32 => 0,
            Self::F16 => 1,
            Self::Bf16 => 32,
            Self::Q8_0 => 7,
            Self::Q6K => 18,
            Self::Q5KM => 17,
            Self::Q5KS => 16,
            Self::Q4KM => 15,
            Self::Q4KS => 14,
        }
    }

    /// The type of most matrices.
    pub(super) fn usual(self) -> TensorType {
        match self {
            Self::F32 => TensorType::F32,
            Self::F16 => TensorType::F16,
            Self::Bf16 => TensorType::Bf16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q6K => TensorType::Q6K,
            Self::Q5KM | Self::Q5KS => TensorType::Q5K,
            Self::Q4KM | Self::Q4KS => TensorType::Q4K,
        }
    }

    fn is_float(self) -> bool {
        matches!(self, Self::F32 | Self::F16 | Self::Bf16)
    }

    /// How a tensor of a model is stored.
    pub(super) fn tensor_type(self, role: TensorRole, spec: &Spec) -> TensorType {
        let &[_, cols] = role.shape(spec).as_slice() else {
            return TensorType::F32;
        };
        if self.is_float() {
            return self.usual();
        }
        fallback(self.wanted(role, spec, cols), cols)
    }

    /// What llama.cpp wants for a matrix, whether its columns allow it or not.
    fn wanted(self, role: TensorRole, spec: &Spec, cols: usize) -> TensorType {
        match role {
            TensorRole::Head => self.output(cols),
            TensorRole::Embed if spec.tied_head => self.output(cols),
            TensorRole::Layer(layer, Part::Weight(Projection::V)) => self.values(layer, spec),
            TensorRole::Layer(layer, Part::Weight(Projection::Down)) => self.down(layer, spec),
            TensorRole::Embed
            | TensorRole::FinalNorm
            | TensorRole::Layer(
                _,
                Part::AttnNorm | Part::MlpNorm | Part::Bias(_) | Part::Weight(_),
            ) => self.usual(),
        }
    }

    /// What logits are computed with.
    fn output(self, cols: usize) -> TensorType {
        let usual = self.usual();
        match usual {
            TensorType::Q8_0 => TensorType::Q8_0,
            _ if !cols.is_multiple_of(usual.block()) => TensorType::Q8_0,
            _ => TensorType::Q6K,
        }
    }

    fn values(self, layer: usize, spec: &Spec) -> TensorType {
        let kind = match self {
            Self::Q4KM | Self::Q5KM if has_more_bits(layer, spec.layers) => TensorType::Q6K,
            Self::Q4KS if layer < 4 => TensorType::Q5K,
            other => other.usual(),
        };
        // llama.cpp knows a model of 70 billion parameters by this, whose values are small beside its queries.
        let is_70b = spec.layers == 80 && spec.heads != spec.kv_heads;
        if is_70b && kind == TensorType::Q4K {
            return TensorType::Q5K;
        }
        kind
    }

    fn down(self, layer: usize, spec: &Spec) -> TensorType {
        match self {
            Self::Q4KM | Self::Q5KM if has_more_bits(layer, spec.layers) => TensorType::Q6K,
            Self::Q4KS if layer < spec.layers / 8 => TensorType::Q5K,
            other => other.usual(),
        }
    }
}

/// The first and last eighth of the layers, and every third of those between.
fn has_more_bits(layer: usize, layers: usize) -> bool {
    let eighth = layers / 8;
    layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
}

/// A type whose blocks the columns fill.
pub(super) fn fallback(wanted: TensorType, cols: usize) -> TensorType {
    let fits = |kind: TensorType| cols.is_multiple_of(kind.block());
    if fits(wanted) {
        return wanted;
    }
    let smaller = match wanted {
        TensorType::Q4K => TensorType::Q5_0,
        TensorType::Q5K => TensorType::Q5_1,
        TensorType::Q6K => TensorType::Q8_0,
        TensorType::F32
        | TensorType::F16
        | TensorType::Bf16
        | TensorType::Q8_0
        | TensorType::Q5_0
        | TensorType::Q5_1 => TensorType::F16,
    };
    if fits(smaller) {
        smaller
    } else {
        TensorType::F16
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    fn types(quantization: Quantization, projection: Projection, spec: &Spec) -> Vec<TensorType> {
        let role = |layer| TensorRole::Layer(layer, Part::Weight(projection));
        (0..spec.layers)
            .map(|layer| quantization.tensor_type(role(layer), spec))
            .collect()
    }

    #[test]
    fn eight_billion_parameters_get_llama_cpp_s_layers_of_six_bits() {
        let spec = Preset::Llama3_8b.spec();
        let of = |projection| types(Quantization::Q4KM, projection, &spec);
        let six: Vec<usize> = of(Projection::V)
            .iter()
            .enumerate()
            .filter(|(_, kind)| **kind == TensorType::Q6K)
            .map(|(layer, _)| layer)
            .collect();
        assert_eq!(
            six,
            [0, 1, 2, 3, 6, 9, 12, 15, 18, 21, 24, 27, 28, 29, 30, 31]
        );
        assert_eq!(of(Projection::V), of(Projection::Down));
        assert!(
            of(Projection::Q)
                .iter()
                .all(|kind| *kind == TensorType::Q4K)
        );
        let kind = |role| Quantization::Q4KM.tensor_type(role, &spec);
        assert_eq!(kind(TensorRole::Head), TensorType::Q6K);
        assert_eq!(kind(TensorRole::Embed), TensorType::Q4K);
        assert_eq!(kind(TensorRole::FinalNorm), TensorType::F32);
    }

    #[test]
    fn tied_embeddings_are_stored_as_the_head_would_be() {
        let spec = Preset::Llama3_2_1b.spec();
        let embed = |quantization: Quantization| quantization.tensor_type(TensorRole::Embed, &spec);
        assert_eq!(embed(Quantization::Q4KS), TensorType::Q6K);
        assert_eq!(embed(Quantization::Q8_0), TensorType::Q8_0);
        assert_eq!(embed(Quantization::Bf16), TensorType::Bf16);
    }

    #[test]
    fn columns_that_are_no_multiple_of_256_fall_back() {
        let spec = Preset::SmolLm2_135m.spec();
        let q4 = |role| Quantization::Q4KM.tensor_type(role, &spec);
        let q5 = |role| Quantization::Q5KM.tensor_type(role, &spec);
        let up = TensorRole::Layer(5, Part::Weight(Projection::Up));
        let down = TensorRole::Layer(4, Part::Weight(Projection::Down));
        assert_eq!((q4(up), q5(up)), (TensorType::Q5_0, TensorType::Q5_1));
        assert_eq!(q4(down), TensorType::Q4K);
        assert_eq!(q4(TensorRole::Embed), TensorType::Q8_0);
        assert_eq!(fallback(TensorType::Q8_0, 48), TensorType::F16);
        assert_eq!(fallback(TensorType::Q6K, 48), TensorType::F16);
    }
}
