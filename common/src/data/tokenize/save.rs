//! Tokenizer files for an adapter folder.

use std::io;
use std::path::Path;

use serde_json::{Map, Value, json};

use super::Parts;

/// Writes `tokenizer.json`, `tokenizer_config.json`, `special_tokens_map.json` and, with a template, `chat_template.jinja`.
pub(super) fn write(parts: &Parts, template: Option<&str>, folder: &Path) -> io::Result<()> {
    let named = parts
        .special_tokens
        .iter()
        .map(|(name, token)| (name.clone(), Value::from(token.as_str())));
    let named: Map<String, Value> = named.collect();
    let mut config = named.clone();
    config.insert(
        "tokenizer_class".to_owned(),
        json!("PreTrainedTokenizerFast"),
    );
    config.insert("clean_up_tokenization_spaces".to_owned(), json!(false));
    if let Some(template) = template {
        config.insert("chat_template".to_owned(), json!(template));
        std::fs::write(folder.join("chat_template.jinja"), template)?;
    }
    std::fs::write(folder.join("tokenizer.json"), &parts.tokenizer_json)?;
    write_json(&folder.join("tokenizer_config.json"), &config.into())?;
    write_json(&folder.join("special_tokens_map.json"), &named.into())
}

fn write_json(path: &Path, value: &Value) -> io::Result<()> {
    std::fs::write(path, format!("{value:#}\n"))
}
