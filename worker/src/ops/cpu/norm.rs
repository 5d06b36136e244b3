//! Root-mean-square norm.

use rayon::prelude::*;

use super::math::dot;
use crate::ops::Norm;

/// Rows that one thread takes at a time.
const ROWS: usize = 16;

pub(super) fn forward(
    norm: Norm<'_, Vec<f32>>,
    x_td: &[f32],
    y_td: &mut [f32],
    rstd_t: &mut [f32],
) {
    let Norm {
        weight,
        eps,
        tokens,
        width,
    } = norm;
    let len = tokens * width;
    (x_td[..len].par_chunks(ROWS * width))
        .zip(y_td[..len].par_chunks_mut(ROWS * width))
        .zip(rstd_t[..tokens].par_chunks_mut(ROWS))
        .for_each(|((x, y), rstd)| {
            for ((x, y), rstd) in x.chunks(width).zip(y.chunks_mut(width)).zip(rstd) {
                *rstd = 1.0 / (dot(x, x) / width as f32 + eps).sqrt();
                for ((y, x), w) in y.iter_mut().zip(x).zip(weight) {
                    *y = x * *rstd * w;
                }
            }
        });
}

/// With x̂ = x·rstd and g = dy·w: dx = rstd · (g − x̂ · mean(g·x̂)).
pub(super) fn backward(
    norm: Norm<'_, Vec<f32>>,
    (x_td, rstd_t): (&[f32], &[f32]),
    dy_td: &[f32],
    dx_td: &mut [f32],
) {
    let Norm {
        weight,
        tokens,
        width,
        ..
    } = norm;
    let len = tokens * width;
    (dx_td[..len].par_chunks_mut(ROWS * width))
        .zip(x_td[..len].par_chunks(ROWS * width))
        .zip(dy_td[..len].par_chunks(ROWS * width))
        .zip(rstd_t[..tokens].par_chunks(ROWS))
        .for_each_init(
            || vec![0.0; width],
            |g, (((dx, x), dy), rstd)| {
                let rows = dx
                    .chunks_mut(width)
                    .zip(x.chunks(width))
                    .zip(dy.chunks(width))
                    .zip(rstd);
                for (((dx, x), dy), &rstd) in rows {
                    for ((g, dy), w) in g.iter_mut().zip(dy).zip(weight) {
                        *g = dy * w;
                    }
                    let along = dot(g, x) * rstd * rstd / width as f32;
                    for ((dx, x), g) in dx.iter_mut().zip(x).zip(g.iter()) {
                        *dx += rstd * (g - x * along);
                    }
                }
            },
        );
}
