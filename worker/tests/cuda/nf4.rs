//! Dequantization, bit by bit.

use weft_worker::ops::cuda::{GroupAdapter, GroupMatrix, GroupPart};
use weft_worker::quant::{Absmax, Nf4Matrix, StoredDtype};

use crate::support::{format, gpu, halves, packed, random, read};

fn dequantized(matrix: &Nf4Matrix) -> Vec<f32> {
    let mut values = vec![0.0; matrix.rows() * matrix.cols()];
    matrix.dequantize_rows_into(0..matrix.rows(), &mut values);
    format().widen(&format().round(&values))
}

fn alone(matrix: GroupMatrix<'_>) -> [GroupPart<'_>; 1] {
    [GroupPart {
        matrix,
        adapter: None,
    }]
}

#[test]
pub(crate) fn nf4_dequantization_is_exact() {
    let Some(gpu) = gpu() else { return };
    for (rows, cols) in [(8, 8), (1, 64), (3, 576), (192, 64), (70, 4096), (33, 4096)] {
        let values: Vec<f32> = random(rows * cols, 7).iter().map(|v| v * 0.05).collect();
        let double = Nf4Matrix::quantize(rows, cols, &values);
        let magnitudes = (0..rows * cols / 64)
            .map(|i| 0.02 + i as f32 * 1e-4)
            .collect();
        for stored in [StoredDtype::F32, StoredDtype::Bf16, StoredDtype::F16] {
            let single = Nf4Matrix::from_parts(
                (rows, cols),
                double.packed().to_vec(),
                Absmax::Single(Clone::clone(&magnitudes)),
                stored,
            )
            .unwrap();
            for matrix in [single, double.clone().with_dtype(stored)] {
                let expected = dequantized(&matrix);
                let device = gpu.upload_nf4(&matrix).unwrap();
                for stride in [cols, cols + 16] {
                    // A row more, which nothing writes to.
                    let mut out = packed(gpu, 1, &vec![f32::NAN; (rows + 1) * stride]);
                    let parts = alone(GroupMatrix::Nf4(&device));
                    gpu.nf4_dequantize_group(&parts, stride, out.place_mut())
                        .unwrap();
                    let out = read(gpu, &out);
                    for (ours, expected) in out.chunks(stride).zip(expected.chunks(cols)) {
                        assert_eq!(ours[..cols], *expected, "{rows}x{cols} {stored:?}");
                        assert!(ours[cols..].iter().all(|&v| v == 0.0));
                    }
                    assert!(out[rows * stride..].iter().all(|v| v.is_nan()));
                }
            }
        }
    }
}

/// q, k and v below each other, one of them not quantized, each with its adapter in columns of its own.
#[test]
pub(crate) fn a_group_is_dequantized_with_its_adapters_on_the_diagonal() {
    let Some(gpu) = gpu() else { return };
    for (cols, ranks, columns, tail) in [
        (576, [16, 16, 16], [0, 16, 32], 48),
        (4096, [8, 16, 8], [0, 8, 24], 32),
        (64, [4, 12, 1], [0, 4, 21], 24),
    ] {
        let rows = [64, 32, 40];
        let quantized = [0, 1].map(|i| {
            let values: Vec<f32> = random(rows[i] * cols, i as u64).to_vec();
            Nf4Matrix::quantize(rows[i], cols, &values)
        });
        let dense = random(rows[2] * cols, 2);
        let bs = [0, 1, 2].map(|i| random(rows[i] * ranks[i], 10 + i as u64));
        let on_device = [0, 1].map(|i| gpu.upload_nf4(&quantized[i]).unwrap());
        let dense_on_device = packed(gpu, rows[2], &dense);
        // The adapter's parameters are one flat array; the second matrix's begin in the middle of a vector.
        let parameters: Vec<f32> =
            [&bs[0][..], &[f32::NAN; 3], &bs[1], &[f32::NAN; 5], &bs[2]].concat();
        let parameters = packed(gpu, 1, &parameters);
        let starts = [0, bs[0].len() + 3, bs[0].len() + 3 + bs[1].len() + 5];
        let matrices = [
            GroupMatrix::Nf4(&on_device[0]),
            GroupMatrix::Nf4(&on_device[1]),
            GroupMatrix::Dense(&dense_on_device),
        ];
        let parts = [0, 1, 2].map(|i| GroupPart {
            matrix: matrices[i],
            adapter: Some(GroupAdapter {
                b: parameters.place_at(starts[i]),
                rank: ranks[i],
                tail_column: columns[i],
            }),
        });
        let stride = cols + tail;
        let all_rows = rows.iter().sum::<usize>();
        let mut out = packed(gpu, all_rows, &vec![f32::NAN; all_rows * stride]);
        gpu.nf4_dequantize_group(&parts, stride, out.place_mut())
            .unwrap();
        let out = read(gpu, &out);
        let values = [
            dequantized(&quantized[0]),
            dequantized(&quantized[1]),
            dense.clone(),
        ];
        let mut ours = out.chunks(stride);
        for part in 0..3 {
            let of_part = values[part].chunks(cols).zip(bs[part].chunks(ranks[part]));
            for ((row, b), ours) in of_part.zip(&mut ours) {
                let mut expected_tail = vec![0.0; tail];
                expected_tail[columns[part]..][..ranks[part]].copy_from_slice(b);
                assert_eq!(ours[..cols], *row, "part {part} of {cols} columns");
                assert_eq!(ours[cols..], expected_tail, "tail of part {part}");
            }
        }
    }
}

#[test]
pub(crate) fn a_dense_matrix_is_copied_from_among_other_columns() {
    let Some(gpu) = gpu() else { return };
    let (rows, cols) = (37, 104);
    let values = random((rows + 1) * cols, 1);
    let matrix = halves(gpu, rows + 1, &values);
    // The helper's matrices have a row of nothing at the end.
    let all_rows = matrix.rows();
    let mut out = packed(gpu, all_rows, &vec![f32::NAN; all_rows * cols]);
    gpu.nf4_dequantize_group(&alone(GroupMatrix::Dense(&matrix)), cols, out.place_mut())
        .unwrap();
    assert_eq!(read(gpu, &out)[..values.len()], values);
}
