//! From a job's setup to its engine.

use std::path::Path;
use std::sync::Arc;

use tracing::info;
use weft_common::checkpoint::InputDigests;
use weft_common::data::RowStat;
use weft_common::id::{Digest, Step};
use weft_common::plan::{PlanSpec, StepPlanner};
use weft_common::recipe::Recipe;

use super::{RowSource, Trainer, TrainerError, TrainerParts, cuda};
use crate::agent::{Engine, EngineError, ErrorKind, JobSetup};
use crate::checkpoint::SharedStore;
use crate::device::Device;
use crate::model::Spec;
use crate::model::loader::{LoadOptions, LoadReport, LoadedModel, check_context, load};
use crate::train::{Backend, cpu_for_job};

/// Steps that are planned ahead to find the largest slot; a larger one that comes later makes the buffers grow.
const PLANNED_AHEAD: u64 = 2048;

/// A job's prepared rows and what they were made with.
pub struct Dataset {
    /// The rows.
    pub rows: Box<dyn RowSource>,
    /// What the plan needs to know of them.
    pub stats: Arc<[RowStat]>,
    /// Digest of the prepared content.
    pub digest: Digest,
    /// Digest of the tokenizer.
    pub tokenizer: Digest,
    /// Digest of the chat template.
    pub template: Digest,
}

/// Loads the base model and makes the engine of a job on `device`, before its first step. Checkpoints go to `shared` too.
///
/// # Errors
/// Whatever of recipe, model, dataset and device does not go together, by kind.
pub fn open(
    setup: &JobSetup,
    dataset: Dataset,
    device: &Device,
    shared: Option<SharedStore>,
) -> Result<Box<dyn Engine>, EngineError> {
    let recipe = &setup.recipe;
    let largest_slot_tokens = largest_slot(setup, &dataset.stats)?;
    let parts = |base_model| parts(setup, (dataset, base_model), largest_slot_tokens, device);
    match device {
        Device::Cpu { .. } => {
            let base = load_base(recipe)?;
            let cpu = cpu_for_job(recipe, &base.spec, &base.weights);
            let cpu = cpu.map_err(|error| EngineError::new(ErrorKind::Recipe, error))?;
            let model = (base.spec, base.weights);
            engine(Trainer::new(cpu, model, parts(base.digest)), shared)
        }
        Device::Cuda { gpu, kernels } => {
            let (base, digest) = cuda::load_base((gpu, kernels), setup, largest_slot_tokens)?;
            engine(Trainer::with_model(base, parts(digest)), shared)
        }
    }
}

/// The engine over a trainer, or why there is none.
fn engine<B: Backend + 'static>(
    trainer: Result<Trainer<B>, TrainerError>,
    shared: Option<SharedStore>,
) -> Result<Box<dyn Engine>, EngineError> {
    let trainer = trainer.map_err(|error| {
        let kind = match error {
            TrainerError::Model(_) => ErrorKind::Model,
            TrainerError::Lora(_) => ErrorKind::Recipe,
            TrainerError::Room(_) | TrainerError::Device(_) => ErrorKind::Memory,
        };
        EngineError::new(kind, error)
    })?;
    Ok(Box::new(trainer.with_store(shared)))
}

/// Everything that a trainer is made from beside the base model, whose digest is given.
fn parts(
    setup: &JobSetup,
    (dataset, base_model): (Dataset, Digest),
    largest_slot_tokens: usize,
    device: &Device,
) -> TrainerParts {
    TrainerParts {
        recipe: setup.recipe.clone(),
        total_steps: setup.total_steps,
        largest_slot_tokens,
        inputs: InputDigests {
            recipe: setup.recipe.digest(),
            base_model,
            dataset: dataset.digest,
            tokenizer: dataset.tokenizer,
            template: dataset.template,
        },
        rows: dataset.rows,
        device: device.to_string(),
    }
}

/// Both sides plan from the same rows, so they count the same steps.
fn largest_slot(setup: &JobSetup, stats: &Arc<[RowStat]>) -> Result<usize, EngineError> {
    let planner = StepPlanner::new(PlanSpec::from_recipe(&setup.recipe), stats.clone())
        .map_err(|error| EngineError::new(ErrorKind::Data, error))?;
    let (ours, theirs) = (planner.total_steps(), setup.total_steps);
    if ours != theirs {
        return Err(EngineError {
            kind: ErrorKind::Data,
            message: format!(
                "the coordinator plans {theirs} steps, this worker {ours} from its copy of the dataset; remove the \
                 worker's cache folder and start it again"
            ),
        });
    }
    let ahead = planner.steps_per_epoch().min(ours).min(PLANNED_AHEAD);
    let tokens = (0..ahead)
        .flat_map(|step| planner.step(Step(step)).slots)
        .map(|slot| slot.tokens)
        .max();
    Ok(usize::try_from(tokens.unwrap_or(0)).unwrap_or(usize::MAX))
}

/// Loads a job's base model into host memory.
fn load_base(recipe: &Recipe) -> Result<LoadedModel, EngineError> {
    let path = Path::new(&recipe.model.base_model);
    let base = load(path, &load_options(recipe), &|_| ())
        .map_err(|error| EngineError::new(ErrorKind::Model, error))?;
    check_rows(&base.spec, recipe)?;
    log_loaded(recipe, &base.spec, &base.report);
    Ok(base)
}

/// How a recipe's base model is loaded.
pub(super) fn load_options(recipe: &Recipe) -> LoadOptions {
    LoadOptions {
        load_in_4bit: recipe.model.load_in_4bit,
        digest: None,
    }
}

/// Refuses rows that are longer than the model can see.
pub(super) fn check_rows(spec: &Spec, recipe: &Recipe) -> Result<(), EngineError> {
    check_context(spec, recipe.model.max_seq_length as usize)
        .map_err(|error| EngineError::new(ErrorKind::Recipe, error))
}

/// Tells what loading took.
pub(super) fn log_loaded(recipe: &Recipe, spec: &Spec, report: &LoadReport) {
    info!(
        base_model = recipe.model.base_model,
        parameters = spec.parameters(),
        bytes = report.weight_bytes,
        file_bytes = report.file_bytes,
        seconds = report.elapsed.as_secs_f64(),
        gigabytes_per_second = report.gigabytes_per_second(),
        "base model loaded"
    );
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use weft_common::data::Row;
    use weft_common::recipe::Format;

    use super::*;

    fn setup(model: &str, rest: &str, total_steps: u64) -> JobSetup {
        let golden = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden");
        let text = format!(
            "model: {{base_model: {model}, max_seq_length: 16}}\ndatasets: [{{path: d.csv}}]\n{rest}\n"
        );
        let mut recipe = Recipe::parse(&text, Format::Yaml).unwrap();
        recipe.model.base_model = golden.join(model).display().to_string();
        JobSetup {
            job: "job-1".parse().unwrap(),
            recipe,
            dataset_dir: PathBuf::new(),
            total_steps,
            joins: false,
        }
    }

    fn dataset() -> Dataset {
        let row = Row {
            tokens: vec![3, 4, 5],
            supervised: vec![false, true, true],
        };
        let stat = RowStat {
            tokens: 3,
            supervised: 2,
        };
        Dataset {
            rows: Box::new(vec![row; 16]),
            stats: vec![stat; 16].into(),
            digest: Digest::of(b"dataset"),
            tokenizer: Digest::of(b"tokenizer"),
            template: Digest::of(b"template"),
        }
    }

    const CPU: Device = Device::Cpu {
        threads: 1,
        memory_bytes: 0,
    };

    fn refused(setup: &JobSetup) -> EngineError {
        open(setup, dataset(), &CPU, None)
            .err()
            .expect("this setup does not go together")
    }

    #[test]
    fn a_job_opens_in_four_bits_or_sixteen() {
        let mut base_bytes = Vec::new();
        for four_bit in [true, false] {
            let mut setup = setup("tiny_llama", "lora: {r: 4}", 2);
            setup.recipe.model.load_in_4bit = four_bit;
            let info = open(&setup, dataset(), &CPU, None).unwrap().info();
            assert_eq!(info.device, "cpu (1 thread)");
            assert_eq!(
                info.adapter_params,
                2 * 4 * (4 * 64 + 64 + 32 + 32 + 64 + 3 * (64 + 96))
            );
            base_bytes.push(info.memory.base_bytes);
        }
        assert!(base_bytes[0] < base_bytes[1]);
    }

    #[test]
    fn what_does_not_go_together_is_refused_by_kind() {
        assert_eq!(refused(&setup("tiny_llama", "", 3)).kind, ErrorKind::Data);
        assert_eq!(
            refused(&setup("no_such_model", "", 2)).kind,
            ErrorKind::Model
        );
        let elsewhere = setup("tiny_llama", "lora: {target_modules: 'nothing'}", 2);
        assert_eq!(refused(&elsewhere).kind, ErrorKind::Recipe);
        let mut too_long = setup("tiny_llama", "", 2);
        too_long.recipe.model.max_seq_length = 257;
        assert_eq!(refused(&too_long).kind, ErrorKind::Recipe);
    }
}
