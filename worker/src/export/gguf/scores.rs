//! SentencePiece's scores, found again from the merges of a `tokenizer.json`.
//!
//! llama.cpp merges whichever neighbours make the piece with the best score; Hugging Face goes through a list of merges.
//! Both do the same where pieces are scored in the order in which the list first makes them.

use std::collections::HashMap;

/// Score of pieces that no merge makes: below all others.
const UNMADE: f32 = -1e6;

/// One score for each of `tokens`; `merges` are the pairs in their order.
pub(super) fn scores(tokens: &[String], merges: &[(String, String)]) -> Vec<f32> {
    let mut order: HashMap<String, usize> = HashMap::with_capacity(merges.len());
    for (left, right) in merges {
        let next = order.len();
        order.entry(format!("{left}{right}")).or_insert(next);
    }
    let score = |token: &String| match order.get(token) {
        // Zero is what SentencePiece gives to bytes and control tokens.
        Some(&index) => -(index as f32) - 1.0,
        None if is_single(token) => 0.0,
        None => UNMADE,
    };
    tokens.iter().map(score).collect()
}

/// A letter, a byte or a control token.
fn is_single(token: &str) -> bool {
    token.chars().count() == 1 || (token.starts_with('<') && token.ends_with('>'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_are_scored_in_the_order_in_which_merges_make_them() {
        let pair = |left: &str, right: &str| (left.to_owned(), right.to_owned());
        let merges = [
            pair("▁", "a"),
            pair("b", "c"),
            pair("▁a", "bc"),
            pair("▁ab", "c"),
        ];
        let tokens = ["<s>", "bc", "▁a", "▁abc", "x", "unmade"].map(str::to_owned);
        assert_eq!(
            scores(&tokens, &merges),
            [0.0, -2.0, -1.0, -3.0, 0.0, UNMADE]
        );
    }
}
