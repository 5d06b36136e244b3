//! A run that nothing speaks against.

use std::path::PathBuf;

use weft_common::checkpoint::Checkpoint;
use weft_common::id::JobId;
use weft_common::recipe::GradientCheckpointing;
use weft_common::storage::write_atomic;
use weft_common::store::Store;

use super::job::Embedded;
use super::observer::RunFacts;
use crate::exit::{Exit, Failure};
use crate::output::banner::Banner;
use crate::output::folder::{Existing, FolderLock, OutputFolder};
use crate::output::progress::Audience;
use crate::output::trainer::Summary;
use crate::preflight::Preflight;

/// A run that nothing speaks against.
pub(crate) struct Ready {
    /// Recipe, model, data and plan.
    pub(crate) preflight: Preflight,
    /// Where the results go.
    pub(crate) folder: OutputFolder,
    /// What to do with an earlier run's.
    pub(crate) existing: Existing,
    /// State to go on from.
    pub(crate) checkpoint: Option<Checkpoint>,
    /// The job whose ledger is only in the store.
    pub(crate) ledger_of: Option<JobId>,
    /// Where checkpoints go beside the output folder.
    pub(crate) store: Option<Store>,
    /// How many workers.
    pub(crate) workers: u32,
    /// Who reads the output; nobody where the run is one of many.
    pub(crate) audience: Option<Audience>,
    /// Where prepared datasets lie.
    pub(crate) cache: PathBuf,
}

impl Ready {
    /// Takes the output folder and leaves the resolved recipe there.
    pub(crate) fn open_folder(&self, existing: Existing) -> Result<FolderLock, Failure> {
        let unusable = |error: &dyn std::fmt::Display| Failure::new(Exit::Environment, error);
        let lock = self.folder.open(existing);
        let lock = lock.map_err(|error| unusable(&error))?;
        let recipe = self.preflight.recipe.to_json();
        write_atomic(&self.folder.recipe(), recipe.as_bytes()).map_err(|error| unusable(&error))?;
        Ok(lock)
    }

    /// What an observer needs to know; `embedded` is what workers of this machine compute with.
    pub(crate) fn facts(&self, committed: u64, embedded: Option<&Embedded>) -> RunFacts {
        let Self { preflight, .. } = self;
        let training = &preflight.recipe.training;
        let total_steps = preflight.planner.total_steps();
        let banner = Banner {
            base_model: preflight.recipe.model.base_model.clone(),
            examples: preflight.prepared.stats().len() as u64,
            epochs: training.num_train_epochs,
            total_steps,
            resumed_steps: committed,
            batch_size: training.per_device_train_batch_size,
            accumulation_steps: training.gradient_accumulation_steps,
            total_batch_size: preflight.recipe.rows_per_step(),
            trainable_parameters: preflight.adapter_parameters(),
            parameters: preflight.parameters(),
            workers: self.workers,
            gpus: Vec::new(),
            threads_per_worker: embedded.map(|embedded| embedded.threads),
            memory_plan: plan_name(preflight.recipe.lora.use_gradient_checkpointing).to_owned(),
            output: self.folder.root().display().to_string(),
        };
        let summary = Summary {
            max_steps: total_steps,
            num_train_epochs: training.num_train_epochs,
            train_batch_size: training.per_device_train_batch_size,
            logging_steps: training.logging_steps,
            save_steps: training.save_steps,
            non_embedding_parameters: preflight.non_embedding_parameters(),
            train_runtime: 0.0,
            resumed_steps: committed,
        };
        RunFacts {
            banner,
            summary,
            steps_per_epoch: preflight.planner.steps_per_epoch(),
            audience: self.audience,
            gpus: embedded.map_or_else(Vec::new, |embedded| embedded.devices.gpus().to_vec()),
        }
    }
}

/// What is kept from the forward pass, in words.
fn plan_name(checkpointing: GradientCheckpointing) -> &'static str {
    match checkpointing {
        GradientCheckpointing::Auto => "keep what fits",
        GradientCheckpointing::Unsloth | GradientCheckpointing::True => "recompute",
        GradientCheckpointing::False => "keep everything",
    }
}
