//! What the engine's tests share.

use std::ops::Range;
use std::path::PathBuf;

use safetensors::{Dtype, SafeTensors};
use weft_worker::lora::AdapterLayout;
use weft_worker::train::GradSink;

/// A golden file's bytes.
pub(crate) fn golden(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/golden")
        .join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A tensor of a golden file, as f32.
pub(crate) fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file
        .tensor(name)
        .unwrap_or_else(|error| panic!("{name}: {error}"));
    match tensor.dtype() {
        Dtype::F32 => tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| f32::from_le_bytes(bytes))
            .collect(),
        Dtype::BF16 => tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|&bytes| half::bf16::from_le_bytes(bytes).to_f32())
            .collect(),
        other => panic!("{name} is {other:?}"),
    }
}

/// Collects a pass's gradient, and demands that every element comes exactly once.
pub(crate) struct Collect {
    pub(crate) values: Vec<f32>,
}

impl Collect {
    pub(crate) fn new(layout: &AdapterLayout) -> Self {
        Self {
            values: vec![f32::NAN; layout.len()],
        }
    }
}

impl GradSink for Collect {
    fn accept(&mut self, range: Range<usize>, grad: &Vec<f32>) {
        let values = &mut self.values[range.clone()];
        assert!(values.iter().all(|v| v.is_nan()), "{range:?} comes twice");
        values.copy_from_slice(&grad[..range.len()]);
    }
}

/// Largest deviation, relative to the largest expected magnitude. NaN counts as infinite.
pub(crate) fn relative_error(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    let largest = expected.iter().fold(0.0_f32, |most, v| most.max(v.abs()));
    let deviation = |(f, e): (&f32, &f32)| {
        if f.is_nan() {
            f32::INFINITY
        } else {
            (f - e).abs()
        }
    };
    found
        .iter()
        .zip(expected)
        .map(deviation)
        .fold(0.0, f32::max)
        / largest.max(f32::MIN_POSITIVE)
}

/// Fails where `found` is further than `bound` from `expected`.
pub(crate) fn assert_close(what: &str, found: &[f32], expected: &[f32], bound: f32) {
    let error = relative_error(found, expected);
    assert!(
        error <= bound,
        "{what}: relative error {error:e} exceeds {bound:e}"
    );
}

/// Fails at the first element that differs.
pub(crate) fn assert_same<T: PartialEq + std::fmt::Debug>(what: &str, found: &[T], expected: &[T]) {
    assert_eq!(found.len(), expected.len(), "{what}: lengths");
    let differing = found.iter().zip(expected).position(|(f, e)| f != e);
    if let Some(i) = differing {
        panic!(
            "{what}: element {i} is {:?}, expected {:?}",
            found[i], expected[i]
        );
    }
}
