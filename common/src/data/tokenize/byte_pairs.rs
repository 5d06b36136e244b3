//! Byte-level BPE with the pieces of text already seen kept: text repeats itself, and most pieces are met again.
//!
//! Used where the tokenizer's pipeline is one of the few that [`Split`] knows; the general tokenizer does the rest. Both give the same
//! ids, which the tests check on arbitrary text.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;
use tokenizers::{Model, Tokenizer};

use super::Encoded;
use super::pieces::{self, Split};

/// Pieces that are kept per thread. Natural text has some hundred thousand different ones; the rare ones are not worth it.
const MAX_KEPT: usize = 1 << 17;
/// Longer pieces hardly repeat.
const MAX_KEPT_BYTES: usize = 48;

/// A byte-level BPE pipeline that needs no regular expression.
#[derive(Debug)]
pub(super) struct BytePairs {
    split: Split,
    /// Texts that are one token each, longest first.
    added: Vec<(String, u32)>,
    /// First bytes of those.
    starts: Vec<u8>,
    /// As many as threads tokenize at a time.
    kept: Mutex<Vec<Kept>>,
}

/// Tokens of pieces already seen.
#[derive(Debug, Default)]
struct Kept {
    /// Where in `tokens` a piece's tokens lie.
    pieces: HashMap<Box<str>, (u32, u32)>,
    /// Ids and byte lengths.
    tokens: Vec<(u32, u32)>,
    /// The piece in byte-level letters, reused.
    letters: String,
}

impl BytePairs {
    /// Recognises the pipeline of a `tokenizer.json`; `None` if it is another.
    pub(super) fn recognise(config: &Value) -> Option<Self> {
        let model = &config["model"];
        let plain = ["continuing_subword_prefix", "end_of_word_suffix", "dropout"];
        let is_plain = plain
            .iter()
            .all(|field| matches!(&model[field], Value::Null) || model[field] == "");
        if model["type"] != "BPE" || !is_plain || !config["normalizer"].is_null() {
            return None;
        }
        let split = recognise_split(&config["pre_tokenizer"])?;
        let mut added = Vec::new();
        for token in config["added_tokens"].as_array()? {
            let whole = ["single_word", "lstrip", "rstrip", "normalized"];
            if whole.iter().any(|field| token[field] == true) {
                return None;
            }
            added.push((
                token["content"].as_str()?.to_owned(),
                u32::try_from(token["id"].as_u64()?).ok()?,
            ));
        }
        added.sort_by_key(|(text, _)| std::cmp::Reverse(text.len()));
        let mut starts: Vec<u8> = added
            .iter()
            .filter_map(|(text, _)| text.bytes().next())
            .collect();
        starts.sort_unstable();
        starts.dedup();
        Some(Self {
            split,
            added,
            starts,
            kept: Mutex::default(),
        })
    }

    /// Ids and byte ranges of `text`, without what a post-processor adds. `None` for the rare text that only the general tokenizer
    /// cuts right.
    pub(super) fn encode(&self, tokenizer: &Tokenizer, text: &str) -> Option<Encoded> {
        if !self.split.handles(text) {
            return None;
        }
        let mut kept = self.lock().pop().unwrap_or_default();
        let mut out = Encoded::with_capacity(text.len() / 4);
        let mut rest = text;
        while let Some((at, len, id)) = self.next_added(rest) {
            self.encode_plain(tokenizer, &rest[..at], &mut kept, &mut out);
            out.push(id, len);
            rest = &rest[at + len..];
        }
        self.encode_plain(tokenizer, rest, &mut kept, &mut out);
        self.lock().push(kept);
        Some(out)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<Kept>> {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Position, length and id of the first added token in `text`; the longest where several start.
    fn next_added(&self, text: &str) -> Option<(usize, usize, u32)> {
        let bytes = text.as_bytes();
        let candidates = (0..bytes.len()).filter(|at| self.starts.contains(&bytes[*at]));
        candidates
            .filter(|at| text.is_char_boundary(*at))
            .find_map(|at| {
                let (token, id) = self
                    .added
                    .iter()
                    .find(|(token, _)| text[at..].starts_with(token.as_str()))?;
                Some((at, token.len(), *id))
            })
    }

    fn encode_plain(&self, tokenizer: &Tokenizer, text: &str, kept: &mut Kept, out: &mut Encoded) {
        self.split
            .for_each_piece(text, |piece| kept.encode_piece(tokenizer, piece, out));
    }
}

impl Kept {
    fn encode_piece(&mut self, tokenizer: &Tokenizer, piece: &str, out: &mut Encoded) {
        if let Some((start, end)) = self.pieces.get(piece) {
            let tokens = &self.tokens[*start as usize..*end as usize];
            tokens
                .iter()
                .for_each(|(id, len)| out.push(*id, *len as usize));
            return;
        }
        self.letters.clear();
        self.letters.extend(piece.bytes().map(letter));
        let tokens = tokenizer.get_model().tokenize(&self.letters);
        let tokens = tokens.expect("every byte has its letter in a byte-level vocabulary");
        let start = self.tokens.len();
        for token in &tokens {
            let len = token.value.chars().count();
            out.push(token.id, len);
            self.tokens.push((token.id, len as u32));
        }
        if self.pieces.len() < MAX_KEPT && piece.len() <= MAX_KEPT_BYTES {
            self.pieces
                .insert(piece.into(), (start as u32, self.tokens.len() as u32));
        } else {
            self.tokens.truncate(start);
        }
    }
}

impl Encoded {
    fn with_capacity(tokens: usize) -> Self {
        Self {
            ids: Vec::with_capacity(tokens),
            offsets: Vec::with_capacity(tokens),
        }
    }

    fn push(&mut self, id: u32, len: usize) {
        let start = self.offsets.last().map_or(0, |last| last.end);
        self.ids.push(id);
        self.offsets.push(start..start + len);
    }
}

/// GPT-2's printable letter for a byte: itself where it is printable, else one beyond U+0100, in order.
fn letter(byte: u8) -> char {
    let code = match byte {
        b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => u32::from(byte),
        0..=0x20 => 0x100 + u32::from(byte),
        0x7F..=0xA0 => 0x121 + u32::from(byte) - 0x7F,
        0xAD => 0x143,
    };
    char::from_u32(code).expect("all codes lie below U+0144")
}

fn recognise_split(pre_tokenizer: &Value) -> Option<Split> {
    if is_byte_level(pre_tokenizer, true) {
        return Some(Split::Gpt2);
    }
    let [first, second] = pre_tokenizer["pretokenizers"].as_array()?.as_slice() else {
        return None;
    };
    if first["type"] == "Digits"
        && first["individual_digits"] == true
        && is_byte_level(second, true)
    {
        return Some(Split::DigitsGpt2);
    }
    let isolates =
        first["type"] == "Split" && first["behavior"] == "Isolated" && first["invert"] == false;
    if !isolates || !is_byte_level(second, false) {
        return None;
    }
    match first["pattern"]["Regex"].as_str()? {
        pieces::LLAMA_3 => Some(Split::Llama3),
        pieces::QWEN_2 => Some(Split::Qwen2),
        _ => None,
    }
}

fn is_byte_level(step: &Value, use_regex: bool) -> bool {
    let uses_regex = step["use_regex"].as_bool().unwrap_or(true);
    step["type"] == "ByteLevel" && step["add_prefix_space"] == false && uses_regex == use_regex
}
