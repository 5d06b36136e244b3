//! What training leaves beside an adapter: which inputs made it.

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use weft_common::checkpoint::{InputDigests, Manifest};
use weft_common::recipe::Recipe;

use super::ExportError;

/// The record's name in an adapter's folder.
pub const TRAINING_FILE: &str = "training.json";

/// Where an adapter comes from.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrainingRecord {
    /// Version of weft that trained it.
    pub weft_version: String,
    /// Optimizer steps.
    pub steps: u64,
    /// `training.seed`.
    pub seed: u64,
    /// Digests of base model, data, tokenizer, template and recipe.
    pub inputs: InputDigests,
    /// The whole recipe.
    pub recipe: Value,
}

impl TrainingRecord {
    /// The record of a finished checkpoint.
    #[must_use]
    pub fn new(manifest: &Manifest, recipe: &Recipe) -> Self {
        Self {
            weft_version: manifest.weft_version.clone(),
            steps: manifest.meta.step.0,
            seed: manifest.meta.seed,
            inputs: manifest.meta.inputs,
            recipe: serde_json::from_str(&recipe.to_json()).unwrap_or(Value::Null),
        }
    }

    /// The record as it is written.
    #[must_use]
    pub fn to_json(&self) -> String {
        let text = serde_json::to_string_pretty(self)
            .expect("a record holds only numbers, text and lists");
        text + "\n"
    }

    /// Reads the record in an adapter's folder, where there is one.
    ///
    /// # Errors
    /// There is one, and it is damaged.
    pub(super) fn read(adapter: &Path) -> Result<Option<Self>, ExportError> {
        let Ok(text) = fs::read(adapter.join(TRAINING_FILE)) else {
            return Ok(None);
        };
        serde_json::from_slice(&text).map(Some).map_err(|error| {
            let problem = format!(
                "{TRAINING_FILE} is damaged: {error}; copy the adapter again, or remove that file"
            );
            ExportError::adapter(adapter, problem)
        })
    }
}
