//! A tokenizer's metadata: tokens, merges or scores, special tokens, chat template. Source: llama.cpp
//! `conversion/base.py`.

use std::sync::LazyLock;

use regex::Regex;
use serde_json::Value;
use weft_common::data::ChatTokenizer;

use super::container::{MetaValue, Metadata};
use super::{pre_tokenizer, scores};
use crate::export::ExportError;

/// `tokenizer.ggml.token_type`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum TokenType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// The two kinds of tokenizer that Llama and Mistral models have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Byte-level BPE, cut as the name says.
    ByteLevel(&'static str),
    /// SentencePiece's BPE with byte fallback.
    SentencePiece,
}

/// Tokens and their types, by id.
struct Tokens {
    texts: Vec<String>,
    types: Vec<TokenType>,
}

/// The metadata of a tokenizer, filled up to `vocab` ids.
pub(crate) fn vocabulary(tokenizer: &ChatTokenizer, vocab: usize) -> Result<Metadata, ExportError> {
    let json: Value = serde_json::from_str(tokenizer.tokenizer_json())
        .map_err(|error| refused(format!("tokenizer.json is not JSON: {error}")))?;
    let kind = kind(&json)?;
    let tokens = tokens(&json, kind, vocab)?;
    let merges = merges(&json)?;
    let mut keys = model_keys(kind, &json, &tokens, &merges);
    keys.push((
        "tokenizer.ggml.tokens".to_owned(),
        MetaValue::Texts(tokens.texts),
    ));
    let types = tokens.types.iter().map(|&kind| kind as i32).collect();
    keys.push((
        "tokenizer.ggml.token_type".to_owned(),
        MetaValue::I32s(types),
    ));
    if let Kind::ByteLevel(_) = kind {
        let merges = merges
            .into_iter()
            .map(|(left, right)| format!("{left} {right}"));
        keys.push((
            "tokenizer.ggml.merges".to_owned(),
            MetaValue::Texts(merges.collect()),
        ));
    }
    keys.extend(special_keys(tokenizer));
    if let Ok(template) = tokenizer.template() {
        let source = jinja(template.source());
        keys.push((
            "tokenizer.chat_template".to_owned(),
            MetaValue::Text(source),
        ));
    }
    Ok(keys)
}

/// A template without the tags that only training reads: most readers of templates do not know them.
fn jinja(source: &str) -> String {
    static TAG: LazyLock<Regex> = LazyLock::new(|| {
        Regex::new(r"\{%([-+]?)\s*(end)?generation\s*([-+]?)%\}")
            .expect("the pattern is a constant")
    });
    // An `if` is a tag as well, so that white space around it goes where it did.
    let plain = TAG.replace_all(source, |tag: &regex::Captures<'_>| {
        let word = if tag.get(2).is_some() {
            "endif"
        } else {
            "if true"
        };
        format!("{{%{} {word} {}%}}", &tag[1], &tag[3])
    });
    plain.into_owned()
}

fn refused(problem: impl Into<String>) -> ExportError {
    ExportError::GgufTokenizer {
        problem: problem.into(),
    }
}

fn kind(json: &Value) -> Result<Kind, ExportError> {
    let model = &json["model"];
    if model["type"] != "BPE" {
        return Err(refused(format!(
            "its model is {}, weft writes BPE",
            model["type"]
        )));
    }
    // Some conversions say `byte_fallback` of byte-level tokenizers too, which have no use for it.
    if model["byte_fallback"] == true && !pre_tokenizer::is_byte_level(json) {
        return Ok(Kind::SentencePiece);
    }
    pre_tokenizer::name(json)
        .map(Kind::ByteLevel)
        .map_err(refused)
}

fn tokens(json: &Value, kind: Kind, vocab: usize) -> Result<Tokens, ExportError> {
    let mut tokens = Tokens {
        texts: (0..vocab).map(|id| format!("[PAD{id}]")).collect(),
        types: vec![TokenType::Unused; vocab],
    };
    let map = json["model"]["vocab"].as_object();
    let map = map.ok_or_else(|| refused("tokenizer.json has no vocabulary"))?;
    let unknown = json["model"]["unk_token"].as_str();
    for (text, id) in map {
        let kind = match kind {
            Kind::SentencePiece if is_byte(text) => TokenType::Byte,
            Kind::SentencePiece if Some(text.as_str()) == unknown => TokenType::Unknown,
            Kind::SentencePiece | Kind::ByteLevel(_) => TokenType::Normal,
        };
        tokens.set(id, text.clone(), kind)?;
    }
    for added in json["added_tokens"].as_array().into_iter().flatten() {
        let text = added["content"].as_str().unwrap_or_default();
        let is_unknown = kind == Kind::SentencePiece && Some(text) == unknown;
        if is_unknown {
            continue;
        }
        if added["special"] == true || looks_special(text) {
            tokens.set(&added["id"], text.to_owned(), TokenType::Control)?;
        } else {
            tokens.set(&added["id"], text.replace('▁', " "), TokenType::UserDefined)?;
        }
    }
    Ok(tokens)
}

impl Tokens {
    fn set(&mut self, id: &Value, text: String, kind: TokenType) -> Result<(), ExportError> {
        let index = id.as_u64().and_then(|id| usize::try_from(id).ok());
        let index = index.filter(|&id| id < self.texts.len()).ok_or_else(|| {
            refused(format!(
                "token `{text}` has id {id}, the model has {} embeddings; take the tokenizer that belongs to it",
                self.texts.len()
            ))
        })?;
        self.texts[index] = text;
        self.types[index] = kind;
        Ok(())
    }
}

/// `<0x0A>`.
fn is_byte(text: &str) -> bool {
    text.len() == 6 && text.starts_with("<0x") && text.ends_with('>')
}

/// Tokens that some models forget to call special.
fn looks_special(text: &str) -> bool {
    ["<pad>", "<mask>", "<2mass>", "[@BOS@]"].contains(&text)
        || (text.starts_with("<|") && text.ends_with("|>"))
        || (text.starts_with("<｜") && text.ends_with("｜>"))
        || (text.starts_with("<unused") && text.ends_with('>'))
}

/// Pairs, which older files write as one text.
fn merges(json: &Value) -> Result<Vec<(String, String)>, ExportError> {
    let list = json["model"]["merges"].as_array();
    let list = list.ok_or_else(|| refused("tokenizer.json has no merges"))?;
    let pair = |merge: &Value| match merge {
        Value::String(text) => text
            .split_once(' ')
            .map(|(l, r)| (l.to_owned(), r.to_owned())),
        pair => Some((pair[0].as_str()?.to_owned(), pair[1].as_str()?.to_owned())),
    };
    let pairs = list.iter().map(|merge| {
        pair(merge).ok_or_else(|| refused(format!("merge {merge} of tokenizer.json is no pair")))
    });
    pairs.collect()
}

fn model_keys(kind: Kind, json: &Value, tokens: &Tokens, merges: &[(String, String)]) -> Metadata {
    let key = |name: &str, value| (format!("tokenizer.ggml.{name}"), value);
    match kind {
        Kind::ByteLevel(pre) => vec![
            key("model", MetaValue::from("gpt2")),
            key("pre", MetaValue::from(pre)),
        ],
        Kind::SentencePiece => vec![
            key("model", MetaValue::from("llama")),
            key("pre", MetaValue::from("default")),
            key(
                "scores",
                MetaValue::F32s(scores::scores(&tokens.texts, merges)),
            ),
            key("add_space_prefix", MetaValue::Bool(adds_space(json))),
        ],
    }
}

/// Whether a space is put in front of a text.
fn adds_space(json: &Value) -> bool {
    let normalizer = &json["normalizer"];
    let steps = normalizer["normalizers"].as_array().into_iter().flatten();
    let prepends = steps
        .chain([normalizer])
        .any(|step| step["type"] == "Prepend");
    let pre_tokenizer = &json["pre_tokenizer"];
    let scheme = pre_tokenizer["prepend_scheme"].as_str().unwrap_or("always");
    prepends || (pre_tokenizer["type"] == "Metaspace" && scheme != "never")
}

fn special_keys(tokenizer: &ChatTokenizer) -> Metadata {
    let named = |name: &str| tokenizer.token_id(tokenizer.special_token(name)?);
    let turn = tokenizer
        .template()
        .ok()
        .and_then(|template| tokenizer.token_id(template.end_of_turn().trim()));
    let ids = [
        ("bos_token_id", named("bos_token")),
        ("eos_token_id", named("eos_token").or(turn)),
        ("eot_token_id", turn),
        ("eom_token_id", tokenizer.token_id("<|eom_id|>")),
        ("unknown_token_id", named("unk_token")),
        ("padding_token_id", named("pad_token")),
    ];
    let present = ids
        .into_iter()
        .filter_map(|(name, id)| Some((name, MetaValue::U32(id?))));
    let adds = [
        ("add_bos_token", MetaValue::Bool(tokenizer.adds_bos())),
        ("add_eos_token", MetaValue::Bool(false)),
    ];
    let keys = present.chain(adds);
    keys.map(|(name, value)| (format!("tokenizer.ggml.{name}"), value))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generation_tags_become_tags_that_every_reader_knows() {
        let marked = "{%- generation -%}{{ m }}{% endgeneration %}{% if add_generation_prompt %}x{% endif %}";
        let plain = "{%- if true -%}{{ m }}{% endif %}{% if add_generation_prompt %}x{% endif %}";
        assert_eq!(jinja(marked), plain);
    }
}
