//! The least time that a step could take on a device whose rates were measured.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::Measured;
use super::cost::StepShape;

/// Seconds that a step's work takes at the device's own rates, one after another.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct FloorSeconds {
    /// Products with frozen matrices, each shape at the rate measured for it.
    pub products: f64,
    /// Attention, at the products' mean rate.
    pub attention: f64,
    /// Adapters, at the products' mean rate.
    pub adapters: f64,
    /// Everything else, at the rate of a copy.
    pub bytes: f64,
    /// All of it.
    pub total: f64,
}

/// The rates that a floor was computed with.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Rates {
    /// FLOP/s over all products with frozen matrices, each shape at its own rate.
    pub gemm_flops: f64,
    /// Bytes per second, read and written.
    pub copy_bytes: f64,
}

/// What a device was measured at.
pub(super) struct DeviceRates {
    /// FLOP/s by rows, columns and inner width.
    gemm_flops: BTreeMap<[usize; 3], f64>,
    copy_bytes: f64,
}

impl DeviceRates {
    /// Measures `backend` at the shapes of `step`, whatever of it is computed again.
    pub(super) fn measure<B: Measured>(backend: &B, step: &StepShape<'_>) -> Self {
        let shapes: BTreeSet<_> = step.products().iter().map(|p| p.mnk).collect();
        let rate = |mnk| (mnk, backend.gemm_flops(mnk));
        Self {
            gemm_flops: shapes.into_iter().map(rate).collect(),
            copy_bytes: backend.copy_bytes(),
        }
    }

    /// The floor of `step`, and the rates that led to it.
    pub(super) fn floor(&self, step: &StepShape<'_>) -> (Rates, FloorSeconds) {
        let all = step.products();
        let rate = |mnk| self.gemm_flops.get(mnk).copied().unwrap_or(f64::NAN);
        let products: f64 = all.iter().map(|p| p.flops / rate(&p.mnk)).sum();
        let mean = all.iter().map(|p| p.flops).sum::<f64>() / products;
        let flops = step.flops();
        let (attention, adapters) = (flops.attention / mean, flops.adapters / mean);
        let bytes = step.bytes().total / self.copy_bytes;
        let seconds = FloorSeconds {
            products,
            attention,
            adapters,
            bytes,
            total: products + attention + adapters + bytes,
        };
        let rates = Rates {
            gemm_flops: mean,
            copy_bytes: self.copy_bytes,
        };
        (rates, seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Preset;

    #[test]
    fn every_shape_counts_at_its_own_rate() {
        let spec = Preset::Tiny.spec();
        let step = StepShape {
            spec: &spec,
            rank: 16,
            rows: 1,
            row_tokens: 32,
            slots: 2,
            recomputed_layers: 1,
            element_bytes: 4,
        };
        let flops = step.flops();
        let products = flops.total - flops.attention - flops.adapters;
        let measured = |rate: &dyn Fn([usize; 3]) -> f64| DeviceRates {
            gemm_flops: (step.products().iter().map(|p| (p.mnk, rate(p.mnk)))).collect(),
            copy_bytes: 1e10,
        };
        let (rates, seconds) = measured(&|_| 1e9).floor(&step);
        assert!((rates.gemm_flops / 1e9 - 1.0).abs() < 1e-12);
        assert!((seconds.products * 1e9 / products - 1.0).abs() < 1e-12);
        assert!((seconds.bytes * 1e10 / step.bytes().total - 1.0).abs() < 1e-12);

        // A row's first token is not predicted, so the head has one row less.
        let slow_head = |[rows, _, _]: [usize; 3]| if rows == 31 { 5e8 } else { 1e9 };
        let (rates, slower) = measured(&slow_head).floor(&step);
        assert!((slower.products - seconds.products - flops.head / 1e9).abs() < 1e-12);
        assert!(rates.gemm_flops < 1e9 && slower.attention > seconds.attention);
    }
}
