//! SentencePiece's BPE as a `tokenizer.json`: the merges follow from the pieces' scores.
//!
//! Source: `transformers` `convert_slow_tokenizer.py` (`generate_merges`, `LlamaConverter`).

use std::collections::HashMap;

use serde_json::{Value, json};

use super::from_gguf::vocabulary;

/// A BPE model with byte fallback out of pieces and their scores.
pub(super) fn model(pieces: &[&str], scores: &[f64], unknown: Option<&str>) -> Value {
    json!({
        "type": "BPE",
        "dropout": null,
        "unk_token": unknown,
        "continuing_subword_prefix": null,
        "end_of_word_suffix": null,
        "fuse_unk": true,
        "byte_fallback": true,
        "ignore_merges": false,
        "vocab": vocabulary(pieces),
        "merges": merges(pieces, scores),
    })
}

/// Every way to put a piece together from two others; better scores first, then lower ids.
pub(super) fn merges(pieces: &[&str], scores: &[f64]) -> Vec<[String; 2]> {
    let ids: HashMap<&str, usize> = pieces
        .iter()
        .enumerate()
        .map(|(id, piece)| (*piece, id))
        .collect();
    let mut found = Vec::new();
    for (piece, score) in pieces.iter().zip(scores) {
        let cuts = piece
            .char_indices()
            .skip(1)
            .map(|(at, _)| piece.split_at(at));
        let mut pairs: Vec<_> = cuts
            .filter_map(|(l, r)| Some((*ids.get(l)?, *ids.get(r)?)))
            .collect();
        pairs.sort_unstable();
        // Adding zero makes the negative zero of a first piece equal to the others'.
        found.extend(pairs.into_iter().map(|pair| (*score + 0.0, pair)));
    }
    // The sort is stable: pieces of equal score stay in vocabulary order.
    found.sort_by(|(a, _), (b, _)| b.total_cmp(a));
    found
        .into_iter()
        .map(|(_, (left, right))| [pieces[left].to_owned(), pieces[right].to_owned()])
        .collect()
}

/// Everything around the model: spaces become `▁`, and back.
pub(super) fn pipeline(add_space_prefix: bool) -> Value {
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let normalizers = if add_space_prefix {
        vec![json!({"type": "Prepend", "prepend": "▁"}), replace]
    } else {
        vec![replace]
    };
    let mut decoders = vec![
        json!({"type": "Replace", "pattern": {"String": "▁"}, "content": " "}),
        json!({"type": "ByteFallback"}),
        json!({"type": "Fuse"}),
    ];
    if add_space_prefix {
        decoders.push(json!({"type": "Strip", "content": " ", "start": 1, "stop": 0}));
    }
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": [],
        "normalizer": {"type": "Sequence", "normalizers": normalizers},
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": {"type": "Sequence", "decoders": decoders},
        "model": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn merges_come_in_order_of_score_then_of_ids() {
        let pieces = ["a", "b", "ab", "aba", "abab"];
        let scores = [0.0, 0.0, -1.0, -3.0, -2.0];
        let expected = [["a", "b"], ["ab", "ab"], ["aba", "b"], ["ab", "a"]];
        assert_eq!(
            merges(&pieces, &scores),
            expected.map(|pair| pair.map(str::to_owned))
        );
    }

    /// The published conversion of a real vocabulary. Its scores are minus the id; runs of spaces were added last.
    #[test]
    fn the_merges_of_llama_2_are_those_of_its_published_tokenizer() {
        let Some(folder) = std::env::var_os("WEFT_TEST_TOKENIZERS") else {
            eprintln!("SKIPPED: set WEFT_TEST_TOKENIZERS to a folder with llama2/tokenizer.json");
            return;
        };
        let text =
            std::fs::read(std::path::Path::new(&folder).join("llama2/tokenizer.json")).unwrap();
        let published: Value = serde_json::from_slice(&text).unwrap();
        let vocab = published["model"]["vocab"].as_object().unwrap();
        let mut pieces: Vec<(&str, u64)> = vocab
            .iter()
            .map(|(piece, id)| (piece.as_str(), id.as_u64().unwrap()))
            .collect();
        pieces.sort_by_key(|(_, id)| *id);
        let is_space_run =
            |piece: &str| piece.chars().count() > 1 && piece.chars().all(|c| c == '▁');
        let scores: Vec<f64> = pieces
            .iter()
            .map(|(piece, id)| {
                if is_space_run(piece) {
                    -1e9
                } else {
                    -(id.saturating_sub(259) as f64)
                }
            })
            .collect();
        let pieces: Vec<&str> = pieces.into_iter().map(|(piece, _)| piece).collect();
        let expected: Vec<&str> = published["model"]["merges"]
            .as_array()
            .unwrap()
            .iter()
            .map(|merge| merge.as_str().unwrap())
            .collect();
        let found: Vec<String> = merges(&pieces, &scores)
            .iter()
            .map(|pair| pair.join(" "))
            .collect();
        assert_eq!(found, expected);
    }
}
