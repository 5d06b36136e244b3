//! Shape of the network and the schedule of its training.

use serde::Serialize;

/// Shape of the network, with the keys of a Hugging Face `config.json`.
///
/// The inner sizes are multiples of 64, the block of NF4, and the heads are 64 wide, which every attention kernel knows.
#[derive(Debug, Clone, Serialize)]
pub struct ModelConfig {
    /// Entries of the vocabulary.
    pub vocab_size: usize,
    /// Width of the residual stream.
    pub hidden_size: usize,
    /// Width inside the feed-forward part.
    pub intermediate_size: usize,
    /// Decoder layers.
    pub num_hidden_layers: usize,
    /// Query heads.
    pub num_attention_heads: usize,
    /// Key and value heads, each shared by a group of query heads.
    pub num_key_value_heads: usize,
    /// Width of a head; heads together need not be as wide as the residual stream.
    pub head_dim: usize,
    /// Longest sequence in tokens.
    pub max_position_embeddings: usize,
    /// Base of the rotary frequencies.
    pub rope_theta: f64,
    /// Added to the mean square before its root.
    pub rms_norm_eps: f64,
    /// Standard deviation of the starting embeddings.
    pub initializer_range: f64,
}

impl Default for ModelConfig {
    fn default() -> Self {
        Self {
            vocab_size: 2048,
            hidden_size: 128,
            intermediate_size: 384,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 2,
            head_dim: 64,
            max_position_embeddings: 512,
            rope_theta: 10_000.0,
            rms_norm_eps: 1e-5,
            initializer_range: 0.05,
        }
    }
}

/// How long and how fast the network learns.
#[derive(Debug, Clone)]
pub struct Schedule {
    /// Optimizer steps.
    pub steps: usize,
    /// Sequences per step.
    pub rows_per_step: usize,
    /// Tokens per sequence.
    pub tokens_per_row: usize,
    /// Steps of linear warm-up.
    pub warmup_steps: usize,
    /// Highest learning rate; a cosine takes it down to a twentieth.
    pub peak_learning_rate: f64,
    /// Share of each target that is spread over the whole vocabulary.
    pub label_smoothing: f64,
    /// Gradients are scaled down to this global norm.
    pub max_grad_norm: f64,
    /// Steps between lines of progress.
    pub log_every: usize,
}

impl Default for Schedule {
    fn default() -> Self {
        Self {
            steps: 1500,
            rows_per_step: 8,
            tokens_per_row: 144,
            warmup_steps: 40,
            peak_learning_rate: 3e-3,
            label_smoothing: 0.1,
            max_grad_norm: 1.0,
            log_every: 20,
        }
    }
}

impl Schedule {
    /// Learning rate of a step, counted from 0: linear warm-up, then half a cosine down to a twentieth of the peak.
    #[must_use]
    pub fn learning_rate(&self, step: usize) -> f64 {
        if step < self.warmup_steps {
            return self.peak_learning_rate * (step + 1) as f64 / self.warmup_steps as f64;
        }
        let span = self.steps.saturating_sub(self.warmup_steps).max(1) as f64;
        let progress = (step - self.warmup_steps) as f64 / span;
        let cosine = 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        self.peak_learning_rate * (0.05 + 0.95 * cosine)
    }
}
