//! The scalars of one update, computed once in f64.

use weft_common::recipe::Optimizer;

use super::{AdamWSettings, UpdateScalars};

/// Everything an update's inner loop multiplies with.
pub(crate) struct Coefficients {
    pub(crate) beta1: f32,
    pub(crate) beta2: f32,
    /// 1 − β1 and 1 − β2: torch takes the difference in f64, bitsandbytes of f32 numbers.
    pub(crate) gain1: f32,
    pub(crate) gain2: f32,
    pub(crate) clip: f32,
    pub(crate) epsilon: f32,
    /// √(1 − β2^t).
    pub(crate) root_correction2: f32,
    /// lr / (1 − β1^t).
    pub(crate) step_size: f32,
    /// 1 − lr·wd.
    pub(crate) keep: f32,
}

impl Coefficients {
    pub(crate) fn new(settings: &AdamWSettings, update: u64, scalars: UpdateScalars) -> Self {
        let correction1 = 1.0 - power(settings.beta1, update);
        let correction2 = 1.0 - power(settings.beta2, update);
        let gain = |beta: f64| match settings.kind {
            Optimizer::AdamW => (1.0 - beta) as f32,
            Optimizer::AdamW8bit => 1.0 - beta as f32,
        };
        Self {
            beta1: settings.beta1 as f32,
            beta2: settings.beta2 as f32,
            gain1: gain(settings.beta1),
            gain2: gain(settings.beta2),
            clip: scalars.clip,
            epsilon: settings.epsilon as f32,
            root_correction2: correction2.sqrt() as f32,
            step_size: (scalars.learning_rate / correction1) as f32,
            keep: (1.0 - scalars.learning_rate * settings.weight_decay) as f32,
        }
    }
}

/// `base^exponent` by squaring: the same bits on every host, which the system's `pow` does not promise.
fn power(mut base: f64, mut exponent: u64) -> f64 {
    let mut result = 1.0;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result *= base;
        }
        base *= base;
        exponent >>= 1;
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn power_is_repeated_multiplication() {
        let mut product = 1.0;
        for exponent in 0..2000 {
            assert!((power(0.999, exponent) - product).abs() <= 1e-12);
            product *= 0.999;
        }
    }
}
