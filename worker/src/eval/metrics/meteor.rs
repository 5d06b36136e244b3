//! METEOR as NLTK's `meteor_score` computes it without WordNet: words match exactly or by their stem, never as synonyms.
//!
//! NLTK takes words that are split already; here they are what its `wordpunct_tokenize` makes: runs of letters, digits and `_`,
//! and runs of anything else but spaces. Source: Lavie and Agarwal, 2007, with α 0.9, β 3 and γ 0.5.

use std::collections::{HashMap, HashSet};
use std::sync::LazyLock;

use regex::Regex;

use super::porter;

const ALPHA: f64 = 0.9;
const BETA: i32 = 3;
const GAMMA: f64 = 0.5;

/// Its score, 0 to 1.
#[must_use]
pub fn meteor(prediction: &str, reference: &str) -> f64 {
    let [prediction, reference] = [prediction, reference].map(words);
    let (predicted, wanted) = (prediction.len() as f64, reference.len() as f64);
    let aligned = align(prediction, reference);
    if aligned.is_empty() {
        return 0.0;
    }
    let matches = aligned.len() as f64;
    let (precision, recall) = (matches / predicted, matches / wanted);
    let mean = precision * recall / (ALPHA * precision + (1.0 - ALPHA) * recall);
    let fragmentation = chunks(&aligned) as f64 / matches;
    (1.0 - GAMMA * fragmentation.powi(BETA)) * mean
}

static WORDS: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"\w+|[^\w\s]+").expect("the pattern is constant and compiles in tests")
});

/// Lower-cased words and runs of symbols.
fn words(text: &str) -> Vec<String> {
    WORDS
        .find_iter(text)
        .map(|word| word.as_str().to_lowercase())
        .collect()
}

/// A word and its place in its text.
type Placed = (usize, String);

/// Places in the prediction and in the reference of words that match, by the former.
fn align(prediction: Vec<String>, reference: Vec<String>) -> Vec<(usize, usize)> {
    let mut prediction: Vec<Placed> = prediction.into_iter().enumerate().collect();
    let mut reference: Vec<Placed> = reference.into_iter().enumerate().collect();
    let mut aligned = take_equal(&mut prediction, &mut reference);
    for (_, word) in prediction.iter_mut().chain(&mut reference) {
        *word = porter::stem(word);
    }
    aligned.extend(take_equal(&mut prediction, &mut reference));
    aligned.sort_unstable();
    aligned
}

/// Takes equal words out of both lists: from the end, each with the last one that is left of the other.
fn take_equal(prediction: &mut Vec<Placed>, reference: &mut Vec<Placed>) -> Vec<(usize, usize)> {
    let mut left: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, word) in &*reference {
        left.entry(word.clone()).or_default().push(*place);
    }
    let mut pairs = Vec::new();
    for (place, word) in prediction.iter().rev() {
        if let Some(partner) = left.get_mut(word).and_then(Vec::pop) {
            pairs.push((*place, partner));
        }
    }
    let (predicted, wanted): (HashSet<usize>, HashSet<usize>) = pairs.iter().copied().unzip();
    prediction.retain(|(place, _)| !predicted.contains(place));
    reference.retain(|(place, _)| !wanted.contains(place));
    pairs
}

/// How many runs of neighbours the matches make.
fn chunks(aligned: &[(usize, usize)]) -> usize {
    let breaks = aligned
        .windows(2)
        .filter(|pair| pair[1].0 != pair[0].0 + 1 || pair[1].1 != pair[0].1 + 1);
    1 + breaks.count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_symbols_are_parted() {
        assert_eq!(
            words("Don't  (say) 3.5_x!!"),
            ["don", "'", "t", "(", "say", ")", "3", ".", "5_x", "!!"]
        );
    }

    #[test]
    fn stems_match_and_order_counts() {
        assert!(meteor("cats running", "cat runs") > 0.9);
        assert!(meteor("b a", "a b") < meteor("a b", "a b"));
        assert_eq!(meteor("", "a"), 0.0);
    }
}
