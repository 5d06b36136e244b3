//! The optimizer, bit by bit.

use weft_common::recipe::Optimizer;
use weft_worker::ops::cuda::MomentKind;
use weft_worker::train::fixed_point;
use weft_worker::train::optimizer::{
    AdamW, AdamWSettings, Moments, UpdateScalars, clip_coefficient, global_norm,
};

use crate::support::{floats, format, gpu, packed, random, read, read_plain};

/// Lengths of matrices: whole blocks, a short last block, one below the least size for 8-bit state.
const LENGTHS: [usize; 4] = [8192, 5000, 300, 70_004];

const LEARNING_RATE: f64 = 1e-3;

fn settings(kind: Optimizer) -> AdamWSettings {
    AdamWSettings {
        kind,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    }
}

fn kind_of(optimizer: Optimizer, len: usize) -> MomentKind {
    match optimizer {
        Optimizer::AdamW => MomentKind::LikeTorch,
        Optimizer::AdamW8bit if len < 4096 => MomentKind::LikeBitsandbytes,
        Optimizer::AdamW8bit => MomentKind::Blocks,
    }
}

#[test]
pub(crate) fn updates_equal_the_cpus_bit_by_bit() {
    let Some(gpu) = gpu() else { return };
    let total: usize = LENGTHS.iter().sum();
    for optimizer in [Optimizer::AdamW, Optimizer::AdamW8bit] {
        for max_norm in [0.0, 0.5] {
            let mut start = 0;
            let matrices = LENGTHS.iter().enumerate().map(|(i, len)| {
                start += len;
                (format!("matrix{i}"), start - len..start)
            });
            let mut cpu = AdamW::new(settings(optimizer), matrices.collect::<Vec<_>>());
            let mut params = random(total, 1);
            let kinds = LENGTHS.map(|len| (len, kind_of(optimizer, len)));
            let mut state = gpu.new_adamw(settings(optimizer), &kinds).unwrap();
            let (mut our_params, mut rounded) =
                (floats(gpu, &params), packed(gpu, 1, &vec![f32::NAN; total]));
            for step in 0..5 {
                let grads: Vec<f32> = random(total, 10 + step)
                    .iter()
                    .enumerate()
                    .map(|(i, v)| v * 2_f32.powi(-((i / 300 % 25) as i32)))
                    .collect();
                let mut sums = vec![0; total];
                fixed_point::to_fixed(&grads, &mut sums);
                let grads: Vec<f32> = sums.iter().map(|&sum| fixed_point::to_float(sum)).collect();
                let norm = global_norm(&grads);
                let scalars = UpdateScalars {
                    learning_rate: LEARNING_RATE,
                    clip: clip_coefficient(norm, max_norm),
                };
                cpu.update(&mut params, &grads, scalars);

                let sums = gpu.gpu().stream().clone_htod(&sums).unwrap();
                gpu.clip_and_adamw(
                    &mut state,
                    (LEARNING_RATE, max_norm),
                    &sums,
                    &mut our_params,
                    &mut rounded,
                )
                .unwrap();
                let our_norm = read_plain(gpu, state.norm())[0];
                assert!(
                    (our_norm / norm - 1.0).abs() < 1e-12,
                    "{our_norm} for {norm}"
                );
                let ours = read_plain(gpu, &our_params);
                let differing = ours.iter().zip(&params).filter(|(a, b)| a != b).count();
                assert_eq!(differing, 0, "{optimizer:?}, clip {max_norm}, step {step}");
                let halves = format().widen(&format().round(&params));
                assert_eq!(read(gpu, &rounded), halves);
            }
            let [codes1, codes2] =
                [0, 1].map(|moment| read_plain(gpu, state.block_moments(moment).0));
            let mut at = 0;
            for tensor in cpu.tensors() {
                if let Moments::Blocks { first, second } = &tensor.moments {
                    let range = at..at + first.codes.len();
                    assert_eq!(codes1[range.clone()], first.codes[..], "{}", tensor.name);
                    assert_eq!(codes2[range.clone()], second.codes[..], "{}", tensor.name);
                    at = range.end;
                }
            }
        }
    }
}
