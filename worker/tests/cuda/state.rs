//! Training's state on the device: to and from the host, and its digest.

use cudarc::driver::CudaSlice;
use weft_common::recipe::{LoraSection, Optimizer};
use weft_common::sum_digest::SumDigest;
use weft_worker::checkpoint::{Progress, TrainState};
use weft_worker::lora::Adapter;
use weft_worker::model::{Activation, RopeScaling, RopeSpec, Spec};
use weft_worker::ops::cuda::DeviceBytes;
use weft_worker::train::optimizer::{
    AdamW, AdamWSettings, UpdateScalars, clip_coefficient, global_norm,
};
use weft_worker::train::{LossScale, fixed_point};

use crate::support::{floats, gpu, packed, random, read_plain};

const SCALARS: UpdateScalars = UpdateScalars {
    learning_rate: 1e-3,
    clip: 1.0,
};

/// A state after two updates, whose matrices are of either width and end within a block of 256.
fn state(kind: Optimizer) -> TrainState {
    let spec = Spec {
        vocab: 97,
        hidden: 64,
        layers: 2,
        heads: 4,
        kv_heads: 2,
        head_dim: 16,
        ffn: 96,
        context: 256,
        rms_eps: 1e-5,
        rope: RopeSpec {
            theta: 10_000.0,
            scaling: RopeScaling::None,
        },
        activation: Activation::Silu,
        norm_offset: 0.0,
        embed_scale: 1.0,
        tied_head: false,
    };
    let lora = LoraSection {
        r: 81,
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(&spec, &lora, 1).unwrap();
    let tensors = adapter.layout().tensors().iter();
    let matrices: Vec<_> = tensors
        .map(|tensor| (tensor.name.clone(), tensor.range()))
        .collect();
    let settings = AdamWSettings {
        kind,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    };
    let mut optimizer = AdamW::new(settings, matrices);
    for step in 0..2 {
        let grads = random(adapter.layout().len(), step);
        optimizer.update(adapter.values_mut(), &grads, SCALARS);
    }
    let progress = Progress {
        next_step: 3,
        updates: 2,
        skipped_steps: 1,
        loss_scale: Some(LossScale::default()),
    };
    TrainState {
        adapter,
        optimizer,
        progress,
    }
}

#[test]
fn a_state_goes_to_the_device_and_comes_back_with_the_same_digest_there() {
    let Some(gpu) = gpu() else { return };
    for kind in [Optimizer::AdamW, Optimizer::AdamW8bit] {
        let state = state(kind);
        let device = gpu.upload_adamw(&state.optimizer).unwrap();
        assert_eq!(device.updates(), 2);
        let params = floats(gpu, state.adapter.values());
        let digest = gpu.state_digest(state.progress, &params, &device);
        assert_eq!(digest.unwrap(), state.digest(), "{kind:?}");

        let ranges = state.optimizer.tensors().iter();
        let matrices: Vec<_> = ranges.map(|t| (t.name.clone(), t.range.clone())).collect();
        let mut back = AdamW::new(*state.optimizer.settings(), matrices);
        gpu.download_adamw(&device, &mut back).unwrap();
        assert_eq!(back, state.optimizer, "{kind:?}");
    }
}

#[test]
fn an_uploaded_optimizer_goes_on_as_the_hosts() {
    let Some(gpu) = gpu() else { return };
    for kind in [Optimizer::AdamW, Optimizer::AdamW8bit] {
        let mut state = state(kind);
        let mut device = gpu.upload_adamw(&state.optimizer).unwrap();
        let mut params = floats(gpu, state.adapter.values());
        let len = state.adapter.layout().len();
        let mut rounded = packed(gpu, 1, &vec![f32::NAN; len]);
        let mut sums = vec![0; len];
        fixed_point::to_fixed(&random(len, 9), &mut sums);
        let grads: Vec<f32> = sums.iter().map(|&sum| fixed_point::to_float(sum)).collect();
        let sums = gpu.gpu().stream().clone_htod(&sums).unwrap();
        gpu.clip_and_adamw(&mut device, (1e-3, 0.5), &sums, &mut params, &mut rounded)
            .unwrap();

        let norm = global_norm(&grads);
        let scalars = UpdateScalars {
            clip: clip_coefficient(norm, 0.5),
            ..SCALARS
        };
        state
            .optimizer
            .update(state.adapter.values_mut(), &grads, scalars);
        let our_norm = gpu.grad_norm(&device).unwrap();
        assert!((our_norm / norm - 1.0).abs() < 1e-12, "{our_norm}, {norm}");
        assert_eq!(read_plain(gpu, &params), *state.adapter.values());
        let digest = gpu.state_digest(state.progress, &params, &device);
        assert_eq!(digest.unwrap(), state.digest(), "{kind:?}");
    }
}

#[test]
fn words_of_any_array_are_digested_as_on_the_host() {
    let Some(gpu) = gpu() else { return };
    let on_host = |bytes: &[u8]| {
        let words: Vec<i64> = bytes
            .chunks(8)
            .map(|chunk| {
                let mut word = [0; 8];
                word[..chunk.len()].copy_from_slice(chunk);
                i64::from_le_bytes(word)
            })
            .collect();
        SumDigest::of(&words, 0)
    };
    let bytes: Vec<u8> = (0..300_004_u32)
        .map(|i| (i.wrapping_mul(0x9E37_79B9) >> 24) as u8)
        .collect();
    let array: CudaSlice<u8> = gpu.gpu().stream().clone_htod(&bytes).unwrap();
    let ranges = [
        0..300_004,
        0..0,
        4..12,
        8..65_544,
        100..65_640,
        299_996..300_004,
        0..4,
    ];
    let arrays: Vec<_> = ranges
        .iter()
        .map(|range| DeviceBytes::range(&array, range.clone()))
        .collect();
    let expected: Vec<_> = ranges
        .iter()
        .map(|range| on_host(&bytes[range.clone()]))
        .collect();
    assert_eq!(gpu.digest_words(&arrays).unwrap(), expected);
    let none = DeviceBytes::range(&array, 0..0);
    assert_eq!(gpu.digest_words(&[none]).unwrap(), [SumDigest::default()]);
}
