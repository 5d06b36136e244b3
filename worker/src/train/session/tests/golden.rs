//! A whole run against torch, transformers and peft; see tests/fixtures/golden/make_goldens.py.

use std::path::PathBuf;

use safetensors::SafeTensors;
use serde::Deserialize;
use weft_common::id::SlotId;
use weft_common::plan::{SlotPlan, StepPlan};

use super::*;
use crate::agent::Applied;
use crate::model::loader::{LoadOptions, load};

/// What `hf_steps.json` holds.
#[derive(Deserialize)]
struct Golden {
    docs: Vec<Document>,
    log: Vec<Logged>,
}

#[derive(Deserialize)]
struct Document {
    tokens: Vec<u32>,
    supervised: Vec<bool>,
}

#[derive(Deserialize)]
struct Logged {
    loss: f64,
    grad_norm: f64,
    learning_rate: f64,
}

fn golden(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../tests/fixtures/golden")
        .join(name)
}

fn recipe_of_the_run() -> Recipe {
    let text = "model: {base_model: tiny_llama, max_seq_length: 64, load_in_4bit: false}\n\
                datasets: [{path: rows.csv}]\n\
                lora: {r: 4, lora_alpha: 8}\n\
                training: {optim: adamw_torch, learning_rate: 5.0e-3, lr_scheduler_type: linear, warmup_steps: 2, \
                weight_decay: 0.01, max_grad_norm: 0.5, per_device_train_batch_size: 1, \
                gradient_accumulation_steps: 2}\n";
    Recipe::parse(text, Format::Yaml).unwrap()
}

fn trainer_at_the_start(rows: Vec<Row>, tensors: &SafeTensors<'_>) -> Trainer {
    let recipe = recipe_of_the_run();
    let loaded = load(&golden("tiny_llama"), &LoadOptions::default(), &|_| ()).unwrap();
    let parts = TrainerParts {
        total_steps: 5,
        largest_slot_tokens: 64,
        inputs: inputs(&recipe),
        rows: Box::new(rows),
        device: "cpu".to_owned(),
        recipe,
    };
    let mut trainer = Trainer::new(Cpu::new(), (loaded.spec, loaded.weights), parts).unwrap();
    let start = adapter_values(&trainer, tensors, "start");
    let state = trainer.state.as_mut().unwrap();
    state.adapter.values_mut().copy_from_slice(&start);
    trainer
}

fn adapter_values(trainer: &Trainer, tensors: &SafeTensors<'_>, moment: &str) -> Vec<f32> {
    let numbers = |name: &str| {
        let tensor = tensors.tensor(&format!("{moment}.{name}")).unwrap();
        tensor
            .data()
            .as_chunks()
            .0
            .iter()
            .map(|bytes| f32::from_le_bytes(*bytes))
            .collect::<Vec<_>>()
    };
    trainer
        .adapter()
        .layout()
        .tensors()
        .iter()
        .flat_map(|tensor| numbers(&tensor.name))
        .collect()
}

/// Two rows, each a slot of its own.
fn plan(step: u64, rows: &[Row]) -> StepPlan {
    let slot = |index: u32| {
        let row = &rows[2 * step as usize + index as usize];
        SlotPlan {
            slot: SlotId(index),
            rows: vec![2 * step as u32 + index],
            tokens: row.tokens.len() as u64,
            supervised_tokens: row
                .supervised
                .iter()
                .filter(|&&supervised| supervised)
                .count() as u64,
        }
    };
    StepPlan {
        step: Step(step),
        data_epoch: 0,
        slots: vec![slot(0), slot(1)],
    }
}

fn one_step(trainer: &mut Trainer, plan: &StepPlan) -> (f64, Applied) {
    let supervised = plan.supervised_tokens();
    let loss_of = |slot| {
        trainer
            .compute_slot(plan.step, slot, supervised)
            .unwrap()
            .loss_sum
    };
    let loss_sum: f64 = plan.slots.iter().map(loss_of).sum();
    assert_eq!(reduced(trainer, &mut Local).health, SumHealth::Finite);
    (
        loss_sum / supervised as f64,
        trainer.apply(plan.step).unwrap(),
    )
}

fn assert_near(ours: f64, theirs: f64, what: &str) {
    assert!(
        (ours - theirs).abs() <= 1e-4 * theirs.abs(),
        "{what}: {ours} against {theirs}"
    );
}

#[test]
fn five_steps_equal_transformers_and_peft() {
    let run: Golden =
        serde_json::from_slice(&std::fs::read(golden("hf_steps.json")).unwrap()).unwrap();
    let bytes = std::fs::read(golden("hf_steps.safetensors")).unwrap();
    let tensors = SafeTensors::deserialize(&bytes).unwrap();
    let row = |document: &Document| Row {
        tokens: document.tokens.clone(),
        supervised: document.supervised.clone(),
    };
    let rows: Vec<Row> = run.docs.iter().map(row).collect();
    let mut trainer = trainer_at_the_start(rows.clone(), &tensors);
    for (step, logged) in (0..).zip(&run.log) {
        let (loss, applied) = one_step(&mut trainer, &plan(step, &rows));
        assert_near(loss, logged.loss, &format!("loss of step {step}"));
        assert_near(
            applied.grad_norm,
            logged.grad_norm,
            &format!("gradient norm of step {step}"),
        );
        assert_near(
            applied.learning_rate,
            logged.learning_rate,
            &format!("learning rate of step {step}"),
        );
    }

    let (start, end) = (
        adapter_values(&trainer, &tensors, "start"),
        adapter_values(&trainer, &tensors, "end"),
    );
    let norm = |numbers: Vec<f32>| {
        numbers
            .iter()
            .map(|x| f64::from(*x).powi(2))
            .sum::<f64>()
            .sqrt()
    };
    let apart = |a: &[f32], b: &[f32]| norm(a.iter().zip(b).map(|(a, b)| a - b).collect());
    let error = apart(trainer.adapter().values(), &end);
    assert!(
        error <= 1e-4 * norm(end.clone()),
        "the adapter is {error} away"
    );
    // Against what training changed, which is far less than the adapter itself.
    let moved = apart(&start, &end);
    assert!(
        error <= 1e-3 * moved,
        "the adapter is {error} away after moving {moved}"
    );
}
