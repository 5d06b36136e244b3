//! A micro-batch as transformers, peft and bitsandbytes compute it (`tests/peft/reference.py`), and the same on a
//! backend: the base model through the loader, the adapter through the checkpoint's reader.

mod errors;

use std::fs;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_common::data::Row;
use weft_common::recipe::{LoraSection, TargetModules};
use weft_worker::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, read_adapter_model};
use weft_worker::lora::Adapter;
use weft_worker::model::loader::{LoadOptions, load};
use weft_worker::model::{Model, ModelWeights, Spec, logits};
use weft_worker::ops::Ops;
use weft_worker::train::{GradSink, MemoryPlan, PackedBatch, Pass};

pub(crate) use errors::Bar;

/// Folders of further cases, separated as in `PATH`.
const FURTHER: &str = "WEFT_TEST_PEFT_CASE";

/// `case.json`.
#[derive(Deserialize)]
struct Description {
    /// Where the model lies, as seen from the case.
    model: PathBuf,
    rows: Vec<Document>,
    /// Tokens of the batch whose logits are compared.
    logit_positions: Vec<u32>,
}

#[derive(Deserialize)]
struct Document {
    tokens: Vec<u32>,
    supervised: Vec<bool>,
}

/// What weft reads of peft's `adapter_config.json`.
#[derive(Deserialize)]
struct AdapterConfig {
    r: u32,
    lora_alpha: f64,
    use_rslora: bool,
    target_modules: Vec<String>,
}

/// One case, in host memory.
pub(crate) struct PeftCase {
    folder: PathBuf,
    batch: PackedBatch,
    logit_positions: Vec<u32>,
    pub(crate) spec: Spec,
    weights: ModelWeights,
    pub(crate) adapter: Adapter,
}

/// What a backend made of it.
pub(crate) struct Computed {
    /// Positions × vocabulary.
    logits: Vec<f32>,
    /// Mean over supervised tokens.
    loss: f64,
    /// In the adapter's layout.
    grads: Vec<f32>,
}

/// The cases: a small one that lies in the repository, and those that `WEFT_TEST_PEFT_CASE` names. Says aloud where
/// there are none of real size.
pub(crate) fn folders() -> Vec<PathBuf> {
    let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/peft_case");
    let further: Vec<PathBuf> = std::env::var_os(FURTHER)
        .map(|paths| std::env::split_paths(&paths).collect())
        .unwrap_or_default();
    if further.is_empty() {
        println!(
            "NOT RUN with a model of real size: set {FURTHER} to what tests/peft/reference.py made"
        );
    }
    // A test binary may be run far from the checkout that it was built in.
    let golden = golden.is_dir().then_some(golden);
    golden.into_iter().chain(further).collect()
}

impl PeftCase {
    pub(crate) fn load(folder: &Path) -> Self {
        let case: Description = read_json(&folder.join("case.json"));
        let options = LoadOptions {
            load_in_4bit: true,
            digest: None,
        };
        let loaded = load(&folder.join(case.model), &options, &|_| {}).unwrap();
        let adapter = read_adapter(&folder.join("adapter"), &loaded.spec);
        let rows: Vec<Row> = case.rows.into_iter().map(Row::from).collect();
        Self {
            folder: folder.to_owned(),
            batch: PackedBatch::from_rows(&rows),
            logit_positions: case.logit_positions,
            spec: loaded.spec,
            weights: loaded.weights,
            adapter,
        }
    }

    /// The micro-batch on a backend, which the adapter was moved to. `read` brings a gradient to the host.
    pub(crate) fn compute<B: Ops>(
        &self,
        backend: B,
        adapter: &Adapter<B::Params>,
        read: impl Fn(&B::Floats) -> Vec<f32>,
    ) -> Computed {
        let model = Model::new(backend, self.spec.clone(), self.weights.clone()).unwrap();
        let mut sink = Collect {
            values: vec![f32::NAN; adapter.layout().len()],
            read,
        };
        let supervised = self.batch.supervised() as f64;
        let loss = Pass::new(MemoryPlan::keep_all(&self.spec))
            .forward_backward(
                &model,
                adapter,
                &self.batch,
                1.0 / supervised as f32,
                &mut sink,
            )
            .unwrap();
        let logits = logits(&model, Some(adapter), &self.batch, &self.logit_positions);
        model.ops().health().unwrap();
        Computed {
            logits,
            loss: loss.loss_sum / supervised,
            grads: sink.values,
        }
    }

    /// Prints how far a backend is from transformers and peft in single precision, and how far those are themselves in
    /// 16 bits. Panics where it is further than the bar allows.
    pub(crate) fn judge(&self, computed: &Computed, bar: Bar) {
        let bytes = fs::read(self.folder.join("expected.safetensors")).unwrap();
        let mut found = vec![
            ("logits".to_owned(), computed.logits.clone()),
            ("loss".to_owned(), vec![computed.loss as f32]),
        ];
        for tensor in self.adapter.layout().tensors() {
            let grad = computed.grads[tensor.range()].to_vec();
            found.push((format!("grad.{}", tensor.name), grad));
        }
        let errors = errors::measure(&bytes, &found);
        println!(
            "{}: {} tokens, loss {:.6}",
            self.folder.display(),
            self.batch.len(),
            computed.loss
        );
        errors::print_worst(&errors);
        let failures = errors::failures(&errors, bar);
        assert!(
            failures.is_empty(),
            "further from transformers and peft in single precision than {bar:?} allows:\n{}",
            failures.join("\n")
        );
    }
}

fn read_json<T: for<'a> Deserialize<'a>>(path: &Path) -> T {
    let text = fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    serde_json::from_slice(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_adapter(folder: &Path, spec: &Spec) -> Adapter {
    let config: AdapterConfig = read_json(&folder.join(ADAPTER_CONFIG_FILE));
    let lora = LoraSection {
        r: config.r,
        lora_alpha: config.lora_alpha,
        use_rslora: config.use_rslora,
        target_modules: TargetModules::Names(config.target_modules),
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(spec, &lora, 0).unwrap();
    let bytes = fs::read(folder.join(ADAPTER_MODEL_FILE)).unwrap();
    let values = read_adapter_model(&bytes, adapter.layout()).unwrap();
    adapter.values_mut().copy_from_slice(&values);
    adapter
}

impl From<Document> for Row {
    fn from(document: Document) -> Self {
        Self {
            tokens: document.tokens,
            supervised: document.supervised,
        }
    }
}

/// Collects a gradient, and demands that every element comes once.
pub(crate) struct Collect<R> {
    /// The whole gradient; NaN where nothing came yet.
    pub(crate) values: Vec<f32>,
    /// Brings a part to the host.
    pub(crate) read: R,
}

impl<B, R: Fn(&B) -> Vec<f32>> GradSink<B> for Collect<R> {
    fn accept(&mut self, range: Range<usize>, grad: &B) {
        let values = &mut self.values[range.clone()];
        assert!(values.iter().all(|value| value.is_nan()), "{range:?} twice");
        values.copy_from_slice(&(self.read)(grad)[..range.len()]);
    }
}
