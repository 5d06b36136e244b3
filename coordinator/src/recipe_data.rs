//! Prepares what a recipe describes.

use std::fs;
use std::path::{Path, PathBuf};

use weft_common::data::{ChatTokenizer, Prepared, prepare};
use weft_common::recipe::Recipe;
use weft_common::wire::{DatasetFile, DatasetRef};

use crate::data_source::{DataSource, PreparedData};

/// Prepares what recipes describe, and keeps it in a cache.
#[derive(Debug, Clone)]
pub struct RecipeData {
    /// The cache.
    pub cache_dir: PathBuf,
}

impl DataSource for RecipeData {
    fn prepare(&self, recipe: &Recipe) -> Result<PreparedData, String> {
        let model = &recipe.model;
        let tokenizer = ChatTokenizer::load(
            Path::new(&model.base_model),
            model.tokenizer.as_deref().map(Path::new),
            &model.chat_template,
        )
        .map_err(|error| error.to_string())?;
        let prepared = prepare(recipe, &tokenizer, &self.cache_dir, &|_| {})
            .map_err(|error| error.to_string())?;
        PreparedData::of(&prepared)
    }
}

impl PreparedData {
    /// What the coordinator needs to know of a prepared dataset.
    ///
    /// # Errors
    /// Its manifest is gone.
    pub fn of(prepared: &Prepared) -> Result<Self, String> {
        let listed = prepared.files().iter().map(|file| DatasetFile {
            name: file.name.clone(),
            bytes: file.size,
        });
        let path = prepared.dir().join(Prepared::manifest_name());
        let metadata = fs::metadata(&path)
            .map_err(|error| format!("cannot read {}: {error}", path.display()))?;
        // Last, because it makes a copied folder complete.
        let manifest = DatasetFile {
            name: Prepared::manifest_name().to_owned(),
            bytes: metadata.len(),
        };
        Ok(Self {
            dataset: DatasetRef {
                digest: prepared.digest(),
                dir: prepared.dir().to_owned(),
                files: listed.chain([manifest]).collect(),
            },
            stats: prepared.stats(),
        })
    }
}
