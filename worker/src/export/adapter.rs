//! A PEFT adapter as it lies on the disk, weft's own or another program's.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;
use weft_common::storage::StorageError;

use super::ExportError;
use super::merge::Delta;
use crate::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE};
use crate::model::{Projection, Spec};

/// An adapter: what its configuration says, and its matrices.
#[derive(Debug, Clone)]
pub struct PeftAdapter {
    path: PathBuf,
    config: Config,
    raw_config: Value,
    deltas: BTreeMap<(usize, Projection), Delta>,
    bytes: u64,
}

/// What of `adapter_config.json` the result depends on.
#[derive(Debug, Clone, Deserialize)]
struct Config {
    #[serde(default)]
    peft_type: Option<String>,
    base_model_name_or_path: Option<String>,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
}

/// What LoRA may be in PEFT and weft does not compute.
const FOREIGN: [&str; 10] = [
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "use_qalora",
    "bias",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
];

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Array(values) => !values.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::String(text) => text != "none",
        Value::Number(_) => true,
    }
}

impl PeftAdapter {
    /// Reads the adapter in `folder`. **Cost**: holds all of it in f32.
    ///
    /// # Errors
    /// A file is missing or damaged, or the adapter is of a kind that weft does not compute, such as DoRA.
    pub fn read(folder: &Path) -> Result<Self, ExportError> {
        let raw_config = read_config(folder)?;
        let config: Config = serde_json::from_value(raw_config.clone()).map_err(|error| {
            let problem = format!("{ADAPTER_CONFIG_FILE} is not PEFT's: {error}; give a LoRA adapter as PEFT writes it");
            ExportError::adapter(folder, problem)
        })?;
        check_kind(folder, &config, &raw_config)?;
        let path = folder.join(ADAPTER_MODEL_FILE);
        let bytes = fs::read(&path).map_err(|error| StorageError::new("read", &path, error))?;
        let mut adapter = Self {
            path: folder.to_owned(),
            config,
            raw_config,
            deltas: BTreeMap::new(),
            bytes: bytes.len() as u64,
        };
        adapter.read_matrices(&bytes)?;
        Ok(adapter)
    }

    fn read_matrices(&mut self, bytes: &[u8]) -> Result<(), ExportError> {
        let tensors = SafeTensors::deserialize(bytes).map_err(|error| {
            self.refused(format!(
                "{ADAPTER_MODEL_FILE} is damaged: {error}; copy it again"
            ))
        })?;
        for (name, a) in tensors.tensors() {
            let Some(module) = name.strip_suffix(".lora_A.weight") else {
                self.check_name(&name)?;
                continue;
            };
            let linear = linear(module).ok_or_else(|| self.unknown(&name))?;
            let b_name = format!("{module}.lora_B.weight");
            let b = tensors.tensor(&b_name).map_err(|_| {
                self.refused(format!("`{b_name}` is missing; copy the adapter again"))
            })?;
            let delta = self.read_delta(&name, &a, &b)?;
            self.deltas.insert(linear, delta);
        }
        if self.deltas.is_empty() {
            return Err(self.refused(format!("{ADAPTER_MODEL_FILE} holds no LoRA matrix")));
        }
        Ok(())
    }

    fn read_delta(
        &self,
        name: &str,
        a: &TensorView<'_>,
        b: &TensorView<'_>,
    ) -> Result<Delta, ExportError> {
        let rank = self.config.r as usize;
        let (&[a_rank, inputs], &[outputs, b_rank]) = (a.shape(), b.shape()) else {
            return Err(self.refused(format!(
                "`{name}` has shape {:?}, expected a matrix",
                a.shape()
            )));
        };
        if a_rank != rank || b_rank != rank {
            let problem = format!(
                "`{name}` has shape {:?} and its partner {:?}, which is not rank {rank} as {ADAPTER_CONFIG_FILE} says; \
                 take both files from one training",
                a.shape(),
                b.shape()
            );
            return Err(self.refused(problem));
        }
        Ok(Delta {
            a: self.floats(name, a)?,
            b: self.floats(name, b)?,
            inputs,
            outputs,
            rank,
            scale: self.scale(),
        })
    }

    fn floats(&self, name: &str, tensor: &TensorView<'_>) -> Result<Vec<f32>, ExportError> {
        let data = tensor.data();
        let halves =
            |widen: fn([u8; 2]) -> f32| data.as_chunks().0.iter().map(|b| widen(*b)).collect();
        let values: Vec<f32> = match tensor.dtype() {
            Dtype::F32 => data
                .as_chunks()
                .0
                .iter()
                .map(|b| f32::from_le_bytes(*b))
                .collect(),
            Dtype::BF16 => halves(|b| half::bf16::from_le_bytes(b).to_f32()),
            Dtype::F16 => halves(|b| half::f16::from_le_bytes(b).to_f32()),
            other => {
                let problem = format!(
                    "`{name}` is stored as {other:?}; save the adapter in F32, BF16 or F16"
                );
                return Err(self.refused(problem));
            }
        };
        match values.iter().find(|value| !value.is_finite()) {
            None => Ok(values),
            Some(value) => {
                Err(self.refused(format!("`{name}` holds {value}; the training diverged")))
            }
        }
    }

    fn check_name(&self, name: &str) -> Result<(), ExportError> {
        match name.strip_suffix(".lora_B.weight").and_then(linear) {
            Some(_) => Ok(()),
            None => Err(self.unknown(name)),
        }
    }

    fn unknown(&self, name: &str) -> ExportError {
        self.refused(format!(
            "holds `{name}`, which is not LoRA of one of a decoder's seven linears; weft exports nothing else"
        ))
    }

    fn refused(&self, problem: String) -> ExportError {
        ExportError::adapter(&self.path, problem)
    }

    /// Whether every matrix fits a model with these dimensions.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check_fits(&self, spec: &Spec) -> Result<(), ExportError> {
        for (&(layer, projection), delta) in &self.deltas {
            let module = format!("model.layers.{layer}.{}", projection.module());
            if layer >= spec.layers {
                let problem = format!(
                    "adapts `{module}`, the base model has {} layers",
                    spec.layers
                );
                return Err(self.refused(problem));
            }
            let expected = spec.shape(projection);
            let found = (delta.outputs, delta.inputs);
            if found != expected {
                return Err(self.refused(format!(
                    "adapts `{module}` as {}x{}, the base model has {}x{} there; it belongs to another model",
                    found.0, found.1, expected.0, expected.1
                )));
            }
        }
        Ok(())
    }

    /// Its folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The base model that it names.
    #[must_use]
    pub fn base(&self) -> Option<&str> {
        self.config
            .base_model_name_or_path
            .as_deref()
            .filter(|base| !base.is_empty())
    }

    /// All of `adapter_config.json`.
    #[must_use]
    pub fn config(&self) -> &Value {
        &self.raw_config
    }

    /// r.
    #[must_use]
    pub fn rank(&self) -> usize {
        self.config.r as usize
    }

    /// s of `W·x + s·B·(A·x)`: α/r, or α/√r for rsLoRA.
    #[must_use]
    pub fn scale(&self) -> f32 {
        let rank = f64::from(self.config.r);
        let divisor = if self.config.use_rslora {
            rank.sqrt()
        } else {
            rank
        };
        (self.config.lora_alpha / divisor) as f32
    }

    /// The α of an adapter without rsLoRA that has the same scale.
    #[must_use]
    pub fn plain_alpha(&self) -> f32 {
        let rank = f64::from(self.config.r);
        let factor = if self.config.use_rslora {
            rank.sqrt()
        } else {
            1.0
        };
        (self.config.lora_alpha * factor) as f32
    }

    /// What it adds to a linear.
    #[must_use]
    pub fn delta(&self, layer: usize, projection: Projection) -> Option<&Delta> {
        self.deltas.get(&(layer, projection))
    }

    /// Every linear that it adds to, by layer.
    pub fn deltas(&self) -> impl Iterator<Item = ((usize, Projection), &Delta)> {
        self.deltas.iter().map(|(linear, delta)| (*linear, delta))
    }

    /// Bytes of its matrices' file.
    #[must_use]
    pub fn file_bytes(&self) -> u64 {
        self.bytes
    }
}

fn read_config(folder: &Path) -> Result<Value, ExportError> {
    let path = folder.join(ADAPTER_CONFIG_FILE);
    if !path.is_file() {
        let problem = if folder.join("config.json").is_file() {
            "it is a whole model, not an adapter; name the folder with adapter_config.json"
                .to_owned()
        } else {
            format!("it has no {ADAPTER_CONFIG_FILE}; name the folder `adapter` that a run leaves")
        };
        return Err(ExportError::adapter(folder, problem));
    }
    let text = fs::read(&path).map_err(|error| StorageError::new("read", &path, error))?;
    serde_json::from_slice(&text).map_err(|error| {
        ExportError::adapter(
            folder,
            format!("{ADAPTER_CONFIG_FILE} is not JSON: {error}; copy it again"),
        )
    })
}

fn check_kind(folder: &Path, config: &Config, raw: &Value) -> Result<(), ExportError> {
    let refused = |problem: String| Err(ExportError::adapter(folder, problem));
    if let Some(kind) = config.peft_type.as_deref().filter(|kind| *kind != "LORA") {
        return refused(format!("it is of PEFT's type {kind}; weft exports LORA"));
    }
    if config.r == 0 {
        return refused("its rank r is 0".to_owned());
    }
    match FOREIGN.iter().find(|key| is_set(&raw[**key])) {
        None => Ok(()),
        Some(key) => refused(format!(
            "{key} is {} in {ADAPTER_CONFIG_FILE}, which weft neither trains nor merges; merge it with PEFT",
            raw[*key]
        )),
    }
}

/// The linear that PEFT's path of a module names.
fn linear(module: &str) -> Option<(usize, Projection)> {
    let path = module.strip_prefix("base_model.model.model.layers.")?;
    let (layer, module) = path.split_once('.')?;
    let projection = Projection::ALL
        .into_iter()
        .find(|projection| projection.module() == module)?;
    Some((layer.parse().ok()?, projection))
}
