//! Exact match and token F1 with the normalization of SQuAD: lower case, no ASCII punctuation, no articles, single spaces.

use super::ngrams;
use super::text::{is_word, split_spaces};

/// Whether both are the same but for case, punctuation, articles and spaces.
#[must_use]
pub fn exact_match(prediction: &str, reference: &str) -> bool {
    normalized(prediction) == normalized(reference)
}

/// F1 of the words that both have, 0 to 1, as SQuAD 2.0 counts: two texts without a word are equal.
#[must_use]
pub fn token_f1(prediction: &str, reference: &str) -> f64 {
    let [prediction, reference] = [prediction, reference].map(normalized);
    if prediction.is_empty() || reference.is_empty() {
        return f64::from(u8::from(prediction == reference));
    }
    let common = ngrams::overlap(
        &ngrams::count(&prediction, 1),
        &ngrams::count(&reference, 1),
    ) as f64;
    ngrams::f_measure(
        common / prediction.len() as f64,
        common / reference.len() as f64,
    )
}

fn normalized(text: &str) -> Vec<String> {
    let lower: String = text
        .to_lowercase()
        .chars()
        .filter(|c| !c.is_ascii_punctuation())
        .collect();
    split_spaces(&without_articles(&lower))
        .map(str::to_owned)
        .collect()
}

/// A space for each whole word that is an article.
fn without_articles(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut word = String::new();
    for c in text.chars().map(Some).chain([None]) {
        if let Some(c) = c.filter(|c| is_word(*c)) {
            word.push(c);
            continue;
        }
        match word.as_str() {
            "a" | "an" | "the" => out.push(' '),
            _ => out.push_str(&word),
        }
        word.clear();
        out.extend(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn case_punctuation_and_articles_do_not_count() {
        assert!(exact_match("The  answer, is: 42!", "answer is 42"));
        assert!(!exact_match("theory", "ory"));
        assert!(exact_match("", "the."));
        assert_eq!(token_f1("the cat sat", "a cat"), 2.0 / 3.0);
        assert_eq!(token_f1("", "the"), 1.0);
        assert_eq!(token_f1("", "cat"), 0.0);
    }
}
