//! Clipping by global norm, as `torch.nn.utils.clip_grad_norm_` does it.

use rayon::prelude::*;

/// Elements whose squares are summed one after another, in [`LANES`] strands.
const CHUNK: usize = 4096;

/// Strands of a chunk's sum: they let the additions overlap.
const LANES: usize = 8;

/// Euclidean norm of all gradients together. Squares are summed in f64 in a fixed order: within chunks of fixed size,
/// then over the chunks, so that the number of threads does not matter.
#[must_use]
pub fn global_norm(grads: &[f32]) -> f64 {
    let chunks: Vec<f64> = grads.par_chunks(CHUNK).map(sum_of_squares).collect();
    chunks.iter().sum::<f64>().sqrt()
}

/// What gradients of this norm are multiplied with so that it becomes at most `max_norm`; a `max_norm` of 0 turns
/// clipping off.
#[must_use]
pub fn clip_coefficient(norm: f64, max_norm: f64) -> f32 {
    if max_norm <= 0.0 {
        return 1.0;
    }
    (max_norm / (norm + 1e-6)).min(1.0) as f32
}

fn sum_of_squares(chunk: &[f32]) -> f64 {
    let mut lanes = [0.0; LANES];
    for group in chunk.chunks(LANES) {
        for (lane, &grad) in lanes.iter_mut().zip(group) {
            *lane += f64::from(grad) * f64::from(grad);
        }
    }
    lanes.iter().sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn norm_is_euclidean_over_all_chunks() {
        let grads: Vec<f32> = (0..3 * CHUNK + 5).map(|i| (i % 7) as f32 - 3.0).collect();
        let expected = grads
            .iter()
            .map(|g| f64::from(*g).powi(2))
            .sum::<f64>()
            .sqrt();
        assert!((global_norm(&grads) / expected - 1.0).abs() < 1e-12);
        assert_eq!(global_norm(&[]), 0.0);
    }

    #[test]
    fn only_long_gradients_are_shortened() {
        assert_eq!(clip_coefficient(0.5, 1.0), 1.0);
        assert_eq!(clip_coefficient(4.0, 1.0), (1.0 / 4.000_001) as f32);
        assert_eq!(clip_coefficient(1e9, 0.0), 1.0);
        assert_eq!(clip_coefficient(0.0, 1.0), 1.0);
    }

    #[test]
    fn the_number_of_threads_does_not_matter() {
        let grads: Vec<f32> = (0..100_000)
            .map(|i| ((i * 7919) % 1013) as f32 * 1e-3)
            .collect();
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| global_norm(&grads)).to_bits()
        };
        assert_eq!(with(1), with(3));
    }
}
