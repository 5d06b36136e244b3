//! A LoRA adapter from its folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use half::{bf16, f16};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};
use serde::Deserialize;
use serde_json::Value;
use weft_common::id::Digest;
use weft_common::recipe::{LoraSection, TargetModules};

use super::OpenError;
use crate::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE};
use crate::lora::{Adapter, AdapterLayout};
use crate::model::Spec;

/// What of PEFT's `adapter_config.json` an adapter's use depends on.
#[derive(Debug, Deserialize)]
pub(super) struct AdapterConfig {
    /// Folder, file or hub name of the base model.
    pub(super) base_model_name_or_path: String,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    target_modules: TargetModules,
    /// The other keys.
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// What weft's training leaves beside an adapter.
const TRAINING_FILE: &str = "training.json";

/// What of it an adapter's use depends on.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Training {
    inputs: Option<Inputs>,
    #[serde(default)]
    recipe: Value,
}

#[derive(Debug, Deserialize)]
struct Inputs {
    base_model: Digest,
}

impl Training {
    /// Reads it from an adapter's folder; one that another program made has none.
    pub(super) fn read(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(TRAINING_FILE);
        if !path.is_file() {
            return Ok(Self::default());
        }
        let refused = |error: &dyn std::fmt::Display| OpenError::Adapter {
            path: path.clone(),
            problem: error.to_string(),
        };
        let text = fs::read(&path).map_err(|error| refused(&error))?;
        serde_json::from_slice(&text).map_err(|error| refused(&error))
    }

    /// Whether the base was in 4 bits.
    pub(super) fn in_4_bits(&self) -> Option<bool> {
        self.recipe["model"]["load_in_4bit"].as_bool()
    }

    /// The digest of the base.
    pub(super) fn base(&self) -> Option<Digest> {
        self.inputs.as_ref().map(|inputs| inputs.base_model)
    }
}

/// What LoRA may be in PEFT and weft does not compute.
const FOREIGN: [&str; 9] = [
    "use_dora",
    "lora_bias",
    "fan_in_fan_out",
    "use_qalora",
    "modules_to_save",
    "rank_pattern",
    "alpha_pattern",
    "layer_replication",
    "trainable_token_indices",
];

/// Whether `folder` is an adapter's.
pub(super) fn is_adapter(folder: &Path) -> bool {
    folder.join(ADAPTER_CONFIG_FILE).is_file()
}

impl AdapterConfig {
    /// Reads the configuration of the adapter in `folder`.
    pub(super) fn read(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(ADAPTER_CONFIG_FILE);
        let refused = |problem: String| OpenError::Adapter {
            path: path.clone(),
            problem,
        };
        let text = fs::read(&path).map_err(|error| refused(error.to_string()))?;
        let config: Self =
            serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        let foreign = |key: &&str| config.rest.get(*key).is_some_and(is_set);
        match FOREIGN.into_iter().find(foreign) {
            Some(key) => Err(refused(format!(
                "it sets {key}, which weft does not compute"
            ))),
            None => Ok(config),
        }
    }

    /// The base model as a path: as it is written, else beside the adapter's folder.
    pub(super) fn base(&self, folder: &Path) -> PathBuf {
        let named = PathBuf::from(&self.base_model_name_or_path);
        let beside = folder.join(&named);
        match !named.exists() && beside.exists() {
            true => beside,
            false => named,
        }
    }
}

/// Reads the adapter in `folder` for a base model of these dimensions.
pub(super) fn load(folder: &Path, spec: &Spec) -> Result<Adapter, OpenError> {
    let config = AdapterConfig::read(folder)?;
    let path = folder.join(ADAPTER_MODEL_FILE);
    let refused = |error: &dyn std::fmt::Display| OpenError::Adapter {
        path: path.clone(),
        problem: error.to_string(),
    };
    let lora = LoraSection {
        r: config.r,
        lora_alpha: config.lora_alpha,
        use_rslora: config.use_rslora,
        target_modules: config.target_modules,
        ..LoraSection::default()
    };
    let mut adapter = Adapter::new(spec, &lora, 0).map_err(|error| refused(&error))?;
    let bytes = fs::read(&path).map_err(|error| refused(&error))?;
    let values = read_values(&bytes, adapter.layout()).map_err(|problem| refused(&problem))?;
    adapter.values_mut().copy_from_slice(&values);
    Ok(adapter)
}

fn is_set(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(set) => *set,
        Value::Array(values) => !values.is_empty(),
        Value::Object(entries) => !entries.is_empty(),
        Value::Number(_) | Value::String(_) => true,
    }
}

/// All matrices, in the layout's order, all of them finite, and no others.
fn read_values(bytes: &[u8], layout: &AdapterLayout) -> Result<Vec<f32>, String> {
    let file =
        SafeTensors::deserialize(bytes).map_err(|error| format!("it is damaged: {error}"))?;
    let mut values = Vec::with_capacity(layout.len());
    for tensor in layout.tensors() {
        let name = &tensor.name;
        let found = file
            .tensor(name)
            .map_err(|_| format!("`{name}` is missing"))?;
        let expected = [tensor.rows, tensor.cols];
        if found.shape() != expected {
            let found = found.shape();
            return Err(format!(
                "`{name}` has shape {found:?}, the base model and the rank say {expected:?}"
            ));
        }
        widen(name, &found, &mut values)?;
    }
    if file.len() != layout.tensors().len() {
        let own = |name: &&str| layout.tensors().iter().any(|tensor| tensor.name == **name);
        let names = file.names();
        let other = names.iter().find(|name| !own(name));
        return Err(format!(
            "it holds `{}`, which target_modules does not name",
            other.copied().unwrap_or_default()
        ));
    }
    match values.iter().find(|value| !value.is_finite()) {
        None => Ok(values),
        Some(value) => Err(format!("it holds {value}; the training diverged")),
    }
}

/// Appends a tensor's numbers.
fn widen(name: &str, tensor: &TensorView<'_>, values: &mut Vec<f32>) -> Result<(), String> {
    let data = tensor.data();
    match tensor.dtype() {
        Dtype::F32 => values.extend(data.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b))),
        Dtype::BF16 => {
            values.extend(
                data.as_chunks()
                    .0
                    .iter()
                    .map(|b| bf16::from_le_bytes(*b).to_f32()),
            );
        }
        Dtype::F16 => {
            values.extend(
                data.as_chunks()
                    .0
                    .iter()
                    .map(|b| f16::from_le_bytes(*b).to_f32()),
            );
        }
        other => {
            return Err(format!(
                "`{name}` is stored as {other:?}; F32, BF16 and F16 are read"
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use safetensors::serialize;

    use super::*;
    use crate::model::tests_support::toy;

    /// Writes an adapter of rank 2 on the queries, in bfloat16, but for what is changed.
    fn written(folder: &Path, config: &str, shape: [usize; 2]) {
        let text = format!(
            r#"{{"base_model_name_or_path": "m", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]{config}}}"#
        );
        fs::write(folder.join(ADAPTER_CONFIG_FILE), text).unwrap();
        let numbers: Vec<u8> = (0..64 * 2)
            .flat_map(|i| bf16::from_f32(i as f32 * 0.5).to_le_bytes())
            .collect();
        let name = |layer: usize, ab: &str| {
            format!("base_model.model.model.layers.{layer}.self_attn.q_proj.lora_{ab}.weight")
        };
        let view = |shape: [usize; 2]| TensorView::new(Dtype::BF16, shape.to_vec(), &numbers);
        let tensors = (0..2).flat_map(|layer| {
            [
                (name(layer, "A"), view(shape).unwrap()),
                (name(layer, "B"), view([64, 2]).unwrap()),
            ]
        });
        let file = serialize(tensors, None).unwrap();
        fs::write(folder.join(ADAPTER_MODEL_FILE), file).unwrap();
    }

    #[test]
    fn numbers_of_16_bits_are_read_and_what_does_not_fit_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path();
        written(folder, "", [2, 64]);
        let adapter = load(folder, &toy()).unwrap();
        assert_eq!((adapter.values()[3], adapter.scale()), (1.5, 2.0));
        let refused = |config: &str, shape| {
            written(folder, config, shape);
            load(folder, &toy()).unwrap_err().to_string()
        };
        assert!(refused(r#", "use_dora": true"#, [2, 64]).contains("use_dora"));
        assert!(refused(r#", "rank_pattern": {"q": 8}"#, [2, 64]).contains("rank_pattern"));
        assert!(refused("", [4, 32]).contains("[4, 32]"));
        written(
            folder,
            r#", "use_dora": false, "rank_pattern": {}"#,
            [2, 64],
        );
        load(folder, &toy()).unwrap();
    }
}
