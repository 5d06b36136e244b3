//! Exports of a small model with an adapter of random numbers, read back.

mod bad_input;
mod folders;
mod gguf_files;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use weft_common::recipe::{Format as TextFormat, Recipe};

use super::{Control, ExportError, Format, Quantization, Request, Summary, run};
use crate::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, adapter_config, adapter_model};
use crate::lora::Adapter;
use crate::model::loader::{LoadOptions, load, read_spec};
use crate::model::{Model, Spec, logits};
use crate::ops::Cpu;
use crate::train::PackedBatch;

/// The quickstart's model: four layers, grouped queries, tied head, a byte-level tokenizer with a template.
fn base() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../examples/quickstart/model")
}

/// An adapter of that model in a folder of its own, and the model with it in memory.
struct Fixture {
    folder: tempfile::TempDir,
    spec: Spec,
    adapter: Adapter,
}

impl Fixture {
    /// An adapter that changes what the model says.
    fn new() -> Self {
        Self::with("r: 4, lora_alpha: 8")
    }

    /// An adapter by the keys of a recipe's `lora`.
    fn with(lora: &str) -> Self {
        let text = format!(
            "model: {{base_model: {}}}\ndatasets: [{{path: d.csv}}]\nlora: {{{lora}}}\n",
            base().display()
        );
        let recipe = Recipe::parse(&text, TextFormat::Yaml).unwrap();
        let spec = read_spec(&base()).unwrap();
        let mut adapter = Adapter::new(&spec, &recipe.lora, 7).unwrap();
        for (index, value) in adapter.values_mut().iter_mut().enumerate() {
            *value += (index as f32 * 0.37).sin() * 0.05;
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("adapter");
        fs::create_dir(&path).unwrap();
        fs::write(path.join(ADAPTER_MODEL_FILE), adapter_model(&adapter)).unwrap();
        fs::write(path.join(ADAPTER_CONFIG_FILE), adapter_config(&recipe)).unwrap();
        Self {
            folder,
            spec,
            adapter,
        }
    }

    fn adapter_path(&self) -> PathBuf {
        self.folder.path().join("adapter")
    }

    fn request(&self, format: Format) -> Request {
        Request {
            adapter: self.adapter_path(),
            base: None,
            format,
            quantizations: vec![Quantization::F32],
            merge_base: None,
            half: None,
            output: self.folder.path().join(format.folder()),
            name: Some("small".to_owned()),
            base_name: None,
            overwrite: false,
            allow_other_base: false,
        }
    }

    /// Logits of the base model with the adapter beside it.
    fn unmerged(&self, load_in_4bit: bool) -> Vec<f32> {
        logits_of(&base(), load_in_4bit, Some(&self.adapter))
    }
}

fn export(request: &Request) -> Result<Summary, ExportError> {
    let control = Control {
        stop: &AtomicBool::new(false),
        progress: &|_| {},
    };
    run(request, control)
}

/// Logits after each of a few tokens.
fn logits_of(model: &Path, load_in_4bit: bool, adapter: Option<&Adapter>) -> Vec<f32> {
    let options = LoadOptions {
        load_in_4bit,
        digest: None,
    };
    let loaded = load(model, &options, &|_| {}).unwrap();
    let model = Model::new(Cpu::new(), loaded.spec, loaded.weights).unwrap();
    let tokens: Vec<u32> = (0..24).map(|i| (i * 71 + 5) % 2048).collect();
    let batch = PackedBatch::from_tokens(&tokens);
    let rows: Vec<u32> = (0..24).collect();
    logits(&model, adapter, &batch, &rows)
}

/// ‖difference‖ / ‖expected‖.
fn error(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let square = |values: &mut dyn Iterator<Item = f32>| -> f64 {
        values.map(|v| f64::from(v).powi(2)).sum()
    };
    let difference = square(&mut found.iter().zip(expected).map(|(a, b)| a - b));
    (difference / square(&mut expected.iter().copied())).sqrt()
}

/// Names in a folder, sorted.
fn names(folder: &Path) -> Vec<String> {
    let entries = fs::read_dir(folder).unwrap().flatten();
    let mut names: Vec<_> = entries
        .map(|entry| entry.file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}
