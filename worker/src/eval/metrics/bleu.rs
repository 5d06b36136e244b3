//! BLEU-4: of a corpus as sacrebleu computes it, and of a sentence as LLaMA-Factory has NLTK compute it.

mod tokenize;

use super::ngrams;

/// The longest runs that count.
const ORDERS: usize = 4;

/// What corpus BLEU is made from. Adds up over sentences; the order does not matter, because these are integers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct CorpusBleu {
    matches: [u64; ORDERS],
    runs: [u64; ORDERS],
    predicted: u64,
    wanted: u64,
}

impl CorpusBleu {
    /// Adds a sentence: sacrebleu's defaults, that is tokenization `13a`, case kept, one reference.
    pub fn add(&mut self, prediction: &str, reference: &str) {
        let [prediction, reference] = [prediction, reference].map(tokenize::tokenize_13a);
        let matches = Matches::of(&prediction, &reference);
        for order in 0..ORDERS {
            self.matches[order] += matches.matches[order];
            self.runs[order] += matches.runs[order];
        }
        self.predicted += prediction.len() as u64;
        self.wanted += reference.len() as u64;
    }

    /// The score, 0 to 100, with sacrebleu's default smoothing (`exp`).
    #[must_use]
    pub fn score(&self) -> f64 {
        if self.matches == [0; ORDERS] || self.runs.contains(&0) {
            return 0.0;
        }
        let mut halved = 1.0;
        let mut logs = 0.0;
        for (&matches, &runs) in self.matches.iter().zip(&self.runs) {
            let counted = if matches == 0 {
                halved /= 2.0;
                halved
            } else {
                matches as f64
            };
            logs += (100.0 * counted / runs as f64).ln();
        }
        brevity(self.predicted, self.wanted) * (logs / ORDERS as f64).exp()
    }
}

/// BLEU-4 of one sentence over its characters, 0 to 1: NLTK's `sentence_bleu` with smoothing method 3 on lists of characters, as
/// LLaMA-Factory reports it.
#[must_use]
pub fn sentence_bleu(prediction: &str, reference: &str) -> f64 {
    let characters = |text: &str| text.chars().map(String::from).collect::<Vec<_>>();
    let (prediction, reference) = (characters(prediction), characters(reference));
    let Matches { matches, runs } = Matches::of(&prediction, &reference);
    if matches[0] == 0 {
        return 0.0;
    }
    let mut halved = 1.0;
    let mut logs = 0.0;
    for (matches, runs) in matches.into_iter().zip(runs) {
        let counted = if matches == 0 {
            halved /= 2.0;
            halved
        } else {
            matches as f64
        };
        logs += (counted / runs.max(1) as f64).ln();
    }
    let penalty = brevity(prediction.len() as u64, reference.len() as u64);
    penalty * (logs / ORDERS as f64).exp()
}

/// What a prediction shorter than its reference is multiplied with.
fn brevity(predicted: u64, wanted: u64) -> f64 {
    match predicted {
        0 => 0.0,
        shorter if shorter < wanted => (1.0 - wanted as f64 / shorter as f64).exp(),
        _ => 1.0,
    }
}

/// Runs of the prediction, by length less one, and how many of them the reference has.
struct Matches {
    matches: [u64; ORDERS],
    runs: [u64; ORDERS],
}

impl Matches {
    fn of(prediction: &[String], reference: &[String]) -> Self {
        let matches = |order: usize| {
            let n = order + 1;
            ngrams::overlap(&ngrams::count(prediction, n), &ngrams::count(reference, n))
        };
        Self {
            matches: std::array::from_fn(matches),
            runs: std::array::from_fn(|order| prediction.len().saturating_sub(order) as u64),
        }
    }
}
