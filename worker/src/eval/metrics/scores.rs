//! All measures together, over many texts.

use serde::{Deserialize, Serialize};

use super::{CorpusBleu, Stemming, exact_match, meteor, rouge, sentence_bleu, token_f1};

/// Means over all texts, 0 to 100. Names are LLaMA-Factory's where it has the measure.
#[derive(Debug, Clone, Copy, PartialEq, Default, Serialize, Deserialize)]
pub struct Scores {
    /// F-measure of single words, not stemmed.
    #[serde(rename = "rouge-1")]
    pub rouge1: f64,
    /// F-measure of pairs of words, not stemmed.
    #[serde(rename = "rouge-2")]
    pub rouge2: f64,
    /// F-measure of the longest common subsequence of words, not stemmed.
    #[serde(rename = "rouge-l")]
    pub rouge_l: f64,
    /// Sentence BLEU over characters, smoothed.
    #[serde(rename = "bleu-4")]
    pub bleu4: f64,
    /// BLEU of all texts together over words.
    pub sacrebleu: f64,
    /// METEOR without synonyms.
    pub meteor: f64,
    /// Share of texts that equal their reference but for case, punctuation, articles and spaces.
    pub exact_match: f64,
    /// F1 of words, counted as in SQuAD.
    pub f1: f64,
}

/// Scores of one text after another.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    texts: u64,
    sums: Scores,
    corpus: CorpusBleu,
}

impl Tally {
    /// Adds a text. Where sums must not change by a bit, texts are added in the same order.
    pub fn add(&mut self, prediction: &str, reference: &str) {
        let words = rouge(prediction, reference, Stemming::None);
        let sums = &mut self.sums;
        sums.rouge1 += words.rouge1;
        sums.rouge2 += words.rouge2;
        sums.rouge_l += words.rouge_l;
        sums.bleu4 += sentence_bleu(prediction, reference);
        sums.meteor += meteor(prediction, reference);
        sums.exact_match += f64::from(u8::from(exact_match(prediction, reference)));
        sums.f1 += token_f1(prediction, reference);
        self.corpus.add(prediction, reference);
        self.texts += 1;
    }

    /// How many were added.
    #[must_use]
    pub fn texts(&self) -> u64 {
        self.texts
    }

    /// The scores so far; 0 where there is no text.
    #[must_use]
    pub fn scores(&self) -> Scores {
        let mean = |sum: f64| 100.0 * sum / self.texts.max(1) as f64;
        let sums = &self.sums;
        Scores {
            rouge1: mean(sums.rouge1),
            rouge2: mean(sums.rouge2),
            rouge_l: mean(sums.rouge_l),
            bleu4: mean(sums.bleu4),
            sacrebleu: self.corpus.score(),
            meteor: mean(sums.meteor),
            exact_match: mean(sums.exact_match),
            f1: mean(sums.f1),
        }
    }
}

impl Scores {
    /// Every score with its name, in the order in which they are shown.
    #[must_use]
    pub fn named(&self) -> [(&'static str, f64); 8] {
        [
            ("rouge-1", self.rouge1),
            ("rouge-2", self.rouge2),
            ("rouge-l", self.rouge_l),
            ("bleu-4", self.bleu4),
            ("sacrebleu", self.sacrebleu),
            ("meteor", self.meteor),
            ("exact_match", self.exact_match),
            ("f1", self.f1),
        ]
    }
}
