use std::path::Path;

use safetensors::SafeTensors;

use super::*;

fn settings(kind: recipe::Optimizer) -> AdamWSettings {
    AdamWSettings {
        kind,
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
        weight_decay: 0.01,
    }
}

fn over(kind: recipe::Optimizer, lengths: &[usize]) -> AdamW {
    let mut start = 0;
    let matrices: Vec<_> = lengths
        .iter()
        .enumerate()
        .map(|(index, len)| {
            let range = start..start + len;
            start = range.end;
            (format!("matrix{index}"), range)
        })
        .collect();
    AdamW::new(settings(kind), matrices)
}

const UNCLIPPED: UpdateScalars = UpdateScalars {
    learning_rate: 1e-3,
    clip: 1.0,
};

/// Six steps of bitsandbytes on a GPU; see tests/fixtures/golden/make_goldens.py.
struct Golden(Vec<u8>);

impl Golden {
    fn read() -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("../tests/fixtures/golden/adam8bit.safetensors");
        Self(std::fs::read(path).unwrap())
    }

    fn floats(&self, name: &str) -> Vec<f32> {
        let tensors = SafeTensors::deserialize(&self.0).unwrap();
        let bytes = tensors
            .tensor(name)
            .unwrap_or_else(|_| panic!("{name}"))
            .data()
            .to_vec();
        bytes
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect()
    }

    fn codes(&self, name: &str) -> Vec<u8> {
        SafeTensors::deserialize(&self.0)
            .unwrap()
            .tensor(name)
            .unwrap()
            .data()
            .to_vec()
    }
}

fn assert_close(ours: &[f32], theirs: &[f32], relative: f32, what: &str) {
    assert_eq!(ours.len(), theirs.len(), "{what}");
    let scale = theirs.iter().fold(0.0_f32, |max, x| max.max(x.abs()));
    for (i, (a, b)) in ours.iter().zip(theirs).enumerate() {
        assert!(
            (a - b).abs() <= relative * (b.abs() + 1e-3 * scale),
            "{what}[{i}]: {a} against {b}"
        );
    }
}

/// Compares the steps, not the parameters that hide them. The GPU computes β^t approximately, which early steps show.
fn assert_moved(before: &[f32], ours: &[f32], theirs: &[f32], what: &str) {
    let moved = |after: &[f32]| {
        after
            .iter()
            .zip(before)
            .map(|(a, b)| a - b)
            .collect::<Vec<_>>()
    };
    assert_close(&moved(ours), &moved(theirs), 1e-3, what);
}

#[test]
fn large_tensors_follow_bitsandbytes_8_bit_adamw() {
    let golden = Golden::read();
    let mut params = golden.floats("large.p0");
    let mut adamw = over(recipe::Optimizer::AdamW8bit, &[params.len()]);
    for step in 1..=3 {
        let before = params.clone();
        adamw.update(
            &mut params,
            &golden.floats(&format!("large.grad{}", step - 1)),
            UNCLIPPED,
        );
        let expected = golden.floats(&format!("large.p{step}"));
        assert_moved(&before, &params, &expected, &format!("step {step}"));
        let Moments::Blocks { first, second } = &adamw.tensors()[0].moments else {
            panic!("4500 elements have 8-bit state")
        };
        for (moment, number) in [(first, 1), (second, 2)] {
            let absmax = golden.floats(&format!("large.absmax{number}.{step}"));
            assert_close(&moment.absmax, &absmax, 1e-5, "absmax");
            let codes = golden.codes(&format!("large.state{number}.{step}"));
            let apart = moment.codes.iter().zip(&codes).map(|(a, b)| a.abs_diff(*b));
            // The GPU divides approximately, which can move a value over a midpoint.
            assert!(
                apart.clone().max() <= Some(1),
                "codes of moment {number} at step {step}"
            );
            let differing = apart.filter(|apart| *apart > 0).count();
            assert!(
                differing <= 5,
                "{differing} codes of moment {number} differ at step {step}"
            );
        }
        params = expected;
    }
}

#[test]
fn small_tensors_follow_bitsandbytes_32_bit_adamw() {
    let golden = Golden::read();
    let mut params = golden.floats("small.p0");
    let mut adamw = over(recipe::Optimizer::AdamW8bit, &[params.len()]);
    for step in 1..=6 {
        let before = params.clone();
        adamw.update(
            &mut params,
            &golden.floats(&format!("small.grad{}", step - 1)),
            UNCLIPPED,
        );
        let expected = golden.floats(&format!("small.p{step}"));
        assert_moved(&before, &params, &expected, &format!("step {step}"));
        let Moments::Fp32 { first, second } = &adamw.tensors()[0].moments else {
            panic!("300 elements have 32-bit state")
        };
        assert_close(
            first,
            &golden.floats(&format!("small.state1.{step}")),
            1e-5,
            "first moment",
        );
        assert_close(
            second,
            &golden.floats(&format!("small.state2.{step}")),
            1e-5,
            "second moment",
        );
        params = expected;
    }
}

/// Parameters and gradients of every magnitude.
fn numbers(len: usize, salt: u64) -> Vec<f32> {
    let value = |i: u64| {
        let bits = (i * 2 + salt + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        2_f32.powi(-((bits % 30) as i32)) * ((bits >> 40) as f32 / (1 << 23) as f32 - 1.0)
    };
    (0..len as u64).map(value).collect()
}

#[test]
fn the_number_of_threads_does_not_matter() {
    let lengths = [5000, 300, 70_001, 4096];
    let total = lengths.iter().sum();
    for kind in [recipe::Optimizer::AdamW, recipe::Optimizer::AdamW8bit] {
        let with = |threads| {
            let pool = rayon::ThreadPoolBuilder::new()
                .num_threads(threads)
                .build()
                .unwrap();
            pool.install(|| {
                let (mut params, mut adamw) = (numbers(total, 0), over(kind, &lengths));
                for step in 0..4 {
                    adamw.update(&mut params, &numbers(total, step), UNCLIPPED);
                }
                (params, adamw)
            })
        };
        assert!(with(1) == with(3), "{kind:?}");
    }
}

#[test]
fn a_gradient_that_is_always_zero_only_decays() {
    let mut params = vec![1.0; 5000];
    let mut adamw = over(recipe::Optimizer::AdamW8bit, &[5000]);
    for _ in 0..3 {
        adamw.update(&mut params, &[0.0; 5000], UNCLIPPED);
    }
    let keep = (1.0 - 1e-3 * 0.01) as f32;
    assert!(params.iter().all(|&param| param == keep * keep * keep));
}

#[test]
fn state_bytes_are_two_an_element_and_eight_a_block() {
    let adamw = over(recipe::Optimizer::AdamW8bit, &[4096, 100]);
    assert_eq!(adamw.state_bytes(), 2 * 4096 + 8 * 16 + 8 * 100);
    let adamw = over(recipe::Optimizer::AdamW, &[4096]);
    assert_eq!(adamw.state_bytes(), 8 * 4096);
}
