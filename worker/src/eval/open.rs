//! From files to examiners.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use serde::Deserialize;
use weft_common::recipe::{LoraSection, Recipe, TargetModules};

use super::{Examiner, ModelExaminer};
use crate::checkpoint::{
    ADAPTER_CONFIG_FILE, ADAPTER_MODEL_FILE, Progress, TrainState, read_adapter_model,
};
use crate::device::Device;
use crate::lora::Adapter;
use crate::model::loader::{LoadError, LoadOptions, check_context, load, load_onto, read_spec};
use crate::model::{Model, ModelError, Spec};
use crate::ops::cuda::Cuda;
use crate::ops::{Cpu, DeviceError, Ops};
use crate::train::Backend;
use crate::train::optimizer::AdamW;

/// Why a model cannot be evaluated.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The base model.
    #[error(transparent)]
    Base(#[from] LoadError),
    /// The base model's weights do not fit together.
    #[error(transparent)]
    Model(#[from] ModelError),
    /// The adapter.
    #[error("{} cannot be used: {problem}; give a LoRA adapter of this base model, as PEFT writes it", .path.display())]
    Adapter {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// The device.
    #[error(transparent)]
    Device(#[from] DeviceError),
}

/// What of PEFT's `adapter_config.json` an adapter's use depends on.
#[derive(Debug, Deserialize)]
pub struct AdapterConfig {
    /// Folder, file or hub name of the base model.
    pub base_model_name_or_path: String,
    r: u32,
    lora_alpha: f64,
    #[serde(default)]
    use_rslora: bool,
    #[serde(default)]
    use_dora: bool,
    target_modules: TargetModules,
}

impl AdapterConfig {
    /// Whether `folder` is an adapter's.
    #[must_use]
    pub fn is_in(folder: &Path) -> bool {
        folder.join(ADAPTER_CONFIG_FILE).is_file()
    }

    /// Reads the configuration of the adapter in `folder`.
    ///
    /// # Errors
    /// It is not there, or of no LoRA adapter that can be run unmerged.
    pub fn read(folder: &Path) -> Result<Self, OpenError> {
        let path = folder.join(ADAPTER_CONFIG_FILE);
        let refused = |problem: String| OpenError::Adapter {
            path: path.clone(),
            problem,
        };
        let text = fs::read(&path).map_err(|error| refused(error.to_string()))?;
        let config: Self =
            serde_json::from_slice(&text).map_err(|error| refused(error.to_string()))?;
        match config.use_dora {
            true => Err(refused("it is a DoRA adapter; merge it first".to_owned())),
            false => Ok(config),
        }
    }

    /// The base model as a path: as it is written, else beside the adapter's folder.
    #[must_use]
    pub fn base(&self, folder: &Path) -> PathBuf {
        let named = PathBuf::from(&self.base_model_name_or_path);
        let beside = folder.join(&named);
        match !named.exists() && beside.exists() {
            true => beside,
            false => named,
        }
    }

    /// The `lora` section of a recipe that makes such an adapter.
    #[must_use]
    pub fn lora(&self) -> LoraSection {
        LoraSection {
            r: self.r,
            lora_alpha: self.lora_alpha,
            use_rslora: self.use_rslora,
            target_modules: self.target_modules.clone(),
            ..LoraSection::default()
        }
    }
}

/// Opens the base model that `recipe` names, with the adapter in a folder, on devices: on each GPU once, on the processors
/// once for all of `workers` examiners.
///
/// `longest` is the longest row in tokens.
///
/// # Errors
/// What of base model, adapter and devices is missing, damaged or does not go together.
pub fn open(
    recipe: &Recipe,
    adapter: Option<&Path>,
    devices: &[Device],
    (workers, longest): (usize, usize),
) -> Result<Vec<Box<dyn Examiner>>, OpenError> {
    let path = Path::new(&recipe.model.base_model);
    let spec = read_spec(path)?;
    check_context(&spec, longest)?;
    let adapter = adapter
        .map(|folder| load_adapter(folder, &recipe.lora, &spec))
        .transpose()?;
    let options = LoadOptions {
        load_in_4bit: recipe.model.load_in_4bit,
        digest: None,
    };
    let mut examiners: Vec<Box<dyn Examiner>> = Vec::new();
    for device in devices {
        match device {
            Device::Cpu { .. } => {
                let base = load(path, &options, &|_| ())?;
                let model = Arc::new(Model::new(Cpu::new(), base.spec, base.weights)?);
                for _ in 0..workers.max(1) {
                    examiners.push(examiner(model.clone(), adapter.as_ref(), recipe)?);
                }
            }
            Device::Cuda { gpu, kernels } => {
                let cuda = Cuda::for_job((gpu, kernels), recipe, (&spec, longest))?;
                let base = load_onto(cuda, path, &options, &|_| ())?;
                base.model.ops().health()?;
                examiners.push(examiner(Arc::new(base.model), adapter.as_ref(), recipe)?);
            }
        }
    }
    Ok(examiners)
}

/// An examiner with the adapter moved to the model's device.
fn examiner<B: Backend + 'static>(
    model: Arc<Model<B>>,
    adapter: Option<&Adapter>,
    recipe: &Recipe,
) -> Result<Box<dyn Examiner>, OpenError> {
    let state = adapter.map(|adapter| {
        let matrices = adapter.layout().tensors().iter();
        let matrices = matrices.map(|tensor| (tensor.name.clone(), tensor.range()));
        model.ops().place_state(TrainState {
            adapter: adapter.clone(),
            optimizer: AdamW::new((&recipe.training).into(), matrices),
            progress: Progress::default(),
        })
    });
    let state = state.transpose()?;
    Ok(Box::new(ModelExaminer::new(model, state)))
}

/// Reads the adapter in `folder`, laid out as `lora` says, for a base model of these dimensions.
fn load_adapter(folder: &Path, lora: &LoraSection, spec: &Spec) -> Result<Adapter, OpenError> {
    let path = folder.join(ADAPTER_MODEL_FILE);
    let refused = |error: &dyn std::fmt::Display| OpenError::Adapter {
        path: path.clone(),
        problem: error.to_string(),
    };
    let mut adapter = Adapter::new(spec, lora, 0).map_err(|error| refused(&error))?;
    let bytes = fs::read(&path).map_err(|error| refused(&error))?;
    let values = read_adapter_model(&bytes, adapter.layout()).map_err(|error| refused(&error))?;
    if let Some(value) = values.iter().find(|value| !value.is_finite()) {
        return Err(refused(&format_args!("it holds {value}")));
    }
    adapter.values_mut().copy_from_slice(&values);
    Ok(adapter)
}
