//! Products with frozen matrices: a panel of rows is widened to f32, multiplied, and forgotten.

use std::ops::Range;

use rayon::prelude::*;

use super::gemm::{Target, View, tiled};
use super::scratch::ScratchPool;
use crate::model::FrozenLinear;
use crate::ops::{Out, Write};

/// Elements of a panel: 4 MB, which a last-level cache holds.
const PANEL_ELEMENTS: usize = 1 << 20;
/// Panels are whole multiples of this many rows, so that product tiles fill them.
const PANEL_ROW_MULTIPLE: usize = 96;
/// Elements that one thread widens at a time.
const WIDEN_ELEMENTS: usize = 1 << 14;

/// The row ranges of a matrix's panels. They depend on its shape alone.
pub(super) fn panels(w_oi: &FrozenLinear) -> impl Iterator<Item = Range<usize>> + use<> {
    let rows = w_oi.rows();
    let fitting = PANEL_ELEMENTS / w_oi.cols() / PANEL_ROW_MULTIPLE * PANEL_ROW_MULTIPLE;
    let step = fitting.max(PANEL_ROW_MULTIPLE);
    (0..rows)
        .step_by(step)
        .map(move |start| start..(start + step).min(rows))
}

/// Calls `work` with each panel's rows and its f32 values, first to last.
pub(super) fn for_each_panel(
    scratch: &ScratchPool,
    w_oi: &FrozenLinear,
    mut work: impl FnMut(Range<usize>, &[f32]),
) {
    let cols = w_oi.cols();
    let longest = panels(w_oi).map(|rows| rows.len()).max().unwrap_or(0);
    scratch.with(longest * cols, |values| {
        for rows in panels(w_oi) {
            let values = &mut values[..rows.len() * cols];
            widen(w_oi, rows.start, values);
            work(rows, values);
        }
    });
}

fn widen(w_oi: &FrozenLinear, first: usize, values: &mut [f32]) {
    let cols = w_oi.cols();
    let rows_at_once = (WIDEN_ELEMENTS / cols).max(1);
    values
        .par_chunks_mut(rows_at_once * cols)
        .enumerate()
        .for_each(|(i, values)| {
            let start = first + i * rows_at_once;
            w_oi.rows_into(start..start + values.len() / cols, values);
        });
}

pub(super) fn forward(
    scratch: &ScratchPool,
    tokens: usize,
    x_ti: &[f32],
    w_oi: &FrozenLinear,
    y_to: Out<'_, Vec<f32>>,
) {
    let (outputs, inputs) = (w_oi.rows(), w_oi.cols());
    let x_ti = View::packed(x_ti, (tokens, inputs), false);
    let y_to = (&mut y_to.buf[y_to.offset..][..tokens * outputs], y_to.write);
    for_each_panel(scratch, w_oi, |rows, values| {
        let target = Target::strided(&mut y_to.0[rows.start..], outputs, y_to.1);
        tiled(
            [tokens, rows.len(), inputs],
            1.0,
            x_ti,
            View::packed(values, (inputs, rows.len()), true),
            target,
        );
    });
}

pub(super) fn backward(
    scratch: &ScratchPool,
    tokens: usize,
    dy_to: &[f32],
    w_oi: &FrozenLinear,
    dx_ti: Out<'_, Vec<f32>>,
) {
    let (outputs, inputs) = (w_oi.rows(), w_oi.cols());
    let Out {
        buf,
        offset,
        mut write,
    } = dx_ti;
    let dx_ti = &mut buf[offset..][..tokens * inputs];
    for_each_panel(scratch, w_oi, |rows, values| {
        let dy = View::strided(&dy_to[rows.start..], outputs);
        let w = View::packed(values, (rows.len(), inputs), false);
        tiled(
            [tokens, inputs, rows.len()],
            1.0,
            dy,
            w,
            Target::packed(dx_ti, inputs, write),
        );
        write = Write::Add;
    });
}
