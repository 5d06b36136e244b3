//! How far one computation is from another, matrix by matrix.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

/// How far from single precision logits, loss and each gradient may be, ‖difference‖ / ‖expected‖: within
/// `times · theirs + plus`, where `theirs` is what bfloat16 costs transformers, and never beyond `most`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bar {
    pub(crate) times: f64,
    pub(crate) plus: f64,
    pub(crate) most: f64,
}

/// Relative errors of one matrix.
pub(crate) struct Errors {
    name: String,
    /// Ours against transformers and peft in single precision.
    ours: f64,
    /// Theirs in bfloat16 against theirs in single precision.
    theirs: f64,
    /// Ours against theirs in bfloat16.
    apart: f64,
}

/// Compares what was found with what reference.py left.
pub(crate) fn measure(expected: &[u8], found: &[(String, Vec<f32>)]) -> Vec<Errors> {
    let file = SafeTensors::deserialize(expected).unwrap();
    let of = |(name, ours): &(String, Vec<f32>)| {
        let (single, half) = (
            f32s(&file, &format!("f32.{name}")),
            f32s(&file, &format!("bf16.{name}")),
        );
        Errors {
            name: name.clone(),
            ours: relative(ours, &single),
            theirs: relative(&half, &single),
            apart: relative(ours, &half),
        }
    };
    let gradients = |names: &mut dyn Iterator<Item = &str>| {
        names.filter(|name| name.starts_with("f32.grad.")).count()
    };
    let compared = found.iter().filter(|(name, _)| name.starts_with("grad."));
    assert_eq!(
        gradients(&mut file.names().into_iter()),
        compared.count(),
        "peft's gradients are ours, one by one"
    );
    found.iter().map(of).collect()
}

/// A line for logits, loss and each kind of matrix: the layer in which we are furthest from single precision.
pub(crate) fn print_worst(errors: &[Errors]) {
    let mut worst: BTreeMap<String, &Errors> = BTreeMap::new();
    for error in errors {
        let place = worst.entry(kind(&error.name)).or_insert(error);
        if error.ours > place.ours {
            *place = error;
        }
    }
    println!(
        "{:>24}  {:>9}  {:>9}  {:>9}   worst of its kind",
        "relative error of", "weft-f32", "peft-f32", "weft-peft"
    );
    for (kind, error) in worst {
        println!(
            "{kind:>24}  {:9.2e}  {:9.2e}  {:9.2e}   {}",
            error.ours, error.theirs, error.apart, error.name
        );
    }
}

/// What is beyond the bar, in words.
pub(crate) fn failures(errors: &[Errors], bar: Bar) -> Vec<String> {
    let limit = |error: &Errors| bar.most.min(bar.times * error.theirs + bar.plus);
    let beyond = errors.iter().filter(|error| error.ours > limit(error));
    beyond
        .map(|error| format!("{}: {:.3e} > {:.3e}", error.name, error.ours, limit(error)))
        .collect()
}

/// Module and matrix of a gradient's name, as in `q_proj.lora_A`; other names as they are.
fn kind(name: &str) -> String {
    let parts: Vec<&str> = name.trim_end_matches(".weight").split('.').collect();
    match parts[..] {
        [.., module, matrix] if name.starts_with("grad.") => format!("{module}.{matrix}"),
        _ => name.to_owned(),
    }
}

/// Infinite where something is not a number.
fn relative(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let norm = |squares: &mut dyn Iterator<Item = f64>| squares.map(|v| v * v).sum::<f64>().sqrt();
    let mut apart = found
        .iter()
        .zip(expected)
        .map(|(a, b)| f64::from(*a) - f64::from(*b));
    let error = norm(&mut apart) / norm(&mut expected.iter().map(|v| f64::from(*v)));
    if error.is_nan() { f64::INFINITY } else { error }
}

fn f32s(file: &SafeTensors<'_>, name: &str) -> Vec<f32> {
    let tensor = file.tensor(name);
    let tensor = tensor.unwrap_or_else(|error| panic!("{name}: {error}"));
    assert_eq!(tensor.dtype(), Dtype::F32, "{name}");
    let numbers = tensor.data().as_chunks().0.iter();
    numbers.map(|&bytes| f32::from_le_bytes(bytes)).collect()
}
