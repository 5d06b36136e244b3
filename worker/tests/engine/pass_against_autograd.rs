//! The whole pass against candle's autograd: two layers, grouped queries, packed documents.

use weft_common::recipe::TargetModules;
use weft_worker::model::{RandomFormat, Spec};
use weft_worker::train::MemoryPlan;

use crate::models::{Case, gemma, llama};
use crate::oracle;
use crate::support::assert_close;

const BOUND: f32 = 1e-4;

fn check(case: &Case) {
    let (loss, grads) = case.run(MemoryPlan::recompute());
    let (expected_loss, expected) = oracle::loss_and_gradient(case).unwrap();
    assert!(
        (loss.loss_sum / expected_loss - 1.0).abs() < 1e-5,
        "loss {} for {expected_loss}",
        loss.loss_sum
    );
    for tensor in case.adapter.layout().tensors() {
        assert_close(
            &tensor.name,
            &grads[tensor.range()],
            &expected[tensor.range()],
            BOUND,
        );
    }
}

#[test]
fn llama_equals_autograd() {
    check(&Case::new(llama()));
}

#[test]
fn llama_with_a_tied_head_equals_autograd() {
    check(&Case::new(Spec {
        tied_head: true,
        ..llama()
    }));
}

#[test]
fn four_bit_llama_equals_autograd() {
    check(&Case::with(llama(), RandomFormat::Nf4, &[20, 5]));
}

#[test]
fn an_adapter_on_some_linears_of_the_upper_layers_equals_autograd() {
    let upper = TargetModules::Pattern(r".*\.[12]\..*\.(k|down)_proj".to_owned());
    let spec = Spec {
        layers: 4,
        ..llama()
    };
    check(&Case::targeting(upper, spec, RandomFormat::F32, &[20, 5]));
}

#[test]
fn gemma_s_conventions_equal_autograd() {
    check(&Case::new(gemma()));
}
