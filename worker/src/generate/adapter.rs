//! A LoRA adapter from its folder.

use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_common::recipe::{LoraSection, TargetModules};

use super::OpenError;
use crate::checkpoint::{ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, read_adapter_model};
use crate::lora::Adapter;
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
    #[serde(default)]
    use_dora: bool,
    target_modules: TargetModules,
}

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
        match config.use_dora {
            true => Err(refused(
                "it is a DoRA adapter, which weft cannot run unmerged".to_owned(),
            )),
            false => Ok(config),
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
    let values = read_adapter_model(&bytes, adapter.layout()).map_err(|error| refused(&error))?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(refused(&format_args!("it holds {value}")));
    }
    adapter.values_mut().copy_from_slice(&values);
    Ok(adapter)
}
