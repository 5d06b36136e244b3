//! How the A matrices start: random numbers keyed by seed and tensor name, so that every worker draws the same.

use weft_common::recipe::LoraInit;

use crate::counter::Counter;

/// Fills an A matrix of `rank` rows, `=`.
pub(super) fn fill_a(values: &mut [f32], rank: usize, init: LoraInit, (seed, name): (u64, &str)) {
    let random = Counter::new(seed, name);
    let inputs = values.len() / rank;
    let bound = 1.0 / (inputs as f64).sqrt();
    for (index, value) in (0_u64..).zip(values) {
        *value = match init {
            LoraInit::Kaiming => ((2.0 * random.unit(index) - 1.0) * bound) as f32,
            LoraInit::Gaussian => (random.normal(index) / rank as f64) as f32,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(init: LoraInit, seed: u64, name: &str) -> Vec<f32> {
        let mut values = vec![f32::NAN; 16 * 1024];
        fill_a(&mut values, 16, init, (seed, name));
        values
    }

    fn deviation(values: &[f32]) -> f64 {
        (values.iter().map(|&v| f64::from(v).powi(2)).sum::<f64>() / values.len() as f64).sqrt()
    }

    #[test]
    fn kaiming_is_uniform_within_one_over_root_inputs() {
        let values = filled(LoraInit::Kaiming, 3407, "a");
        let bound = 1.0 / 32.0;
        assert!(values.iter().all(|v| v.abs() <= bound));
        assert!((deviation(&values) / (f64::from(bound) / 3.0_f64.sqrt()) - 1.0).abs() < 0.02);
        assert!(values.iter().map(|&v| f64::from(v)).sum::<f64>().abs() / 16384.0 < 0.001);
    }

    #[test]
    fn gaussian_has_deviation_one_over_rank() {
        let values = filled(LoraInit::Gaussian, 3407, "a");
        assert!((deviation(&values) * 16.0 - 1.0).abs() < 0.02);
        let beyond = values.iter().filter(|v| v.abs() > 2.0 / 16.0).count() as f64 / 16384.0;
        assert!(
            (0.035..0.056).contains(&beyond),
            "4.55 % lie beyond two deviations, found {beyond}"
        );
    }

    #[test]
    fn numbers_depend_on_seed_and_name_alone() {
        let first = filled(LoraInit::Kaiming, 1, "a");
        assert_eq!(first, filled(LoraInit::Kaiming, 1, "a"));
        assert_ne!(first, filled(LoraInit::Kaiming, 2, "a"));
        assert_ne!(first, filled(LoraInit::Kaiming, 1, "b"));
    }
}
