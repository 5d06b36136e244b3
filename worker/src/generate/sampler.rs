//! From logits to a token.

use std::cmp::Ordering;

use super::options::{GenerateOptions, Sampling};
use crate::counter::Counter;

/// Candidates that are sorted at first, to find a nucleus among them.
const FRONT: usize = 64;

/// Chooses tokens for one generation. The choice depends on options, logits and the number of choices before alone.
pub(super) struct Sampler {
    repetition_penalty: f32,
    sampling: Option<(Sampling, Counter)>,
    chosen: u64,
}

/// A token that may be chosen.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Candidate {
    token: u32,
    logit: f32,
}

impl Sampler {
    pub(super) fn new(options: &GenerateOptions) -> Self {
        let with_counter =
            |sampling: &Sampling| (sampling.clone(), Counter::new(sampling.seed, "generate"));
        Self {
            repetition_penalty: options.repetition_penalty,
            sampling: options.sampling.as_ref().map(with_counter),
            chosen: 0,
        }
    }

    /// Whether it is always the likeliest token as the model has it.
    pub(super) fn is_plain(&self) -> bool {
        self.sampling.is_none() && self.repetition_penalty == 1.0
    }

    /// Chooses the token after `sequence`. `logits` are finite.
    pub(super) fn choose(&mut self, logits: &mut [f32], sequence: &[u32]) -> u32 {
        penalize(logits, sequence, self.repetition_penalty);
        let Some((sampling, counter)) = &self.sampling else {
            return likeliest(logits);
        };
        let random = counter.unit(self.chosen);
        self.chosen += 1;
        draw(&filter(logits, sampling), random)
    }
}

/// Makes what has occurred less likely: positive logits are divided by the penalty, negative ones multiplied.
fn penalize(logits: &mut [f32], sequence: &[u32], penalty: f32) {
    if penalty == 1.0 {
        return;
    }
    let mut seen = sequence.to_vec();
    seen.sort_unstable();
    seen.dedup();
    for token in seen {
        let logit = &mut logits[token as usize];
        *logit = if *logit > 0.0 {
            *logit / penalty
        } else {
            *logit * penalty
        };
    }
}

/// Of equal ones the first.
fn likeliest(logits: &[f32]) -> u32 {
    let mut best = (0, f32::NEG_INFINITY);
    for (token, &logit) in (0..).zip(logits) {
        if logit > best.1 {
            best = (token, logit);
        }
    }
    best.0
}

/// The candidates that pass all filters, with temperature applied; likeliest first, unless all of them do. Of a large
/// vocabulary no more is sorted than it takes.
fn filter(logits: &[f32], sampling: &Sampling) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = (0..)
        .zip(logits)
        .map(|(token, logit)| Candidate {
            token,
            logit: logit / sampling.temperature,
        })
        .collect();
    if sampling.top_k > 0 && sampling.top_k < candidates.len() {
        candidates.select_nth_unstable_by(sampling.top_k - 1, likelier);
        candidates.truncate(sampling.top_k);
    }
    if sampling.top_p < 1.0 {
        let kept = nucleus(&mut candidates, sampling.top_p);
        candidates.truncate(kept);
    }
    if sampling.min_p > 0.0 {
        let threshold = most(&candidates) + sampling.min_p.ln();
        candidates.retain(|candidate| candidate.logit >= threshold);
    }
    if candidates.len() < logits.len() {
        candidates.sort_unstable_by(likelier);
    }
    candidates
}

/// Likelier ones first, of equal ones the first token.
fn likelier(a: &Candidate, b: &Candidate) -> Ordering {
    b.logit.total_cmp(&a.logit).then(a.token.cmp(&b.token))
}

fn most(candidates: &[Candidate]) -> f32 {
    let logits = candidates.iter().map(|candidate| candidate.logit);
    logits.fold(f32::NEG_INFINITY, f32::max)
}

/// How many of the likeliest it takes for their probabilities to reach `top_p`; at least one. They are in front then.
fn nucleus(candidates: &mut [Candidate], top_p: f32) -> usize {
    let most = most(candidates);
    let weight = |candidate: &Candidate| f64::from(candidate.logit - most).exp();
    let wanted = f64::from(top_p) * candidates.iter().map(weight).sum::<f64>();
    let mut front = FRONT;
    loop {
        let sorted = front.min(candidates.len());
        if sorted < candidates.len() {
            candidates.select_nth_unstable_by(sorted - 1, likelier);
        }
        candidates[..sorted].sort_unstable_by(likelier);
        let mut sum = 0.0;
        for (count, candidate) in (1..).zip(&candidates[..sorted]) {
            sum += weight(candidate);
            if sum >= wanted {
                return count;
            }
        }
        if sorted == candidates.len() {
            return sorted;
        }
        front *= 8;
    }
}

/// Probabilities, up to a common factor.
fn weights(candidates: &[Candidate]) -> Vec<f64> {
    let most = most(candidates);
    let weight = |candidate: &Candidate| f64::from(candidate.logit - most).exp();
    candidates.iter().map(weight).collect()
}

/// The candidate at `random` of the way through all probabilities.
fn draw(candidates: &[Candidate], random: f64) -> u32 {
    let weights = weights(candidates);
    let mut left = random * weights.iter().sum::<f64>();
    for (candidate, weight) in candidates.iter().zip(weights) {
        left -= weight;
        if left < 0.0 {
            return candidate.token;
        }
    }
    candidates[candidates.len() - 1].token
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tokens(logits: &[f32], sampling: Sampling) -> Vec<u32> {
        filter(logits, &sampling).iter().map(|c| c.token).collect()
    }

    fn sampler(sampling: Sampling) -> Sampler {
        Sampler::new(&GenerateOptions {
            sampling: Some(sampling),
            ..GenerateOptions::default()
        })
    }

    #[test]
    fn greedy_takes_the_first_of_the_likeliest() {
        let mut greedy = Sampler::new(&GenerateOptions::default());
        assert_eq!(greedy.choose(&mut [1.0, 3.0, -2.0, 3.0], &[]), 1);
    }

    #[test]
    fn filters_keep_the_likeliest() {
        // Probabilities 0.5, 0.25, 0.125, 0.125 in another order.
        let logits = [0.125_f32, 0.5, 0.125, 0.25].map(f32::ln);
        let all = Sampling::default();
        assert_eq!(tokens(&logits, all.clone()), [0, 1, 2, 3]);
        assert_eq!(
            tokens(
                &logits,
                Sampling {
                    top_k: 2,
                    ..all.clone()
                }
            ),
            [1, 3]
        );
        assert_eq!(
            tokens(
                &logits,
                Sampling {
                    top_p: 0.7,
                    ..all.clone()
                }
            ),
            [1, 3]
        );
        assert_eq!(
            tokens(
                &logits,
                Sampling {
                    top_p: 0.8,
                    ..all.clone()
                }
            ),
            [1, 3, 0]
        );
        assert_eq!(
            tokens(
                &logits,
                Sampling {
                    top_p: 1e-6,
                    ..all.clone()
                }
            ),
            [1]
        );
        assert_eq!(
            tokens(
                &logits,
                Sampling {
                    min_p: 0.4,
                    ..all.clone()
                }
            ),
            [1, 3]
        );
        assert_eq!(
            tokens(
                &logits,
                Sampling {
                    min_p: 1.0,
                    ..all.clone()
                }
            ),
            [1]
        );
        // Temperature comes first: probabilities become 16/22, 4/22, 1/22, 1/22.
        let sharp = Sampling {
            temperature: 0.5,
            min_p: 0.2,
            ..all
        };
        assert_eq!(tokens(&logits, sharp), [1, 3]);
    }

    #[test]
    fn filters_of_a_large_vocabulary_are_those_of_a_sorted_one() {
        let logits: Vec<f32> = (0..5000).map(|i| (i as f32 * 0.73).sin() * 3.0).collect();
        let mut sorted: Vec<u32> = (0..5000).collect();
        let logit = |token: &u32| logits[*token as usize];
        sorted.sort_by(|a, b| logit(b).total_cmp(&logit(a)).then(a.cmp(b)));
        let all = Sampling::default();
        for top_p in [0.001, 0.3, 0.9, 0.9999] {
            let kept = tokens(
                &logits,
                Sampling {
                    top_p,
                    ..all.clone()
                },
            );
            let weight = |token: &u32| f64::from(logit(token)).exp();
            let total: f64 = sorted.iter().map(weight).sum();
            let sum: f64 = kept.iter().map(weight).sum();
            let last = kept.last().map_or(0.0, weight);
            assert_eq!(kept, sorted[..kept.len()]);
            let wanted = f64::from(top_p) * total;
            assert!(
                sum >= wanted * (1.0 - 1e-9) && sum - last < wanted,
                "{top_p}"
            );
        }
        let two = Sampling {
            top_k: 700,
            min_p: 0.9,
            ..all
        };
        let kept = tokens(&logits, two);
        assert!(kept.len() < 700 && kept == sorted[..kept.len()]);
    }

    #[test]
    fn tokens_are_drawn_in_proportion_to_their_probabilities() {
        let logits = [0.125_f32, 0.5, 0.125, 0.25].map(f32::ln);
        let mut sampler = sampler(Sampling {
            seed: 7,
            ..Sampling::default()
        });
        let mut counts = [0; 4];
        for _ in 0..8000 {
            counts[sampler.choose(&mut logits.clone(), &[]) as usize] += 1;
        }
        for (count, expected) in counts.into_iter().zip([1000_i32, 4000, 1000, 2000]) {
            assert!((count - expected).abs() < 150, "{counts:?}");
        }
    }

    #[test]
    fn a_seed_repeats_and_another_does_not() {
        let draws = |seed| {
            let mut sampler = sampler(Sampling {
                seed,
                ..Sampling::default()
            });
            (0..32)
                .map(|_| sampler.choose(&mut [0.0; 50], &[]))
                .collect::<Vec<_>>()
        };
        assert_eq!(draws(1), draws(1));
        assert_ne!(draws(1), draws(2));
    }

    #[test]
    fn what_has_occurred_is_made_less_likely_once() {
        let mut logits = [2.0, -2.0, 2.0, 1.5];
        penalize(&mut logits, &[0, 1, 0], 2.0);
        assert_eq!(logits, [1.0, -4.0, 2.0, 1.5]);
    }
}
