//! `lora:` the adapter.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The adapter to train. Source: LoRA (2106.09685); keys as in PEFT's `LoraConfig`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct LoraSection {
    /// Rank.
    #[schemars(range(min = 1))]
    pub r: u32,
    /// The update is scaled by `lora_alpha / r`, or `lora_alpha / sqrt(r)` with `use_rslora`.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lora_alpha: f64,
    /// Probability of dropping an adapter input.
    #[schemars(range(min = 0), extend("exclusiveMaximum" = 1))]
    pub lora_dropout: f64,
    /// Which linears get an adapter.
    pub target_modules: TargetModules,
    /// Rank-stabilised scaling (2312.03732).
    pub use_rslora: bool,
    /// How A starts; B starts at zero.
    pub init_lora_weights: LoraInit,
    /// Seed of the adapter's start; `training.seed` where unset.
    pub random_state: Option<u64>,
    /// What is kept from the forward pass for the backward pass.
    pub use_gradient_checkpointing: GradientCheckpointing,
}

impl Default for LoraSection {
    fn default() -> Self {
        Self {
            r: 16,
            lora_alpha: 16.0,
            lora_dropout: 0.0,
            target_modules: TargetModules::default(),
            use_rslora: false,
            init_lora_weights: LoraInit::default(),
            random_state: None,
            use_gradient_checkpointing: GradientCheckpointing::default(),
        }
    }
}

/// The linears that get an adapter.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum TargetModules {
    /// Names of modules, each matching the last part of a module's path.
    Names(Vec<String>),
    /// `all-linear`, or a regular expression that a module's whole path must match.
    Pattern(String),
}

impl Default for TargetModules {
    fn default() -> Self {
        let seven = [
            "q_proj",
            "k_proj",
            "v_proj",
            "o_proj",
            "gate_proj",
            "up_proj",
            "down_proj",
        ];
        Self::Names(seven.map(str::to_owned).to_vec())
    }
}

/// How the A matrices start.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = accept_true)]
pub enum LoraInit {
    /// Uniform in ±1/√in, PEFT's default (`true` there).
    #[default]
    Kaiming,
    /// Normal with standard deviation 1/r.
    Gaussian,
}

/// What is kept from the forward pass for the backward pass. No choice changes a bit of the result.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(transform = accept_booleans)]
pub enum GradientCheckpointing {
    /// Keep what the memory allows.
    #[default]
    Auto,
    /// Recompute each layer, and keep layer inputs in host memory (same as `true` on a CPU).
    Unsloth,
    /// Recompute each layer.
    True,
    /// Keep everything.
    False,
}

/// Lets the schema take YAML's `true` and `false` beside the words; parsing turns them into those.
fn accept_booleans(schema: &mut schemars::Schema) {
    accept(schema, serde_json::json!({ "type": "boolean" }));
}

/// Lets the schema take PEFT's `true`; parsing turns it into `kaiming`.
fn accept_true(schema: &mut schemars::Schema) {
    accept(schema, serde_json::json!({ "const": true }));
}

fn accept(schema: &mut schemars::Schema, variant: serde_json::Value) {
    let variants = schema
        .get_mut("oneOf")
        .and_then(serde_json::Value::as_array_mut);
    variants
        .into_iter()
        .for_each(|variants| variants.push(variant.clone()));
}
