//! `model:` the frozen base and its text layout.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The base model and how its text is laid out.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
#[schemars(extend("required" = ["base_model"]))]
pub struct ModelSection {
    /// A local Hugging Face folder or a `.gguf` file; relative paths start at the recipe's folder.
    pub base_model: String,
    /// Folder or `tokenizer.json` to use instead of the base model's own tokenizer.
    pub tokenizer: Option<String>,
    /// Tokens per row; longer rows are truncated from the right.
    #[schemars(range(min = 2))]
    pub max_seq_length: u32,
    /// Keep the base's linears in NF4 with double quantization.
    pub load_in_4bit: bool,
    /// Number format of activations on a GPU.
    pub dtype: Dtype,
    /// `auto` = the tokenizer's own; else the name of a built-in template or a path to a `.jinja` file.
    pub chat_template: String,
}

impl Default for ModelSection {
    fn default() -> Self {
        Self {
            base_model: String::new(),
            tokenizer: None,
            max_seq_length: 2048,
            load_in_4bit: true,
            dtype: Dtype::Auto,
            chat_template: "auto".to_owned(),
        }
    }
}

/// Number format of activations.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Dtype {
    /// bf16 where the GPU has it, else fp16; f32 on a CPU.
    #[default]
    Auto,
    /// bfloat16, which GPUs have from the Ampere generation on.
    Bf16,
    /// IEEE half precision with dynamic loss scaling.
    Fp16,
    /// Single precision; on a CPU alone.
    Fp32,
}
