//! Rotary position embedding: frequencies, and the angles of a packed batch.

use std::f64::consts::TAU;
use std::sync::Arc;

use rayon::prelude::*;

/// Positions that one thread takes at a time at least.
const ROWS: usize = 64;

/// How positions turn into rotations.
#[derive(Debug, Clone, PartialEq)]
pub struct RopeSpec {
    /// Base of the geometric series of frequencies.
    pub theta: f64,
    /// How the frequencies are stretched for contexts longer than the model was first trained on.
    pub scaling: RopeScaling,
}

/// Stretching of rotary frequencies.
#[derive(Debug, Clone, PartialEq)]
pub enum RopeScaling {
    /// None.
    None,
    /// All frequencies divided by a factor.
    Linear {
        /// The divisor.
        factor: f64,
    },
    /// Llama 3.1's: low frequencies divided, high ones kept, those between blended.
    Llama3 {
        /// Divisor of low frequencies.
        factor: f64,
        /// Wavelengths above `original_context / low_freq_factor` are divided by `factor`.
        low_freq_factor: f64,
        /// Wavelengths below `original_context / high_freq_factor` are kept.
        high_freq_factor: f64,
        /// Context of the first training.
        original_context: f64,
    },
    /// Each frequency divided by its own factor, one for each pair of a head's elements, as GGUF files store them.
    Factors(Arc<[f32]>),
}

impl RopeSpec {
    /// One frequency for each pair of a head's elements, in radians a position.
    #[must_use]
    pub fn frequencies(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|pair| {
                let exponent = 2.0 * pair as f64 / head_dim as f64;
                self.scaling.apply(pair, 1.0 / self.theta.powf(exponent)) as f32
            })
            .collect()
    }

    /// What each frequency is divided by, one for each pair of a head's elements, as GGUF files store it.
    #[must_use]
    pub fn divisors(&self, head_dim: usize) -> Vec<f32> {
        (0..head_dim / 2)
            .map(|pair| {
                let frequency = 1.0 / self.theta.powf(2.0 * pair as f64 / head_dim as f64);
                (frequency / self.scaling.apply(pair, frequency)) as f32
            })
            .collect()
    }

    /// Cosines and sines, `positions × head_dim/2` each. The angle is an f32 product, as Hugging Face computes it.
    #[must_use]
    pub fn angles(&self, head_dim: usize, positions: &[u32]) -> (Vec<f32>, Vec<f32>) {
        let frequencies = self.frequencies(head_dim);
        let len = positions.len() * frequencies.len();
        let (mut cos, mut sin) = (vec![0.0; len], vec![0.0; len]);
        let rows = positions.par_iter().with_min_len(ROWS);
        // A head of one number has no pairs, and chunks of nothing are not to be asked for.
        let pairs = frequencies.len().max(1);
        (rows, cos.par_chunks_mut(pairs), sin.par_chunks_mut(pairs))
            .into_par_iter()
            .for_each(|(&position, cos, sin)| {
                for ((cos, sin), frequency) in cos.iter_mut().zip(sin).zip(&frequencies) {
                    let angle = f64::from(position as f32 * frequency);
                    (*cos, *sin) = (angle.cos() as f32, angle.sin() as f32);
                }
            });
        (cos, sin)
    }
}

impl RopeScaling {
    fn apply(&self, pair: usize, frequency: f64) -> f64 {
        match *self {
            Self::None => frequency,
            Self::Linear { factor } => frequency / factor,
            Self::Llama3 {
                factor,
                low_freq_factor,
                high_freq_factor,
                original_context,
            } => {
                let turns = original_context * frequency / TAU;
                let smooth = (turns - low_freq_factor) / (high_freq_factor - low_freq_factor);
                let smooth = smooth.clamp(0.0, 1.0);
                frequency * ((1.0 - smooth) / factor + smooth)
            }
            Self::Factors(ref factors) => frequency / f64::from(factors[pair]),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LLAMA_3_1: RopeScaling = RopeScaling::Llama3 {
        factor: 8.0,
        low_freq_factor: 1.0,
        high_freq_factor: 4.0,
        original_context: 8192.0,
    };

    #[test]
    fn llama_3_scaling_keeps_high_frequencies_and_divides_low_ones() {
        let plain = RopeSpec {
            theta: 500_000.0,
            scaling: RopeScaling::None,
        }
        .frequencies(128);
        let scaled = RopeSpec {
            theta: 500_000.0,
            scaling: LLAMA_3_1,
        }
        .frequencies(128);
        assert_eq!(plain[0], scaled[0]);
        assert_eq!(plain[63] / 8.0, scaled[63]);
        let ratios: Vec<f32> = plain.iter().zip(&scaled).map(|(p, s)| p / s).collect();
        assert!(
            ratios.windows(2).all(|pair| pair[0] <= pair[1] * 1.000_001),
            "{ratios:?}"
        );
        assert!(
            ratios.iter().any(|r| (1.5..7.5).contains(r)),
            "some lie between: {ratios:?}"
        );
    }

    #[test]
    fn angles_are_position_times_frequency() {
        let rope = RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::None,
        };
        let (cos, sin) = rope.angles(4, &[0, 3]);
        assert_eq!((&cos[..2], &sin[..2]), (&[1.0, 1.0][..], &[0.0, 0.0][..]));
        assert!((cos[2] - 3.0_f32.cos()).abs() < 1e-6 && (sin[3] - 0.03_f32.sin()).abs() < 1e-6);
    }
}
