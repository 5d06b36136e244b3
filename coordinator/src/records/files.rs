//! One file a job: what it was submitted with, and how it ended.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};
use weft_common::id::{JobId, Step};
use weft_common::recipe::{Format, Recipe};
use weft_common::storage::{create_folder, write_atomic};
use weft_common::wire::CheckpointRef;

use super::error::RecordsError;
use crate::config::{JobSpec, WorkersBefore};
use crate::engine::{Needs, OnNonFinite};
use crate::view::{JobPhase, JobView};

/// Format of the files.
const FORMAT: u32 = 1;

/// Everything that it takes to hand a job in again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct JobFile {
    format: u32,
    pub(crate) id: JobId,
    /// Its place in the queue.
    pub(crate) number: u64,
    pub(crate) name: String,
    pub(crate) submitted_unix_ms: i64,
    pub(crate) started_unix_ms: Option<i64>,
    pub(crate) ended: Option<Ended>,
    priority: i32,
    workers: u32,
    gang: Option<u32>,
    worker_memory_bytes: u64,
    worker_labels: BTreeMap<String, String>,
    form_within_seconds: u64,
    output_dir: PathBuf,
    resume: Option<Saved>,
    skips_non_finite: bool,
    recipe: serde_json::Value,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    pub(crate) unix_ms: i64,
    pub(crate) phase: JobPhase,
    pub(crate) detail: String,
    pub(crate) committed_steps: u64,
    pub(crate) total_steps: u64,
    pub(crate) incidents: u32,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Saved {
    dir: PathBuf,
    next_step: Step,
}

impl JobFile {
    /// The file of a job that is handed in.
    pub(crate) fn of(spec: &JobSpec, number: u64, unix_ms: i64) -> Self {
        Self {
            format: FORMAT,
            id: spec.id.clone(),
            number,
            name: spec.name.clone(),
            submitted_unix_ms: unix_ms,
            started_unix_ms: None,
            ended: None,
            priority: spec.priority,
            workers: spec.workers,
            gang: spec.gang,
            worker_memory_bytes: spec.needs.memory_bytes,
            worker_labels: spec.needs.labels.clone(),
            form_within_seconds: spec.form_within.as_secs(),
            output_dir: spec.output_dir.clone(),
            resume: spec.resume.as_ref().map(|at| Saved {
                dir: at.dir.clone(),
                next_step: at.next_step,
            }),
            skips_non_finite: spec.on_non_finite == OnNonFinite::Skip,
            recipe: serde_json::from_str(&spec.recipe.to_json()).unwrap_or_default(),
        }
    }

    /// The job, to be handed in again.
    ///
    /// # Errors
    /// This version cannot read its recipe.
    pub(crate) fn spec(&self) -> Result<JobSpec, String> {
        let recipe = Recipe::parse(&self.recipe.to_string(), Format::Json)
            .map_err(|errors| errors.to_string())?;
        Ok(JobSpec {
            id: self.id.clone(),
            name: self.name.clone(),
            recipe,
            priority: self.priority,
            workers: self.workers,
            gang: self.gang,
            needs: Needs {
                memory_bytes: self.worker_memory_bytes,
                labels: self.worker_labels.clone(),
            },
            form_within: Duration::from_secs(self.form_within_seconds),
            output_dir: self.output_dir.clone(),
            resume: self.resume.as_ref().map(|at| CheckpointRef {
                dir: at.dir.clone(),
                next_step: at.next_step,
            }),
            workers_before: match self.started_unix_ms {
                Some(_) => WorkersBefore::MayReturn,
                None => WorkersBefore::Gone,
            },
            on_non_finite: if self.skips_non_finite {
                OnNonFinite::Skip
            } else {
                OnNonFinite::Fail
            },
        })
    }

    /// As it is with what `view` says.
    fn with(mut self, view: &JobView) -> Self {
        self.workers = view.workers;
        self.started_unix_ms = view.started_unix_ms;
        self.ended = view.ended_unix_ms.map(|unix_ms| Ended {
            unix_ms,
            phase: view.phase,
            detail: view.detail.clone(),
            committed_steps: view.committed_steps,
            total_steps: view.total_steps,
            incidents: view.incidents,
        });
        self
    }
}

/// The folder of the jobs' files.
#[derive(Debug, Clone)]
pub(crate) struct JobFiles {
    folder: PathBuf,
}

impl JobFiles {
    pub(super) fn open(state_dir: &Path) -> Result<Self, RecordsError> {
        let folder = state_dir.join("jobs");
        create_folder(&folder)?;
        Ok(Self { folder })
    }

    /// The ids of all jobs.
    pub(super) fn ids(&self) -> Result<Vec<JobId>, RecordsError> {
        let entries = fs::read_dir(&self.folder).map_err(RecordsError::io("read", &self.folder))?;
        let names = entries.flatten().filter_map(|entry| {
            let name = entry.file_name().into_string().ok()?;
            name.strip_suffix(".json")?.parse().ok()
        });
        let mut ids: Vec<JobId> = names.collect();
        ids.sort();
        Ok(ids)
    }

    pub(super) fn read(&self, job: &JobId) -> Result<JobFile, RecordsError> {
        let path = self.path(job);
        let text = fs::read(&path).map_err(RecordsError::io("read", &path))?;
        let unfit = |reason: String| RecordsError::JobFile {
            path: path.clone(),
            reason,
        };
        let file: JobFile =
            serde_json::from_slice(&text).map_err(|error| unfit(error.to_string()))?;
        if file.format > FORMAT {
            let found = file.format;
            return Err(unfit(format!(
                "it has format {found}, and this version of weft knows formats up to {FORMAT}"
            )));
        }
        Ok(file)
    }

    pub(super) fn write(&self, file: &JobFile) -> Result<(), RecordsError> {
        let text = serde_json::to_vec(file).map_err(|error| RecordsError::JobFile {
            path: self.path(&file.id),
            reason: error.to_string(),
        })?;
        Ok(write_atomic(&self.path(&file.id), &text)?)
    }

    pub(super) fn remove(&self, job: &JobId) -> io::Result<()> {
        fs::remove_file(self.path(job))
    }

    /// Brings a job's file up to what is known of it; one that is not there stays away.
    pub(super) fn update(&self, view: &JobView) -> Result<(), RecordsError> {
        if !self.path(&view.id).exists() {
            return Ok(());
        }
        let before = self.read(&view.id)?;
        let now = before.clone().with(view);
        if now == before {
            Ok(())
        } else {
            self.write(&now)
        }
    }

    fn path(&self, job: &JobId) -> PathBuf {
        self.folder.join(format!("{job}.json"))
    }
}
