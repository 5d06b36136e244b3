//! `adapter/`: the finished adapter with its tokenizer, complete or absent.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use weft_common::checkpoint::{MANIFEST_FILE, Manifest};
use weft_common::data::ChatTokenizer;
use weft_common::recipe::Recipe;
use weft_worker::export::{TRAINING_FILE, TrainingRecord};

/// The files of a checkpoint that make an adapter.
const FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];

/// Puts the adapter of `checkpoint`, the tokenizer's files and what it was trained on at `target`, replacing an earlier
/// adapter.
pub(crate) fn publish(
    checkpoint: &Path,
    (tokenizer, recipe): (&ChatTokenizer, &Recipe),
    target: &Path,
) -> Result<()> {
    let folder = target.parent().unwrap_or(Path::new("."));
    let fresh = tempfile::Builder::new()
        .prefix(".adapter-")
        .tempdir_in(folder)
        .with_context(|| format!("cannot make a folder in {}", folder.display()))?;
    for name in FILES {
        let from = checkpoint.join(name);
        copy_durably(&from, &fresh.path().join(name))
            .with_context(|| format!("cannot copy {} to {}", from.display(), target.display()))?;
    }
    tokenizer
        .save_pretrained(fresh.path())
        .with_context(|| format!("cannot write the tokenizer to {}", target.display()))?;
    let record = training_record(checkpoint, recipe)?;
    fs::write(fresh.path().join(TRAINING_FILE), record.to_json())
        .with_context(|| format!("cannot write {TRAINING_FILE} to {}", target.display()))?;
    replace(fresh, target)
        .with_context(|| format!("cannot put the adapter at {}", target.display()))
}

/// What an export looks at, to tell whether a base model is the one of the training.
fn training_record(checkpoint: &Path, recipe: &Recipe) -> Result<TrainingRecord> {
    let path = checkpoint.join(MANIFEST_FILE);
    let text = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let manifest =
        Manifest::parse(&text).with_context(|| format!("cannot read {}", path.display()))?;
    Ok(TrainingRecord::new(&manifest, recipe))
}

fn copy_durably(from: &Path, to: &Path) -> io::Result<()> {
    fs::copy(from, to)?;
    File::open(to)?.sync_all()
}

/// Moves a complete folder into place; only the owner reads temporary folders, the adapter is for everyone.
fn replace(fresh: tempfile::TempDir, target: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(fresh.path(), fs::Permissions::from_mode(0o755))?;
    File::open(fresh.path())?.sync_all()?;
    match fs::remove_dir_all(target) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    fs::rename(fresh.path(), target)?;
    let _ = fresh.keep();
    Ok(())
}
