//! Against the values of the Python packages.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::{
    CorpusBleu, Stemming, Tally, exact_match, meteor, porter, rouge, sentence_bleu, token_f1,
};

const GOLDEN: &str = include_str!("../../../../tests/fixtures/golden/metrics/metrics.json");

#[derive(Deserialize)]
struct Golden {
    pairs: Vec<Pair>,
    corpus_bleu: f64,
    stems: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Pair {
    prediction: String,
    reference: String,
    rouge: [f64; 3],
    rouge_stemmed: [f64; 3],
    sentence_bleu: f64,
    corpus_bleu: f64,
    meteor: f64,
    exact_match: u8,
    f1: f64,
}

fn golden() -> Golden {
    serde_json::from_str(GOLDEN).unwrap()
}

/// Compares each pair's value, and names all pairs that differ.
fn each(ours: impl Fn(&str, &str) -> Vec<f64>, theirs: impl Fn(&Pair) -> Vec<f64>) {
    let mut wrong = Vec::new();
    for pair in &golden().pairs {
        let (ours, theirs) = (ours(&pair.prediction, &pair.reference), theirs(pair));
        let equal = ours.iter().zip(&theirs).all(|(a, b)| (a - b).abs() < 1e-9);
        if ours.len() != theirs.len() || !equal {
            wrong.push(format!(
                "{:?} / {:?}: {ours:?}, not {theirs:?}",
                pair.prediction, pair.reference
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn rouge_is_that_of_rouge_score_with_and_without_stems() {
    let values = |stemming| {
        move |prediction: &str, reference: &str| {
            let scores = rouge(prediction, reference, stemming);
            vec![scores.rouge1, scores.rouge2, scores.rouge_l]
        }
    };
    each(values(Stemming::None), |pair| pair.rouge.to_vec());
    each(values(Stemming::Porter), |pair| pair.rouge_stemmed.to_vec());
}

#[test]
fn bleu_of_a_sentence_is_nltk_s_and_of_a_corpus_sacrebleu_s() {
    each(
        |a, b| vec![sentence_bleu(a, b)],
        |pair| vec![pair.sentence_bleu],
    );
    let alone = |prediction: &str, reference: &str| {
        let mut bleu = CorpusBleu::default();
        bleu.add(prediction, reference);
        vec![bleu.score()]
    };
    each(alone, |pair| vec![pair.corpus_bleu]);
    let golden = golden();
    let mut all = CorpusBleu::default();
    for pair in golden.pairs.iter().rev() {
        all.add(&pair.prediction, &pair.reference);
    }
    assert!(
        (all.score() - golden.corpus_bleu).abs() < 1e-9,
        "{}",
        all.score()
    );
}

#[test]
fn meteor_is_nltk_s_without_synonyms() {
    each(|a, b| vec![meteor(a, b)], |pair| vec![pair.meteor]);
}

#[test]
fn exact_match_and_f1_are_squad_s() {
    each(
        |a, b| vec![f64::from(u8::from(exact_match(a, b))), token_f1(a, b)],
        |pair| vec![f64::from(pair.exact_match), pair.f1],
    );
}

#[test]
fn stems_are_nltk_s() {
    let wrong: Vec<_> = golden()
        .stems
        .into_iter()
        .filter(|(word, expected)| porter::stem(word) != *expected)
        .collect();
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn scores_over_many_texts_are_means_in_percent() {
    let golden = golden();
    let mut tally = Tally::default();
    assert_eq!(tally.scores().rouge1, 0.0);
    for pair in &golden.pairs {
        tally.add(&pair.prediction, &pair.reference);
    }
    let mean = |value: fn(&Pair) -> f64| {
        100.0 * golden.pairs.iter().map(value).sum::<f64>() / golden.pairs.len() as f64
    };
    let scores = tally.scores();
    assert_eq!(tally.texts(), golden.pairs.len() as u64);
    for (ours, theirs) in [
        (scores.rouge_l, mean(|pair| pair.rouge[2])),
        (scores.bleu4, mean(|pair| pair.sentence_bleu)),
        (scores.meteor, mean(|pair| pair.meteor)),
        (scores.f1, mean(|pair| pair.f1)),
        (scores.sacrebleu, golden.corpus_bleu),
    ] {
        assert!((ours - theirs).abs() < 1e-9, "{ours} {theirs}");
    }
}
