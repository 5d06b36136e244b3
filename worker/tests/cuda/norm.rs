//! Norms.

use weft_worker::ops::cuda::Halves;
use weft_worker::ops::{Cpu, Norm, Ops};

use crate::support::{
    assert_close, floats, gpu, halves, packed, poisoned, random, read, read_plain,
};

const EPS: f32 = 1e-5;

#[test]
pub(crate) fn norms_agree_with_the_cpu_at_every_width() {
    let Some(gpu) = gpu() else { return };
    for (tokens, width) in [
        (1, 8),
        (3, 64),
        (17, 576),
        (5, 4096),
        (4, 5000),
        (3, 8192),
        (2, 16_384),
    ] {
        let (x, weight) = (random(tokens * width, 1), random(width, 2));
        let (dy, dx) = (random(tokens * width, 3), random(tokens * width, 4));
        let norm = |weight| Norm {
            weight,
            eps: EPS,
            tokens,
            width,
        };
        let cpu = Cpu::new();
        let (mut y, mut rstd) = (vec![0.0; tokens * width], vec![0.0; tokens]);
        cpu.rms_norm_forward(norm(&weight), &x, &mut y, &mut rstd);
        let mut expected = dx.clone();
        cpu.rms_norm_backward(
            norm_of(&weight, tokens, width),
            (&x, &rstd),
            &dy,
            &mut expected,
        );

        let weight = floats(gpu, &weight);
        let (x, dy) = (halves(gpu, tokens, &x), halves(gpu, tokens, &dy));
        let (mut our_y, mut our_rstd) = (
            poisoned(gpu, tokens, width),
            floats(gpu, &vec![f32::NAN; tokens]),
        );
        let norm = || Norm {
            weight: &weight,
            eps: EPS,
            tokens,
            width,
        };
        gpu.rms_norm_forward(norm(), &x, &mut our_y, &mut our_rstd)
            .unwrap();
        assert_close(&read(gpu, &our_y), &y, &format!("norm of width {width}"));
        assert_close(
            &read_plain(gpu, &our_rstd),
            &rstd,
            "reciprocal root mean squares",
        );
        let mut our_dx = halves(gpu, tokens, &dx);
        gpu.rms_norm_backward(norm(), (&x, &our_rstd), &dy, &mut our_dx)
            .unwrap();
        assert_close(
            &read(gpu, &our_dx),
            &expected,
            &format!("its gradient at width {width}"),
        );
    }
}

fn norm_of(weight: &Vec<f32>, tokens: usize, width: usize) -> Norm<'_, Vec<f32>> {
    Norm {
        weight,
        eps: EPS,
        tokens,
        width,
    }
}

#[test]
pub(crate) fn packed_rows_and_rows_with_gaps_give_the_same_bits() {
    let Some(gpu) = gpu() else { return };
    let (tokens, width) = (7, 64);
    let (x, weight) = (random(tokens * width, 1), random(width, 2));
    let weight = floats(gpu, &weight);
    let forward = |x: &Halves, mut y: Halves| {
        let norm = Norm {
            weight: &weight,
            eps: EPS,
            tokens,
            width,
        };
        let mut rstd = floats(gpu, &[f32::NAN; 7]);
        gpu.rms_norm_forward(norm, x, &mut y, &mut rstd).unwrap();
        read(gpu, &y)
    };
    let nothing = vec![f32::NAN; tokens * width];
    let ours = forward(&packed(gpu, tokens, &x), packed(gpu, tokens, &nothing));
    assert!(ours.iter().all(|v| v.is_finite()));
    assert_eq!(
        ours,
        forward(&halves(gpu, tokens, &x), poisoned(gpu, tokens, width))
    );
}
