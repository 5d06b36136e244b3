//! Products of a frozen matrix with one vector: decoding. They are bound by reading the matrix, so each row is read once, as
//! it is stored, and multiplied as it is widened.

#[cfg(target_arch = "x86_64")]
mod avx2;

use rayon::prelude::*;

use super::math;
use crate::model::{DenseMatrix, DenseValues, FrozenLinear};
use crate::ops::{Out, Write};
use crate::quant::Nf4Matrix;

/// Elements of the rows that a thread multiplies at a time.
const ELEMENTS_AT_ONCE: usize = 1 << 16;

/// `y_o (= or +=) w_oi · x_i`. Blocks of a GGUF file are multiplied as integers with x in 8 bits, everything else in f32.
pub(super) fn forward(x_i: &[f32], w_oi: &FrozenLinear, y_o: Out<'_, Vec<f32>>) {
    let Out { buf, offset, write } = y_o;
    let (outputs, inputs) = (w_oi.rows(), w_oi.cols());
    let (x_i, y_o) = (&x_i[..inputs], &mut buf[offset..][..outputs]);
    match w_oi {
        FrozenLinear::Blocks(matrix) => match write {
            Write::Set => matrix.multiply(x_i, &|y, product| *y = product, y_o),
            Write::Add => matrix.multiply(x_i, &|y, product| *y += product, y_o),
        },
        FrozenLinear::Nf4(matrix) => by_rows(y_o, inputs, write, nf4(matrix, x_i)),
        FrozenLinear::Dense(matrix) => match &matrix.values {
            DenseValues::F32(values) => {
                by_rows(y_o, inputs, write, |row, _| {
                    math::dot(&values[row * inputs..][..inputs], x_i)
                });
            }
            DenseValues::F16(_) | DenseValues::Bf16(_) => {
                by_rows(y_o, inputs, write, halves(matrix, x_i));
            }
        },
    }
}

/// `dot` of a row's number gives its output; it is lent room for a row.
fn by_rows(
    y_o: &mut [f32],
    inputs: usize,
    write: Write,
    dot: impl Fn(usize, &mut Vec<f32>) -> f32 + Sync,
) {
    let rows_at_once = (ELEMENTS_AT_ONCE / inputs).max(1);
    y_o.par_chunks_mut(rows_at_once)
        .enumerate()
        .for_each_init(Vec::new, |room, (chunk, y_o)| {
            for (row, y) in (chunk * rows_at_once..).zip(y_o) {
                let product = dot(row, room);
                match write {
                    Write::Set => *y = product,
                    Write::Add => *y += product,
                }
            }
        });
}

fn nf4<'a>(
    matrix: &'a Nf4Matrix,
    x_i: &'a [f32],
) -> impl Fn(usize, &mut Vec<f32>) -> f32 + Sync + 'a {
    #[cfg(target_arch = "x86_64")]
    let vectors = avx2::Nf4::of(matrix);
    move |row, room| {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = &vectors {
            return vectors.dot(row, x_i);
        }
        room.resize(x_i.len(), 0.0);
        matrix.dequantize_rows_into(row..row + 1, room);
        math::dot(room, x_i)
    }
}

fn halves<'a>(
    matrix: &'a DenseMatrix,
    x_i: &'a [f32],
) -> impl Fn(usize, &mut Vec<f32>) -> f32 + Sync + 'a {
    #[cfg(target_arch = "x86_64")]
    let vectors = avx2::Halves::of(matrix);
    move |row, room| {
        #[cfg(target_arch = "x86_64")]
        if let Some(vectors) = &vectors {
            return vectors.dot(row, x_i);
        }
        room.resize(x_i.len(), 0.0);
        matrix.rows_into(row..row + 1, room);
        math::dot(room, x_i)
    }
}

#[cfg(test)]
mod tests {
    use half::{bf16, f16};

    use super::*;
    use crate::quant::{Absmax, StoredDtype};

    fn numbers(len: usize, seed: f32) -> Vec<f32> {
        (0..len).map(|i| ((i as f32 + 1.0) * seed).sin()).collect()
    }

    fn check(matrix: &FrozenLinear) {
        let (outputs, inputs) = (matrix.rows(), matrix.cols());
        let x = numbers(inputs, 0.7);
        let mut widened = vec![0.0; outputs * inputs];
        matrix.rows_into(0..outputs, &mut widened);
        let mut set = vec![f32::NAN; outputs + 3];
        forward(&x, matrix, Out::set(&mut set).at(3));
        let mut add = vec![2.0; outputs];
        forward(&x, matrix, Out::add(&mut add));
        for (row, weights) in widened.chunks(inputs).enumerate() {
            let exact: f64 = (weights.iter().zip(&x))
                .map(|(w, x)| f64::from(*w) * f64::from(*x))
                .sum();
            let error = (f64::from(set[row + 3]) - exact).abs();
            assert!(error < 1e-4, "row {row} of {outputs}x{inputs}: {error}");
            assert!((f64::from(add[row]) - exact - 2.0).abs() < 1e-4);
        }
        assert!(set[..3].iter().all(|v| v.is_nan()));
    }

    #[test]
    fn every_format_is_multiplied_as_its_widened_rows_are() {
        // Whole blocks and parts of them; more rows than a thread takes at once.
        for (outputs, inputs) in [(3, 64), (40, 576), (7, 72), (5, 40), (300, 128)] {
            let values = numbers(outputs * inputs, 0.31);
            let dense = |values| {
                FrozenLinear::Dense(DenseMatrix {
                    rows: outputs,
                    cols: inputs,
                    values,
                })
            };
            let halves = values.iter().map(|&v| f16::from_f32(v)).collect();
            let brains = values.iter().map(|&v| bf16::from_f32(v)).collect();
            check(&dense(DenseValues::F32(values.clone())));
            check(&dense(DenseValues::F16(halves)));
            check(&dense(DenseValues::Bf16(brains)));
            let double = Nf4Matrix::quantize(outputs, inputs, &values);
            let magnitudes = (0..(outputs * inputs).div_ceil(64))
                .map(|i| 0.5 + i as f32 * 1e-4)
                .collect();
            let single = Nf4Matrix::from_parts(
                (outputs, inputs),
                double.packed().to_vec(),
                Absmax::Single(magnitudes),
                StoredDtype::F32,
            );
            for matrix in [double, single.unwrap()] {
                for stored in [StoredDtype::F32, StoredDtype::Bf16, StoredDtype::F16] {
                    check(&FrozenLinear::Nf4(matrix.clone().with_dtype(stored)));
                }
            }
        }
    }
}
