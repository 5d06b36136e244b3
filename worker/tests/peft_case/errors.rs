//! How far one computation is from another, matrix by matrix.

use std::collections::BTreeMap;

use safetensors::{Dtype, SafeTensors};

/// How far from single precision a backend may be, ‖difference‖ / ‖expected‖, where `theirs` is how far transformers is
/// from it in bfloat16.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bar {
    /// The loss's error.
    pub(crate) loss: f64,
    /// Logits and the gradient as a whole: `whole · theirs + plus`.
    pub(crate) whole: f64,
    /// One matrix's gradient: `matrix · theirs + plus`.
    pub(crate) matrix: f64,
    /// A little, for what costs transformers nothing.
    pub(crate) plus: f64,
}

impl Bar {
    fn limit(self, error: &Errors) -> f64 {
        match error.name.as_str() {
            "loss" => self.loss,
            "logits" | WHOLE => self.whole * error.theirs + self.plus,
            _ => self.matrix * error.theirs + self.plus,
        }
    }
}

/// The name of all gradients, one after another.
const WHOLE: &str = "gradient";

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
    let names = file.names().into_iter();
    let known = names.filter(|name| name.starts_with("f32.grad.")).count();
    let mut whole = [vec![], vec![], vec![]];
    let mut errors = Vec::new();
    let mut gradients = 0;
    for (name, ours) in found {
        let single = f32s(&file, &format!("f32.{name}"));
        let half = f32s(&file, &format!("bf16.{name}"));
        errors.push(Errors::new(name, ours, &single, &half));
        if name.starts_with("grad.") {
            gradients += 1;
            whole[0].extend_from_slice(ours);
            whole[1].extend(single);
            whole[2].extend(half);
        }
    }
    assert_eq!(known, gradients, "peft's gradients are ours, one by one");
    errors.push(Errors::new(WHOLE, &whole[0], &whole[1], &whole[2]));
    errors
}

impl Errors {
    fn new(name: &str, ours: &[f32], single: &[f32], half: &[f32]) -> Self {
        Self {
            name: name.to_owned(),
            ours: relative(ours, single),
            theirs: relative(half, single),
            apart: relative(ours, half),
        }
    }
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
    let beyond = errors.iter().filter(|error| error.ours > bar.limit(error));
    beyond
        .map(|error| {
            let limit = bar.limit(error);
            format!("{}: {:.3e} > {limit:.3e}", error.name, error.ours)
        })
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
