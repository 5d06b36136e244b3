//! What lies at `model.base_model`: a Hugging Face folder or a GGUF file.

use std::path::{Path, PathBuf};

use super::error::LoadError;
use super::safetensors;

const SINGLE: &str = "model.safetensors";
const INDEX: &str = "model.safetensors.index.json";

/// A base model's files, all of which exist.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Location {
    /// A folder with its `config.json` and weight files, sorted by name.
    Folder {
        config: PathBuf,
        shards: Vec<PathBuf>,
    },
    /// One GGUF file.
    Gguf(PathBuf),
}

impl Location {
    pub(super) fn find(path: &Path) -> Result<Self, LoadError> {
        if path.is_dir() {
            return find_folder(path);
        }
        if !path.exists() {
            return Err(LoadError::NotFound {
                path: path.to_owned(),
            });
        }
        if has_extension(path, "gguf") {
            return Ok(Self::Gguf(path.to_owned()));
        }
        Err(LoadError::NotAModel {
            path: path.to_owned(),
            found: "a file that does not end in .gguf".to_owned(),
            remedy: "name the folder that holds config.json and the weights, or a .gguf file"
                .to_owned(),
        })
    }
}

fn find_folder(folder: &Path) -> Result<Location, LoadError> {
    let config = folder.join("config.json");
    if !config.is_file() {
        return Err(without_config(folder));
    }
    let single = folder.join(SINGLE);
    let index = folder.join(INDEX);
    let shards = if single.is_file() {
        vec![single]
    } else if index.is_file() {
        find_shards(folder, &index)?
    } else {
        return Err(without_weights(folder));
    };
    Ok(Location::Folder { config, shards })
}

fn find_shards(folder: &Path, index: &Path) -> Result<Vec<PathBuf>, LoadError> {
    let names = safetensors::read_index(index)?;
    let missing: Vec<&str> = names
        .iter()
        .filter(|name| !folder.join(name).is_file())
        .map(String::as_str)
        .collect();
    if missing.is_empty() {
        return Ok(names.iter().map(|name| folder.join(name)).collect());
    }
    Err(LoadError::MissingFile {
        folder: folder.to_owned(),
        file: missing.join(", "),
        remedy: format!(
            "{INDEX} lists {} shards; download the missing ones",
            names.len()
        ),
    })
}

fn without_config(folder: &Path) -> LoadError {
    if let Some(file) = files_ending(folder, "gguf").first() {
        return LoadError::NotAModel {
            path: folder.to_owned(),
            found: "a folder with GGUF files and no config.json".to_owned(),
            remedy: format!("name one of the files, for example {}", file.display()),
        };
    }
    if folder.join("adapter_config.json").is_file() {
        return LoadError::NotAModel {
            path: folder.to_owned(),
            found: "a LoRA adapter".to_owned(),
            remedy: "name its base model (base_model_name_or_path in adapter_config.json)"
                .to_owned(),
        };
    }
    LoadError::MissingFile {
        folder: folder.to_owned(),
        file: "config.json".to_owned(),
        remedy: "take a complete Hugging Face model folder".to_owned(),
    }
}

fn without_weights(folder: &Path) -> LoadError {
    let remedy = if files_ending(folder, "bin").is_empty() {
        format!("the weights belong in {SINGLE}, or in shards listed by {INDEX}")
    } else {
        "its weights are pickled .bin files, which weft does not read; save the model with safe_serialization=True"
            .to_owned()
    };
    LoadError::MissingFile {
        folder: folder.to_owned(),
        file: SINGLE.to_owned(),
        remedy,
    }
}

fn files_ending(folder: &Path, extension: &str) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    files.retain(|path| has_extension(path, extension));
    files.sort_unstable();
    files
}

fn has_extension(path: &Path, extension: &str) -> bool {
    path.extension()
        .is_some_and(|e| e.eq_ignore_ascii_case(extension))
}
