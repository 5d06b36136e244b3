//! Dimensions of well-known models, for measurements with random weights.

use super::{Activation, RopeScaling, RopeSpec, Spec};

/// A model whose dimensions are known by name. Source: each one's `config.json`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Preset {
    /// Llama 3 8B.
    Llama3_8b,
    /// Llama 3.2 3B.
    Llama3_2_3b,
    /// Llama 3.2 1B.
    Llama3_2_1b,
    /// Llama 2 7B.
    Llama2_7b,
    /// Mistral 7B v0.3: the first version's sliding window is gone.
    Mistral7b,
    /// Gemma 1.1 7B.
    Gemma1_1_7b,
    /// SmolLM2 135M.
    SmolLm2_135m,
    /// No real model: two layers that every machine computes at once.
    Tiny,
}

impl Preset {
    /// All of them, largest first.
    pub const ALL: [Self; 8] = [
        Self::Gemma1_1_7b,
        Self::Llama3_8b,
        Self::Mistral7b,
        Self::Llama2_7b,
        Self::Llama3_2_3b,
        Self::Llama3_2_1b,
        Self::SmolLm2_135m,
        Self::Tiny,
    ];

    /// What users call it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Llama3_8b => "llama-3-8b",
            Self::Llama3_2_3b => "llama-3.2-3b",
            Self::Llama3_2_1b => "llama-3.2-1b",
            Self::Llama2_7b => "llama-2-7b",
            Self::Mistral7b => "mistral-7b",
            Self::Gemma1_1_7b => "gemma-1.1-7b",
            Self::SmolLm2_135m => "smollm2-135m",
            Self::Tiny => "tiny",
        }
    }

    /// The preset of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|preset| preset.name() == name)
    }

    /// Its dimensions.
    #[must_use]
    pub fn spec(self) -> Spec {
        match self {
            Self::Llama3_8b => llama_3_8b(),
            Self::Llama3_2_3b => Spec {
                hidden: 3072,
                layers: 28,
                heads: 24,
                head_dim: 128,
                ..llama_3_2_1b()
            },
            Self::Llama3_2_1b => llama_3_2_1b(),
            Self::Llama2_7b => llama_2_7b(),
            Self::Mistral7b => Spec {
                vocab: 32_768,
                kv_heads: 8,
                ffn: 14_336,
                context: 32_768,
                rope: plain_rope(1_000_000.0),
                ..llama_2_7b()
            },
            Self::Gemma1_1_7b => gemma_1_1_7b(),
            Self::SmolLm2_135m => smollm2_135m(),
            Self::Tiny => Spec {
                vocab: 512,
                hidden: 64,
                layers: 2,
                heads: 4,
                kv_heads: 2,
                head_dim: 64,
                ffn: 128,
                context: 4096,
                ..smollm2_135m()
            },
        }
    }
}

fn plain_rope(theta: f64) -> RopeSpec {
    RopeSpec {
        theta,
        scaling: RopeScaling::None,
    }
}

fn llama_3_8b() -> Spec {
    Spec {
        vocab: 128_256,
        hidden: 4096,
        layers: 32,
        heads: 32,
        kv_heads: 8,
        head_dim: 128,
        ffn: 14_336,
        context: 8192,
        rms_eps: 1e-5,
        rope: plain_rope(500_000.0),
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: false,
    }
}

fn llama_3_2_1b() -> Spec {
    Spec {
        hidden: 2048,
        layers: 16,
        head_dim: 64,
        ffn: 8192,
        context: 131_072,
        rope: RopeSpec {
            theta: 500_000.0,
            scaling: RopeScaling::Llama3 {
                factor: 32.0,
                low_freq_factor: 1.0,
                high_freq_factor: 4.0,
                original_context: 8192.0,
            },
        },
        tied_head: true,
        ..llama_3_8b()
    }
}

fn llama_2_7b() -> Spec {
    Spec {
        vocab: 32_000,
        kv_heads: 32,
        ffn: 11_008,
        context: 4096,
        rope: plain_rope(10_000.0),
        ..llama_3_8b()
    }
}

fn gemma_1_1_7b() -> Spec {
    Spec {
        vocab: 256_000,
        hidden: 3072,
        layers: 28,
        heads: 16,
        kv_heads: 16,
        head_dim: 256,
        ffn: 24_576,
        context: 8192,
        rms_eps: 1e-6,
        rope: plain_rope(10_000.0),
        activation: Activation::GeluTanh,
        norm_offset: 1.0,
        embed_scale: 3072_f32.sqrt(),
        tied_head: true,
    }
}

fn smollm2_135m() -> Spec {
    Spec {
        vocab: 49_152,
        hidden: 576,
        layers: 30,
        heads: 9,
        kv_heads: 3,
        head_dim: 64,
        ffn: 1536,
        rope: plain_rope(100_000.0),
        tied_head: true,
        ..llama_3_8b()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn presets_have_as_many_parameters_as_the_models_they_are_named_after() {
        // As Hugging Face counts them, a tied head once.
        let published = [
            (Preset::Gemma1_1_7b, 8_537_680_896),
            (Preset::Llama3_8b, 8_030_261_248),
            (Preset::Mistral7b, 7_248_023_552),
            (Preset::Llama2_7b, 6_738_415_616),
            (Preset::Llama3_2_3b, 3_212_749_824),
            (Preset::Llama3_2_1b, 1_235_814_400),
            (Preset::SmolLm2_135m, 134_515_008),
        ];
        for (preset, parameters) in published {
            assert_eq!(preset.spec().parameters(), parameters, "{}", preset.name());
        }
    }

    #[test]
    fn every_preset_is_consistent_and_found_by_its_name() {
        for preset in Preset::ALL {
            assert_eq!(preset.spec().validate(), Ok(()), "{}", preset.name());
            assert_eq!(Preset::named(preset.name()), Some(preset));
        }
        assert_eq!(Preset::named("llama"), None);
    }
}
