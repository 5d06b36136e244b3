//! What a prepared dataset depends on.

use std::path::Path;

use serde_json::{Value, json};

use super::format::FORMAT;
use crate::data::{ChatTokenizer, DataError};
use crate::id::Digest;
use crate::mapped::MappedFile;
use crate::recipe::{DatasetSection, Recipe};

/// Identifies everything that the prepared rows depend on: files by content, tokenizer, template, the recipe's fields, this program.
pub(super) fn cache_key(recipe: &Recipe, tokenizer: &ChatTokenizer) -> Result<Digest, DataError> {
    let datasets = recipe
        .datasets
        .iter()
        .map(dataset)
        .collect::<Result<Vec<_>, _>>()?;
    let content = json!({
        "format": FORMAT,
        "program": env!("CARGO_PKG_VERSION"),
        "tokenizer": tokenizer.digest(),
        "template": tokenizer.template_digest(),
        "max_seq_length": recipe.model.max_seq_length,
        "train_on_responses_only": recipe.training.train_on_responses_only,
        "datasets": datasets,
    });
    Ok(Digest::of(content.to_string().as_bytes()))
}

/// The section, with the file's content in place of its path.
fn dataset(section: &DatasetSection) -> Result<Value, DataError> {
    let path = Path::new(&section.path);
    let file = MappedFile::open(path).map_err(DataError::read(path))?;
    let ending = path.extension().unwrap_or_default().to_string_lossy();
    let section = DatasetSection {
        path: ending.into_owned(),
        ..section.clone()
    };
    Ok(json!({"content": Digest::of(&file), "section": section}))
}
