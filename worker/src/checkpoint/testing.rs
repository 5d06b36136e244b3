//! States of a toy model, for this module's tests.

use weft_common::checkpoint::{CheckpointMeta, InputDigests};
use weft_common::id::{Digest, Epoch, Step, Term};
use weft_common::recipe::{Format, Recipe};

use super::{Progress, TrainState};
use crate::lora::Adapter;
use crate::model::tests_support::toy;
use crate::train::optimizer::{AdamW, UpdateScalars};

pub(super) fn recipe(optim: &str) -> Recipe {
    let text = format!(
        "model: {{base_model: some/model}}\ndatasets: [{{path: d.csv}}]\nlora: {{r: 80, target_modules: [q_proj, k_proj]}}\n\
         training: {{optim: {optim}}}\n"
    );
    Recipe::parse(&text, Format::Yaml).unwrap()
}

/// A state after two updates, with matrices of either width.
pub(super) fn state(recipe: &Recipe) -> TrainState {
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

pub(super) fn fresh(recipe: &Recipe) -> TrainState {
    let mut fresh = state(recipe);
    fresh.adapter.values_mut().fill(0.0);
    fresh.progress = Progress::default();
    fresh
}

pub(super) fn meta() -> CheckpointMeta {
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
