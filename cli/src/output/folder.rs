//! The output folder: what lies where, and whether a run may write into it.

use std::fs::{self, File, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use serde_json::Value;
use weft_common::recipe::{Format, Recipe};

/// What to do with a folder that holds an earlier run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Existing {
    /// Leave it alone and say so.
    Refuse,
    /// Go on from its newest complete checkpoint.
    Resume,
    /// Remove what the earlier run left.
    Overwrite,
}

/// Why a folder cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum FolderError {
    /// The file system said no.
    #[error("output folder {path} is not writable: {error}; choose another with --output", path = path.display())]
    NotWritable {
        /// The folder, or the one above it that exists.
        path: PathBuf,
        /// What the system said.
        error: io::Error,
    },
    /// An earlier run lies there.
    #[error(
        "output folder {path} holds {what}; continue it with --resume, start anew with --overwrite, or choose another with --output",
        path = path.display()
    )]
    Used {
        /// The folder.
        path: PathBuf,
        /// What lies there.
        what: &'static str,
    },
    /// Another process writes there now.
    #[error("output folder {path} is in use by another run; wait for it or choose another with --output", path = path.display())]
    Busy {
        /// The folder.
        path: PathBuf,
    },
    /// The earlier run was another job.
    #[error(
        "cannot resume in {path}: the recipe differs from the one that the run was started with: {differences}; \
         restore it, start anew with --overwrite, or choose another with --output",
        path = path.display()
    )]
    OtherRecipe {
        /// The folder.
        path: PathBuf,
        /// `key: before → now`, joined with commas.
        differences: String,
    },
}

/// Names in an output folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutputFolder {
    root: PathBuf,
}

impl OutputFolder {
    /// Names under `root`; touches nothing.
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// The folder itself.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The finished adapter, as PEFT loads it.
    pub(crate) fn adapter(&self) -> PathBuf {
        self.root.join("adapter")
    }

    /// One folder a checkpoint, named by its step.
    pub(crate) fn checkpoints(&self) -> PathBuf {
        self.root.join("checkpoints")
    }

    /// The record of committed steps.
    pub(crate) fn ledger(&self) -> PathBuf {
        self.root.join("ledger")
    }

    /// How often a coordinator was started on this run.
    pub(crate) fn coordinator(&self) -> PathBuf {
        self.root.join("coordinator")
    }

    /// What each worker said.
    pub(crate) fn logs(&self) -> PathBuf {
        self.root.join("logs")
    }

    /// The recipe with everything resolved and filled in.
    pub(crate) fn recipe(&self) -> PathBuf {
        self.root.join("recipe.json")
    }

    /// One line a step.
    pub(crate) fn metrics(&self) -> PathBuf {
        self.root.join("metrics.jsonl")
    }

    /// Hugging Face's trainer state.
    pub(crate) fn trainer_state(&self) -> PathBuf {
        self.root.join("trainer_state.json")
    }

    /// Hugging Face's train output.
    pub(crate) fn trainer_stats(&self) -> PathBuf {
        self.root.join("trainer_stats.json")
    }

    /// The run on one page.
    pub(crate) fn report(&self) -> PathBuf {
        self.root.join("report.html")
    }

    /// Who was a member when, and what went wrong.
    pub(crate) fn timeline(&self) -> PathBuf {
        self.root.join("timeline.jsonl")
    }

    /// Whether a run came to its end here.
    pub(crate) fn is_finished(&self) -> bool {
        self.trainer_stats().exists() && self.adapter().join("adapter_model.safetensors").exists()
    }

    /// Checks, without leaving a trace, that the folder may be used in the way `existing` says.
    pub(crate) fn check(&self, existing: Existing, recipe: &Recipe) -> Result<(), FolderError> {
        self.probe()?;
        match existing {
            Existing::Refuse => self.refuse_used(),
            Existing::Resume => self.same_recipe(recipe),
            Existing::Overwrite => Ok(()),
        }
    }

    /// Makes the folder ready and holds it against other runs for as long as the lock lives.
    pub(crate) fn open(&self, existing: Existing) -> Result<FolderLock, FolderError> {
        let failed = |error| self.not_writable(error);
        fs::create_dir_all(self.root()).map_err(failed)?;
        let lock = File::create(self.root.join(".lock")).map_err(failed)?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(FolderError::Busy {
                    path: self.root.clone(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(failed(error)),
        }
        if existing == Existing::Overwrite {
            self.clear().map_err(failed)?;
        }
        fs::create_dir_all(self.logs()).map_err(failed)?;
        Ok(FolderLock { _file: lock })
    }

    /// Creates and removes a file where the folder is or would be: permission bits alone do not tell.
    fn probe(&self) -> Result<(), FolderError> {
        let absolute = std::path::absolute(&self.root).map_err(|error| self.not_writable(error))?;
        let base = absolute.ancestors().find(|folder| folder.exists());
        let base = base.unwrap_or(Path::new("/"));
        tempfile::tempfile_in(base)
            .and_then(|mut file| file.write_all(b"weft"))
            .map_err(|error| FolderError::NotWritable {
                path: base.to_owned(),
                error,
            })
    }

    fn refuse_used(&self) -> Result<(), FolderError> {
        let what = if self.is_finished() {
            "a finished run"
        } else if self.recipe().exists() {
            "an unfinished run"
        } else if self.made_here().iter().any(|path| path.exists()) {
            "files of a run"
        } else {
            return Ok(());
        };
        Err(FolderError::Used {
            path: self.root.clone(),
            what,
        })
    }

    /// A resumed run may change what does not decide the result, such as paths or `save_steps`, and nothing else.
    fn same_recipe(&self, now: &Recipe) -> Result<(), FolderError> {
        let Ok(text) = fs::read_to_string(self.recipe()) else {
            return Ok(());
        };
        let before = Recipe::parse(&text, Format::Json);
        if before.is_ok_and(|before| before.digest() == now.digest()) {
            return Ok(());
        }
        let parse = |text: &str| serde_json::from_str(text).unwrap_or(Value::Null);
        let mut differences = Vec::new();
        compare("", &parse(&text), &parse(&now.to_json()), &mut differences);
        Err(FolderError::OtherRecipe {
            path: self.root.clone(),
            differences: differences.join(", "),
        })
    }

    /// Everything that weft itself writes here; nothing else is ever removed.
    fn made_here(&self) -> [PathBuf; 11] {
        [
            self.adapter(),
            self.checkpoints(),
            self.ledger(),
            self.coordinator(),
            self.logs(),
            self.recipe(),
            self.metrics(),
            self.trainer_state(),
            self.trainer_stats(),
            self.report(),
            self.timeline(),
        ]
    }

    fn clear(&self) -> io::Result<()> {
        for path in self.made_here() {
            let removed = if path.is_dir() {
                fs::remove_dir_all(&path)
            } else {
                fs::remove_file(&path)
            };
            match removed {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        Ok(())
    }

    fn not_writable(&self, error: io::Error) -> FolderError {
        FolderError::NotWritable {
            path: self.root.clone(),
            error,
        }
    }
}

/// Holds the folder against other runs; the system lets go of it when the process ends, however it ends.
#[derive(Debug)]
pub(crate) struct FolderLock {
    _file: File,
}

/// Lists the keys under `path` whose values differ.
fn compare(path: &str, before: &Value, now: &Value, differences: &mut Vec<String>) {
    if before == now {
        return;
    }
    let (Value::Object(old), Value::Object(new)) = (before, now) else {
        differences.push(format!("{path}: {before} → {now}"));
        return;
    };
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let inner = if path.is_empty() {
            key.clone()
        } else {
            format!("{path}.{key}")
        };
        let value =
            |map: &serde_json::Map<String, Value>| map.get(key).cloned().unwrap_or(Value::Null);
        compare(&inner, &value(old), &value(new), differences);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn recipe(learning_rate: f64, save_steps: u64) -> Recipe {
        let text = format!(
            "{{model: {{base_model: m}}, datasets: [{{path: d.csv}}], \
             training: {{learning_rate: {learning_rate}, save_steps: {save_steps}}}}}"
        );
        Recipe::parse(&text, Format::Yaml).unwrap()
    }

    #[test]
    fn checking_a_folder_that_does_not_exist_leaves_no_trace() {
        let temp = tempfile::tempdir().unwrap();
        let folder = OutputFolder::at(temp.path().join("a/b"));

        folder.check(Existing::Refuse, &recipe(1e-4, 50)).unwrap();

        assert_eq!(fs::read_dir(temp.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_file_in_the_way_is_told_with_the_way_out() {
        let temp = tempfile::tempdir().unwrap();
        fs::write(temp.path().join("out"), "").unwrap();

        let error =
            OutputFolder::at(temp.path().join("out")).check(Existing::Refuse, &recipe(1e-4, 50));

        let text = error.unwrap_err().to_string();
        assert!(
            text.contains("not writable") && text.contains("--output"),
            "{text}"
        );
    }

    #[test]
    fn a_used_folder_is_refused_unless_told_what_to_do_with_it() {
        let temp = tempfile::tempdir().unwrap();
        let folder = OutputFolder::at(temp.path());
        fs::write(folder.recipe(), recipe(1e-4, 50).to_json()).unwrap();
        fs::write(temp.path().join("mine.txt"), "keep").unwrap();

        let refused = folder
            .check(Existing::Refuse, &recipe(1e-4, 50))
            .unwrap_err();
        assert!(refused.to_string().contains("--resume"), "{refused}");
        folder.check(Existing::Resume, &recipe(1e-4, 50)).unwrap();
        folder
            .check(Existing::Overwrite, &recipe(1e-4, 50))
            .unwrap();

        let _lock = folder.open(Existing::Overwrite).unwrap();
        assert!(!folder.recipe().exists());
        assert!(
            temp.path().join("mine.txt").exists(),
            "only weft's own files are removed"
        );
    }

    #[test]
    fn resuming_with_another_learning_rate_names_the_key_and_both_values() {
        let temp = tempfile::tempdir().unwrap();
        let folder = OutputFolder::at(temp.path());
        fs::write(folder.recipe(), recipe(1e-4, 50).to_json()).unwrap();

        folder.check(Existing::Resume, &recipe(1e-4, 10)).unwrap();
        let error = folder
            .check(Existing::Resume, &recipe(2e-4, 50))
            .unwrap_err();

        let text = error.to_string();
        assert!(
            text.contains("training.learning_rate: 0.0001 → 0.0002"),
            "{text}"
        );
    }

    #[test]
    fn two_runs_never_share_a_folder() {
        let temp = tempfile::tempdir().unwrap();
        let folder = OutputFolder::at(temp.path().join("out"));
        let first = folder.open(Existing::Refuse).unwrap();

        assert!(matches!(
            folder.open(Existing::Refuse),
            Err(FolderError::Busy { .. })
        ));
        drop(first);
        folder.open(Existing::Refuse).unwrap();
    }
}
