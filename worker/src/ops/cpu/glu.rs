//! Gated linear units: `act(gate) · up`.

use rayon::prelude::*;

use super::math::exp;
use crate::model::Activation;

/// Elements that one thread takes at a time.
const ELEMENTS: usize = 1 << 13;
/// √(2/π).
const GELU_SCALE: f32 = 0.797_884_6;
const GELU_CUBE: f32 = 0.044_715;

pub(super) fn forward(act: Activation, (gate, up): (&[f32], &[f32]), h: &mut [f32]) {
    match act {
        Activation::Silu => forward_with(|x| silu(x).0, gate, up, h),
        Activation::GeluTanh => forward_with(|x| gelu_tanh(x).0, gate, up, h),
    }
}

pub(super) fn backward(act: Activation, dh: &mut [f32], gate_up: (&mut [f32], &mut [f32])) {
    match act {
        Activation::Silu => backward_with(silu, dh, gate_up),
        Activation::GeluTanh => backward_with(gelu_tanh, dh, gate_up),
    }
}

fn forward_with(act: impl Fn(f32) -> f32 + Sync, gate: &[f32], up: &[f32], h: &mut [f32]) {
    (h.par_chunks_mut(ELEMENTS))
        .zip(gate.par_chunks(ELEMENTS))
        .zip(up.par_chunks(ELEMENTS))
        .for_each(|((h, gate), up)| {
            for ((h, &gate), up) in h.iter_mut().zip(gate).zip(up) {
                *h = act(gate) * up;
            }
        });
}

fn backward_with(
    act: impl Fn(f32) -> (f32, f32) + Sync,
    dh: &mut [f32],
    (gate, up): (&mut [f32], &mut [f32]),
) {
    (gate.par_chunks_mut(ELEMENTS))
        .zip(up.par_chunks_mut(ELEMENTS))
        .zip(dh.par_chunks_mut(ELEMENTS))
        .for_each(|((gate, up), dh)| {
            for ((gate, up), dh) in gate.iter_mut().zip(up).zip(dh) {
                let (value, slope) = act(*gate);
                (*gate, *up, *dh) = (*dh * *up * slope, *dh * value, value * *up);
            }
        });
}

/// Value and derivative of x·sigmoid(x).
#[inline(always)]
fn silu(x: f32) -> (f32, f32) {
    let sigmoid = 1.0 / (1.0 + exp(-x));
    (x * sigmoid, sigmoid * (1.0 + x * (1.0 - sigmoid)))
}

/// Value and derivative of ½x·(1 + tanh(√(2/π)·(x + 0.044715x³))).
#[inline(always)]
fn gelu_tanh(x: f32) -> (f32, f32) {
    let inner = GELU_SCALE * (x + GELU_CUBE * x * x * x);
    let tanh = 1.0 - 2.0 / (1.0 + exp(2.0 * inner));
    let inner_slope = GELU_SCALE * (1.0 + 3.0 * GELU_CUBE * x * x);
    let value = 0.5 * x * (1.0 + tanh);
    (
        value,
        0.5 * (1.0 + tanh) + 0.5 * x * (1.0 - tanh * tanh) * inner_slope,
    )
}
