//! NF4 against bitsandbytes.

use safetensors::SafeTensors;
use weft_worker::quant::{Absmax, Nf4Matrix, StoredDtype, dynamic_map, nf4};

use crate::support::{assert_same, f32s, golden};

const CASES: [(&str, usize, usize); 4] = [
    ("normal", 96, 192),
    ("outliers", 40, 64),
    ("zeros", 4, 64),
    ("ragged", 5, 33),
];

fn bytes(file: &SafeTensors<'_>, name: &str) -> Vec<u8> {
    file.tensor(name).unwrap().data().to_vec()
}

fn dequantized(matrix: &Nf4Matrix) -> Vec<f32> {
    let mut out = vec![f32::NAN; matrix.rows() * matrix.cols()];
    matrix.dequantize_rows_into(0..matrix.rows(), &mut out);
    out
}

#[test]
fn tables_equal_bitsandbytes_bit_for_bit() {
    let file = golden("nf4.safetensors");
    let file = SafeTensors::deserialize(&file).unwrap();
    assert_same("table", &f32s(&file, "nf4_table"), &nf4::TABLE);
    assert_same(
        "signed map",
        dynamic_map::signed(),
        &f32s(&file, "dynamic_signed"),
    );
    assert_same(
        "unsigned map",
        dynamic_map::unsigned(),
        &f32s(&file, "dynamic_unsigned"),
    );
}

#[test]
fn quantized_bytes_equal_bitsandbytes() {
    let file = golden("nf4.safetensors");
    let file = SafeTensors::deserialize(&file).unwrap();
    for (name, rows, cols) in CASES {
        let matrix = Nf4Matrix::quantize(rows, cols, &f32s(&file, &format!("{name}.x")));
        let part = |part: &str| format!("{name}.double.{part}");
        assert_same(
            &format!("{name}: codes"),
            matrix.packed(),
            &bytes(&file, &part("packed")),
        );
        let Absmax::Double {
            codes,
            nested,
            offset,
        } = matrix.absmax()
        else {
            panic!("{name}: single")
        };
        let theirs = f32s(&file, &part("offset"))[0];
        assert!(
            (offset - theirs).abs() <= 2.0 * f32::EPSILON * theirs.abs(),
            "{name}: mean {offset} for {theirs}"
        );
        assert_same(
            &format!("{name}: magnitudes"),
            codes,
            &bytes(&file, &part("absmax")),
        );
        for (ours, theirs) in nested.iter().zip(f32s(&file, &part("nested_absmax"))) {
            assert!(
                (ours - theirs).abs() <= 4.0 * f32::EPSILON * rounding_scale(theirs, *offset),
                "{name}: nested"
            );
        }
    }
}

/// A nested magnitude is a difference of magnitudes and mean, so its rounding is relative to the larger of both.
fn rounding_scale(nested: f32, offset: f32) -> f32 {
    nested.abs() + offset.abs()
}

#[test]
fn stored_matrices_dequantize_as_bitsandbytes_does() {
    let file = golden("nf4.safetensors");
    let file = SafeTensors::deserialize(&file).unwrap();
    for (name, rows, cols) in CASES {
        let part = |part: &str| format!("{name}.{part}");
        let plain = Absmax::Single(f32s(&file, &part("plain.absmax")));
        let double = Absmax::Double {
            codes: bytes(&file, &part("double.absmax")),
            nested: f32s(&file, &part("double.nested_absmax")),
            offset: f32s(&file, &part("double.offset"))[0],
        };
        for (kind, absmax) in [("plain", plain), ("double", double)] {
            let packed = bytes(&file, &part(&format!("{kind}.packed")));
            let matrix =
                Nf4Matrix::from_parts((rows, cols), packed, absmax, StoredDtype::F32).unwrap();
            let expected = f32s(&file, &part(&format!("{kind}.dequantized")));
            assert_same(&format!("{name}, {kind}"), &dequantized(&matrix), &expected);
        }
    }
}
