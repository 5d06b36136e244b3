use weft_common::id::{Digest, Epoch, Step, Term};
use weft_common::recipe::Format;

use super::*;
use crate::checkpoint::Progress;
use crate::lora::Adapter;
use crate::model::tests_support::toy;
use crate::train::optimizer::{AdamW, UpdateScalars};
use weft_common::checkpoint::InputDigests;

fn recipe(optim: &str) -> Recipe {
    let text = format!(
        "model: {{base_model: some/model}}\ndatasets: [{{path: d.csv}}]\nlora: {{r: 80, target_modules: [q_proj, k_proj]}}\n\
         training: {{optim: {optim}}}\n"
    );
    Recipe::parse(&text, Format::Yaml).unwrap()
}

/// A state after two updates, with matrices of either width.
fn state(recipe: &Recipe) -> TrainState {
    let mut adapter = Adapter::new(&toy(), &recipe.lora, 1).unwrap();
    let matrices: Vec<_> = adapter
        .layout()
        .tensors()
        .iter()
        .map(|tensor| (tensor.name.clone(), tensor.range()))
        .collect();
    let mut optimizer = AdamW::new((&recipe.training).into(), matrices);
    let grads: Vec<f32> = (0..adapter.layout().len())
        .map(|i| (i as f32).sin())
        .collect();
    let scalars = UpdateScalars {
        learning_rate: 0.01,
        clip: 0.5,
    };
    for _ in 0..2 {
        optimizer.update(adapter.values_mut(), &grads, scalars);
    }
    TrainState {
        adapter,
        optimizer,
        progress: Progress {
            next_step: 3,
            updates: 2,
            skipped_steps: 1,
            loss_scale: None,
        },
    }
}

fn fresh(recipe: &Recipe) -> TrainState {
    let mut fresh = state(recipe);
    fresh.adapter.values_mut().fill(0.0);
    fresh.progress = Progress::default();
    fresh
}

fn meta() -> CheckpointMeta {
    let digest = Digest::of(b"input");
    CheckpointMeta {
        job: "job-1".parse().unwrap(),
        step: Step(3),
        epoch: Epoch(1),
        term: Term(1),
        inputs: InputDigests {
            recipe: digest,
            base_model: digest,
            dataset: digest,
            tokenizer: digest,
            template: digest,
        },
        fixed_point_bits: 40,
        seed: 1,
        world_size: 2,
    }
}

#[test]
fn a_state_survives_the_folder_bit_for_bit() {
    for optim in ["adamw_torch", "adamw_8bit"] {
        let root = tempfile::tempdir().unwrap();
        let folder = checkpoint::folder(root.path(), Step(3));
        let recipe = recipe(optim);
        let saved = state(&recipe);
        let manifest = write(&folder, &saved, &recipe, meta()).unwrap();
        assert_eq!(manifest.state_digest, saved.digest());

        let mut read_back = fresh(&recipe);
        read(&checkpoint::open(&folder).unwrap(), &mut read_back).unwrap();
        assert!(read_back == saved, "{optim}");
    }
}

#[test]
fn the_folder_holds_what_peft_loads_and_nothing_that_depends_on_the_run() {
    let root = tempfile::tempdir().unwrap();
    let recipe = recipe("adamw_8bit");
    let write_at = |name: &str, world_size: u32| {
        let folder = root.path().join(name);
        write(
            &folder,
            &state(&recipe),
            &recipe,
            CheckpointMeta {
                world_size,
                ..meta()
            },
        )
        .unwrap();
        folder
    };
    let (one, other) = (write_at("one", 1), write_at("other", 3));
    for name in [
        ADAPTER_MODEL_FILE,
        ADAPTER_CONFIG_FILE,
        MOMENTS_FILE,
        PROGRESS_FILE,
    ] {
        assert!(
            fs::read(one.join(name)).unwrap() == fs::read(other.join(name)).unwrap(),
            "{name}"
        );
    }
}

#[test]
fn a_state_that_is_not_the_manifest_s_is_refused_and_changes_nothing() {
    let root = tempfile::tempdir().unwrap();
    let recipe = recipe("adamw_torch");
    let folder = checkpoint::folder(root.path(), Step(3));
    write(&folder, &state(&recipe), &recipe, meta()).unwrap();
    let mut opened = checkpoint::open(&folder).unwrap();
    opened.manifest.state_digest = Digest::of(b"another");
    let mut target = fresh(&recipe);
    let refused = read(&opened, &mut target);
    assert!(matches!(refused, Err(CheckpointError::State { .. })));
    assert!(target == fresh(&recipe));
}

#[test]
fn every_part_of_the_state_is_in_its_digest() {
    let recipe = recipe("adamw_8bit");
    let original = state(&recipe);
    let mut changed = original.clone();
    changed.adapter.values_mut()[7] += 1e-3;
    assert_ne!(changed.digest(), original.digest());
    let mut changed = original.clone();
    changed.progress.updates += 1;
    assert_ne!(changed.digest(), original.digest());
    let mut changed = original.clone();
    let grads = vec![0.0; changed.adapter.layout().len()];
    let mut values = changed.adapter.values().clone();
    let scalars = UpdateScalars {
        learning_rate: 0.0,
        clip: 1.0,
    };
    changed.optimizer.update(&mut values, &grads, scalars);
    assert_ne!(changed.digest(), original.digest());
}
