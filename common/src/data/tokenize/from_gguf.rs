//! A tokenizer out of a GGUF file's metadata, written as the `tokenizer.json` that it was converted from.
//!
//! Source for the split patterns: llama.cpp `src/llama-vocab.cpp` and the tokenizers of the models named there.

use std::path::Path;

use serde_json::{Map, Value, json};

use super::parts::Parts;
use super::pieces::{self, Split};
use super::{TokenizerError, sentencepiece};
use crate::data::chat::SpecialTokens;
use crate::gguf::GgufFile;

const TOKENS: &str = "tokenizer.ggml.tokens";
const MERGES: &str = "tokenizer.ggml.merges";
const MODEL: &str = "tokenizer.ggml.model";
/// `tokenizer.ggml.token_type` of tokens that text never spells.
const CONTROL: u64 = 3;
/// `tokenizer.ggml.token_type` of tokens that were added to the vocabulary but are text.
const USER_DEFINED: u64 = 4;

/// `tokenizer.ggml.pre` → how text is cut before byte pairs are merged.
const SPLITS: &[(&str, Split)] = &[
    ("gpt-2", Split::Gpt2),
    ("default", Split::Gpt2),
    ("smollm", Split::DigitsGpt2),
    ("starcoder", Split::DigitsGpt2),
    ("llama-bpe", Split::Llama3),
    ("llama3", Split::Llama3),
    ("llama-v3", Split::Llama3),
    ("qwen2", Split::Qwen2),
    ("deepseek-r1-qwen", Split::Qwen2),
];

fn pre_tokenizer(split: Split) -> Value {
    let bytes = |use_regex: bool| json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": use_regex});
    let pattern = |regex: &str| json!({"type": "Split", "pattern": {"Regex": regex}, "behavior": "Isolated", "invert": false});
    let steps = match split {
        Split::Gpt2 => return bytes(true),
        Split::DigitsGpt2 => [
            json!({"type": "Digits", "individual_digits": true}),
            bytes(true),
        ],
        Split::Llama3 => [pattern(pieces::LLAMA_3), bytes(false)],
        Split::Qwen2 => [pattern(pieces::QWEN_2), bytes(false)],
    };
    json!({"type": "Sequence", "pretokenizers": steps})
}

/// Reads the tokenizer of the GGUF file at `path`.
pub(super) fn read(path: &Path) -> Result<Parts, TokenizerError> {
    let file = GgufFile::open(path)?;
    let tokens = file.required(TOKENS, file.strings(TOKENS)?)?;
    let special_tokens = special_tokens(&file, &tokens)?;
    let tokenizer = match file.required(MODEL, file.str(MODEL)?)? {
        "gpt2" => byte_level(&file, &tokens, &special_tokens)?,
        "llama" => sentence_piece(&file, &tokens, &special_tokens)?,
        kind => return Err(unknown(path, MODEL, kind, "gpt2 and llama".to_owned())),
    };
    let end_keys = ["tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id"];
    let end_ids = end_keys
        .iter()
        .map(|key| file.u64(key))
        .collect::<Result<Vec<_>, _>>()?;
    let end_ids = end_ids
        .into_iter()
        .flatten()
        .filter_map(|id| u32::try_from(id).ok());
    Ok(Parts {
        origin: path.display().to_string(),
        tokenizer_json: tokenizer.to_string(),
        special_tokens,
        chat_template: file.str("tokenizer.chat_template")?.map(str::to_owned),
        end_ids: end_ids.collect(),
    })
}

fn unknown(path: &Path, key: &str, kind: &str, known: String) -> TokenizerError {
    TokenizerError::UnknownKind {
        path: path.to_owned(),
        kind: format!("`{kind}` ({key})"),
        known,
    }
}

fn special_tokens(file: &GgufFile, tokens: &[&str]) -> Result<SpecialTokens, TokenizerError> {
    let keys = [
        ("bos_token", "tokenizer.ggml.bos_token_id"),
        ("eos_token", "tokenizer.ggml.eos_token_id"),
        ("unk_token", "tokenizer.ggml.unknown_token_id"),
        ("pad_token", "tokenizer.ggml.padding_token_id"),
    ];
    let mut special = SpecialTokens::new();
    for (name, key) in keys {
        let Some(id) = file.u64(key)? else { continue };
        let token = usize::try_from(id).ok().and_then(|id| tokens.get(id));
        let token = token.ok_or_else(|| TokenizerError::Invalid {
            origin: file.path().display().to_string(),
            detail: format!("{key} is {id}, the vocabulary has {} tokens", tokens.len()),
        })?;
        special.insert(name.to_owned(), (*token).to_owned());
    }
    Ok(special)
}

fn byte_level(
    file: &GgufFile,
    tokens: &[&str],
    special: &SpecialTokens,
) -> Result<Value, TokenizerError> {
    let name = file.str("tokenizer.ggml.pre")?.unwrap_or("default");
    let split = SPLITS
        .iter()
        .find(|(known, _)| *known == name)
        .map(|(_, split)| *split);
    let split = split.ok_or_else(|| {
        let known: Vec<_> = SPLITS.iter().map(|(name, _)| *name).collect();
        unknown(file.path(), "tokenizer.ggml.pre", name, known.join(", "))
    })?;
    let merges = file.required(MERGES, file.strings(MERGES)?)?;
    let add_bos = file
        .bool("tokenizer.ggml.add_bos_token")?
        .unwrap_or(split == Split::Llama3);
    let normalizer = (split == Split::Qwen2).then(|| json!({"type": "NFC"}));
    Ok(json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added_tokens(file, tokens)?,
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer(split),
        "post_processor": post_processor(tokens, special, add_bos),
        "decoder": {"type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true},
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": split == Split::Llama3,
            "vocab": vocabulary(tokens),
            "merges": merges,
        },
    }))
}

fn sentence_piece(
    file: &GgufFile,
    tokens: &[&str],
    special: &SpecialTokens,
) -> Result<Value, TokenizerError> {
    const SCORES: &str = "tokenizer.ggml.scores";
    let scores = file.required(SCORES, file.f64s(SCORES)?)?;
    let add_bos = file.bool("tokenizer.ggml.add_bos_token")?.unwrap_or(true);
    let prefix = file
        .bool("tokenizer.ggml.add_space_prefix")?
        .unwrap_or(true);
    let added = added_tokens(file, tokens)?;
    let model = sentencepiece::model(
        tokens,
        &scores,
        special.get("unk_token").map(String::as_str),
    );
    let mut tokenizer = sentencepiece::pipeline(prefix);
    tokenizer["added_tokens"] = added.into();
    tokenizer["post_processor"] = post_processor(tokens, special, add_bos);
    tokenizer["model"] = model;
    Ok(tokenizer)
}

pub(super) fn vocabulary(tokens: &[&str]) -> Map<String, Value> {
    tokens
        .iter()
        .enumerate()
        .map(|(id, token)| ((*token).to_owned(), id.into()))
        .collect()
}

fn added_tokens(file: &GgufFile, tokens: &[&str]) -> Result<Vec<Value>, TokenizerError> {
    let types = file.u64s("tokenizer.ggml.token_type")?.unwrap_or_default();
    let added = tokens.iter().zip(types).enumerate().filter_map(|(id, (token, kind))| {
        let special = kind == CONTROL;
        (special || kind == USER_DEFINED).then(|| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": special})
        })
    });
    Ok(added.collect())
}

/// Puts BOS in front of text where the model wants it.
fn post_processor(tokens: &[&str], special: &SpecialTokens, add_bos: bool) -> Value {
    let Some(bos) = special.get("bos_token").filter(|_| add_bos) else {
        return Value::Null;
    };
    let id = tokens.iter().position(|token| token == bos);
    let start = |type_id: u32| json!({"SpecialToken": {"id": bos, "type_id": type_id}});
    let text = |name: &str, type_id: u32| json!({"Sequence": {"id": name, "type_id": type_id}});
    let mut named = Map::new();
    named.insert(
        bos.clone(),
        json!({"id": bos, "ids": [id], "tokens": [bos]}),
    );
    json!({
        "type": "TemplateProcessing",
        "single": [start(0), text("A", 0)],
        "pair": [start(0), text("A", 0), start(1), text("B", 1)],
        "special_tokens": named,
    })
}
