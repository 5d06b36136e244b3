//! A small tokenizer for tests: single bytes, a few merges, ChatML's tokens.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::ChatTokenizer;

/// A byte-level tokenizer with some merges and ChatML's tokens, cutting text with `pre_tokenizer`.
pub(super) fn tokenizer_json(pre_tokenizer: &Value) -> Value {
    let byte_letters = (0..256u32).map(|byte| match byte {
        0x21..=0x7E | 0xA1..=0xAC | 0xAE..=0xFF => byte,
        0..=0x20 => 0x100 + byte,
        0x7F..=0xA0 => 0x121 + byte - 0x7F,
        _ => 0x143,
    });
    let mut tokens: Vec<String> = byte_letters
        .map(|code| char::from_u32(code).unwrap().to_string())
        .collect();
    let merges = [
        "h e", "l l", "he ll", "hell o", "Ġ a", "Ġ Ġ", "Ċ Ċ", "' s", "1 2", "Ã ©", "Ġ hello",
    ];
    tokens.extend(merges.iter().map(|merge| merge.replace(' ', "")));
    let vocab: Map<String, Value> = tokens
        .iter()
        .enumerate()
        .map(|(id, token)| (token.clone(), id.into()))
        .collect();
    let special = |id: usize, content: &str| {
        json!({"id": tokens.len() + id, "content": content, "special": true,
            "single_word": false, "lstrip": false, "rstrip": false, "normalized": false})
    };
    json!({
        "version": "1.0", "truncation": {"direction": "Right", "max_length": 4, "strategy": "LongestFirst", "stride": 0},
        "padding": null, "normalizer": null, "pre_tokenizer": pre_tokenizer, "post_processor": null,
        "added_tokens": [special(0, "<s>"), special(1, "<|im_start|>"), special(2, "<|im_end|>")],
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {"type": "BPE", "vocab": vocab, "merges": merges},
    })
}

/// The last or only step of a byte-level pipeline.
pub(super) fn byte_level(use_regex: bool) -> Value {
    json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex})
}

/// A model folder with tokenizer files only.
pub(super) struct Folder(tempfile::TempDir);

/// A folder with the tokenizer above, cut by GPT-2's pattern, and without a chat template.
pub(super) fn tokenizer_folder() -> Folder {
    let folder = Folder(tempfile::tempdir().unwrap());
    folder.write("tokenizer.json", &tokenizer_json(&byte_level(true)));
    folder.write(
        "tokenizer_config.json",
        &json!({"bos_token": {"content": "<s>"}, "eos_token": "<|im_end|>"}),
    );
    folder
}

impl Folder {
    pub(super) fn write(&self, name: &str, value: &Value) {
        std::fs::write(self.path().join(name), value.to_string()).unwrap();
    }

    pub(super) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(super) fn load(&self, template: &str) -> Result<ChatTokenizer, String> {
        ChatTokenizer::load(self.path(), None, template).map_err(|error| error.to_string())
    }
}
