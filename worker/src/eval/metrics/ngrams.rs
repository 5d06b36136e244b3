//! Counting runs of tokens.

use std::collections::HashMap;

/// How often each run of `n` neighbouring tokens occurs. Nothing depends on the order of the map: only sums are taken.
pub(super) fn count(tokens: &[String], n: usize) -> HashMap<&[String], u64> {
    let mut counts = HashMap::new();
    for run in tokens.windows(n) {
        *counts.entry(run).or_default() += 1;
    }
    counts
}

/// How many runs of `a` occur in `b` too, each as often as in the one that has fewer.
pub(super) fn overlap(a: &HashMap<&[String], u64>, b: &HashMap<&[String], u64>) -> u64 {
    a.iter()
        .map(|(run, count)| b.get(run).map_or(0, |other| *count.min(other)))
        .sum()
}

/// Harmonic mean of precision and recall; 0 where both are 0.
pub(super) fn f_measure(precision: f64, recall: f64) -> f64 {
    if precision + recall > 0.0 {
        2.0 * precision * recall / (precision + recall)
    } else {
        0.0
    }
}
