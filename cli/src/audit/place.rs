//! What a run left, as evidence.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use weft_common::checkpoint;
use weft_common::id::Step;
use weft_common::ledger::audit::{LeftAdapter, LoggedStep, SavedState};
use weft_common::ledger::{LedgerPlace, newest_term};
use weft_common::storage::{FileEntry, StorageError};
use weft_worker::checkpoint::ADAPTER_MODEL_FILE;

use crate::exit::{Exit, Failure};
use crate::output::folder::OutputFolder;

/// Where a run's ledger is, and what lies beside it.
pub(super) struct Place {
    /// The ledger's folder.
    pub(super) ledger: PathBuf,
    /// The output folder; `None` where a ledger was given alone.
    output: Option<OutputFolder>,
}

/// What a line of `metrics.jsonl` must say to be compared. A diverged loss is written as `null`.
#[derive(Debug, Deserialize)]
struct Logged {
    step: u64,
    loss: Option<f64>,
    rows: u64,
    tokens: u64,
    supervised_tokens: u64,
}

impl Place {
    /// Tells an output folder from a ledger's.
    pub(super) fn find(path: &Path) -> Result<Self, Failure> {
        let output = OutputFolder::at(path);
        if output.ledger().is_dir() {
            return Ok(Self {
                ledger: output.ledger(),
                output: Some(output),
            });
        }
        if newest_term(path).map_err(environment)?.is_some() {
            return Ok(Self {
                ledger: path.to_owned(),
                output: None,
            });
        }
        Err(environment(format_args!(
            "there is no ledger in {}; give the output folder of a run, which holds ledger/",
            path.display()
        )))
    }

    /// The recipe that the run was started with.
    pub(super) fn recipe(&self) -> Option<PathBuf> {
        let recipe = self.output.as_ref()?.recipe();
        recipe.exists().then_some(recipe)
    }

    /// What the run wrote about its steps. A line that a crash cut short says nothing; any other that cannot be read is
    /// told.
    pub(super) fn logged(&self, unproven: &mut Vec<String>) -> Result<Vec<LoggedStep>, Failure> {
        let Some(path) = self.output.as_ref().map(OutputFolder::metrics) else {
            return Ok(Vec::new());
        };
        let text = match fs::read(&path) {
            Ok(bytes) => String::from_utf8_lossy(&bytes).into_owned(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => String::new(),
            Err(error) => return Err(environment(StorageError::new("read", &path, error))),
        };
        let mut logged = Vec::new();
        for (line, number) in text.split_inclusive('\n').zip(1..) {
            match serde_json::from_str::<Logged>(line) {
                Ok(said) => logged.extend(said.at(&path, number)),
                Err(_) if !line.ends_with('\n') => {}
                Err(error) => unproven.push(format!(
                    "a loss: {}, line {number} cannot be read: {error}",
                    path.display()
                )),
            }
        }
        Ok(logged)
    }

    /// The states that the run saved.
    pub(super) fn saved(&self) -> Result<Vec<SavedState>, Failure> {
        let Some(output) = &self.output else {
            return Ok(Vec::new());
        };
        let manifests = checkpoint::manifests(&output.checkpoints()).map_err(environment)?;
        let saved = manifests.into_iter();
        Ok(saved
            .map(|(folder, manifest)| SavedState { folder, manifest })
            .collect())
    }

    /// The adapter that the run left.
    pub(super) fn adapter(&self) -> Result<Option<LeftAdapter>, Failure> {
        let Some(folder) = self.output.as_ref().map(OutputFolder::adapter) else {
            return Ok(None);
        };
        let path = folder.join(ADAPTER_MODEL_FILE);
        if !path.exists() {
            return Ok(None);
        }
        let entry = FileEntry::of(&folder, ADAPTER_MODEL_FILE).map_err(environment)?;
        let sha256 = entry.sha256;
        Ok(Some(LeftAdapter { path, sha256 }))
    }
}

impl Logged {
    /// As evidence. There is no step 0 in that file.
    fn at(self, path: &Path, line: usize) -> Option<LoggedStep> {
        Some(LoggedStep {
            place: LedgerPlace {
                segment: path.to_owned(),
                line,
            },
            step: Step(self.step.checked_sub(1)?),
            loss: self.loss.unwrap_or(f64::NAN),
            rows: self.rows,
            tokens: self.tokens,
            supervised_tokens: self.supervised_tokens,
        })
    }
}

fn environment(error: impl std::fmt::Display) -> Failure {
    Failure::new(Exit::Environment, error)
}
