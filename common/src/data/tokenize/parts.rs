//! What a tokenizer is made of, whatever file it came from.

use std::path::Path;

use super::{TokenizerError, from_folder, from_gguf};
use crate::data::chat::SpecialTokens;
use crate::gguf::GgufFile;

/// The content of a tokenizer's files.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts {
    /// Where it was read, for messages.
    pub(super) origin: String,
    /// Text of `tokenizer.json`.
    pub(super) tokenizer_json: String,
    /// `bos_token`, `eos_token`, `unk_token`, `pad_token`, … as far as there are any.
    pub(super) special_tokens: SpecialTokens,
    /// The tokenizer's own chat template.
    pub(super) chat_template: Option<String>,
    /// Ids that end a generation, from the model's configuration.
    pub(super) end_ids: Vec<u32>,
}

impl Parts {
    /// Reads the tokenizer of a base model, or another one in its place.
    pub(super) fn read(
        base_model: &Path,
        replacement: Option<&Path>,
    ) -> Result<Self, TokenizerError> {
        let Some(replacement) = replacement else {
            return Self::read_one(base_model);
        };
        let mut parts = Self::read_one(replacement)?;
        // A bare tokenizer.json says nothing of templates and ends; the base model may.
        if let Ok(base) = Self::read_one(base_model) {
            parts.chat_template = parts.chat_template.or(base.chat_template);
            if parts.end_ids.is_empty() {
                parts.end_ids = base.end_ids;
            }
        }
        Ok(parts)
    }

    fn read_one(path: &Path) -> Result<Self, TokenizerError> {
        if path.is_file() && GgufFile::is_gguf(path) {
            return from_gguf::read(path);
        }
        from_folder::read(path)
    }
}
