//! Moves and sums of rows.

use rayon::prelude::*;

use super::math::axpy;
use crate::model::FrozenLinear;

pub(super) fn add_bias(tokens: usize, bias_o: &[f32], y_to: &mut [f32]) {
    let width = bias_o.len();
    y_to[..tokens * width]
        .par_chunks_mut(width)
        .for_each(|y| axpy(1.0, bias_o, y));
}

pub(super) fn embed(ids_t: &[u32], table_vd: &FrozenLinear, scale: f32, out_td: &mut [f32]) {
    let width = table_vd.cols();
    (out_td[..ids_t.len() * width].par_chunks_mut(width))
        .zip(ids_t)
        .for_each(|(out, &id)| {
            let id = id as usize;
            table_vd.rows_into(id..id + 1, out);
            if scale != 1.0 {
                out.iter_mut().for_each(|v| *v *= scale);
            }
        });
}

pub(super) fn likeliest(values: &[f32]) -> Option<u32> {
    if !values.iter().all(|value| value.is_finite()) {
        return None;
    }
    let most = super::math::max(values);
    let first = values.iter().position(|&value| value == most)?;
    u32::try_from(first).ok()
}

pub(super) fn gather_rows(rows_s: &[u32], width: usize, x_td: &[f32], out_sd: &mut [f32]) {
    for (&row, out) in rows_s.iter().zip(out_sd.chunks_mut(width)) {
        out.copy_from_slice(&x_td[row as usize * width..][..width]);
    }
}

pub(super) fn scatter_rows(rows_s: &[u32], width: usize, x_sd: &[f32], out_td: &mut [f32]) {
    out_td.fill(0.0);
    for (&row, x) in rows_s.iter().zip(x_sd.chunks(width)) {
        out_td[row as usize * width..][..width].copy_from_slice(x);
    }
}
