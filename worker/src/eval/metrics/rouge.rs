//! ROUGE-1, ROUGE-2 and ROUGE-L as the Python package `rouge-score` computes them: F-measure over its own tokens.
//!
//! Its tokens are runs of ASCII letters and digits of the lower-cased text; all else parts them. A text in another script
//! therefore has none, and its score is 0.

use super::ngrams;
use super::porter;

/// Whether words are cut to their stems first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Stemming {
    /// Words as they are, `use_stemmer=False`.
    #[default]
    None,
    /// Words of more than three letters by Porter's algorithm, `use_stemmer=True`.
    Porter,
}

/// F-measures, 0 to 1.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Rouge {
    /// Of single words.
    pub rouge1: f64,
    /// Of pairs of neighbours.
    pub rouge2: f64,
    /// Of the longest common subsequence.
    pub rouge_l: f64,
}

/// Scores of a prediction against its reference. Cost: words of one times words of the other.
#[must_use]
pub fn rouge(prediction: &str, reference: &str, stemming: Stemming) -> Rouge {
    let prediction = tokenize(prediction, stemming);
    let reference = tokenize(reference, stemming);
    Rouge {
        rouge1: of_runs(&prediction, &reference, 1),
        rouge2: of_runs(&prediction, &reference, 2),
        rouge_l: of_subsequence(&prediction, &reference),
    }
}

fn tokenize(text: &str, stemming: Stemming) -> Vec<String> {
    let lower = text.to_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric());
    let stemmed = |word: &str| match stemming {
        Stemming::Porter if word.len() > 3 => porter::stem(word),
        Stemming::Porter | Stemming::None => word.to_owned(),
    };
    words.filter(|word| !word.is_empty()).map(stemmed).collect()
}

fn of_runs(prediction: &[String], reference: &[String], n: usize) -> f64 {
    let predicted = ngrams::count(prediction, n);
    let wanted = ngrams::count(reference, n);
    let runs = |tokens: &[String]| (tokens.len() + 1).saturating_sub(n).max(1) as f64;
    let overlap = ngrams::overlap(&predicted, &wanted) as f64;
    ngrams::f_measure(overlap / runs(prediction), overlap / runs(reference))
}

fn of_subsequence(prediction: &[String], reference: &[String]) -> f64 {
    if prediction.is_empty() || reference.is_empty() {
        return 0.0;
    }
    let common = longest_common_subsequence(prediction, reference) as f64;
    ngrams::f_measure(
        common / prediction.len() as f64,
        common / reference.len() as f64,
    )
}

/// Its length. One row of the usual table is kept.
fn longest_common_subsequence(a: &[String], b: &[String]) -> usize {
    let mut row = vec![0; b.len() + 1];
    for left in a {
        let mut diagonal = 0;
        for (column, right) in b.iter().enumerate() {
            let above = row[column + 1];
            row[column + 1] = if left == right {
                diagonal + 1
            } else {
                above.max(row[column])
            };
            diagonal = above;
        }
    }
    row[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_subsequence_need_not_be_contiguous() {
        let words = |text: &str| tokenize(text, Stemming::None);
        let common = |a: &str, b: &str| longest_common_subsequence(&words(a), &words(b));
        assert_eq!(common("a b c d e", "b x d y e"), 3);
        assert_eq!(common("a b", "c d"), 0);
        assert_eq!(common("a a a", "a"), 1);
    }

    #[test]
    fn tokens_are_ascii_words_of_the_lower_cased_text() {
        assert_eq!(
            tokenize("Don't over-do É2 naïve_X", Stemming::None),
            ["don", "t", "over", "do", "2", "na", "ve", "x"]
        );
        assert_eq!(tokenize("Running was", Stemming::Porter), ["run", "was"]);
    }
}
