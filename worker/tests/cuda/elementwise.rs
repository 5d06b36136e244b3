//! Rotation, gated units, cross-entropy.

use weft_worker::model::{
    Activation, DenseMatrix, DenseValues, FrozenLinear, RopeScaling, RopeSpec,
};
use weft_worker::ops::{Cpu, Ops, Rotation, Turn};

use crate::support::{assert_close, floats, gpu, halves, poisoned, random, read, read_plain};

#[test]
pub(crate) fn rotation_agrees_with_the_cpu_both_ways() {
    let Some(gpu) = gpu() else { return };
    let rope = RopeSpec {
        theta: 500_000.0,
        scaling: RopeScaling::None,
    };
    for (tokens, heads, kv_heads, head_dim) in [
        (5, 4, 2, 64),
        (9, 32, 8, 128),
        (3, 8, 1, 256),
        (2, 9, 3, 64),
    ] {
        let positions: Vec<u32> = (0..tokens as u32).map(|i| i * 37).collect();
        let (cos, sin) = rope.angles(head_dim, &positions);
        let q = random(tokens * heads * head_dim, 1);
        let k = random(tokens * kv_heads * head_dim, 2);
        let (device_cos, device_sin) = (floats(gpu, &cos), floats(gpu, &sin));
        for turn in [Turn::Forward, Turn::Backward] {
            let (mut expected_q, mut expected_k) = (q.clone(), k.clone());
            let rotation = Rotation {
                cos: &cos,
                sin: &sin,
                tokens,
                head_dim,
                turn,
            };
            let both = (heads, kv_heads);
            Cpu::new().rope(rotation, both, &mut expected_q, &mut expected_k);
            let (mut our_q, mut our_k) = (halves(gpu, tokens, &q), halves(gpu, tokens, &k));
            let rotation = Rotation {
                cos: &device_cos,
                sin: &device_sin,
                tokens,
                head_dim,
                turn,
            };
            gpu.rope(rotation, (heads, kv_heads), &mut our_q, &mut our_k)
                .unwrap();
            assert_close(
                &read(gpu, &our_q),
                &expected_q,
                &format!("queries {turn:?}"),
            );
            assert_close(&read(gpu, &our_k), &expected_k, &format!("keys {turn:?}"));
        }
    }
}

#[test]
pub(crate) fn gated_units_agree_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (tokens, width) in [(1, 8), (5, 200), (7, 2504), (3000, 64)] {
        let len = tokens * width;
        for act in [Activation::Silu, Activation::GeluTanh] {
            let scaled = |seed| {
                random(len, seed)
                    .iter()
                    .map(|v| v * 4.0)
                    .collect::<Vec<f32>>()
            };
            let (gate, up, dh) = (scaled(1), scaled(2), scaled(3));
            let cpu = Cpu::new();
            let mut expected = vec![0.0; len];
            cpu.glu_forward((tokens, width), act, (&gate, &up), &mut expected);
            let (mut dgate, mut dup) = (gate.clone(), up.clone());
            let mut dh_to_h = dh.clone();
            cpu.glu_backward((tokens, width), act, &mut dh_to_h, (&mut dgate, &mut dup));

            let [mut gate, mut up, mut dh] =
                [&gate, &up, &dh].map(|values| halves(gpu, tokens, values));
            let mut h = poisoned(gpu, tokens, width);
            gpu.glu_forward(tokens, act, (&gate, &up), &mut h).unwrap();
            assert_close(&read(gpu, &h), &expected, &format!("{act:?}"));
            gpu.glu_backward(tokens, act, &mut dh, (&mut gate, &mut up))
                .unwrap();
            assert_eq!(
                read(gpu, &dh),
                read(gpu, &h),
                "h as the forward makes it, {act:?}"
            );
            assert_close(
                &read(gpu, &gate),
                &dgate,
                &format!("gradient of the gate, {act:?}"),
            );
            assert_close(&read(gpu, &up), &dup, &format!("gradient of up, {act:?}"));
        }
    }
}

/// With the identity as head, the rows are the logits.
fn identity(vocab: usize) -> FrozenLinear {
    let values = (0..vocab * vocab).map(|i| f32::from(u8::from(i % (vocab + 1) == 0)));
    FrozenLinear::Dense(DenseMatrix {
        rows: vocab,
        cols: vocab,
        values: DenseValues::F32(values.collect()),
    })
}

#[test]
pub(crate) fn cross_entropy_agrees_with_the_cpu() {
    let Some(gpu) = gpu() else { return };
    for (rows, vocab) in [(1, 8), (5, 104), (33, 2000), (3, 9000)] {
        let logits: Vec<f32> = random(rows * vocab, 1).iter().map(|v| v * 8.0).collect();
        let targets: Vec<u32> = (0..rows).map(|i| (i * 7919 % vocab) as u32).collect();
        let mut expected = vec![0.0; rows * vocab];
        let loss = if vocab <= 2000 {
            Cpu::new().cross_entropy(&targets, &identity(vocab), 0.25, &logits, &mut expected)
        } else {
            plain_cross_entropy(&targets, 0.25, &logits, &mut expected)
        };
        let mut ours = halves(gpu, rows, &logits);
        let mut losses = floats(gpu, &vec![f32::NAN; rows]);
        let mut sum = gpu.gpu().stream().clone_htod(&[1.5_f64]).unwrap();
        let targets = gpu.upload_rows(&targets, vocab).unwrap();
        gpu.cross_entropy(&targets, 0.25, &mut ours, &mut losses, &mut sum)
            .unwrap();
        assert_close(
            &read(gpu, &ours),
            &expected,
            &format!("gradient over {vocab} entries"),
        );
        let ours = read_plain(gpu, &sum)[0] - 1.5;
        assert!((ours / loss - 1.0).abs() < 1e-5, "{ours} for {loss}");
    }
}

fn plain_cross_entropy(targets: &[u32], scale: f32, logits: &[f32], out: &mut [f32]) -> f64 {
    let vocab = logits.len() / targets.len();
    let rows = logits.chunks(vocab).zip(out.chunks_mut(vocab)).zip(targets);
    rows.map(|((row, out), &target)| {
        let largest = row.iter().copied().fold(f32::MIN, f32::max);
        let sum: f64 = row.iter().map(|v| f64::from(v - largest).exp()).sum();
        for (out, v) in out.iter_mut().zip(row) {
            *out = scale * (f64::from(v - largest).exp() / sum) as f32;
        }
        out[target as usize] -= scale;
        sum.ln() - f64::from(row[target as usize] - largest)
    })
    .sum()
}
