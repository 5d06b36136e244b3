//! The whole pass against finite differences of its own loss.

use weft_worker::train::{MemoryPlan, PackedBatch, Pass};

use crate::models::{Case, gemma, llama};
use crate::support::Collect;

/// Moves every matrix along its own gradient, both ways: the slope must be the gradient's length.
fn check(mut case: Case) {
    let (_, grads) = case.run(MemoryPlan::recompute());
    let start = case.adapter.values().clone();
    for tensor in case.adapter.layout().clone().tensors() {
        let grad = &grads[tensor.range()];
        let length = grad
            .iter()
            .map(|&g| f64::from(g).powi(2))
            .sum::<f64>()
            .sqrt();
        let mut loss_at = |step: f64| {
            let values = case.adapter.values_mut();
            values.copy_from_slice(&start);
            for (value, &g) in values[tensor.range()].iter_mut().zip(grad) {
                *value += (step * f64::from(g) / length) as f32;
            }
            mean_loss(&case)
        };
        let mut slope_over = |step: f64| (loss_at(step) - loss_at(-step)) / (2.0 * step);
        // Steps large against the loss's f32 rounding; Richardson's extrapolation takes their quadratic error off.
        let slope = (4.0 * slope_over(0.01) - slope_over(0.02)) / 3.0;
        let error = (slope / length - 1.0).abs();
        assert!(
            error < 5e-3,
            "{}: slope {slope:e}, gradient's length {length:e}, error {error:e}",
            tensor.name
        );
    }
}

fn mean_loss(case: &Case) -> f64 {
    let batch = PackedBatch::from_rows(&case.rows);
    let mut sink = Collect::new(case.adapter.layout());
    let mut pass = Pass::new(MemoryPlan::recompute());
    let loss = pass
        .forward_backward(&case.model, &case.adapter, &batch, case.scale(), &mut sink)
        .unwrap();
    loss.loss_sum / loss.supervised as f64
}

#[test]
fn llama_s_gradient_is_the_slope_of_its_loss() {
    check(Case::new(llama()));
}

#[test]
fn gemma_s_gradient_is_the_slope_of_its_loss() {
    check(Case::new(gemma()));
}
