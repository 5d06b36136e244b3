//! The tokenizer files of a Hugging Face model folder.

use std::path::Path;

use serde_json::Value;

use super::TokenizerError;
use super::parts::Parts;
use crate::data::chat::SpecialTokens;

/// Reads a folder, or a `tokenizer.json` and the files beside it.
pub(super) fn read(path: &Path) -> Result<Parts, TokenizerError> {
    let (folder, tokenizer) = if path.is_file() {
        (
            path.parent().unwrap_or(Path::new("")).to_owned(),
            path.to_owned(),
        )
    } else {
        (path.to_owned(), path.join("tokenizer.json"))
    };
    if !tokenizer.is_file() {
        let sentencepiece = folder.join("tokenizer.model").is_file();
        return Err(TokenizerError::Missing {
            folder,
            sentencepiece,
        });
    }
    let tokenizer_json = read_text(&tokenizer)?;
    let config = read_json(&folder.join("tokenizer_config.json"))?;
    let map = read_json(&folder.join("special_tokens_map.json"))?;
    let mut special_tokens = named_tokens(&map);
    special_tokens.extend(named_tokens(&config));
    Ok(Parts {
        origin: tokenizer.display().to_string(),
        tokenizer_json,
        special_tokens,
        chat_template: chat_template(&folder, &config)?,
        end_ids: end_ids(&folder)?,
    })
}

fn read_text(path: &Path) -> Result<String, TokenizerError> {
    std::fs::read_to_string(path).map_err(|source| TokenizerError::Io {
        path: path.to_owned(),
        source,
    })
}

/// The file's content, or null if there is no such file.
fn read_json(path: &Path) -> Result<Value, TokenizerError> {
    if !path.is_file() {
        return Ok(Value::Null);
    }
    serde_json::from_str(&read_text(path)?).map_err(|error| TokenizerError::Invalid {
        origin: path.display().to_string(),
        detail: error.to_string(),
    })
}

/// Every `…_token` that is set, as text or as an object with `content`.
fn named_tokens(config: &Value) -> SpecialTokens {
    let entries = config.as_object().into_iter().flatten();
    let named = entries.filter(|(name, _)| name.ends_with("_token"));
    let texts = named.filter_map(|(name, token)| {
        let text = token.as_str().or_else(|| token.get("content")?.as_str())?;
        Some((name.clone(), text.to_owned()))
    });
    texts.collect()
}

/// `chat_template.jinja`, else the config's template, which may be a list of named ones.
fn chat_template(folder: &Path, config: &Value) -> Result<Option<String>, TokenizerError> {
    let file = folder.join("chat_template.jinja");
    if file.is_file() {
        return read_text(&file).map(Some);
    }
    let template = match config.get("chat_template") {
        Some(Value::Array(named)) => {
            let default = named.iter().find(|template| template["name"] == "default");
            default
                .or(named.first())
                .map(|template| &template["template"])
        }
        other => other,
    };
    Ok(template.and_then(Value::as_str).map(str::to_owned))
}

/// `eos_token_id` of the generation config and the model config: a number or a list.
fn end_ids(folder: &Path) -> Result<Vec<u32>, TokenizerError> {
    let mut ids = Vec::new();
    for name in ["generation_config.json", "config.json"] {
        let config = read_json(&folder.join(name))?;
        let field = &config["eos_token_id"];
        let listed = field
            .as_array()
            .map_or(std::slice::from_ref(field), Vec::as_slice);
        let numbers = listed.iter().filter_map(Value::as_u64);
        ids.extend(numbers.filter_map(|id| u32::try_from(id).ok()));
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}
