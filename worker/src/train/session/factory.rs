//! Engines for the agent.

use std::path::{Path, PathBuf};

use weft_common::data::{ChatTokenizer, DataError, Prepared, Row};

use super::{Dataset, RowSource, open};
use crate::agent::{EngineError, EngineFactory, ErrorKind, JobSetup};
use crate::checkpoint::SharedStore;
use crate::device::Device;

impl RowSource for Prepared {
    fn row(&self, index: u32) -> Row {
        Prepared::row(self, index)
    }
}

/// What the agent makes engines with: trainers on `device`. Checkpoints fetched from a shared store go to `cache`.
#[must_use]
pub fn engine_factory(device: Device, cache: PathBuf) -> EngineFactory {
    Box::new(move |setup| {
        let shared = SharedStore::open(&setup.job, &setup.recipe, &cache)
            .map_err(|error| EngineError::new(ErrorKind::Storage, error))?;
        open(setup, read_dataset(setup)?, &device, shared)
    })
}

/// Opens the prepared rows and checks every byte of them.
fn read_dataset(setup: &JobSetup) -> Result<Dataset, EngineError> {
    let unreadable = |error: DataError| EngineError::new(ErrorKind::Data, error);
    let prepared = Prepared::open(&setup.dataset_dir).map_err(unreadable)?;
    prepared.verify().map_err(unreadable)?;
    let model = &setup.recipe.model;
    let tokenizer = ChatTokenizer::load(
        Path::new(&model.base_model),
        model.tokenizer.as_deref().map(Path::new),
        &model.chat_template,
    )
    .map_err(|error| EngineError::new(ErrorKind::Data, error))?;
    Ok(Dataset {
        stats: prepared.stats(),
        digest: prepared.digest(),
        tokenizer: tokenizer.digest(),
        template: tokenizer.template_digest(),
        rows: Box::new(prepared),
    })
}

#[cfg(test)]
mod tests {
    use std::fs;

    use serde_json::json;
    use weft_common::data::prepare;
    use weft_common::id::Step;
    use weft_common::plan::{PlanSpec, StepPlanner};
    use weft_common::recipe::{Format, Recipe};

    use super::*;
    use crate::agent::SumHealth;
    use crate::collective::{Cancel, Local};

    /// A folder with the golden model, a tokenizer of a few words and a dataset.
    fn job_folder() -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let golden =
            Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/fixtures/golden/tiny_llama");
        for name in ["config.json", "model.safetensors"] {
            fs::copy(golden.join(name), folder.path().join(name)).unwrap();
        }
        let words = [
            "<unk>", "<s>", "</s>", "pain", "fever", "rest", "water", "helps", "and",
        ];
        let vocab: serde_json::Map<_, _> = words
            .iter()
            .zip(0..)
            .map(|(word, id)| ((*word).to_owned(), json!(id)))
            .collect();
        let special = |id: usize| {
            json!({"id": id, "content": words[id], "single_word": false, "lstrip": false, "rstrip": false,
                   "normalized": false, "special": true})
        };
        let tokenizer = json!({
            "version": "1.0", "truncation": null, "padding": null, "normalizer": null, "post_processor": null,
            "decoder": null, "pre_tokenizer": {"type": "Whitespace"},
            "added_tokens": [special(0), special(1), special(2)],
            "model": {"type": "WordLevel", "vocab": vocab, "unk_token": "<unk>"},
        });
        let config = json!({"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"});
        fs::write(folder.path().join("tokenizer.json"), tokenizer.to_string()).unwrap();
        fs::write(
            folder.path().join("tokenizer_config.json"),
            config.to_string(),
        )
        .unwrap();
        let row = |i: usize| {
            json!({"text": format!("{} and {} helps", words[3 + i % 5], words[3 + i / 5])})
                .to_string()
        };
        let rows: Vec<String> = (0..12).map(row).collect();
        fs::write(folder.path().join("rows.jsonl"), rows.join("\n")).unwrap();
        folder
    }

    const CPU: Device = Device::Cpu {
        threads: 1,
        memory_bytes: 0,
    };

    fn setup(folder: &Path) -> JobSetup {
        let text = "model: {base_model: m, max_seq_length: 16}\ndatasets: [{path: d, kind: text}]\nlora: {r: 4}\n\
                    training: {train_on_responses_only: false, max_steps: 4, warmup_steps: 0, learning_rate: 0.01}\n";
        let mut recipe = Recipe::parse(text, Format::Yaml).unwrap();
        recipe.model.base_model = folder.display().to_string();
        recipe.datasets[0].path = folder.join("rows.jsonl").display().to_string();
        let tokenizer = ChatTokenizer::load(folder, None, &recipe.model.chat_template).unwrap();
        let prepared = prepare(&recipe, &tokenizer, &folder.join("cache"), &|_| ()).unwrap();
        JobSetup {
            job: "job-1".parse().unwrap(),
            recipe,
            dataset_dir: prepared.dir().to_owned(),
            total_steps: 4,
            joins: false,
        }
    }

    #[test]
    fn a_prepared_dataset_trains_and_its_loss_falls() {
        let folder = job_folder();
        let setup = setup(folder.path());
        let stats = Prepared::open(&setup.dataset_dir).unwrap().stats();
        let planner = StepPlanner::new(PlanSpec::from_recipe(&setup.recipe), stats).unwrap();
        let mut engine = engine_factory(CPU, folder.path().join("cache"))(&setup).unwrap();
        let mut losses = Vec::new();
        for step in 0..4 {
            let plan = planner.step(Step(step));
            let supervised = plan.supervised_tokens();
            let loss_of = |slot| {
                engine
                    .compute_slot(plan.step, slot, supervised)
                    .unwrap()
                    .loss_sum
            };
            losses.push(plan.slots.iter().map(loss_of).sum::<f64>() / supervised as f64);
            assert_eq!(
                engine.reduce(&mut Local, &Cancel::new()).unwrap().health,
                SumHealth::Finite
            );
            engine.apply(plan.step).unwrap();
        }
        assert!(losses[3] < 0.9 * losses[0], "{losses:?}");
    }

    #[test]
    fn a_damaged_dataset_is_refused_with_its_folder() {
        let folder = job_folder();
        let setup = setup(folder.path());
        let file = setup.dataset_dir.join("rows.bin");
        let mut bytes = fs::read(&file).unwrap();
        bytes[0] ^= 1;
        fs::write(&file, bytes).unwrap();
        let error = engine_factory(CPU, folder.path().join("cache"))(&setup)
            .err()
            .expect("a flipped bit is found");
        assert_eq!(error.kind, ErrorKind::Data);
        assert!(
            error
                .message
                .contains(&setup.dataset_dir.display().to_string()),
            "{}",
            error.message
        );
    }
}
