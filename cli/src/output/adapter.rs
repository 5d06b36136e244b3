//! `adapter/`: the finished adapter with its tokenizer, complete or absent.

use std::fs::{self, File};
use std::io;
use std::path::Path;

use anyhow::{Context, Result};
use weft_common::data::ChatTokenizer;

/// The files of a checkpoint that make an adapter.
const FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_config.json"];

/// Puts the adapter of `checkpoint` and the tokenizer's files at `target`, replacing an earlier adapter.
pub(crate) fn publish(checkpoint: &Path, tokenizer: &ChatTokenizer, target: &Path) -> Result<()> {
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
    replace(fresh, target)
        .with_context(|| format!("cannot put the adapter at {}", target.display()))
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
